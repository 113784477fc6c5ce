"""MySQL 8.4 and 9: the only SQL that is sent to such a server. It does what it is told and decides nothing.

What differs from MariaDB, and what was measured: docs/design/mysql.md. `MySql` implements base.LocalDatabase. mysqlclient escapes
values on this side of the wire, so they may stand where the server itself takes no parameters.
"""

from datetime import timedelta
from typing import Any, Final

from replication.core.mysql_positions import GtidSet
from replication.core.positions import parse
from replication.core.vault_ports import DatabaseError, RelayPlace, Source

from .base import Client, PkiFiles, Row, Session
from .epochs import Epochs
from .looking import Looking
from .mysql_accounts import Accounts
from .mysql_clone import COPY_ACCOUNT
from .mysql_closing import Closing
from .mysql_settings import (
    CONNECT_RETRY_S,
    HEARTBEAT_PERIOD_S,
    RETRIES,
    Settings,
)

_SOURCE: Final = {
    "host": "Source_Host",
    "port": "Source_Port",
    "account": "Source_User",
    "server_id": "Source_Server_Id",
    "receiver": "Replica_IO_Running",
    "applier": "Replica_SQL_Running",
    "receiver_errno": "Last_IO_Errno",
    "receiver_error": "Last_IO_Error",
    "applier_errno": "Last_SQL_Errno",
    "applier_error": "Last_SQL_Error",
    "behind": "Seconds_Behind_Source",
}
"""Columns of SHOW REPLICA STATUS, under our names."""
_STATUS: Final = {
    "Rpl_semi_sync_source_clients": "ack_clients",
    "Rpl_semi_sync_source_wait_sessions": "waiting_sessions",
    "Rpl_semi_sync_source_status": "in_force",
    "Rpl_semi_sync_source_yes_tx": "acknowledged",
    "Rpl_semi_sync_source_no_tx": "unacknowledged",
    "Rpl_semi_sync_replica_status": "stream_acknowledges",
    "Threads_connected": "connections",
}
REFUSED_BY_SOURCE: Final = 13114
"""ER_SERVER_SOURCE_FATAL_ERROR_READING_BINLOG: the source's own number, 1236, stands in the text."""
DIVERGED_OR_PURGED: Final = 1236
SHORTEST_WAIT_S: Final = 0.001
"""0 would wait for ever."""


