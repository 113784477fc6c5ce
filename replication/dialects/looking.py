"""Looking at a server: the same questions to each engine, whose parts answer under the same names."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from replication.core.vault_ports import Positions, ReplicaStatus, Switches

from .base import Observation, Row, Session


class Looking(ABC):
    session: Session
    status_names: ClassVar[Mapping[str, str]]
    """What the server calls each figure of its status, and what we do."""

    @abstractmethod
    def _variables(self) -> Row:
        """version, server_id, read_only, waiting, acknowledging, connections_max and the three positions."""

    @abstractmethod
    def _source(self) -> Row | None:
        """Of whom it follows; None without a source. `heard`: a tuple of texts that change when it is heard."""

    def ping(self) -> None:
        self.session.rows("SELECT 1")

    def observe(self) -> Observation:
        row = self._variables()
        status = self._status()
        source = self._source()
        return Observation(
            version=str(row["version"]),
            positions=_positions(row),
            switches=_switches(row, status),
            replica=_replica(source) if source else None,
            acknowledged=int(status["acknowledged"]),
            unacknowledged=int(status["unacknowledged"]),
            connections=int(status["connections"]),
            connections_max=int(row["connections_max"]),
            heard=(str(status.get("heartbeats", "")), *source["heard"]) if source else (),
        )

    def positions(self) -> Positions:
        return _positions(self._variables())

    def replica(self) -> ReplicaStatus | None:
        source = self._source()
        return _replica(source) if source else None

    def switches(self) -> Switches:
        return _switches(self._variables(), self._status())

    def _status(self) -> dict[str, Any]:
        names = ", ".join(f"'{name}'" for name in self.status_names)
        rows = self.session.rows(f"SHOW GLOBAL STATUS WHERE Variable_name IN ({names})")
        return {self.status_names[row["Variable_name"]]: row["Value"] for row in rows}


def _positions(row: Row) -> Positions:
    return Positions(
        server_id=int(row["server_id"]),
        gtid_binlog_pos=row["gtid_binlog_pos"] or "",
        gtid_binlog_state=row["gtid_binlog_state"] or "",
        gtid_slave_pos=row["gtid_slave_pos"] or "",
    )


def _switches(row: Row, status: Mapping[str, Any]) -> Switches:
    return Switches(
        read_only=bool(int(row["read_only"])),
        # After a time-out the variable is still on, and commits are acknowledged alone until a replica has caught up.
        waiting=bool(int(row["waiting"])) and status["in_force"] == "ON",
        acknowledging=bool(int(row["acknowledging"])),
        stream_acknowledges=status["stream_acknowledges"] == "ON",
        ack_clients=int(status["ack_clients"]),
        waiting_sessions=int(status["waiting_sessions"]),
    )


def _replica(row: Row) -> ReplicaStatus:
    behind = row["behind"]
    return ReplicaStatus(
        source_host=row["host"] or "",
        source_port=int(row["port"]),
        account=row["account"] or "",
        source_server_id=int(row["server_id"] or 0),
        receiver=row["receiver"],
        applier=row["applier"] == "Yes",
        gtid_io_pos=row["received"] or "",
        receiver_errno=int(row["receiver_errno"]),
        receiver_error=row["receiver_error"] or "",
        applier_errno=int(row["applier_errno"]),
        applier_error=row["applier_error"] or "",
        seconds_behind=float(behind) if behind is not None else None,
        by_gtid=row["by_gtid"],
    )
