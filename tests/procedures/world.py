"""A vault in memory behind the controller's ports: agents that keep promises, one published row, and a book of all that was sent.

The agents do what docs/reference/agent-protocol.md says of each verb, as far as the controller can tell; failures are scripted.
`Scene.crash_at` ends a controller for good at its n-th use of a port, before or after the effect.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from replication.core import limits
from replication.core.commands import Answer, Command, Verb
from replication.core.errors import ClaimLost, NodeUnreachable, ReplicationError
from replication.core.foresight import Foresight
from replication.core.plan import Action, plan
from replication.core.ports import OperationEnd
from replication.core.report import NodeReport
from replication.core.roles import OrderKind, ProcessState, Witness
from replication.core.snapshot import NodeRow, Snapshot, VaultConfig
from replication.core.steps import Step
from replication.core.view import NodeView, RebuildWish, SwitchoverWish, Topology, VaultView
from replication.procedures.controller.procedure import Procedure, World
from replication.procedures.controller.watch import carry_out
from tests.builders import VAULT, id_of, node
from tests.procedures.scripted_agent import Agent
from tests.procedures.virtual_time import VirtualClock


class Died(BaseException):
    """The controller is dead: nothing it had still to do is done."""


@dataclass(frozen=True)
class Sent:
    """One command as it reached its agent, and the published row at that moment."""

    verb: Verb
    node: str
    epoch: int
    term: int
    args: Mapping[str, Any]
    row: Topology
    locked_out: frozenset[str]


@dataclass(frozen=True)
class Hello:
    """One hello as it was sent, and the challenge of its answer."""

    node: str
    echo: str
    term: int
    wait: timedelta
    challenge: str


class Scene:
    """Agents, the row, the lease and the inventory; any number of controllers act on it."""

    def __init__(self, *names: str) -> None:
        self.clock = VirtualClock()
        self.agents = {id_of(n): Agent(n, self) for n in names}
        self.row = Topology(vault=VAULT)
        self.leader, self.term = "one", 1
        self.nodes = {id_of(n): replace(node(n), report=None, link="never", joined=False, silence=None) for n in names}
        self.sent: list[Sent] = []
        self.events: list[tuple[str, str]] = []
        self.cancels: list[tuple[str, str]] = []
        """Node and operation of the long work that was to end."""
        self.notes: list[tuple[str, dict[str, Any]]] = []
        self.published: dict[str, NodeRow] = {}
        self.reason = ""
        self.if_lost: Foresight | None = None
        self.running, self.noted_running, self.run_wanted = True, False, False
        self.stay_writable = True
        self.interval = limits.HELLO_INTERVAL
        self.readable = True
        self.claims = self.refused_claims = 0
        self.writable = True
        self.owned: dict[int, str] = {}
        self.outcome_lost = 0
        """How many changes of the row will be written although the controller hears that they failed."""
        self.marks = 0
        """The controller host's high-water mark."""
        self.silence_hold = timedelta()
        self.paused = ""
        self.silence_failovers = 0
        self.switchover: SwitchoverWish | None = None
        self.operations: dict[str, list[str]] = {}
        """Operation → what was said of it: begin kind, progress, then one end."""
        self.steps: dict[str, list[tuple[Step, ...]]] = {}
        """Operation → its steps, each time they were written."""
        self.noted: dict[str, dict[str, Any]] = {}
        """Operation → what was added to its result."""
        self.ports_used = 0
        self.crash_at: tuple[int, str] | None = None
        self.hellos: list[Hello] = []
        self._stale = Snapshot()

    def __getitem__(self, name: str) -> Agent:
        return self.agents[id_of(name)]

    def agent_at(self, name: str) -> Agent | None:
        return self.agents.get(id_of(name)) if name else None

    def settle(self) -> None:
        """Streams begin and end with what was changed; everybody who waits for news hears it; and the one rule is looked at."""
        for agent in self.agents.values():
            if agent.streams and agent.streaming_since is None:
                agent.streaming_since = self.clock.monotonic()
            elif not agent.streams:
                agent.streaming_since = None
            agent.bump()
        masters = [a.name for a in self.agents.values() if a.can_acknowledge]
        assert len(masters) <= 1, f"two masters: {masters}"

    def lossless_pair(self, *followers: str) -> None:
        """ "a" open and lossless with acker "b", recorded so; `followers` stream without acknowledging."""
        self.row = Topology(
            vault=VAULT,
            epoch=5,
            owner="one",
            primary=id_of("a"),
            may_ack=frozenset({id_of("b")}),
            promotable=id_of("b"),
        )
        self.owned[5] = "one"
        for agent in self.agents.values():
            agent.term, agent.epoch = 1, 5
        self["a"].order = self["a"].primary_order = OrderKind.LOSSLESS
        self["a"].primary_order_epoch, self["a"].semisync = 5, True
        for name in ("b", *followers):
            self[name].source = "a"
            self[name].streaming_since = self.clock.monotonic() - 60
        self["b"].flag = True
        for name in ("a", "b", *followers):
            self.nodes[id_of(name)] = replace(self.nodes[id_of(name)], joined=True)
        self.settle()

    def ended(self, operation: str) -> str:
        """How an operation ended, with what was said; "" while it is open."""
        last = self.operations[operation][-1]
        return last if last.split(":")[0] in {end.value for end in OperationEnd} else ""

    def ask_for(self, name: str, operation: str = "the wish") -> None:
        """Make Master, pressed by an operator."""
        self.switchover = SwitchoverWish(operation=operation, node=id_of(name))

    def rebuild(self, name: str, operation: str = "copy", **how: Any) -> None:
        """Rebuild, pressed by an operator; `undo=True` for its undoing."""
        self.wish(name, rebuild=RebuildWish(operation=operation, **how))

    def wish(self, name: str, **changes: Any) -> None:
        """What an operator enters."""
        self.nodes[id_of(name)] = replace(self.nodes[id_of(name)], **changes)

    def verbs(self, *only: Verb) -> list[tuple[Verb, str]]:
        return [(s.verb, s.node) for s in self.sent if not only or s.verb in only]

    @property
    def open_names(self) -> list[str]:
        return [a.name for a in self.agents.values() if a.open]

    def view(self) -> VaultView:
        """What a leader sees that has looked at everybody for long enough."""
        nodes = []
        for config in self.nodes.values():
            agent = self.agents[config.id]
            primary_gone = config.id == self.row.primary and not agent.reachable
            nodes.append(
                replace(
                    config,
                    report=agent.report(),
                    link="answers" if agent.reachable else agent.unreachable_kind,
                    silence=timedelta() if agent.reachable else 10 * limits.SILENCE_LIMIT,
                    witness=Witness.SILENT if primary_gone else Witness.UNKNOWN,
                )
            )
        return VaultView(
            topology=self.row,
            nodes=tuple(nodes),
            running=self.running,
            stay_writable=self.stay_writable,
            high_water=self.marks,
            silence_hold=self.silence_hold,
            paused=self.paused,
            switchover=self.switchover,
        )


