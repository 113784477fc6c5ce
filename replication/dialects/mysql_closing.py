"""Closed and open: super_read_only, which binds administrators too, and the few moments in which the agent itself has to write.

Three threads of an agent have a session each (verbs, observer, lease). Whoever opens super_read_only for a moment, and closes it
again, must not close what another has just opened for good: one lock for all of them.
"""

import contextlib
import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Final

from replication.core.vault_ports import DatabaseError

from .base import Session
from .sessions import exists

LOCK_WAIT_TIMEOUT: Final = 1205
LOCK_WAIT_S: Final = 1
"""The shortest that the server knows."""
TURN_S: Final = 3.0
PICOSECONDS: Final = 10**12

_switching = threading.RLock()


class Closing:
    session: Session

    def set_read_only(self, on: bool) -> None:
        # super_read_only brings read_only along, and read_only takes super_read_only away.
        with _turn():
            self.session.run("SET GLOBAL super_read_only = 1" if on else "SET GLOBAL read_only = 0")

    def close_writes(self, limit: timedelta) -> bool:
        """Looks first: the wait for a statement that is under way can be bounded to whole seconds only, and holds new ones up."""
        if self._writes_for(limit):
            return False
        with _turn(), self._bounded():
            try:
                self.session.run("SET GLOBAL super_read_only = 1")
            except DatabaseError as error:
                if error.code == LOCK_WAIT_TIMEOUT:
                    return False
                raise
        return True

    def end_writers(self, longer_than: timedelta, limit: timedelta) -> bool:
        """Never: nothing here holds commits back without waiting for the statements, and one that is ended in its wait for an
        acknowledgement may return as if it had it."""
        return False

    def _writes_for(self, limit: timedelta) -> bool:
        """Whether a commit waits for its acknowledgement, or a client's statement has been writing for so long."""
        waits = self.session.rows("SHOW GLOBAL STATUS LIKE 'Rpl_semi_sync_source_wait_sessions'")
        if waits and int(waits[0]["Value"]) > 0:
            return True
        return exists(
            self.session,
            "SELECT 1 FROM performance_schema.events_statements_current s JOIN performance_schema.threads t"
            " ON t.THREAD_ID = s.THREAD_ID WHERE s.END_EVENT_ID IS NULL AND s.TIMER_WAIT > %s"
            " AND t.TYPE = 'FOREGROUND' AND t.PROCESSLIST_ID <> CONNECTION_ID()"
            " AND t.PROCESSLIST_COMMAND IN ('Query', 'Execute')"
            " AND (s.EVENT_NAME <> 'statement/sql/select' OR s.SQL_TEXT LIKE '%%FOR UPDATE%%')",
            int(limit.total_seconds() * PICOSECONDS),
        )

    @contextlib.contextmanager
    def _unlogged(self) -> Iterator[None]:
        """In which what is written stays on this node, and works while commits hang."""
        # A lock on the accounts' tables may be held for long.
        self.session.run("SET SESSION sql_log_bin = 0, lock_wait_timeout = %s", LOCK_WAIT_S)
        try:
            yield
        finally:
            self.session.run("SET SESSION sql_log_bin = 1, lock_wait_timeout = DEFAULT")

    @contextlib.contextmanager
    def _bounded(self) -> Iterator[None]:
        """In which a lock is not waited for longer than a second."""
        self.session.run("SET SESSION lock_wait_timeout = %s", LOCK_WAIT_S)
        try:
            yield
        finally:
            with contextlib.suppress(DatabaseError):  # it has ended with its session
                self.session.run("SET SESSION lock_wait_timeout = DEFAULT")

    @contextlib.contextmanager
    def _writable(self) -> Iterator[None]:
        """In which the administrator may write on a closed node; read_only still keeps everybody else from it."""
        with _turn():
            closed = bool(int(self.session.rows("SELECT @@GLOBAL.super_read_only AS closed")[0]["closed"]))
            if not closed:
                yield
                return
            self.session.run("SET GLOBAL super_read_only = 0")
            try:
                yield
            finally:
                self.session.run("SET GLOBAL super_read_only = 1")


@contextlib.contextmanager
def _turn() -> Iterator[None]:
    if not _switching.acquire(timeout=TURN_S):
        raise DatabaseError(0, "another statement of the agent's is opening or closing the database")
    try:
        yield
    finally:
        _switching.release()
