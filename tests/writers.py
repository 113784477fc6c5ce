"""Clients of the vault that remember what was acknowledged: the evidence for "nothing acknowledged is lost".

Each writer sticks to the host that takes its writes and goes to the next one when it fails; ids are never used twice.
PyMySQL, because it counts time-outs in milliseconds; what went wrong in a time-out is unknown, so it counts as not acknowledged.
"""

import contextlib
import itertools
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import pymysql

from replication.core import limits
from tests.vault_host import CLIENT_DATABASE, CLIENT_USER, VaultHost
from tests.waiting import wait_for

PAUSE_SECONDS = 0.005
RETRY_SECONDS = 0.005
PATIENCE_SECONDS = 10.0
SHORT_PATIENCE_SECONDS = 0.05
"""Of a client that wants to notice a lost primary by itself: what the goals for the times of a failover were measured with."""
END_SECONDS = 5
READ_ONLY = 1290
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
    """`with Writers([a, b], 8) as writers:` writes until the end of the block. All hosts share one client password.

    patience: seconds that a writer waits for a connection and for each answer. pause: seconds after each write. inside: makes the context in which each
    writer lives, a host of tests/rig/network.py for instance.
    """

    def __init__(
        self,
        hosts: Sequence[VaultHost],
        count: int,
        *,
        password: str,
        first_id: int = 0,
        patience: float = PATIENCE_SECONDS,
        pause: float = PAUSE_SECONDS,
        inside: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self.hosts, self.password, self.patience, self._inside = list(hosts), password, patience, inside
        self._pause = pause
        self.acknowledged: list[Acknowledged] = []
        self._stop = threading.Event()
        self._connections: dict[int, Any] = {}
        """By writer: the one that it uses now."""
        self._threads = [
            threading.Thread(target=self._write, args=(n, first_id + n * 10_000_000), daemon=True) for n in range(count)
        ]

    def __enter__(self) -> "Writers":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Also ends writers that wait for an answer: what they wait for is not acknowledged."""
        self._stop.set()
        for connection in list(self._connections.values()):
            with contextlib.suppress(OSError, AttributeError):
                connection._sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(END_SECONDS)

    def _connect(self, host: VaultHost) -> Any:
        return pymysql.connect(
            host=host.ip, port=limits.DATABASE_PORT, user=CLIENT_USER, password=self.password, database=CLIENT_DATABASE,
            autocommit=True, ssl_disabled=True, connect_timeout=min(self.patience, 1), read_timeout=self.patience,
            write_timeout=self.patience,
        )  # fmt: skip

    def _write(self, number: int, id: int) -> None:
        with self._inside():
            self._write_until_stopped(number, id)

    def _write_until_stopped(self, number: int, id: int) -> None:
        connections: list[Any] = [None] * len(self.hosts)
        current = 0
        while not self._stop.is_set():
            id += 1
            try:
                if connections[current] is None:
                    connections[current] = self._connect(self.hosts[current])
                self._connections[number] = connections[current]
                connections[current].query(f"INSERT INTO {TABLE} VALUES ({id}, {number})")
                self.acknowledged.append(Acknowledged(time.monotonic(), self.hosts[current].hostname, id))
                self._stop.wait(self._pause)
            except (pymysql.Error, OSError) as error:
                closed = isinstance(error, pymysql.Error) and error.args[:1] == (READ_ONLY,)
                if not closed and connections[current] is not None:
                    _forget(connections[current])
                    connections[current] = None
                current = (current + 1) % len(self.hosts)
                self._stop.wait(RETRY_SECONDS)
        for connection in filter(None, connections):
            _forget(connection)

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


def _forget(connection: Any) -> None:
    """Close it without a word to the server, which may not listen."""
    with contextlib.suppress(pymysql.Error, OSError):
        connection._force_close()
