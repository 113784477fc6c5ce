"""Looking at a process through /proc and a pidfd: is it ours, is it dying, is it gone."""

import contextlib
import os
import select
import signal
from pathlib import Path
from typing import Final

PF_EXITING: Final = 0x4
"""Set as soon as a process begins to die; no code of its own runs after that. The pidfd only says so when its memory has
been torn down, which takes a fifth of a second for a pool of 4 GB."""


class ProcessHandle:
    """One process, held by its pidfd: a reused pid can never be taken for it."""

    def __init__(self, pid: int) -> None:
        """Raises ProcessLookupError when there is no such process."""
        self.pid = pid
        self.pidfd = os.pidfd_open(pid)
        try:
            self._stat = os.open(f"/proc/{pid}/stat", os.O_RDONLY)
        except OSError as error:
            raise ProcessLookupError(f"process {pid} is gone") from error

    def exited(self) -> bool:
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        return bool(poll.poll(0))

    def dying(self) -> bool:
        """Whether no user code of it runs any more, though it may still hold memory, files and ports."""
        try:
            fields = os.pread(self._stat, 1024, 0).rpartition(b")")[2].split()
        except ProcessLookupError:
            return True
        return fields[0] in (b"Z", b"X") or bool(int(fields[6]) & PF_EXITING)

    def signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, number)

    def wait(self, seconds: float) -> bool:
        """Whether it was gone within `seconds`."""
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        return bool(poll.poll(max(0, int(seconds * 1000))))

    def __del__(self) -> None:
        # Not sooner: another thread may be looking at it, and the number of a closed file is soon another file's.
        for descriptor in (getattr(self, "pidfd", None), getattr(self, "_stat", None)):
            if descriptor is not None:
                os.close(descriptor)


def find_mariadbd(my_cnf: Path) -> int | None:
    """The pid of the mariadbd that was started with this option file, whoever started it; None when there is none."""
    wanted = os.fsencode(f"--defaults-file={my_cnf}")
    servers = (b"mariadbd", b"mysqld")
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            arguments = Path(f"/proc/{entry.name}/cmdline").read_bytes().split(b"\0")
            # Not always the second: a program may be started by a loader of its own. Tools take the same option.
            at = arguments.index(wanted) if wanted in arguments else 0
            name = os.path.basename(arguments[at - 1])
            if at and (name in servers or (at == 1 and not name.startswith(b"mariadb-"))):
                return int(entry.name)
    return None


def still_dying(pid_file: Path) -> "ProcessHandle | None":
    """The mariadbd named in a pid file when it is on its way out: its port and files are not free yet."""
    try:
        handle = ProcessHandle(int(pid_file.read_text()))
    except (OSError, ValueError):
        return None
    with contextlib.suppress(OSError):
        if handle.dying() and Path(f"/proc/{handle.pid}/comm").read_text().strip() in ("mariadbd", "mysqld"):
            return handle
    return None
