"""mariadb-backup as a program: how it is called, what its words mean, and for how long it holds up the database's commits.

It locks in stages (docs/design/copying.md): only BLOCK_COMMIT, at the very end, holds up those who write.
"""

import re
import threading
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Final

PARALLEL: Final = 2
LOG_COPY_INTERVAL_MS: Final = 50
"""How often it looks for new redo log. Its default is a second, for which commits wait in the end."""
KEPT_LINES: Final = 200
COMPLETED: Final = "completed OK!"
POSITION = re.compile(r"GTID of the last change '([^']*)'")

LOCKING: Final = "Starting BACKUP STAGE BLOCK_COMMIT"
UNLOCKED: Final = "All tables unlocked"
HURRY: Final = "Started BACKUP STAGE BLOCK_DDL"
"""From here on something waits for the end: DDL, then every commit."""

REASONS: Final = (
    (r"Access denied|missing required privilege", "the database does not let mariadb-backup in"),
    (r"No space left on device|Errcode: 28\b|error 28\b|OS errno 28\b", "the disk for temporary files is full"),
    (
        r"Was only able to copy log from",
        "the redo log was written over before it could be copied: raise the rate of the copy, or enlarge innodb_log_file_size",
    ),
    (r"page corruption|is corrupt", "the data of the source are damaged: choose another source"),
    (r"Can't connect to|Failed to connect to", "the database of the source cannot be reached"),
    (r"gone away|Lost connection|Server shutdown", "the database of the source ended during the copy"),
    (
        r"Permission denied|Errcode: 13\b|OS errno 13\b|an't open dir|annot open dir",
        "a file of the source cannot be read",
    ),
)
"""What to look for in its words, most telling first: one cause often has several lines."""


def arguments(program: str, *, socket: Path, user: str, scratch: Path) -> list[str]:
    """The call that writes a whole backup to its standard output. scratch: an empty directory for what it needs on the way."""
    return [
        program,
        "--no-defaults",  # option files of this host are about other servers
        "--backup",
        "--stream=mbstream",
        f"--parallel={PARALLEL}",
        f"--log-copy-interval={LOG_COPY_INTERVAL_MS}",
        f"--user={user}",
        f"--socket={socket}",
        f"--target-dir={scratch}",
        f"--tmpdir={scratch}",
    ]


class Words:
    """Reads its standard error on a thread of its own, to the end. `clock` gives monotonic seconds."""

    def __init__(self, stream: IO[bytes], clock: Callable[[], float]) -> None:
        self._stream, self._clock = stream, clock
        self.lines: deque[str] = deque(maxlen=KEPT_LINES)
        self.completed = False
        self.position = ""
        """GTID position of the backup, once it is known."""
        self.hurry = False
        """Somebody waits for it, so that it must not be slowed down."""
        self._locking_since: float | None = None
        self._thread = threading.Thread(target=self._read, name="words of mariadb-backup", daemon=True)
        self._thread.start()

    def commits_wait_for(self) -> float:
        """Seconds for which commits may have waited for it; 0 while they do not."""
        since = self._locking_since
        return self._clock() - since if since is not None else 0.0

    def end(self, seconds: float) -> None:
        self._thread.join(seconds)

    def _read(self) -> None:
        for raw in self._stream:
            line = raw.decode(errors="replace").strip()
            self.lines.append(line)
            if LOCKING in line:
                self._locking_since = self._clock()
            elif UNLOCKED in line:
                self._locking_since = None
            elif HURRY in line:
                self.hurry = True
            elif line.endswith(COMPLETED):
                self.completed = True
            elif found := POSITION.search(line):
                self.position = found[1]


def reason(lines: Sequence[str], code: int) -> str:
    """Why it failed, as a sentence. code: as subprocess gives it, below zero for a signal."""
    for pattern, means in REASONS:
        for line in reversed(lines):
            if re.search(pattern, line):
                return f"{means} (mariadb-backup: {_bare(line)})"
    if code < 0:
        return f"mariadb-backup was ended by signal {-code}"
    told = [line for line in lines if re.search(r"error|fail|cannot|unable", line, re.IGNORECASE)]
    last = told[-1] if told else (lines[-1] if lines else "")
    return f"mariadb-backup failed with exit code {code}" + (f": {_bare(last)}" if last else "")


def _bare(line: str) -> str:
    """Without thread number and time."""
    return (
        re.sub(r"^(\[\d+\] )?\d{4}-\d\d-\d\d +\d{1,2}:\d\d:\d\d (\d+ )?", "", line)
        .removeprefix("mariabackup: ")
        .strip()
    )
