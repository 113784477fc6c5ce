"""How large the data are, and what is kept beside them: counted about once a minute, on a thread that may take its time."""

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from replication.agent.probe import size_of

log = logging.getLogger(__name__)

EVERY_SECONDS: Final = 60


class Sizes(threading.Thread):
    """kept: called with the size of the kept data; `data_bytes` is 0 until it was counted, or when it cannot be."""

    def __init__(self, data: Path, kept_data: Path, kept: Callable[[int], None]) -> None:
        super().__init__(name="sizes", daemon=True)
        self._data, self._kept_data, self._kept = data, kept_data, kept
        self._turn = threading.Condition()
        self._hurry = self._ending = False
        self.data_bytes = 0

    def look_again(self) -> None:
        """Something else lies there now."""
        with self._turn:
            self._hurry = True
            self._turn.notify_all()

    def end(self) -> None:
        """It is not waited for: it may hang with its disk."""
        with self._turn:
            self._ending = True
            self._turn.notify_all()

    def run(self) -> None:
        while not self._ending:
            self.data_bytes = _size(self._data)
            if self._kept_data.exists():
                self._kept(_size(self._kept_data))
            with self._turn:
                self._turn.wait_for(lambda: self._hurry or self._ending, EVERY_SECONDS)
                self._hurry = False


def _size(directory: Path) -> int:
    try:
        return size_of(directory) or 0
    except OSError as error:
        log.warning("the size of %s cannot be told: %s", directory, error.strerror)
        return 0
