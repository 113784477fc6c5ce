"""Comparing two real hosts as a controller does, without the controller; and clients that give a comparison the most to do."""

import asyncio
import contextlib
import itertools
import random
import threading
import time
from datetime import timedelta
from typing import Any

import MySQLdb

from replication.client import AgentClient
from replication.core.comparison import Comparison
from replication.core.view import NodeView
from replication.procedures.controller.comparing import Comparing
from tests.vault_host import VaultHost, identity
from tests.waiting import wait_for
from tests.writers import create_table

_numbers, _ids = itertools.count(1), itertools.count(10**12)
HOT_ROWS = 3
PATIENCE = 20.0


class RealClock:
    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, duration: timedelta) -> None:
        await asyncio.sleep(duration.total_seconds())


def view(host: VaultHost) -> NodeView:
    return NodeView(id=host.node, hostname=host.hostname, ip=host.ip)


async def _nothing(table: str, rows: int, total: int) -> None:
    pass


def compare(primary: VaultHost, node: VaultHost, *, progress: Any = _nothing, duty: float = 1.0) -> Comparison:
    """Raises NotCompared."""

    async def run() -> Comparison:
        directory = identity("controller")
        assert directory is not None
        async with AgentClient(directory) as agents:
            operation = f"compare-{next(_numbers)}"
            return await Comparing(RealClock(), agents, view(primary), view(node), operation, progress, duty=duty).run()

    return asyncio.run(run())


def lay_out_for_clients(primary: VaultHost) -> None:
    create_table(primary)
    primary.sql("CREATE TABLE vault.hot (id INT PRIMARY KEY, n BIGINT, filler VARCHAR(100)) ENGINE=InnoDB")
    primary.sql(f"INSERT INTO vault.hot SELECT seq, 0, '' FROM vault.seq_1_to_{HOT_ROWS}")
    primary.sql("CREATE TABLE vault.accounts (name VARCHAR(60) PRIMARY KEY, secret VARBINARY(60), note VARCHAR(60))")
    primary.sql(
        "INSERT INTO vault.accounts SELECT CONCAT('account-', seq), MD5(seq), IF(seq = 7, NULL, '') FROM vault.seq_1_to_3000"
    )
    primary.sql("CREATE TABLE vault.keyless (a INT, b VARCHAR(20))")
    primary.sql("INSERT INTO vault.keyless SELECT seq, 'x' FROM vault.seq_1_to_100")


class Clients:
    """Eight clients at work: with rows that never rest, with tables that come and go."""

    def __init__(self, primary: VaultHost) -> None:
        self._primary, self._stop = primary, threading.Event()
        self.done = [0] * 8
        self._threads = [threading.Thread(target=self._work, args=(n,), daemon=True) for n in range(8)]

    def __enter__(self) -> "Clients":
        for thread in self._threads:
            thread.start()
        wait_for(lambda: all(self.done), PATIENCE, "all clients work")
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(PATIENCE)

    def _work(self, number: int) -> None:
        dice = random.Random(number)
        with contextlib.closing(self._primary.connect_client()) as connection, connection.cursor() as cursor:
            for turn in itertools.count():
                if self._stop.is_set():
                    return
                try:
                    for statement in self._turn(number, turn, dice):
                        cursor.execute(statement)
                    self.done[number] += 1
                except MySQLdb.OperationalError as error:
                    if error.args[0] not in (1205, 1213):  # a deadlock among themselves
                        raise
                    connection.rollback()

    @staticmethod
    def _turn(number: int, turn: int, dice: random.Random) -> list[str]:
        name = f"account-{number}-{dice.randrange(50)}"
        if number < 4:
            return [f"UPDATE hot SET n = n + 1, filler = '{turn}' WHERE id = {dice.randint(1, HOT_ROWS)}"]
        if number < 6:
            return [
                "BEGIN",
                f"REPLACE INTO accounts VALUES ('{name}', RANDOM_BYTES(20), {'NULL' if turn % 2 else repr('')})",
                f"DELETE FROM accounts WHERE name = 'account-{number}-{dice.randrange(50)}'",
                f"UPDATE keyless SET b = '{turn}' WHERE a = {dice.randint(1, 100)}",
                "COMMIT",
            ]
        if number == 6:
            return [f"INSERT INTO written VALUES ({next(_ids)}, 0)"]
        return [
            "CREATE OR REPLACE TABLE passing (id INT PRIMARY KEY, a INT)",
            "INSERT INTO passing VALUES (1, 1)",
            "ALTER TABLE passing ADD COLUMN b VARCHAR(9)",
            "UPDATE passing SET b = 'x'",
            "DROP TABLE passing",
            "DO SLEEP(0.2)",
        ]
