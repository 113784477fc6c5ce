"""Django's ORM from asyncio: each store call on a thread of its own, with its own connection.

Not sync_to_async's shared thread: a slow page of history in front of a claim would delay the failover.
"""

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from django.db import Error, connection

from replication.core import limits

T = TypeVar("T")


def lose_patience() -> None:
    """This thread's connection gives up METADATA_PATIENCE after a metadata server over TCP has fallen silent.

    An operator's page may wait for a busy server. The lease must not: whoever waits longer than it lasts would still hang
    on the lost connection when the server is back. Called before the thread's first query.
    """
    if connection.vendor == "mysql":
        seconds = max(1, round(limits.METADATA_PATIENCE.total_seconds()))  # whole seconds are all the driver can count
        waits = dict.fromkeys(("connect_timeout", "read_timeout", "write_timeout"), seconds)
        options = {**connection.settings_dict["OPTIONS"], **waits}
        connection.settings_dict = {**connection.settings_dict, "OPTIONS": options}


def write_lightly() -> None:
    """On SQLite this thread's commits no longer wait for the disk, so that they hold the only writer's lock for less time.

    For what may be lost when the power fails: log lines, deletions. Commits of other threads stay durable: the write-ahead
    log keeps the order, and each of theirs still takes everything before it to the disk. Called before the first query.
    """
    if connection.vendor == "sqlite":
        options = connection.settings_dict["OPTIONS"]
        light = {**options, "init_command": f"{options.get('init_command', '')} PRAGMA synchronous=NORMAL;"}
        connection.settings_dict = {**connection.settings_dict, "OPTIONS": light}


class DatabaseThread:
    """One thread, one connection. A broken connection is thrown away, so that the next call starts afresh."""

    def __init__(self, name: str) -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=name, initializer=lose_patience)

    async def run(self, function: Callable[[], T]) -> T:
        """Raises what the function raises, also django.db.Error."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, self._guarded, function)

    @staticmethod
    def _guarded(function: Callable[[], T]) -> T:
        try:
            return function()
        except Error:
            with contextlib.suppress(Error):
                connection.close()
            raise

    def close(self) -> None:
        self._executor.submit(connection.close)
        self._executor.shutdown(wait=True)
