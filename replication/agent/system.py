"""The clock of this host, and chance, for procedures that have neither."""

import secrets
import time
from collections.abc import Sequence
from datetime import timedelta

from replication.core.vault_ports import SERVER_ID_MAX


class SystemClock:
    """Implements core.vault_ports.Clock."""

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, duration: timedelta) -> None:
        time.sleep(duration.total_seconds())


def fresh_server_id(used: Sequence[int]) -> int:
    """A random server_id that is none of `used`."""
    while True:
        candidate = 1 + secrets.randbelow(SERVER_ID_MAX)
        if candidate not in used:
            return candidate
