"""MariaDB 10.11: the only SQL that is sent to a vault's server. It does what it is told and decides nothing.

`MariaDb` implements core.vault_ports.Database for the verbs; `observe` is for whoever watches. mysqlclient escapes values on
this side of the wire, so they may stand where the server itself takes no parameters (CHANGE MASTER, CREATE USER).
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from replication.core.vault_ports import (
    DatabaseError,
    Positions,
    RelayPlace,
    ReplicaStatus,
    Source,
    Switches,
)

from .base import Row, Session
from .mariadb_accounts import Accounts, Client
from .mariadb_closing import Closing
from .mariadb_sessions import exists
from .mariadb_settings import (
    AT_BOOT,
    CONNECT_RETRY_S,
    HEARTBEAT_PERIOD_S,
    RELAY_LOG_SYNC_ACKER,
    Settings,
)

NO_SUCH_DATABASE: Final = 1049
NO_SUCH_TABLE: Final = 1146

_STATUS: Final = {
    "Rpl_semi_sync_master_clients": "ack_clients",
    "Rpl_semi_sync_master_wait_sessions": "waiting_sessions",
    "Rpl_semi_sync_master_status": "in_force",
    "Rpl_semi_sync_master_yes_tx": "acknowledged",
    "Rpl_semi_sync_master_no_tx": "unacknowledged",
    "Rpl_semi_sync_slave_status": "stream_acknowledges",
    "Slave_received_heartbeats": "heartbeats",
    "Threads_connected": "connections",
}


@dataclass(frozen=True, kw_only=True)
class PkiFiles:
    """Paths on the database host, as replication's TLS uses them."""

    ca: str
    cert: str
    key: str


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


