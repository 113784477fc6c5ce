"""The settings that keep a vault node safe: written to its option file, checked and set right while it runs.

Why each is what it is: docs/design/settings.md. MariaDB's own defaults are unsafe here (AFTER_COMMIT, a 10 s time-out that
falls back to asynchronous, read_only off, sync_relay_log 10000).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from replication.core import limits
from replication.core.vault_ports import DatabaseError

from .base import Session

SEMISYNC_TIMEOUT_MS: Final = 10 * 365 * 24 * 3600 * 1000
"""Ten years stands for "never": the server adds it to the clock, so the type's own maximum would overflow."""

REQUIRED: Final[dict[str, str | int]] = {
    "log_bin": 1,
    "binlog_format": "ROW",
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


@dataclass(frozen=True)
class Difference:
    """A setting that is not as it must be."""

    name: str
    found: str
    wanted: str | int

    def __str__(self) -> str:
        return f"{self.name} is {self.found}, must be {self.wanted}"


def differences(found: Mapping[str, Any], *, acknowledging: bool) -> tuple[Difference, ...]:
    """Compare what a server says with what it must."""
    must = {**REQUIRED, **({"sync_relay_log": RELAY_LOG_SYNC_ACKER} if acknowledging else {})}
    return tuple(
        Difference(name, str(found.get(name, "unknown")), wanted)
        for name, wanted in must.items()
        if str(found.get(name)) != str(wanted)
    )


class Settings:
    session: Session

    def drift(self) -> tuple[str, ...]:
        return tuple(map(str, self._differences()))

    def repair(self) -> tuple[str, ...]:
        """Set right what can be without a restart; a sentence for each, with the value that was found.

        Towards what is safe only, and quick also while commits hang. Who waits and who acknowledges is not touched.
        """
        before = self._differences()
        for difference in before:
            try:
                self.session.run(f"SET GLOBAL {difference.name} = %s", difference.wanted)  # names of our own table
            except DatabaseError as error:
                if error.code not in NOT_NOW:
                    raise
        left = {difference.name for difference in self._differences()} if before else set()
        return tuple(f"{d.name} was {d.found}" for d in before if d.name not in left)

    def _differences(self) -> tuple[Difference, ...]:
        asked = (*REQUIRED, "sync_relay_log", "rpl_semi_sync_slave_enabled")
        names = ", ".join(f"@@GLOBAL.{name} AS {name}" for name in asked)
        found = self.session.rows(f"SELECT {names}")[0]
        return differences(found, acknowledging=bool(int(found["rpl_semi_sync_slave_enabled"])))
