"""MariaDB 10.11: the only SQL that is sent to a vault's server. It does what it is told and decides nothing.

`MariaDb` implements core.vault_ports.Database for the verbs, and base.LocalDatabase for the agent. mysqlclient escapes values on
this side of the wire, so they may stand where the server itself takes no parameters (CHANGE MASTER, CREATE USER).
"""

from datetime import timedelta
from typing import Final

from replication.core.vault_ports import RelayPlace, Source

from .base import Client, Observation, PkiFiles, Row, Session
from .epochs import Epochs
from .looking import Looking
from .mariadb_accounts import Accounts
from .mariadb_closing import Closing
from .mariadb_settings import (
    CONNECT_RETRY_S,
    HEARTBEAT_PERIOD_S,
    Settings,
)

__all__ = ["MariaDb", "Observation", "PkiFiles"]

_SOURCE: Final = {
    "host": "Master_Host",
    "port": "Master_Port",
    "account": "Master_User",
    "server_id": "Master_Server_Id",
    "receiver": "Slave_IO_Running",
    "applier": "Slave_SQL_Running",
    "received": "Gtid_IO_Pos",
    "receiver_errno": "Last_IO_Errno",
    "receiver_error": "Last_IO_Error",
    "applier_errno": "Last_SQL_Errno",
    "applier_error": "Last_SQL_Error",
    "behind": "Seconds_Behind_Master",
}
"""Columns of SHOW SLAVE STATUS, under our names."""
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


class MariaDb(Looking, Epochs, Accounts, Closing, Settings):
    keeps_relay_log = False
    status_names = _STATUS

    def __init__(self, session: Session, pki: PkiFiles, client: Client | None = None) -> None:
        self.session, self.pki, self.client = session, pki, client

    # --- looking ---------------------------------------------------------------------------------------------------

    def oldest_transaction(self) -> float:
        rows = self.session.rows(
            "SELECT MAX(TIMESTAMPDIFF(SECOND, t.trx_started, NOW())) AS age FROM information_schema.innodb_trx t"
            " JOIN information_schema.processlist p ON p.ID = t.trx_mysql_thread_id"
            " WHERE p.USER <> 'system user' AND p.COMMAND NOT LIKE 'Slave%%' AND p.COMMAND NOT LIKE 'Binlog Dump%%'"
        )
        return max(0.0, float(rows[0]["age"] or 0))

    def _variables(self) -> Row:
        return self.session.rows(
            "SELECT @@version AS version, @@GLOBAL.server_id AS server_id, @@GLOBAL.read_only AS read_only,"
            " @@GLOBAL.gtid_binlog_pos AS gtid_binlog_pos, @@GLOBAL.gtid_binlog_state AS gtid_binlog_state,"
            " @@GLOBAL.gtid_slave_pos AS gtid_slave_pos, @@GLOBAL.rpl_semi_sync_master_enabled AS waiting,"
            " @@GLOBAL.rpl_semi_sync_slave_enabled AS acknowledging, @@GLOBAL.max_connections AS connections_max"
        )[0]

    def _source(self) -> Row | None:
        rows = self.session.rows("SHOW SLAVE STATUS")
        if not rows:
            return None
        row = rows[0]
        return {
            **{ours: row[theirs] for ours, theirs in _SOURCE.items()},
            "heard": tuple(str(row.get(name)) for name in ("Master_Log_File", "Read_Master_Log_Pos", "Gtid_IO_Pos")),
            "by_gtid": row["Using_Gtid"] != "No",
        }

    # --- switches --------------------------------------------------------------------------------------------------

    def set_read_only(self, on: bool) -> None:
        self.session.run("SET GLOBAL read_only = %s", int(on))

    def set_waiting(self, on: bool) -> None:
        self.session.run("SET GLOBAL rpl_semi_sync_master_enabled = %s", int(on))

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

    def take_position(self, position: str, binlog_state: str) -> None:
        """After a copy, which has tables and no binary log: begin that anew as if it held everything up to the position, and
        count that as applied. Only without a source. May be repeated."""
        self.session.run("RESET MASTER")
        self.session.run("SET GLOBAL gtid_binlog_state = %s", binlog_state)
        self.session.run("SET GLOBAL gtid_slave_pos = %s", position)

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

    def _number_from(self, sequence: int) -> None:
        self.session.run("SET SESSION gtid_seq_no = %s", sequence)
