"""What every controller procedure shares: one vault, one view, its own epoch, numbered steps, one event at the end.

A command is sent only under an epoch that this procedure claimed itself (rule 1).
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from replication.core import limits
from replication.core.commands import Answer, Command, ReplicationAccount, Verb, account_name
from replication.core.errors import ClaimLost, ReplicationError
from replication.core.evidence import evidence_of
from replication.core.ports import Agents, Clock, Inventory, Journal, Operations, Topologies
from replication.core.report import NodeReport
from replication.core.steps import Track
from replication.core.view import NodeView, RebuildWish, Topology, VaultView


@dataclass(frozen=True)
class World:
    """The ports of the controller, wired once per process."""

    clock: Clock
    agents: Agents
    topologies: Topologies
    inventory: Inventory
    journal: Journal
    operations: Operations
    tick: timedelta = limits.TICK
    """Pace of a watch's own clock."""


@dataclass
class Procedure:
    """One run of one procedure on one vault. Dies with any exception; the next leader reads the row and the agents."""

    world: World
    view: VaultView
    operation: str
    rule: str
    says: str
    track: Track = field(default=None)  # type: ignore[assignment]  # __post_init__ makes one when nobody keeps it
    """What the operation has done over all its tries, for its row."""
    row: Topology = field(init=False)
    decided_on: VaultView = field(init=False)
    """The view as it was when this was decided; `view` is refreshed on the way."""
    steps: dict[str, float] = field(init=False, default_factory=dict)
    forgotten: set[str] = field(init=False, default_factory=set)
    outcome: str = field(init=False, default="")
    """The text of its last event: what it came to, for whoever reads the operation."""

    def __post_init__(self) -> None:
        self.row, self.decided_on = self.view.topology, self.view
        self._began = self.world.clock.monotonic()
        if self.track is None:
            self.track = Track(self.world.clock.monotonic)

    def node(self, id: str) -> NodeView:
        """Raises ReplicationError when the inventory no longer has it."""
        node = self.view.node(id)
        if node is None:
            raise ReplicationError(f"node {id} is no longer in the inventory")
        return node

    def note(self, step: str, position: str = "") -> None:
        """Remember when a step ended, in milliseconds since the procedure began. position: what it came to."""
        self.steps[step] = round((self.world.clock.monotonic() - self._began) * 1000, 1)
        self.track.done(step, position=position)

    async def claim(self, **changes: Any) -> None:
        """Take a new epoch, above anything that an agent has promised or this host has seen. Raises ClaimLost.

        Also when the row turns out to hold something else than what this procedure was decided on: an amendment whose
        outcome was unknown keeps the epoch, so the compare-and-set alone does not find it. Then the epoch is ours, the row is
        known, and what to do is decided anew.

        A term that agents have promised and this leadership has not reached comes from a database that was restored since.
        """
        term = max((n.report.term for n in self.view.nodes if n.report is not None), default=0)
        if term > self.world.topologies.term:
            await self.world.topologies.lead_above(term)
        promised = max((n.report.epoch for n in self.view.nodes if n.report is not None), default=0)
        above = max(promised, self.view.high_water)
        believed = replace(self.row, **changes)
        self.track.begins("claimed")
        self.row = await self.world.topologies.claim(self.row, at_least=above, **changes)
        self.note("claimed")
        if replace(self.row, epoch=believed.epoch, owner=believed.owner) != believed:
            raise ClaimLost("the row had been changed under its epoch: it was read again")

    async def amend(self, **changes: Any) -> None:
        """Publish or record under the epoch we claimed. Raises ClaimLost."""
        self.row = await self.world.topologies.amend(self.row, **changes)

    async def order(
        self,
        node: str,
        verb: Verb,
        *,
        deadline: timedelta = limits.STEP_DEADLINE,
        args: Mapping[str, Any] | None = None,
    ) -> Answer:
        """Send one command under our epoch. Raises NodeUnreachable, StaleEpoch or StepFailed."""
        if self.row.epoch == self.view.topology.epoch:
            raise ReplicationError("a command was about to be sent under an epoch that was not claimed")
        command = Command(
            vault=self.row.vault,
            node=node,
            term=self.world.topologies.term,
            epoch=self.row.epoch,
            operation=self.operation,
            deadline=deadline.total_seconds(),
            args=dict(args or {}),
            owner=self.row.owner,
        )
        step = f"{verb.value} {self.node(node).hostname}"
        self.track.begins(step)
        try:
            answer = await self.world.agents.command(self.node(node), verb, command)
        except ReplicationError as error:
            self.track.failed(step, str(error))
            raise
        self.note(step, _position(answer))
        return answer

    async def fresh(self, node: str) -> NodeReport:
        """The node's report as of now. Raises NodeUnreachable."""
        return await self.world.agents.hello(self.node(node), since=-1, wait=timedelta())

    async def refresh(self, *nodes: str) -> None:
        """Put fresh reports of these nodes into our view. Raises NodeUnreachable."""
        reports = dict(zip(nodes, await asyncio.gather(*(self.fresh(id) for id in nodes)), strict=True))
        seen = tuple(replace(n, report=reports[n.id]) if n.id in reports else n for n in self.view.nodes)
        self.view = replace(self.view, nodes=seen)

    def account(self, node: NodeView) -> ReplicationAccount | None:
        """Its replication account; None while its certificate was never seen."""
        if node.report is None:
            return None
        return ReplicationAccount(name=account_name(node.id), subject=node.report.certificate_subject)

    async def event(self, text: str, *, node: str = "", level: str = "info", **evidence: Any) -> None:
        seen = self.view.node(node)
        self.outcome = text
        told = {"why": self.says, "steps_ms": self.steps, "operation": self.operation}
        await self.world.journal.record(
            vault=self.row.vault,
            node=seen.hostname if seen is not None else "",
            epoch=self.row.epoch,
            rule=self.rule,
            text=text,
            level=level,
            evidence={**told, "seen": evidence_of(self.decided_on, node), **evidence},
        )

    async def mark(self, id: str, **notes: Any) -> None:
        """Note something on the node's row, durably, and in our own view: the next procedure may start before the row is
        read again. What is feared (may be locked out, may have joined) is believed before it is written.
        """
        feared = {name: value for name, value in notes.items() if name in ("joined", "locked_out") and value}
        self._see(id, **feared)
        await self.world.inventory.mark(id, **notes)
        if "resync_requested_at" in notes:
            notes["resync_wanted"] = notes.pop("resync_requested_at") is not None
        self._see(id, **notes)

    async def answer_rebuild(self, id: str, operation: str, wish: RebuildWish | None) -> bool:
        """Put this in the place of the wish of that operation. False when an operator has withdrawn it meanwhile."""
        stood = await self.world.inventory.answer_rebuild(id, operation, wish)
        self._see(id, rebuild=wish if stood else None)
        return stood

    async def forget(self, id: str) -> None:
        """Delete the row of a node that has left."""
        await self.world.inventory.forget(id)
        self.forgotten.add(id)

    def _see(self, id: str, **notes: Any) -> None:
        nodes = tuple(replace(n, **notes) if n.id == id else n for n in self.view.nodes)
        self.view = replace(self.view, nodes=nodes)


def _position(answer: Answer) -> str:
    """The GTID position that a verb answered, of the log or of what was applied; "" when it answered none."""
    named = (answer.facts.get(name) for name in ("gtid_binlog_pos", "gtid_slave_pos", "gtid_io_pos"))
    return next((p for p in named if isinstance(p, str)), "")
