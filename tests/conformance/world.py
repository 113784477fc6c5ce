"""What the conformance script sees of a world of two or three servers, whether they are real or not.

Outcomes are plain text, so that those of two worlds can be compared: "ok", "error 1290" (the number that MariaDB gives),
"lost" (the connection broke before an answer came), "hangs" (no answer yet).
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from replication.core.commands import ReplicationAccount
from replication.core.vault_ports import Database, DatabaseError, Firewall, Process
from replication.dialects.mariadb import Observation

PATIENCE: Final = 8.0
"""Seconds: how long the script waits for what must come."""
SETTLED: Final = 0.4
"""Seconds without an answer after which a call counts as hanging."""
LOST_CODES: Final = frozenset({0, 2002, 2003, 2006, 2013, 2055})

OK, LOST, HANGS = "ok", "lost", "hangs"


def failure(code: int) -> str:
    return LOST if code in LOST_CODES else f"error {code}"


class Call(Protocol):
    """Something that runs beside the script."""

    def outcome(self, within: float = SETTLED) -> str:
        """What it came to within so many seconds; "hangs" when nothing yet. May be asked again."""
        ...


class Client(Protocol):
    """One session of the vault's clients."""

    def begin(self) -> Call: ...

    def insert(self, row: int) -> Call: ...

    def commit(self) -> Call: ...

    def update_slowly(self, row: int, seconds: float) -> Call:
        """A statement that writes for so long."""
        ...


class Server(Protocol):
    """One mariadbd as its agent has it, and what an administrator or a fault may do to it."""

    name: str
    address: str
    account: str
    subject: str
    process: Process
    database: Database
    firewall: Firewall

    def observe(self) -> Observation: ...

    def call(self, action: Callable[[Database], Any]) -> Call:
        """Do something over another connection of the agent's, beside the script."""
        ...

    def client(self) -> Client: ...

    def write(self, row: int) -> Call:
        """A client inserts a row on a connection of its own and commits."""
        ...

    def administrator_writes(self, row: int) -> Call:
        """Somebody with every right inserts a row; read_only does not stop him."""
        ...

    def administrator_writes_unlogged(self, row: int) -> Call:
        """As before, kept out of the binary log."""
        ...

    def create_account_unlogged(self, account: ReplicationAccount) -> None: ...

    def stop_applier(self) -> None:
        """An administrator does, or an error."""
        ...

    def define(self, table: str) -> Call:
        """An administrator makes a table."""
        ...

    def rows(self) -> list[int]: ...

    def kill_writers(self, *, query_only: bool) -> None:
        """KILL, or KILL QUERY, every session of the vault's clients."""
        ...

    def set_semisync_wait_no_slave(self, on: bool) -> None: ...

    def set_flush_interval(self, seconds: int) -> None:
        """How often InnoDB flushes by itself what a commit left unflushed; 1 unless set."""
        ...

    def set_max_connections(self, most: int) -> None: ...

    def purge_binary_logs(self) -> None:
        """Begin a new binary log and purge those before it."""
        ...

    def crash(self) -> None:
        """SIGKILL, and wait until it is gone."""
        ...

    def terminate(self) -> None:
        """SIGTERM, and wait until it is gone."""
        ...

    def freeze(self) -> None:
        """SIGSTOP."""
        ...

    def thaw(self) -> None: ...


class World(Protocol):
    servers: Sequence[Server]

    def wait(self, holds: Callable[[], object], seconds: float = PATIENCE) -> bool:
        """Whether it came to hold in time. A DatabaseError counts as "not yet"."""
        ...

    def took(self, action: Callable[[], Any]) -> float:
        """Seconds that it took."""
        ...

    def cut(self, sender: Server, receiver: Server) -> None:
        """Packets of one to the other vanish from now on, without a word."""
        ...

    def heal(self) -> None: ...


def outcome_of(action: Callable[[], Any]) -> str:
    """Do it here and now."""
    try:
        action()
    except DatabaseError as error:
        return failure(error.code)
    return OK