class MySql(Closing, Looking, Epochs, Accounts, Settings):
    keeps_relay_log = True
    status_names = _STATUS

    def __init__(self, session: Session, pki: PkiFiles, client: Client | None = None) -> None:
        self.session, self.pki, self.client = session, pki, client

    # --- looking ---------------------------------------------------------------------------------------------------

    def oldest_transaction(self) -> float:
        rows = self.session.rows(
            "SELECT MAX(TIMESTAMPDIFF(SECOND, t.trx_started, NOW())) AS age FROM information_schema.innodb_trx t"
            " JOIN performance_schema.threads p ON p.PROCESSLIST_ID = t.trx_mysql_thread_id"
            " WHERE p.TYPE = 'FOREGROUND' AND p.PROCESSLIST_COMMAND NOT LIKE 'Binlog Dump%%'"
            " AND p.NAME NOT LIKE 'thread/sql/replica%%'"
        )
        return max(0.0, float(rows[0]["age"] or 0))

    def _variables(self) -> Row:
        row = self.session.rows(
            "SELECT @@version AS version, @@GLOBAL.server_id AS server_id, @@GLOBAL.super_read_only AS read_only,"
            " @@GLOBAL.gtid_executed AS executed, @@GLOBAL.rpl_semi_sync_source_enabled AS waiting,"
            " @@GLOBAL.rpl_semi_sync_replica_enabled AS acknowledging, @@GLOBAL.max_connections AS connections_max"
        )[0]
        executed = _one_line(row["executed"])
        # One set says all: what stands in the binary log, from whom, and what was applied.
        return {**row, "gtid_binlog_pos": executed, "gtid_binlog_state": executed, "gtid_slave_pos": executed}

    def _source(self) -> Row | None:
        rows = self.session.rows("SHOW REPLICA STATUS")
        if not rows:
            return None
        row = rows[0]
        found: dict[str, Any] = {ours: row[theirs] for ours, theirs in _SOURCE.items()}
        if found["receiver_errno"] == REFUSED_BY_SOURCE and f"error {DIVERGED_OR_PURGED} " in found["receiver_error"]:
            found["receiver_errno"] = DIVERGED_OR_PURGED
        # Retrieved is what this relay log has held; what came before, or by another way, was executed.
        held = GtidSet.parse(row["Retrieved_Gtid_Set"] or "").union(GtidSet.parse(row["Executed_Gtid_Set"] or ""))
        beats = self.session.rows(
            "SELECT COUNT_RECEIVED_HEARTBEATS AS beats, LAST_HEARTBEAT_TIMESTAMP AS last"
            " FROM performance_schema.replication_connection_status WHERE CHANNEL_NAME = ''"
        )
        heard = [row.get(name) for name in ("Source_Log_File", "Read_Source_Log_Pos", "Retrieved_Gtid_Set")]
        heard += [value for beat in beats for value in (beat["beats"], beat["last"])]
        return {**found, "received": str(held), "heard": tuple(map(str, heard)), "by_gtid": row["Auto_Position"] == 1}

    # --- switches --------------------------------------------------------------------------------------------------

    def set_waiting(self, on: bool) -> None:
        self.session.run("SET GLOBAL rpl_semi_sync_source_enabled = %s", int(on))

    def set_server_id(self, server_id: int) -> None:
        self.session.run("SET GLOBAL server_id = %s", server_id)

    # --- replication -----------------------------------------------------------------------------------------------

    def change_source(self, source: Source) -> None:
        self.session.run(
            "CHANGE REPLICATION SOURCE TO SOURCE_HOST = %s, SOURCE_PORT = %s, SOURCE_USER = %s, SOURCE_PASSWORD = '',"
            " SOURCE_AUTO_POSITION = 1, SOURCE_SSL = 1, SOURCE_SSL_CA = %s, SOURCE_SSL_CERT = %s, SOURCE_SSL_KEY = %s,"
            " SOURCE_SSL_VERIFY_SERVER_CERT = 1, SOURCE_HEARTBEAT_PERIOD = %s, SOURCE_CONNECT_RETRY = %s,"
            " SOURCE_RETRY_COUNT = %s",
            source.host,
            source.port,
            source.account,
            self.pki.ca,
            self.pki.cert,
            self.pki.key,
            HEARTBEAT_PERIOD_S,
            CONNECT_RETRY_S,
            RETRIES,
        )

    def start_receiver(self) -> None:
        self.session.run("START REPLICA IO_THREAD")

    def stop_receiver(self) -> None:
        self.session.run("STOP REPLICA IO_THREAD")

    def start_applier(self) -> None:
        self.session.run("START REPLICA SQL_THREAD")

    def apply_relay_log(self, begin: RelayPlace, end: RelayPlace) -> None:
        raise DatabaseError(0, "MySQL applies its relay log by GTID: there is nothing to apply by place")

    def follow_by_gtid(self) -> None:
        """It never counts in any other way."""

    def count_own_as_applied(self) -> None:
        """It always does."""

    def start_replication(self) -> None:
        self.session.run("START REPLICA")

    def stop_replication(self) -> None:
        self.session.run("STOP REPLICA")

    def forget_source(self) -> None:
        self.session.run("RESET REPLICA ALL")

    def wait_applied(self, position: str, duration: timedelta) -> bool:
        if not position:
            return True
        seconds = max(duration.total_seconds(), SHORTEST_WAIT_S)
        rows = self.session.rows("SELECT WAIT_FOR_EXECUTED_GTID_SET(%s, %s) AS missed", position, seconds)
        return bool(rows[0]["missed"] == 0)

    def take_position(self, position: str, binlog_state: str) -> None:
        """As a copy of MySQL knows by itself where it stands. The account by which it was fetched came along."""
        missing = parse(self.positions().gtid_slave_pos).missing_from(parse(position))
        if missing:
            raise DatabaseError(0, f"the copy lacks {missing} transactions that it was to have")
        with self._writable(), self._unlogged():
            self.session.run("DROP USER IF EXISTS %s@'%%'", COPY_ACCOUNT)

    # --- epochs ----------------------------------------------------------------------------------------------------

    def _number_from(self, sequence: int) -> None:
        """Numbers count within the UUID of a data directory, which a copy never shares: no lost one is issued again."""


def _one_line(text: str) -> str:
    return "".join((text or "").split())