class MariaDb(Accounts, Closing, Settings):
    keeps_relay_log = False

    def __init__(self, session: Session, pki: PkiFiles, client: Client | None = None) -> None:
        self.session, self.pki, self.client = session, pki, client

    # --- looking ---------------------------------------------------------------------------------------------------

    def ping(self) -> None:
        self.session.rows("SELECT 1")

    def observe(self) -> Observation:
        row = self._variables()
        status = self._status()
        source = self._source_row()
        return Observation(
            version=str(row["version"]),
            positions=_positions(row),
            switches=_switches(row, status),
            replica=_replica(source) if source else None,
            acknowledged=int(status["acknowledged"]),
            unacknowledged=int(status["unacknowledged"]),
            connections=int(status["connections"]),
            connections_max=int(row["connections_max"]),
            heard=tuple(
                str(value)
                for value in (
                    status["heartbeats"],
                    *(source.get(name) for name in ("Master_Log_File", "Read_Master_Log_Pos", "Gtid_IO_Pos")),
                )
            )
            if source
            else (),
        )

    def oldest_transaction(self) -> float:
        """Seconds for which the oldest transaction of a client has been open; 0 when there is none."""
        rows = self.session.rows(
            "SELECT MAX(TIMESTAMPDIFF(SECOND, t.trx_started, NOW())) AS age FROM information_schema.innodb_trx t"
            " JOIN information_schema.processlist p ON p.ID = t.trx_mysql_thread_id"
            " WHERE p.USER <> 'system user' AND p.COMMAND NOT LIKE 'Slave%%' AND p.COMMAND NOT LIKE 'Binlog Dump%%'"
        )
        return max(0.0, float(rows[0]["age"] or 0))

    def positions(self) -> Positions:
        return _positions(self._variables())

    def replica(self) -> ReplicaStatus | None:
        row = self._source_row()
        return _replica(row) if row else None

    def switches(self) -> Switches:
        return _switches(self._variables(), self._status())

    def _variables(self) -> Row:
        return self.session.rows(
            "SELECT @@version AS version, @@GLOBAL.server_id AS server_id, @@GLOBAL.read_only AS read_only,"
            " @@GLOBAL.gtid_binlog_pos AS gtid_binlog_pos, @@GLOBAL.gtid_binlog_state AS gtid_binlog_state,"
            " @@GLOBAL.gtid_slave_pos AS gtid_slave_pos, @@GLOBAL.rpl_semi_sync_master_enabled AS waiting,"
            " @@GLOBAL.rpl_semi_sync_slave_enabled AS acknowledging, @@GLOBAL.max_connections AS connections_max"
        )[0]

    def _status(self) -> dict[str, Any]:
        names = ", ".join(f"'{name}'" for name in _STATUS)
        rows = self.session.rows(f"SHOW GLOBAL STATUS WHERE Variable_name IN ({names})")
        return {_STATUS[row["Variable_name"]]: row["Value"] for row in rows}

    def _source_row(self) -> Row | None:
        rows = self.session.rows("SHOW SLAVE STATUS")
        return rows[0] if rows else None

    # --- switches --------------------------------------------------------------------------------------------------

    def set_read_only(self, on: bool) -> None:
        self.session.run("SET GLOBAL read_only = %s", int(on))

    def set_waiting(self, on: bool) -> None:
        self.session.run("SET GLOBAL rpl_semi_sync_master_enabled = %s", int(on))

    def set_acknowledging(self, on: bool) -> None:
        """The flag, and the flushes that make an acknowledgement worth something: on before it, off after it."""
        if on:
            self.session.run("SET GLOBAL sync_relay_log = %s", RELAY_LOG_SYNC_ACKER)
        self.session.run("SET GLOBAL rpl_semi_sync_slave_enabled = %s", int(on))
        if not on:
            self.session.run("SET GLOBAL sync_relay_log = %s", AT_BOOT["sync_relay_log"])

    def set_server_id(self, server_id: int) -> None:
        # The open session would go on writing under the old id.
        self.session.run("SET GLOBAL server_id = %s", server_id)
        self.session.run("SET SESSION server_id = %s", server_id)

    # --- replication -----------------------------------------------------------------------------------------------

    def change_source(self, source: Source) -> None:
        if source.demote:
            # MASTER_DEMOTE_TO_SLAVE does the same for events of the present server_id only, and ours has just changed.
            self.count_own_as_applied()
        self.session.run(
            "CHANGE MASTER TO MASTER_HOST = %s, MASTER_PORT = %s, MASTER_USER = %s, MASTER_PASSWORD = '',"
            " MASTER_USE_GTID = slave_pos, MASTER_SSL = 1, MASTER_SSL_CA = %s, MASTER_SSL_CERT = %s, MASTER_SSL_KEY = %s,"
            " MASTER_SSL_VERIFY_SERVER_CERT = 1, MASTER_HEARTBEAT_PERIOD = %s, MASTER_CONNECT_RETRY = %s",
            source.host,
            source.port,
            source.account,
            self.pki.ca,
            self.pki.cert,
            self.pki.key,
            HEARTBEAT_PERIOD_S,
            CONNECT_RETRY_S,
        )

    def start_receiver(self) -> None:
        self.session.run("START SLAVE IO_THREAD")

    def stop_receiver(self) -> None:
        self.session.run("STOP SLAVE IO_THREAD")

    def start_applier(self) -> None:
        self.session.run("START SLAVE SQL_THREAD")

    def apply_relay_log(self, begin: RelayPlace, end: RelayPlace) -> None:
        # With GTID the applier's start would throw the relay log away and wait for a source to send it again. The source's
        # file stands for any: a replica that has none on record compares its name with nothing and dies of signal 11.
        self.session.run(
            "CHANGE MASTER TO MASTER_USE_GTID = no, MASTER_LOG_FILE = 'binlog.000001', MASTER_LOG_POS = 4,"
            " RELAY_LOG_FILE = %s, RELAY_LOG_POS = %s",
            begin.file,
            begin.offset,
        )
        self.session.run("START SLAVE SQL_THREAD UNTIL RELAY_LOG_FILE = %s, RELAY_LOG_POS = %s", end.file, end.offset)

    def follow_by_gtid(self) -> None:
        self.session.run("CHANGE MASTER TO MASTER_USE_GTID = slave_pos")

    def count_own_as_applied(self) -> None:
        self.session.run("SET GLOBAL gtid_slave_pos = @@GLOBAL.gtid_binlog_pos")

    def start_replication(self) -> None:
        self.session.run("START SLAVE")

    def stop_replication(self) -> None:
        self.session.run("STOP SLAVE")

    def forget_source(self) -> None:
        self.session.run("RESET SLAVE ALL")

    def wait_applied(self, position: str, duration: timedelta) -> bool:
        if not position:
            return True
        rows = self.session.rows("SELECT MASTER_GTID_WAIT(%s, %s) AS missed", position, duration.total_seconds())
        return bool(rows[0]["missed"] == 0)

    # --- epochs ----------------------------------------------------------------------------------------------------

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
        self.session.run("SET SESSION gtid_seq_no = %s", first_sequence)
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


def _positions(row: Row) -> Positions:
    return Positions(
        server_id=int(row["server_id"]),
        gtid_binlog_pos=row["gtid_binlog_pos"] or "",
        gtid_binlog_state=row["gtid_binlog_state"] or "",
        gtid_slave_pos=row["gtid_slave_pos"] or "",
    )


def _switches(row: Row, status: dict[str, Any]) -> Switches:
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
    behind = row["Seconds_Behind_Master"]
    return ReplicaStatus(
        source_host=row["Master_Host"] or "",
        source_port=int(row["Master_Port"]),
        account=row["Master_User"] or "",
        source_server_id=int(row["Master_Server_Id"] or 0),
        receiver=row["Slave_IO_Running"],
        applier=row["Slave_SQL_Running"] == "Yes",
        gtid_io_pos=row["Gtid_IO_Pos"] or "",
        receiver_errno=int(row["Last_IO_Errno"]),
        receiver_error=row["Last_IO_Error"] or "",
        applier_errno=int(row["Last_SQL_Errno"]),
        applier_error=row["Last_SQL_Error"] or "",
        seconds_behind=float(behind) if behind is not None else None,
        by_gtid=row["Using_Gtid"] != "No",
    )
