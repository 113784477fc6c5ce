"""The settings that keep a vault node on MySQL safe: written to its option file, checked and set right while it runs.

Why each is what it is: docs/design/settings.md and docs/design/mysql.md.
"""

from collections.abc import Mapping
from typing import ClassVar, Final

from replication.core import limits

from .drift import Drift

SEMISYNC_TIMEOUT_MS: Final = 10 * 365 * 24 * 3600 * 1000
"""Ten years stands for "never"."""

REQUIRED: Final[dict[str, str | int]] = {
    "log_bin": 1,
    "binlog_format": "ROW",
    "binlog_row_metadata": "FULL",  # or a list of lost transactions has numbers in the place of columns
    "log_replica_updates": 1,
    "gtid_mode": "ON",
    "enforce_gtid_consistency": "ON",
    "sync_binlog": 1,
    "innodb_flush_log_at_trx_commit": 1,
    "relay_log_recovery": 0,  # 1 throws away received transactions that no living primary may have any more
    "event_scheduler": "OFF",
    "replica_parallel_workers": 4,
    "replica_preserve_commit_order": 1,
    "replica_net_timeout": 4,
    "rpl_semi_sync_source_wait_point": "AFTER_SYNC",
    "rpl_semi_sync_source_timeout": SEMISYNC_TIMEOUT_MS,
    "rpl_semi_sync_source_wait_no_replica": 1,
    "rpl_semi_sync_source_wait_for_replica_count": 1,
    "skip_name_resolve": 1,
}
"""As `SELECT @@GLOBAL.name` answers; the same on every node, whatever its role."""

AT_BOOT: Final[dict[str, str | int]] = {
    "super_read_only": 1,
    "skip_replica_start": 1,
    "rpl_semi_sync_source_enabled": 0,
    "rpl_semi_sync_replica_enabled": 0,
    "sync_relay_log": 10000,
}
"""Every start is closed; orders with an epoch change these at run time."""

PLUGINS: Final = ("auth_socket.so", "semisync_source.so", "semisync_replica.so", "mysql_clone.so")
HEARTBEAT_PERIOD_S: Final = limits.HEARTBEAT_PERIOD.total_seconds()
CONNECT_RETRY_S: Final = 1
RETRIES: Final = 10 * 365 * 24 * 3600
"""The server's default gives up after ten tries."""
NOT_NOW: Final = frozenset({1238, 3081})
"""Read-only variable: only a restart sets it right; a replica runs."""
RELAY_LOG_SYNC_ACKER: Final = 1
"""An acker flushes every event before it acknowledges: see mariadb_settings.py."""


def option_lines() -> tuple[str, ...]:
    """The lines for the option file. `log_bin` is left out: there it takes a name."""
    return tuple(f"{name}={value}" for name, value in {**REQUIRED, **AT_BOOT}.items() if name != "log_bin")


class Settings(Drift):
    required = REQUIRED
    at_boot = AT_BOOT
    on_acker: ClassVar[Mapping[str, str | int]] = {"sync_relay_log": RELAY_LOG_SYNC_ACKER}
    acker_flag = "rpl_semi_sync_replica_enabled"
    not_now = NOT_NOW
