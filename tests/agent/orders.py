"""Ordering three agents about as a controller would, one epoch per command; and a commit that hangs."""

import contextlib
import itertools
import signal
import threading
from collections.abc import Iterator
from typing import Any

import MySQLdb

from replication.core import limits
from replication.core.commands import FollowArgs, ReplicationAccount, Verb, account_name
from replication.core.report import DatabaseReport
from tests.vault_host import VaultHost

epochs = itertools.count(1)
_ids = itertools.count(1)


def order(host: VaultHost, verb: Verb, args: dict[str, Any] | None = None, *, deadline: float = 20) -> dict[str, Any]:
    """Each command under an epoch of its own, as rule 1 has it."""
    return dict(host.order(verb, args, epoch=next(epochs), deadline=deadline).facts)


def account(host: VaultHost) -> dict[str, Any]:
    return ReplicationAccount(name=account_name(host.node), subject=host.subject).to_json()


def open_primary(host: VaultHost, others: list[VaultHost], *, jump: bool) -> None:
    order(host, Verb.OPEN, {"jump": jump, "accounts": [account(other) for other in others]})


def follow_args(
    host: VaultHost, source: VaultHost, found: DatabaseReport, *, truncate_tail: bool = False
) -> dict[str, Any]:
    """FOLLOW's arguments; found: what was read of the source, perhaps a while ago."""
    return FollowArgs(
        source_host=source.ip,
        source_port=limits.DATABASE_PORT,
        account=account_name(host.node),
        source_binlog_state=found.gtid_binlog_state,
        source_oldest_binlog=found.binlog_oldest,
        truncate_tail=truncate_tail,
    ).to_json()


def follow(host: VaultHost, source: VaultHost, *, truncate_tail: bool = False, **more: Any) -> dict[str, Any]:
    args = follow_args(host, source, database(source), truncate_tail=truncate_tail)
    return order(host, Verb.FOLLOW, {**args, **more})


def database(host: VaultHost) -> DatabaseReport:
    found = host.wait_up().database
    assert found is not None
    return found


def write(host: VaultHost) -> int:
    """One acknowledged row; returns its id."""
    row = next(_ids)
    host.sql("INSERT INTO vault.rows_ VALUES (%s)", row)
    return row


def has(host: VaultHost, row: int) -> bool:
    return bool(host.sql("SELECT id FROM vault.rows_ WHERE id = %s", row))


class HangingWrite(threading.Thread):
    """A commit that is not expected to be acknowledged; started at once."""

    def __init__(self, host: VaultHost) -> None:
        super().__init__(daemon=True)
        self.row = next(_ids)
        self.acknowledged = False
        self.error: MySQLdb.Error | None = None
        self._host = host
        self.start()

    def says(self) -> str:
        return f"the commit waits (acknowledged: {self.acknowledged}, error: {self.error})"

    def run(self) -> None:
        try:
            with contextlib.closing(self._host.connect_client()) as connection:
                connection.cursor().execute("INSERT INTO rows_ VALUES (%s)", (self.row,))
                self.acknowledged = True
        except MySQLdb.Error as error:
            self.error = error


@contextlib.contextmanager
def frozen(host: VaultHost) -> Iterator[None]:
    host.kill_database(signal.SIGSTOP)
    try:
        yield
    finally:
        host.kill_database(signal.SIGCONT)
