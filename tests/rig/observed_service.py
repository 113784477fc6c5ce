"""A service worker that tells every step of its procedures, and can die or freeze at one: `python -m tests.rig.observed_service`.

Wires the product's ServiceProcess with doors of its own; the product knows nothing of it. Its standard output has a JSON
line per step: the moment (monotonic, comparable between programs of one machine), the step, its outcome, and what the agent
said about its own steps. After a freeze it shows how the late commands of this leader were answered.

    --stop-at before:revoke --how freeze        at the first failover or switchover that it begins
"""

import argparse
import asyncio
import json
import logging
import os
import signal
import sys
import time
from typing import Any

import django

STEPS = ("claim", "close", "received", "revoke", "drain", "record", "open")
HOW = {"kill": signal.SIGKILL, "freeze": signal.SIGSTOP}
STOPPED, RESUMED = "stopped", "resumed"


class Failpoint:
    """Armed by the claim of a promotion; stops this process once."""

    def __init__(self, at: str = "", how: str = "kill") -> None:
        self.at, self.number = at, HOW[how]
        self.armed = self.used = False

    def reach(self, place: str) -> None:
        if self.armed and not self.used and place == self.at:
            self.used = True
            say(place, outcome=STOPPED)
            os.kill(os.getpid(), self.number)
            say(place, outcome=RESUMED)


def say(step: str, **facts: Any) -> None:
    print(json.dumps({"at": time.monotonic(), "step": step, **facts}), flush=True)


def told(log: str) -> list[dict[str, Any]]:
    """The steps in a log of this program, among the lines of its ordinary log."""
    return [json.loads(line) for line in log.splitlines() if line.startswith('{"at": ')]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--slot", default="a")
    parser.add_argument(
        "--stop-at", default="", choices=["", *(f"{w}:{s}" for w in ("before", "after") for s in STEPS)]
    )
    parser.add_argument("--how", default="kill", choices=sorted(HOW))
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
            facts = {"node": node.hostname, "epoch": command.epoch}
            say(verb.value, **facts, outcome="sent")
            try:
                answer = await super().command(node, verb, command)
            except ReplicationError as error:
                say(verb.value, **facts, outcome=type(error).__name__, text=str(error))
                raise
            say(verb.value, **facts, outcome="done", agent_ms=dict(answer.steps))
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
                say(step, outcome="sent")
                row: Topology = await change
            except ReplicationError as error:
                say(step, outcome=type(error).__name__, text=str(error))
                raise
            say(step, epoch=row.epoch, outcome="done")
            failpoint.reach(f"after:{step}")
            return row

    service.AgentClient = Agents  # type: ignore[misc]  # doors of our own, in this process only
    service.TopologyStore = Topologies  # type: ignore[misc]
    await service.ServiceProcess(slot).serve()


if __name__ == "__main__":
    sys.exit(main())
