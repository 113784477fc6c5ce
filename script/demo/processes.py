"""Whatever this run started is found again and stopped, and nothing else, however a part of it died.

Three nets: supervisord stops its programs; orphans become our children (subreaper); and every process carries the run's
directory in its environment, so that also what an earlier run left behind, killed with -9, is known as ours.
"""

import ctypes
import os
import select
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Final

MARK: Final = "VAULT_HA_RUN_DIRECTORY"
PR_SET_CHILD_SUBREAPER: Final = 36
STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
TERM_SECONDS: Final = 20.0
"""How long left-over programs may take to stop by themselves: an agent with its database needs a few seconds."""
KILL_SECONDS: Final = 10.0


class StopRequested(BaseException):
    """Ctrl-C or SIGTERM. No Exception: nothing on the way may swallow it."""


class Signals:
    """Turns stop signals into StopRequested while starting, and into a wake-up while waiting."""

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        os.set_blocking(self._writer, False)
        self.stopping = False
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        # A child that ends only has to end our wait.
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        for number in STOP_SIGNALS:
            signal.signal(number, self._stop)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        # Only the first one counts: the stop that it begins runs to its end.
        if not self.stopping:
            self.stopping = True
            raise StopRequested(signal.Signals(number).name)

    def wait(self, seconds: float) -> None:
        """Return after `seconds`, or at once when a signal came: a stop raises, the end of a child does not."""
        select.select([self._reader], [], [], max(seconds, 0))
        try:
            os.read(self._reader, 4096)
        except BlockingIOError:
            pass


def become_subreaper() -> None:
    """Orphans among our descendants become our children instead of init's. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def reap(except_for: int) -> None:
    """Bury orphans that ended: a dead mariadbd that nobody waits for would block its own restart."""
    for pid in _children():
        if pid != except_for:
            try:
                os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                pass


def remains(var: Path) -> list[int]:
    """Process ids, this one excepted, that belong to the run in `var`, whoever is their parent now."""
    mark = f"{MARK}={var}".encode()
    found = []
    for pid in _processes():
        if pid == os.getpid():
            continue
        try:
            if mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                found.append(pid)
        except OSError:  # gone, or another user's
            continue
    return found


def stop_remains(var: Path) -> int:
    """End what is left of a run in `var`. Returns how many there were; a process that cannot be killed stays.

    Databases last and never by SIGTERM: an agent told to stop ends its own in the right way, and where the agent is gone,
    SIGKILL is the only end of a mariadbd that acknowledges nothing on the way.
    """
    first = remains(var)
    if not first:
        return 0
    _signal_all(lambda: [pid for pid in remains(var) if _name(pid) != "mariadbd"], signal.SIGTERM)
    if not _gone(var, TERM_SECONDS):
        deadline = time.monotonic() + KILL_SECONDS
        while remains(var) and time.monotonic() < deadline:  # again: a supervisor may have restarted one in between
            _signal_all(lambda: remains(var), signal.SIGKILL)
            _gone(var, 1.0)
    return len(first)


def _gone(var: Path, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while left := remains(var):
        reap(except_for=0)
        orphaned = all(_name(pid) == "mariadbd" for pid in left)  # nobody is left who would stop it
        if orphaned or time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    reap(except_for=0)
    return True


def _signal_all(choose: Callable[[], list[int]], number: signal.Signals) -> None:
    chosen = choose()
    for pid in chosen:
        try:
            handle = os.pidfd_open(pid)
        except OSError:
            continue
        try:
            # With the handle in hand the number cannot have passed to another process; look once more whose it is.
            if pid in choose():
                signal.pidfd_send_signal(handle, number)
        except OSError:
            pass
        finally:
            os.close(handle)


def _processes() -> Iterator[int]:
    return (int(entry) for entry in os.listdir("/proc") if entry.isdigit())


def _children() -> list[int]:
    own = os.getpid()
    return [pid for pid in _processes() if _parent(pid) == own]


def _parent(pid: int) -> int:
    try:
        # The name, in brackets, may hold spaces and brackets itself.
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, IndexError, ValueError):
        return 0


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""
