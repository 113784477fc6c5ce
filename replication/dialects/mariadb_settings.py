"""The settings that keep a vault node safe: written to its option file, checked and set right while it runs.

Why each is what it is: docs/design/settings.md. MariaDB's own defaults are unsafe here (AFTER_COMMIT, a 10 s time-out that
falls back to asynchronous, read_only off, sync_relay_log 10000).
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Final

from replication.core import limits

from .drift import Difference, Drift, compared

SEMISYNC_TIMEOUT_MS: Final = 10 * 365 * 24 * 3600 * 1000
"""Ten years stands for "never": the server adds it to the clock, so the type's own maximum would overflow."""

REQUIRED: Final[dict[str, str | int]] = {
    "log_bin": 1,
    "binlog_format": "ROW",
    "binlog_row_metadata": "FULL",  # or a list of lost transactions has numbers in the place of columns
    "log_slave_updates": 1,
    "gtid_strict_mode": 1,
    "sync_binlog": 1,
    "innodb_flush_log_at_trx_commit": 1,
    "relay_log_recovery": 0,  # 1 throws away received transactions that no living primary may have any more
    "event_scheduler": "OFF",
    "slave_parallel_threads": 4,
    "slave_parallel_mode": "optimistic",
    "slave_net_timeout": 4,
    "rpl_semi_sync_slave_kill_conn_timeout": 1,
    "rpl_semi_sync_master_wait_point": "AFTER_SYNC",
    "rpl_semi_sync_master_timeout": SEMISYNC_TIMEOUT_MS,
    "rpl_semi_sync_master_wait_no_slave": 1,
    "skip_name_resolve": 1,
}
"""As `SELECT @@GLOBAL.name` answers; the same on every node, whatever its role."""

AT_BOOT: Final[dict[str, str | int]] = {
    "read_only": 1,
    "skip_slave_start": 1,
    "rpl_semi_sync_master_enabled": 0,
    "rpl_semi_sync_slave_enabled": 0,
    "sync_relay_log": 10000,
}
"""Every start is closed; orders with an epoch change these at run time."""

HEARTBEAT_PERIOD_S: Final = limits.HEARTBEAT_PERIOD.total_seconds()
CONNECT_RETRY_S: Final = 1


def option_lines() -> tuple[str, ...]:
    """The lines for the option file. `log_bin` is left out: there it takes a name."""
    return tuple(f"{name}={value}" for name, value in {**REQUIRED, **AT_BOOT}.items() if name != "log_bin")


NOT_NOW: Final = frozenset({1198, 1238})
"""A replica runs; read-only variable: only a restart sets it right."""
RELAY_LOG_SYNC_ACKER: Final = 1
"""An acker flushes every event before it acknowledges, or a power cut could take what it has acknowledged. Any other replica
does not: with it a receiver on two cores took 700 transactions a second, and fell behind a solo primary for good."""


def differences(found: Mapping[str, Any], *, acknowledging: bool) -> tuple[Difference, ...]:
    """Compare what a server says with what it must."""
    return compared(found, {**REQUIRED, **(Settings.on_acker if acknowledging else {})})


class Settings(Drift):
    required = REQUIRED
    at_boot = AT_BOOT
    on_acker: ClassVar[Mapping[str, str | int]] = {"sync_relay_log": RELAY_LOG_SYNC_ACKER}
    acker_flag = "rpl_semi_sync_slave_enabled"
    not_now = NOT_NOW
