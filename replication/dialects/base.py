"""What every dialect is written against, and what every dialect is. The driver is the caller's business."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from replication.core.vault_ports import Database, Positions, ReplicaStatus, Switches

Row = Mapping[str, Any]


class Session(Protocol):
    """A connection that keeps itself open. Values are always arguments, never part of the statement's text."""

    def rows(self, statement: str, *values: Any) -> list[Row]:
        """Run a statement and return its rows. Raises core.vault_ports.DatabaseError."""
        ...

    def run(self, statement: str, *values: Any) -> None:
        """Run a statement that has no rows. Raises core.vault_ports.DatabaseError."""
        ...


@dataclass(frozen=True, kw_only=True)
class PkiFiles:
    """Paths on the database host, as replication's TLS uses them."""

    ca: str
    cert: str
    key: str


@dataclass(frozen=True, kw_only=True)
class Client:
    """The account of the vault's own clients: everything in its database, nothing elsewhere."""

    database: str
    user: str
    password: str


@dataclass(frozen=True, kw_only=True)
class Observation:
    """One look at everything that a report tells."""

    version: str
    positions: Positions
    switches: Switches
    replica: ReplicaStatus | None
    acknowledged: int
    unacknowledged: int
    connections: int = 0
    connections_max: int = 0
    heard: tuple[str, ...]
    """Changes whenever the source was heard: heartbeats, coordinates, position."""


class LocalDatabase(Database, Protocol):
    """What an agent asks of its server. Every call may raise DatabaseError."""

    def ping(self) -> None: ...

    def observe(self) -> Observation: ...

    def oldest_transaction(self) -> float:
        """Seconds for which the oldest transaction of a client has been open; 0 when there is none."""
        ...

    def take_position(self, position: str, binlog_state: str) -> None:
        """After a copy, which has tables and no binary log: begin that anew as if it held everything up to the position, and
        count that as applied. Only without a source. May be repeated."""
        ...

    def repair(self) -> tuple[str, ...]:
        """Set right what can be without a restart; a sentence for each, with the value that was found.

        Towards what is safe only, and quick also while commits hang. Who waits and who acknowledges is not touched.
        """
        ...

    def ensure_admin(self, address: str, subject: str) -> bool:
        """Have the agent's own account, for this address and certificate and no other; whether it had to be made.

        It may do everything. Stays out of the binary log, so it works while commits hang, and on this node only.
        """
        ...
