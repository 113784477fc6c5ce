"""Closing a primary that is to hand over: within a bounded time, or not at all. docs/reference/agent-protocol.md, close."""

import contextlib
import time
from datetime import timedelta
from typing import Final

from replication.core.vault_ports import DatabaseError

from .base import Session
from .sessions import exists, kill

OUT_OF_TIME: Final = frozenset({1205, 1969})
"""Lock wait time-out, max_statement_time exceeded."""
WRITER_GONE_POLL_S: Final = 0.005


class Closing:
    session: Session

    def close_writes(self, limit: timedelta) -> bool:
        # lock_wait_timeout counts whole seconds; this one ends the wait for the locks just as well.
        try:
            self.session.run(
                "SET STATEMENT max_statement_time = %s FOR SET GLOBAL read_only = 1", limit.total_seconds()
            )
        except DatabaseError as error:
            if error.code in OUT_OF_TIME:
                return False
            raise
        return True

    def end_writers(self, longer_than: timedelta, limit: timedelta) -> bool:
        # No commit is under way while the stage lasts: a commit that waits for its acknowledgement keeps it from being
        # reached, and one that is ended before it may commit rolls back.
        self.session.run("SET SESSION max_statement_time = %s", limit.total_seconds())
        try:
            for stage in ("START", "FLUSH", "BLOCK_DDL", "BLOCK_COMMIT"):
                self.session.run(f"BACKUP STAGE {stage}")
            return self._end_writing_sessions(longer_than, limit)
        except DatabaseError as error:
            if error.code in OUT_OF_TIME:
                return False
            raise
        finally:
            for statement in ("BACKUP STAGE END", "SET SESSION max_statement_time = DEFAULT"):
                with contextlib.suppress(DatabaseError):  # it was not begun, or has ended with its session
                    self.session.run(statement)

    def _end_writing_sessions(self, longer_than: timedelta, limit: timedelta) -> bool:
        """A plain SELECT is left alone: it hinders nobody, and may go on here."""
        rows = self.session.rows(
            "SELECT ID AS id FROM information_schema.processlist"
            " WHERE COMMAND IN ('Query', 'Execute') AND ID <> CONNECTION_ID() AND TIME_MS > %s"
            " AND (LTRIM(INFO) NOT LIKE 'SELECT%%' OR INFO LIKE '%%FOR UPDATE%%')",
            longer_than / timedelta(milliseconds=1),
        )
        for row in rows:
            kill(self.session, row["id"])
        until = time.monotonic() + limit.total_seconds()
        # Commits are held back until they are gone: one that has not noticed its end yet must not get as far as to wait.
        while any(
            exists(self.session, "SELECT 1 FROM information_schema.processlist WHERE ID = %s", row["id"])
            for row in rows
        ):
            if time.monotonic() >= until:
                return False
            time.sleep(WRITER_GONE_POLL_S)
        return True
