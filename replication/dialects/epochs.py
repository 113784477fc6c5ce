"""The row that a new primary writes first: its epoch, as a transaction of its own."""

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext
from typing import Final

from replication.core.vault_ports import DatabaseError

from .base import Session
from .sessions import exists

NO_SUCH_DATABASE: Final = 1049
NO_SUCH_TABLE: Final = 1146


class Epochs(ABC):
    session: Session

    @abstractmethod
    def _number_from(self, sequence: int) -> None:
        """The next transaction of this session gets this number, or a later one."""

    def _writable(self) -> AbstractContextManager[None]:
        """In which the administrator may write on a closed node."""
        return nullcontext()

    def epoch_recorded(self, epoch: int) -> bool:
        try:
            return bool(self.session.rows("SELECT 1 FROM vault_ha.epoch WHERE epoch = %s", epoch))
        except DatabaseError as error:
            if error.code in (NO_SUCH_DATABASE, NO_SUCH_TABLE):
                return False
            raise

    def record_epoch(self, epoch: int, first_sequence: int) -> None:
        # The jump is taken by whichever statement is written first. IF NOT EXISTS would be written even when there is
        # nothing to make, so it is looked up.
        self._number_from(first_sequence)
        with self._writable():
            if not exists(self.session, "SELECT 1 FROM information_schema.schemata WHERE schema_name = 'vault_ha'"):
                self.session.run("CREATE DATABASE vault_ha")
            if not exists(
                self.session,
                "SELECT 1 FROM information_schema.tables WHERE table_schema = 'vault_ha' AND table_name = 'epoch'",
            ):
                self.session.run(
                    "CREATE TABLE vault_ha.epoch (epoch BIGINT UNSIGNED PRIMARY KEY, server_id INT UNSIGNED NOT NULL,"
                    " opened_at TIMESTAMP(6) NOT NULL) ENGINE=InnoDB"
                )
            self.session.run("REPLACE INTO vault_ha.epoch VALUES (%s, @@GLOBAL.server_id, UTC_TIMESTAMP(6))", epoch)
