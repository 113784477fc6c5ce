"""Comparing two real hosts as a controller does, without the controller."""

import asyncio
import itertools
import time
from datetime import timedelta
from typing import Any

from replication.client import AgentClient
from replication.core.comparison import Comparison
from replication.core.view import NodeView
from replication.procedures.controller.comparing import Comparing
from tests.vault_host import VaultHost, identity

_numbers = itertools.count(1)


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
