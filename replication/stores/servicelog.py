"""A worker's log as rows: copied from logging by a thread of its own, so that nothing ever waits for it.

The log on the worker's standard error stays the complete one. Here a line may be lost, but never silently, and never held up:
a full queue forgets its oldest line and says how many; a database that does not answer is tried again a second later.
"""

import collections
import contextlib
import logging
import re
import threading
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from django.conf import settings
from django.db import Error, InterfaceError, OperationalError, connection

from nodes.models import LogLine

from .leases import Holder
from .threads import lose_patience, write_lightly

OURS: Final = ("replication", "nodes", "sectona_ha", "__main__")
"""Of these loggers everything from INFO on, of all others warnings and errors only."""
CAPACITY: Final = 5000
BATCH: Final = 200
"""Lines of one transaction: milliseconds, also on SQLite, where a writer keeps everybody else's writes waiting."""
PACE: Final = 1.0
BREATH: Final = 0.2
"""Seconds between two rounds, and between two batches of one round."""
LONGEST: Final = 8000
HIDDEN: Final = "***"

_SECRETS_IN_WORDS: Final = (
    re.compile(r"(?i)((?:password|passwd|pwd|secret|token)\w*['\"]?\s*[=:]\s*)(?:'[^']*'|\"[^\"]*\")"),
    re.compile(r"(?i)((?:password|passwd|pwd|secret|token)\w*=)[^\s'\",;&)]+"),
    re.compile(r"(?i)(identified\s+by\s+(?:password\s+)?)(?:'[^']*'|\"[^\"]*\")"),
    re.compile(r"(://[^\s:/@]*:)[^\s/@]+(?=@)"),
)


class ServiceLog(logging.Handler):
    """Between `start` and `stop` this process's log goes into LogLine as well. Never raises, never blocks who logs."""

    def __init__(self, service: str, holder: Holder) -> None:
        super().__init__(logging.INFO)
        self.service, self.holder = service, holder
        self.dropped = 0
        self._lines: collections.deque[LogLine] = collections.deque(maxlen=CAPACITY)
        self._batch: list[LogLine] = []
        self._secrets = known_secrets()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)

    def start(self) -> None:
        logging.getLogger().addHandler(self)
        self._thread.start()

    def stop(self) -> None:
        """Write what is left, as far as the database takes it."""
        logging.getLogger().removeHandler(self)
        self._stopping.set()
        self._thread.join(timeout=5)

    # --- on the thread of whoever logs

    def filter(self, record: logging.LogRecord) -> Any:
        if record.thread == self._thread.ident:
            return False  # what the writing itself says would have to be written again
        ours = record.name.partition(".")[0] in OURS
        return (ours or record.levelno >= logging.WARNING) and super().filter(record)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = hide(self.format(record), self._secrets)
            if len(text) > LONGEST:
                text = f"{text[: LONGEST - 40]} … ({len(text)} characters)"
            if len(self._lines) == CAPACITY:
                self.dropped += 1
            self._lines.append(self._line(record.levelno, text, record.created))
        except Exception:
            self.handleError(record)

    def _line(self, level: int, text: str, created: float) -> LogLine:
        return LogLine(
            service=self.service,
            at=datetime.fromtimestamp(created, UTC),
            host=self.holder.host,
            process=self.holder.process,
            level=level,
            text=text.encode("utf-8", "replace").decode().replace("\x00", "�"),
        )

    # --- on the writing thread

    def _run(self) -> None:
        lose_patience()
        write_lightly()
        while not self._stopping.wait(PACE):
            while self._write() and self._lines and not self._stopping.wait(BREATH):
                pass
        while self._write() and self._lines:
            pass
        with contextlib.suppress(Error):
            connection.close()

    def _write(self) -> bool:
        """Write one batch; one that the database did not take is kept for the next try. False when it did not."""
        dropped = self.dropped
        while len(self._batch) < BATCH and self._lines:
            self._batch.append(self._lines.popleft())
        if not self._batch:
            return True
        rows = list(self._batch)
        if dropped:
            text = f"{dropped} lines before this one were dropped: the database did not take them"
            rows.insert(0, self._line(logging.WARNING, text, rows[0].at.timestamp()))
        try:
            LogLine.objects.bulk_create(rows)
        except (OperationalError, InterfaceError):
            self._start_afresh()
            return False
        except (
            Exception
        ):  # not the database's mood but a line that it will never take: the others must not wait for that
            self._start_afresh()
            self._write_one_by_one(rows)
        self._batch = []
        self.dropped -= dropped
        return True

    def _write_one_by_one(self, rows: list[LogLine]) -> None:
        for row in rows:
            row.pk = None
            try:
                row.save(force_insert=True)
            except Exception:
                self.dropped += 1

    def _start_afresh(self) -> None:
        for row in self._batch:
            row.pk = None
        with contextlib.suppress(Error):
            connection.close()


def known_secrets() -> tuple[str, ...]:
    """What this process knows and nobody may read in its log, whatever an error's text repeats."""
    redis = unquote(urlsplit(settings.RQ_QUEUES["ops"]["URL"]).password or "")
    found = [settings.SECRET_KEY, settings.DATABASES["default"].get("PASSWORD") or "", redis]
    return tuple(secret for secret in found if len(secret) >= 4)


def hide(text: str, secrets: Iterable[str] = ()) -> str:
    """Leave out the given secrets, and what reads like one: password=…, IDENTIFIED BY '…', user:password@ in addresses."""
    for secret in secrets:
        text = text.replace(secret, HIDDEN)
    for pattern in _SECRETS_IN_WORDS:
        text = pattern.sub(rf"\g<1>{HIDDEN}", text)
    return text