class Controller:
    """One process with its ports. `me` is its leadership: what it claims is refused while somebody else leads."""

    def __init__(self, scene: Scene, me: str = "one") -> None:
        self.scene, self.me, self.dead = scene, me, False
        self.term = scene.term
        self.world = World(
            clock=scene.clock, agents=self, topologies=self, inventory=self, journal=self, operations=self
        )

    @property
    def held(self) -> bool:
        return self.scene.leader == self.me and not self.dead

    # --- a scripted end

    def _port(self, when: str) -> None:
        if self.dead:
            raise Died
        if when == "before":
            self.scene.ports_used += 1
        if self.scene.crash_at == (self.scene.ports_used, when):
            self.dead = True
            raise Died

    # --- Topologies

    async def lead_above(self, term: int) -> None:
        self.scene.term = self.term = term + 1

    def high_water(self, vault: str) -> int:
        return self.scene.marks

    async def claim(self, known: Topology, *, at_least: int, **changes: Any) -> Topology:
        epoch = max(known.epoch, at_least) + 1
        row = await self._change(known.epoch, {**changes, "epoch": epoch, "owner": self.me})
        assert epoch not in self.scene.owned, "an epoch is claimed once"
        self.scene.owned[epoch] = self.me
        self.scene.claims += 1
        return row

    async def amend(self, known: Topology, **changes: Any) -> Topology:
        if self.scene.row.owner != self.me:
            raise ClaimLost("another owner")
        return await self._change(known.epoch, changes)

    async def _change(self, epoch: int, changes: Mapping[str, Any]) -> Topology:
        """As the store: only the columns that change are written, the row comes back as it is then."""
        self._port("before")
        await asyncio.sleep(0)
        if self.scene.row.epoch != epoch or not self.held or not self.scene.writable:
            self.scene.refused_claims += 1
            raise ClaimLost("no longer the current epoch, or no longer the leader")
        row = replace(self.scene.row, **changes)
        assert row.intent is None or not row.promotable, "an open intent publishes nobody"
        self.scene.row = row
        self.scene.marks = max(self.scene.marks, row.epoch)
        self._port("after")
        if self.scene.outcome_lost:
            self.scene.outcome_lost -= 1
            raise ClaimLost("the metadata database did not take the change: the connection was lost")
        return row

    # --- Agents

    async def hello(self, node: NodeView, *, since: int, wait: timedelta, echo: str = "", term: int = 0) -> NodeReport:
        agent = self.scene.agents[node.id]
        if agent.reachable and since == agent.version:
            try:
                async with asyncio.timeout(wait.total_seconds()):  # wait_for may swallow a cancellation
                    await agent.changed.wait()
            except TimeoutError:
                pass
        await self._reach(agent, wait + limits.HELLO_MARGIN)
        said = agent.report()
        if since >= 0:
            self.scene.hellos.append(Hello(agent.name, echo, term, wait, said.challenge))
        return said

    async def command(self, node: NodeView, verb: Verb, command: Command) -> Answer:
        self._port("before")
        agent = self.scene.agents[node.id]
        await self._reach(agent, timedelta(seconds=command.deadline))
        row = self.scene.row
        assert self.scene.owned.get(command.epoch) == self.me, f"{verb} was sent under an epoch that was not claimed"
        locked = frozenset(n.id for n in self.scene.nodes.values() if n.locked_out)
        self.scene.sent.append(Sent(verb, agent.name, command.epoch, command.term, command.args, row, locked))
        if verb in agent.slow:
            await asyncio.sleep(agent.slow[verb])
        answer = agent.obey(verb, command)
        await asyncio.sleep(0)
        self._port("after")
        if verb in agent.answer_lost:
            agent.answer_lost.remove(verb)
            raise NodeUnreachable(agent.name, "silent", "the answer was lost")
        return answer

    async def cancel_task(self, node: NodeView, operation: str) -> bool:
        self._port("before")
        agent = self.scene.agents[node.id]
        await self._reach(agent, timedelta(seconds=10))
        self.scene.cancels.append((agent.name, operation))
        ends = agent.cancel(operation)
        self._port("after")
        return ends

    @staticmethod
    async def _reach(agent: Agent, patience: timedelta) -> None:
        if not agent.reachable and agent.unreachable_kind == "silent":
            await asyncio.sleep(patience.total_seconds())
        await asyncio.sleep(0)
        if not agent.reachable:  # also one that vanished at this very moment
            raise NodeUnreachable(agent.name, agent.unreachable_kind)

    # --- Witnesses

    async def ask(self, node: NodeView) -> Witness:
        agent = self.scene.agents[node.id]
        await asyncio.sleep(0.01)
        if not agent.reachable:
            return Witness.SILENT if agent.unreachable_kind == "silent" else Witness.REFUSED
        return Witness.ANSWERS if agent.process is ProcessState.UP else Witness.REFUSED

    # --- Inventory

    async def load(self) -> Snapshot:
        s = self.scene
        if not s.readable:
            return replace(s._stale, fresh=False)
        config = VaultConfig(
            topology=s.row,
            stay_writable=s.stay_writable,
            nodes=tuple(s.nodes.values()),
            silence_hold=s.silence_hold,
            paused=s.paused,
            switchover=s.switchover,
        )
        s._stale = Snapshot(
            vaults=(config,),
            running=s.running,
            noted_running=s.noted_running,
            interval=s.interval,
            run_wanted=s.run_wanted,
        )
        await asyncio.sleep(0)
        return s._stale

    async def publish(self, vault: str, reason: str, rows: Mapping[str, NodeRow], if_lost: Foresight) -> None:
        self.scene.published, self.scene.reason, self.scene.if_lost = dict(rows), reason, if_lost

    async def note_service(self, *, started: bool, pass_done: bool) -> None:
        self.scene.noted_running = started
        if pass_done:
            self.scene.run_wanted = False

    async def mark(self, node: str, **fields: Any) -> None:
        self._port("before")
        await asyncio.sleep(0)
        self.scene.notes.append((self.scene.nodes[node].hostname[0], dict(fields)))
        if "resync_requested_at" in fields:
            fields["resync_wanted"] = fields.pop("resync_requested_at") is not None
        self.scene.nodes[node] = replace(self.scene.nodes[node], **fields)
        self._port("after")

    async def answer_rebuild(self, node: str, operation: str, wish: RebuildWish | None) -> bool:
        self._port("before")
        await asyncio.sleep(0)
        if not self.held or not self.scene.writable:
            raise ReplicationError("the note was not taken")
        now = self.scene.nodes[node].rebuild
        stands = now is not None and now.operation == operation
        if stands:
            self.scene.nodes[node] = replace(self.scene.nodes[node], rebuild=wish)
        self._port("after")
        return stands

    async def forget(self, node: str) -> None:
        self._port("before")
        await asyncio.sleep(0)
        del self.scene.nodes[node]
        self._port("after")

    async def note_silence_failover(self, vault: str) -> None:
        self.scene.silence_failovers += 1

    # --- Operations

    async def begin(self, operation: str, *, vault: str, kind: str, node: str, says: str) -> None:
        if not self.dead:
            self.scene.operations.setdefault(operation, [kind])

    async def take_up(self, operation: str) -> bool:
        return not (operation in self.scene.operations and self.scene.ended(operation))

    async def progress(self, operation: str, says: str) -> None:
        if not self.dead and not self.scene.ended(operation):
            self.scene.operations[operation].append(says)

    async def steps(self, operation: str, steps: Sequence[Step]) -> None:
        if not self.dead:
            assert not self.scene.ended(operation), f"{operation} has ended"
            self.scene.steps.setdefault(operation, []).append(tuple(steps))

    async def note(self, operation: str, facts: Mapping[str, Any]) -> None:
        if not self.dead:
            self.scene.noted.setdefault(operation, {}).update(facts)

    async def end(self, operation: str, state: OperationEnd, says: str, result: Mapping[str, Any]) -> None:
        if self.dead:
            return
        assert not self.scene.ended(operation), f"{operation} ends twice"
        self.scene.operations[operation].append(f"{state.value}: {says}")
        wish = self.scene.switchover
        if wish is not None and wish.operation == operation:
            self.scene.switchover = None

    async def end_orphans(self, vault: str, keep: str) -> None:
        for operation, said in self.scene.operations.items():
            if operation != keep and not self.scene.ended(operation):
                said.append(f"{OperationEnd.FAILED.value}: the leader that began it ended")

    # --- Journal

    async def record(self, *, rule: str, text: str, **_: Any) -> None:
        self._port("before")
        self.scene.events.append((rule, text))
        self._port("after")

    # --- acting

    def procedure(self, view: VaultView | None = None, rule: str = "P00") -> Procedure:
        self.term = self.scene.term
        return Procedure(self.world, view or self.scene.view(), "operation", rule, "a test")

    async def one_step(self) -> Action | None:
        """Decide on what is there now, and carry it out. Failures are left to the next step, as in VaultWatch."""
        action = plan(self.scene.view())
        if action is not None:
            try:
                procedure = self.procedure(rule=action.rule)
                procedure.operation = action.operation or procedure.operation
                await carry_out(procedure, action)
            except ReplicationError as error:
                self.scene.events.append((action.rule, str(error)))
        return action

    async def until_quiet(self, most: int = 25) -> bool:
        """Steps until there is nothing to do, with time for streams to become steady. False when it never ends."""
        for _ in range(most):
            if await self.one_step() is None:
                await asyncio.sleep(2 * limits.ACKER_STEADY_FOR.total_seconds())
                if plan(self.scene.view()) is None:
                    return True
        return False


def takes_over(scene: Scene) -> Controller:
    """The standby: a new leader with the next term, that knows nothing but the row and the agents."""
    scene.leader, scene.term, scene.crash_at = "two", scene.term + 1, None
    return Controller(scene, "two")
