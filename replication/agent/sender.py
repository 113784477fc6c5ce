"""The program that carries a full copy from this host to another: `python -m replication.agent.sender`, started by the agent.

A process of its own, at low priority: the source may be the primary, whose agent counts milliseconds. What to do comes as one line of JSON on
standard input, which then stays open: when it ends, the agent has, and so does this. How it goes is told in lines of JSON on standard
output: {"done", "total"} now and then, and in the end {"received", "position"} or {"failed"}.
"""

import contextlib
import ctypes
import io
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Final

from replication.agent import mariabackup
from replication.agent.conveyor import Conveyor
from replication.agent.copy_link import HEAD, TAIL, CopyLink, LinkFailed
from replication.core import limits

NICE: Final = 10
IO_LOWEST: Final = (2 << 13) | 7
"""Best effort, the last of eight."""
IOPRIO_SET: Final = {"x86_64": 251, "aarch64": 30}
"""Number of the system call, which the C library has no function for."""
PR_SET_PDEATHSIG: Final = 1
TELL_SECONDS: Final = 0.5
LOOK_SECONDS: Final = 0.25
"""How soon it is noticed that the target has hung up, or that commits wait, while no bytes flow."""
LAST_WORD_SECONDS: Final = 2
AGENT_ENDED: Final = "the agent of the source ended during the copy"
EXIT_SECONDS: Final = 30
"""How long mariadb-backup may take to end after its output has."""
NOT_COPIED: Final = ("binlog.", "relay.", "relay-log.", "ibtmp", "ib_logfile", "aria_log.", "ib_buffer_pool", "master-")


@dataclass(frozen=True, kw_only=True)
class Order:
    """What the agent wants to have sent. No secret is among it."""

    operation: str
    name: str
    host: str
    port: int
    subject: str
    rate: int
    """Bytes a second, 0: no limit."""
    program: str
    socket: str
    user: str
    version: str
    binlog_state: str
    data: str
    scratch: str
    pki: str
    patience: float = limits.COPY_BEGIN.total_seconds()
    """Seconds without a byte, either way, after which it is given up."""
    commits_may_wait: float = limits.COPY_HOLDS_COMMITS.total_seconds()

    def to_json(self) -> bytes:
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def from_json(cls, line: bytes) -> "Order":
        return cls(**json.loads(line))


class SendFailed(Exception):
    """The copy is not whole; the text is one sentence."""


class Ended(Exception):
    """The agent has told us to end, or has ended itself; the text says why, as a sentence."""


