"""Clients of the vault that remember what was acknowledged: the evidence for "nothing acknowledged is lost".

Each writer sticks to the host that takes its writes and goes to the next one when it fails; ids are never used twice.
"""

import contextlib
import itertools
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import MySQLdb

from tests.vault_host import VaultHost
from tests.waiting import wait_for

PAUSE_SECONDS = 0.005
RETRY_SECONDS = 0.005
PATIENCE_SECONDS = 10
TABLE = "written"


@dataclass(frozen=True)
class Acknowledged:
    at: float
    """Monotonic moment at which the client had the OK."""
    host: str
    id: int


def create_table(primary: VaultHost) -> None:
    with contextlib.closing(primary.connect_client()) as connection, connection.cursor() as cursor:
        cursor.execute(f"CREATE TABLE IF NOT EXISTS {TABLE} (id BIGINT PRIMARY KEY, writer INT NOT NULL) ENGINE=InnoDB")


class Writers:
    """`with Writers([a, b], 8) as writers:` writes until the end of the block. All hosts share one client password."""

    def __init__(self, hosts: Sequence[VaultHost], count: int, *, password: str, first_id: int = 0) -> None:
        self.hosts, self.password = list(hosts), password
        self.acknowledged: list[Acknowledged] = []
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._write, args=(n, first_id + n * 10_000_000), daemon=True) for n in range(count)
        ]

    def __enter__(self) -> "Writers":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(PATIENCE_SECONDS + 5)

    def _connect(self, host: VaultHost) -> Any:
        return MySQLdb.connect(
            host=host.ip, port=3307, user="vault_client", password=self.password, database="vault", autocommit=True,
            connect_timeout=1, read_timeout=PATIENCE_SECONDS, write_timeout=PATIENCE_SECONDS,
        )  # fmt: skip

    def _write(self, number: int, id: int) -> None:
        connection, current = None, 0
        while not self._stop.is_set():
            id += 1
            host = self.hosts[current]
            try:
                connection = connection or self._connect(host)
                with connection.cursor() as cursor:
                    cursor.execute(f"INSERT INTO {TABLE} VALUES (%s, %s)", (id, number))
                self.acknowledged.append(Acknowledged(time.monotonic(), host.hostname, id))
                self._stop.wait(PAUSE_SECONDS)
            except MySQLdb.Error:
                if connection is not None:
                    with contextlib.suppress(MySQLdb.Error):
                        connection.close()
                connection, current = None, (current + 1) % len(self.hosts)
                self._stop.wait(RETRY_SECONDS)

    def since(self, moment: float, host: VaultHost | None = None) -> list[Acknowledged]:
        name = host.hostname if host is not None else None
        return [a for a in list(self.acknowledged) if a.at > moment and name in (None, a.host)]

    def wait_acknowledged(
        self, moment: float, timeout: float, *, host: VaultHost | None = None, count: int = 1
    ) -> float:
        """Wait for `count` acknowledgements after `moment`; returns seconds from `moment` to the first of them."""
        message = f"{count} acknowledged writes{' on ' + host.hostname if host else ''}"
        wait_for(lambda: len(self.since(moment, host)) >= count, timeout, message)
        return min(a.at for a in self.since(moment, host)) - moment

    def longest_gap(self, moment: float) -> float:
        """Longest time between two acknowledgements from `moment` on, in seconds."""
        times = sorted([moment, *(a.at for a in self.since(moment))])
        return max((later - earlier for earlier, later in itertools.pairwise(times)), default=float("inf"))


def missing(writers: Writers, host: VaultHost) -> set[int]:
    """Acknowledged ids that this host does not have."""
    have = {row["id"] for row in host.sql(f"SELECT id FROM vault.{TABLE}")}
    return {a.id for a in writers.acknowledged} - have
