"""Whether the disk still takes writes: a small file beside the data directory is written and flushed, about every second.

A database may answer questions for a long time on a disk that takes nothing any more. The tries run on a thread of their own,
which hangs when the disk does; `look` tells by two timestamps.
"""

import contextlib
import logging
import os
import shutil
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Final

from replication.core import limits

log = logging.getLogger(__name__)

BYTES: Final = 16 * 1024
"""A page of InnoDB. In a new file each time: writing over what is there needs no room."""


class DiskProbe(threading.Thread):
    """`changed` is called when `error` begins, ends or becomes another one, from whoever notices it."""

    def __init__(
        self,
        directory: Path,
        changed: Callable[[], None],
        interval: timedelta = limits.DISK_INTERVAL,
        deadline: timedelta = limits.DISK_DEADLINE,
    ) -> None:
        super().__init__(name="disk", daemon=True)
        self._file = directory / "disk-probe.new"
        self._changed = changed
        self._interval, self._deadline = interval.total_seconds(), deadline.total_seconds()
        self._ending = threading.Event()
        self._begun: float | None = None
        self._failed = ""
        self._told_late = False
        self.free_bytes = shutil.disk_usage(directory).free
        """As of the last try that came back."""

    @property
    def error(self) -> str:
        """Why it takes no writes, as a sentence; "" when it does."""
        late = self._late_for()
        return f"a write has not come back for {int(late)} s" if late else self._failed

    def look(self) -> None:
        """Notice a write that does not come back. Cheap; called every few milliseconds."""
        late = self._late_for() > 0
        if late != self._told_late:
            self._told_late = late
            self._tell()

    def end(self) -> None:
        """It is not waited for: it may hang with its disk."""
        self._ending.set()

    def run(self) -> None:
        while not self._ending.is_set():
            failed, self._begun = self._failed, time.monotonic()
            try:
                self._write()
                self._failed = ""
            except OSError as error:
                self._failed = error.strerror or str(error)
            self._begun = None
            if self._failed != failed:
                self._tell()
            self._ending.wait(self._interval)

    def _write(self) -> None:
        self.free_bytes = shutil.disk_usage(self._file.parent).free
        descriptor = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            left = BYTES
            while left:  # a disk that is nearly full takes a part of it
                left -= os.write(descriptor, bytes(left))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
            with contextlib.suppress(OSError):
                self._file.unlink()

    def _late_for(self) -> float:
        """Seconds that a write is under way, once it is late; 0 otherwise."""
        begun = self._begun
        took = time.monotonic() - begun if begun is not None else 0.0
        return took if took > self._deadline else 0.0

    def _tell(self) -> None:
        error = self.error
        if error:
            log.error("the disk takes no writes: %s", error)
        else:
            log.warning("the disk takes writes again")
        self._changed()
