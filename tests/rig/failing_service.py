"""A service worker that dies or freezes at a chosen step of its first failover or switchover: `python -m tests.rig.failing_service`.

Wires the product's ServiceProcess with doors of its own; the product knows nothing of it. Its standard output tells each
step, and, after a freeze, how the late commands of this leader were answered.

    --stop-at before:revoke --how freeze
    steps: claim, close, received, revoke, drain, record, open
"""

import argparse
import asyncio
import logging
import os
import signal
import sys
from typing import Any

import django

STEPS = ("claim", "close", "received", "revoke", "drain", "record", "open")
HOW = {"kill": signal.SIGKILL, "freeze": signal.SIGSTOP}
STOPPED = "stopped at"


class Failpoint:
    """Armed by the claim of a promotion; stops this process once."""

    def __init__(self, at: str, how: str) -> None:
        self.at, self.number = at, HOW[how]
        self.armed = self.used = False

    def reach(self, place: str) -> None:
        if self.armed and not self.used and place == self.at:
            self.used = True
            say(f"{STOPPED} {place}")
            os.kill(os.getpid(), self.number)
            say(f"resumed {place}")


def say(text: str) -> None:
    print(text, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--slot", default="a")
    parser.add_argument(
        "--stop-at", required=True, choices=[f"{when}:{s}" for when in ("before", "after") for s in STEPS]
    )
    parser.add_argument("--how", required=True, choices=sorted(HOW))
    given = parser.parse_args()
    django.setup()
    logging.getLogger().setLevel(logging.INFO)
    asyncio.run(serve(given.slot, Failpoint(given.stop_at, given.how)))


async def serve(slot: str, failpoint: Failpoint) -> None:
    from replication.client import AgentClient
    from replication.core.commands import Answer, Command, Verb
    from replication.core.errors import ReplicationError
    from replication.core.view import NodeView, Topology
    from replication.jobs import service
    from replication.stores.topology import TopologyStore

    class Agents(AgentClient):
        async def command(self, node: NodeView, verb: Verb, command: Command) -> Answer:
            failpoint.reach(f"before:{verb.value}")
            try:
                answer = await super().command(node, verb, command)
            except ReplicationError as error:
                say(f"{verb.value} {node.hostname} epoch {command.epoch}: {type(error).__name__} {error}")
                raise
            say(f"{verb.value} {node.hostname} epoch {command.epoch}: done")
            failpoint.reach(f"after:{verb.value}")
            return answer

    class Topologies(TopologyStore):
        async def claim(self, known: Topology, *, at_least: int, **changes: Any) -> Topology:
            if changes.get("intent") is not None:
                failpoint.armed = True
            return await self._told("claim", super().claim(known, at_least=at_least, **changes))

        async def amend(self, known: Topology, **changes: Any) -> Topology:
            step = "record" if "primary" in changes else "publish"
            return await self._told(step, super().amend(known, **changes))

        async def _told(self, step: str, change: Any) -> Topology:
            try:
                failpoint.reach(f"before:{step}")
                row: Topology = await change
            except ReplicationError as error:
                say(f"{step}: {type(error).__name__} {error}")
                raise
            say(f"{step} epoch {row.epoch}: done")
            failpoint.reach(f"after:{step}")
            return row

    service.AgentClient = Agents
    service.TopologyStore = Topologies
    await service.ServiceProcess(slot).serve()


if __name__ == "__main__":
    sys.exit(main())