class Sender:
    def __init__(self, order: Order) -> None:
        self._order = order
        self._scratch = Path(order.scratch)
        self._done, self._total, self._told = 0, 0, 0.0

    def run(self) -> dict[str, Any]:
        """Returns the last line."""
        link: CopyLink | None = None
        try:
            self._total = estimate(Path(self._order.data))
            link = self._connect(self._order.patience)
            return self._copy(link)
        except LinkFailed as error:
            return {"failed": str(error)}
        except (SendFailed, OSError) as error:
            self._say_why(str(error))
            return {"failed": str(error)}
        except Ended as ended:
            self._say_why(str(ended))
            return {"failed": str(ended)}
        finally:
            if link is not None:
                link.close()
            shutil.rmtree(self._scratch, ignore_errors=True)

    def _connect(self, patience: float) -> CopyLink:
        order = self._order
        return CopyLink(
            Path(order.pki), name=order.name, host=order.host, port=order.port, subject=order.subject, patience=patience
        )

    def _copy(self, link: CopyLink) -> dict[str, Any]:
        order = self._order
        link.begin(
            order.operation,
            {
                "X-Copy-User": order.user,
                "X-Copy-Bytes": str(self._total),
                "X-Copy-Version": order.version,
                "X-Copy-Binlog-State": order.binlog_state,
            },
        )
        shutil.rmtree(self._scratch, ignore_errors=True)
        try:
            self._scratch.mkdir(mode=0o700)
            backup = subprocess.Popen(
                mariabackup.arguments(order.program, socket=Path(order.socket), user=order.user, scratch=self._scratch),
                bufsize=0,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={"LC_ALL": "C", "PATH": os.defpath},
                preexec_fn=die_with_parent,  # noqa: PLW1509  # no other thread was started yet but the one that reads stdin
            )
        except OSError as error:
            raise SendFailed(f"{error.filename} cannot be used: {error.strerror}") from error
        assert backup.stdout is not None
        assert backup.stderr is not None
        words = mariabackup.Words(backup.stderr, time.monotonic)
        conveyor = Conveyor(backup.stdout, rate=order.rate, hurry=lambda: words.hurry, head=HEAD, tail=TAIL)
        try:
            self._carry(link, conveyor, words)
            self._check(backup, words)
        finally:
            conveyor.end()
            if backup.poll() is None:
                backup.kill()  # its database takes back what it had locked within a second
                backup.wait()
        received = link.finish()
        if received != self._done:
            raise LinkFailed(f"{order.name} has {received} bytes of the {self._done} that were sent")
        return {"received": received, "position": words.position}

    def _carry(self, link: CopyLink, conveyor: Conveyor, words: mariabackup.Words) -> None:
        self._tell()
        moved = time.monotonic()
        while not conveyor.over:
            item = conveyor.next(LOOK_SECONDS)
            if item is None:
                link.look()
                if time.monotonic() - moved > self._order.patience:
                    last = words.lines[-1] if words.lines else "nothing"
                    raise SendFailed(
                        f"mariadb-backup has sent nothing for {self._order.patience:g} s; its last words: {last}"
                    )
            else:
                buffer, size = item
                link.send(buffer, size)
                conveyor.give_back(buffer)
                moved = time.monotonic()
                self._done += size
                if moved - self._told >= TELL_SECONDS:
                    self._tell()
            if (waiting := words.commits_wait_for()) > self._order.commits_may_wait:
                raise SendFailed(
                    f"the end of the copy held up the commits of its source for {waiting:.0f} s and was broken off; "
                    "a long statement, an acker that does not answer or a slow target may be the cause: try again later"
                )

    def _check(self, backup: "subprocess.Popen[bytes]", words: mariabackup.Words) -> None:
        """Its output has ended: is it whole?"""
        try:
            code = backup.wait(EXIT_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise SendFailed(f"mariadb-backup did not end within {EXIT_SECONDS} s") from error
        words.end(LAST_WORD_SECONDS)
        if code != 0 or not words.completed:
            raise SendFailed(mariabackup.reason(list(words.lines), code))

    def _tell(self) -> None:
        self._told = time.monotonic()
        tell({"done": self._done, "total": max(self._done, self._total)})

    def _say_why(self, text: str) -> None:
        """To the target, which would else only see that the stream breaks."""
        with contextlib.suppress(LinkFailed):
            link = self._connect(LAST_WORD_SECONDS)
            try:
                link.tell_failed(self._order.operation, text)
            finally:
                link.close()


def estimate(data: Path) -> int:
    """Bytes that a copy of this data directory will have: what mariadb-backup leaves out is not counted. Raises OSError."""
    size = 0
    for directory, _names, files in os.walk(data):
        for name in files:
            if not name.startswith(NOT_COPIED):
                with contextlib.suppress(FileNotFoundError):  # a database goes on dropping tables
                    size += os.stat(os.path.join(directory, name)).st_size
    return size


def tell(content: Mapping[str, Any]) -> None:
    with contextlib.suppress(BrokenPipeError):  # the agent has ended: standard input says so as well
        sys.stdout.write(json.dumps(content) + "\n")
        sys.stdout.flush()


def stand_back() -> None:
    """Give way to everybody else, for processor and disk; whoever is started from here does so too."""
    os.setpriority(os.PRIO_PROCESS, 0, NICE)
    number = IOPRIO_SET.get(platform.machine())
    if number is not None:
        ctypes.CDLL(None).syscall(number, 1, 0, IO_LOWEST)


def die_with_parent() -> None:
    """In the child, before the program starts: it must not outlive us however we end."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Agent(threading.Thread):
    """Standard input: a line on it says why this has to end, and it ends when the agent does."""

    def __init__(self) -> None:
        super().__init__(name="agent", daemon=True)
        self.says = "the copy was cancelled on its source"

    def run(self) -> None:
        self.says = os.read(0, 4096).decode(errors="replace").strip() or AGENT_ENDED
        os.kill(os.getpid(), signal.SIGTERM)

    def end(self, _number: int, _frame: FrameType | None) -> None:
        """On SIGTERM, on the main thread, whatever it is doing."""
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise Ended(self.says)


def main() -> int:
    line = io.FileIO(0, closefd=False).readline()  # unbuffered: not a byte more than the line
    if not line.endswith(b"\n"):
        return 1
    agent = Agent()
    signal.signal(signal.SIGTERM, agent.end)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C reaches the agent too, which decides
    agent.start()
    stand_back()
    outcome = Sender(Order.from_json(line)).run()
    tell(outcome)
    return 1 if "failed" in outcome else 0


if __name__ == "__main__":
    sys.exit(main())
