"""One vault: observe, decide, act, record. Everything that takes an epoch runs from here, one procedure at a time."""

import asyncio
import contextlib
import traceback
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

from replication.core import limits
from replication.core.diagnosis import BY_SILENCE, acker_dead, acker_missing, diagnose, in_doubt
from replication.core.errors import ClaimLost, NodeUnreachable, ReplicationError
from replication.core.followers import replaced
from replication.core.foresight import Foresight, foresee
from replication.core.plan import Action, ActionKind, plan
from replication.core.ports import Leadership, Witnesses
from replication.core.roles import OrderKind
from replication.core.snapshot import NodeRow, Snapshot, VaultConfig, view_of
from replication.core.status import current_roles, node_status, vault_reason
from replication.core.switchover import why_not
from replication.core.view import NodeView, VaultView

from . import adoption, failover, following, opening, rebuilding, switchover
from .ledger import Ledger
from .procedure import Procedure, World
from .sight import Sight, keep_watching

URGENT = frozenset(
    {ActionKind.FAILOVER, ActionKind.SWITCHOVER, ActionKind.FINISH, ActionKind.ROLL_BACK, ActionKind.GO_SOLO}
)
"""Not pre-empted by a failover, and tried again soon."""
URGENT_RETRY = timedelta(milliseconds=200)
WITNESS_HASTE = timedelta(seconds=5)
REFRESH_PATIENCE = timedelta(milliseconds=300)


async def carry_out(procedure: Procedure, action: Action) -> None:
    """Run the procedure that an action names. Raises ReplicationError."""
    match action.kind:
        case ActionKind.BOOTSTRAP | ActionKind.REOPEN:
            await opening.open_primary(procedure, action.node)
        case ActionKind.ADOPT:
            await adoption.adopt(procedure)
        case ActionKind.SWITCHOVER:
            if not await procedure.world.operations.take_up(procedure.operation):
                raise ReplicationError("it was cancelled before it was begun, or its row cannot be written")
            await switchover.switch_over(procedure, action.node)
        case ActionKind.GO_SOLO:
            await opening.go_solo(procedure)
        case ActionKind.FAILOVER:
            await failover.fail_over(procedure, action.node)
        case ActionKind.FINISH:
            await failover.finish(procedure)
        case ActionKind.ROLL_BACK:
            await failover.roll_back(procedure)
        case ActionKind.FOLLOW:
            await following.follow(procedure, action.node)
        case ActionKind.BECOME_ACKER:
            await following.become_acker(procedure, action.node)
        case ActionKind.DETACH:
            await following.detach(procedure, action.node)
        case ActionKind.FORGET:
            await following.forget(procedure, action.node)
        case ActionKind.REBUILD:
            await rebuilding.rebuild(procedure, action.node)
        case ActionKind.UNDO:
            await rebuilding.undo(procedure, action.node)


class VaultWatch:
    """Owns the long polls, the clock of silence, and the one running procedure of a vault."""

    def __init__(
        self,
        world: World,
        witnesses: Witnesses,
        leadership: Leadership,
        config: VaultConfig,
        snapshot: Snapshot,
        new_id: Callable[[], str],
    ) -> None:
        self.world, self.witnesses, self.leadership = world, witnesses, leadership
        self.config, self.snapshot, self.new_id = config, snapshot, new_id
        self.sights: dict[str, Sight] = {}
        self.missing_for = timedelta()
        self.action: Action | None = None
        self.acting: asyncio.Task[None] | None = None
        self._procedure: Procedure | None = None
        self.quiet_since = world.clock.monotonic()
        self.generation = 0
        """Rises with every procedure that ran."""
        self._polls: dict[str, asyncio.Task[None]] = {}
        self._asking: asyncio.Task[None] | None = None
        self._publishing: asyncio.Task[None] | None = None
        self._delays: dict[tuple[ActionKind, str], timedelta] = {}
        self._said: dict[tuple[ActionKind, str], str] = {}
        self._forgotten: set[str] = set()
        self._granted: set[str] = set()
        """Operations of wishes that were carried out or refused; the inventory as it was last read may still hold them."""
        self.ledger = Ledger(world.operations, world.clock, config.topology.vault, new_id)
        row = config.topology
        self.ledger.take_over(row.intent.operation if row.intent is not None else "")
        self._not_before = 0.0
        """After a lost claim nothing is begun before this moment: the row has to be read again first."""
        self._published: tuple[str, dict[str, NodeRow], Foresight] | None = None
        self._ticker = asyncio.ensure_future(self._tick())
        self.update(config, snapshot, self.generation)

    # --- observe

    def update(self, config: VaultConfig, snapshot: Snapshot, generation: int) -> None:
        """Take over new wishes. The row and the notes on nodes only when no procedure ran since `generation`: it knows better."""
        current = generation == self.generation and self.acting is None and snapshot.fresh
        self.config = config if current else replace(config, topology=self.config.topology)
        self.snapshot = snapshot
        if current:  # a row that is seen to be gone and comes back later is another one: of a restored database
            self._forgotten &= {n.id for n in config.nodes}
        nodes = [n for n in config.nodes if n.id not in self._forgotten]
        for row in nodes:
            sight = self.sights.get(row.id)
            node = row if current or sight is None else _with_notes(row, sight.config)
            if sight is None:
                sight = self.sights[node.id] = Sight(node)
                poll = keep_watching(
                    sight,
                    self.world.agents,
                    self.world.clock,
                    lambda: self.snapshot.interval,
                    lambda: self.world.topologies.term,
                    self.evaluate,
                )
                self._polls[node.id] = asyncio.ensure_future(poll)
            if _new_wish(sight.config, node):
                sight.blocked_until.clear()
            sight.config = node
        for gone in set(self.sights) - {n.id for n in nodes}:
            self._polls.pop(gone).cancel()
            del self.sights[gone]

    def view(self) -> VaultView:
        now = self.world.clock.monotonic()
        nodes = tuple(sight.view(now) for sight in self.sights.values())
        config, wish = self.config, self.config.switchover
        if (
            self._procedure is not None
        ):  # agents know its epoch already: beside the row from before it they look like ahead
            config = replace(config, topology=self._procedure.row)
        if wish is not None and wish.operation in self._granted:
            config = replace(config, switchover=None)
        return view_of(
            config,
            nodes,
            self.snapshot,
            acker_missing_for=self.missing_for,
            high_water=self.world.topologies.high_water(config.topology.vault),
        )

    async def _tick(self) -> None:
        last = self.world.clock.monotonic()
        while True:
            await self.world.clock.sleep(self.world.tick)
            now = self.world.clock.monotonic()
            passed = min(timedelta(seconds=now - last), max(limits.TICK_CAP, 2 * self.world.tick))
            last = now
            for sight in self.sights.values():
                sight.silence += passed
            view = self.view()
            self.missing_for = self.missing_for + passed if acker_missing(view) else timedelta()
            if in_doubt(view) and self._asking is None:
                self._asking = asyncio.ensure_future(self._ask_witnesses())
            self.evaluate()

    async def _ask_witnesses(self) -> None:
        """While in doubt: the database port, and a fresh word from everybody else, each with its own deadline."""
        began = self.world.clock.monotonic()
        try:
            while in_doubt(view := self.view()) and view.primary is not None:
                primary = self.sights[view.primary.id]
                others = [self._refresh(self.sights[n.id], limits.WITNESS_DEADLINE) for n in view.others if n.answers]
                word, _ = await asyncio.gather(self.witnesses.ask(view.primary), asyncio.gather(*others))
                primary.witness = word
                self.evaluate()
                hasty = self.world.clock.monotonic() - began < WITNESS_HASTE.total_seconds()
                await self.world.clock.sleep(limits.WITNESS_INTERVAL if hasty else self.snapshot.interval)
        finally:
            self._asking = None

    async def _refresh(self, sight: Sight, patience: timedelta) -> None:
        try:
            async with asyncio.timeout(patience.total_seconds()):
                sight.answered(await self.world.agents.hello(sight.config, since=-1, wait=timedelta()))
        except (NodeUnreachable, TimeoutError):
            pass  # its long poll will say how it does not answer

    # --- decide

    def evaluate(self) -> None:
        """Start the next procedure, if there is one. A failover pre-empts everything but another failover."""
        if not self.leadership.held:
            self.stop_acting()
            return
        view = self.view()
        self.ledger.look(view)
        if self.acting is not None:
            if self.action is not None and self.action.kind not in URGENT and _wants_failover(view):
                self.acting.cancel()
            return
        if self.world.clock.monotonic() < self._not_before:
            return
        self.action = plan(view)
        if self.action is not None:
            self.acting = asyncio.ensure_future(self._act(self.action, view))

    # --- act and record

    async def _act(self, action: Action, view: VaultView) -> None:
        found = diagnose(view)
        says = f"{action.says} ({found.id} {found.says})"
        operation = self.ledger.begin(action)
        procedure = self._procedure = Procedure(
            self.world, view, operation, action.rule, says, self.ledger.track(action)
        )
        key = action.kind, action.node
        try:
            try:
                await carry_out(procedure, action)
                acker = self.sights.get(view.topology.promotable)
                # One that died and was restarted may acknowledge again at once; one that made commits hang may not.
                hung = action.kind is ActionKind.GO_SOLO and view.running and not acker_dead(view)
                if hung and acker is not None:
                    acker.given_up(self.world.clock.monotonic())
                self.ledger.succeeded(action, procedure.outcome, steps_ms=procedure.steps)
                self._delays.pop(key, None)
                self._said.pop(key, None)
            except asyncio.CancelledError:
                self.ledger.cancelled(action, procedure.row, "something more urgent came first, or this leader ended")
                raise
            except ReplicationError as error:
                await self._failed(procedure, action, error)
            except Exception as error:  # a fault of ours must not stop the watch; its traceback goes with the event
                await self._failed(procedure, action, error, traceback=traceback.format_exc())
            if action.kind is ActionKind.FAILOVER and found.id in BY_SILENCE and procedure.steps:
                await self.world.inventory.note_silence_failover(view.topology.vault)
            self._take_over(procedure)
            # The next decision rests on a fresh word from every node, not on what it said before we acted.
            await asyncio.gather(
                *(self._refresh(s, REFRESH_PATIENCE) for s in self.sights.values() if s.link == "answers")
            )
        finally:
            if action.kind is ActionKind.SWITCHOVER:
                self._granted.add(action.operation)
            self._take_over(procedure)
            self.generation += 1
            self.quiet_since = self.world.clock.monotonic()
            self.acting = self.action = self._procedure = None
        self._publishing = asyncio.ensure_future(self.publish())  # at once: the row and its reason belong together
        self.evaluate()

    def _take_over(self, procedure: Procedure) -> None:
        """What the procedure knows better than the inventory as it was last read."""
        self.config = replace(self.config, topology=procedure.row)
        for node in procedure.view.nodes:
            if node.id in self.sights:
                self.sights[node.id].config = _with_notes(self.sights[node.id].config, node)
        self._forgotten |= procedure.forgotten
        for id in procedure.forgotten & set(self.sights):
            self._polls.pop(id).cancel()
            del self.sights[id]

    async def _failed(self, procedure: Procedure, action: Action, error: Exception, **evidence: str) -> None:
        key = action.kind, action.node
        delay = min(self._delays.get(key, limits.RETRY_AFTER), limits.RETRY_MAX)
        self._delays[key] = delay * 2
        pause = URGENT_RETRY if action.kind in URGENT else delay
        if isinstance(error, ClaimLost):
            pause = URGENT_RETRY
            self._not_before = self.world.clock.monotonic() + pause.total_seconds()
        if action.node in self.sights:
            until = self.world.clock.monotonic() + pause.total_seconds()
            self.sights[action.node].blocked_until[action.kind.value] = until
        if action.kind is ActionKind.FOLLOW:
            with contextlib.suppress(ReplicationError):
                await procedure.mark(action.node, resync_requested_at=None)
        self.ledger.failed(action, error, procedure.row, steps_ms=procedure.steps, **evidence)
        says = str(error) or type(error).__name__
        if self._said.get(key) != says:  # say it once, not at every try
            self._said[key] = says
            text = f"{action.kind.value} did not succeed: {says}"
            await procedure.event(text, node=action.node, level="warning", **evidence)

    def rows(self) -> tuple[str, dict[str, NodeRow], Foresight]:
        """Live columns of every node, the vault's reason and what a loss would lead to, for the screen."""
        view = self.view()
        roles = current_roles(view)
        rows = {n.id: _row(view, n, roles[n.id]) for n in view.nodes}
        return vault_reason(view), rows, foresee(view, self.config.failovers)

    async def publish(self) -> None:
        """Write the live state when it changed."""
        self.ledger.settle(self.config.topology, self.action)
        now = self.rows()
        if now != self._published:
            await self.world.inventory.publish(self.config.topology.vault, *now)
            self._published = now

    @property
    def left_waiting(self) -> bool:
        """The primary was last seen waiting for an acker although none is published, or without any order: what was begun
        has not reached it, and it has to be told before we look away."""
        p = self.view().primary
        if p is None or (p.report is not None and p.report.quarantine):
            return False
        if p.report is None:
            return True  # it has not answered this leader yet
        return p.report.order_kind is not OrderKind.SOLO and not self.config.topology.promotable

    @property
    def replacing(self) -> bool:
        """The data of a node is being replaced, or was and it does not follow yet: also a stopped service sees that to its end."""
        row = self.config.topology
        others = (n for n in self.view().nodes if n.id != row.primary and n.active and not n.removed)
        return bool(row.primary) and any(n.replacing or replaced(n) for n in others)

    def check(self) -> None:
        """Raise what ended the clock or a poll: a watch that no longer looks must not go unnoticed."""
        for task in (self._ticker, *self._polls.values()):
            if task.done() and not task.cancelled():
                task.result()

    def stop_acting(self) -> None:
        if self.acting is not None:
            self.acting.cancel()

    async def close(self) -> None:
        """Stop polling and acting. What was begun is in the row; the next leader resolves it."""
        tasks = [
            self._ticker,
            *self._polls.values(),
            *(t for t in (self.acting, self._asking, self._publishing) if t is not None),
        ]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.ledger.hand_over(self.config.topology)


def _wants_failover(view: VaultView) -> bool:
    """What would be done now, were nothing under way: not by an outdated row, nor by a stopped service."""
    action = plan(view)
    return action is not None and action.kind is ActionKind.FAILOVER


def _with_notes(node: NodeView, notes: NodeView) -> NodeView:
    """The wishes of one, what the service itself noted of the other."""
    return replace(
        node,
        joined=notes.joined,
        detached=notes.detached,
        locked_out=notes.locked_out,
        resync_wanted=notes.resync_wanted,
        rebuild=notes.rebuild,
    )


def _new_wish(before: NodeView, now: NodeView) -> bool:
    """Whether an operator asked for something: it is not held back by the failures of what went before."""
    asked = now.resync_wanted and not before.resync_wanted
    asked = asked or (
        now.wish is not None and (before.rebuild is None or before.rebuild.operation != now.wish.operation)
    )
    return asked or (now.active, now.removed) != (before.active, before.removed)


def _row(view: VaultView, node: NodeView, role: str) -> NodeRow:
    status, detail = node_status(view, node)
    report = node.report
    stable: tuple[object, ...] = ()
    if report is not None:
        stable = (
            report.agent_id,
            report.process,
            report.order_kind,
            report.tainted,
            report.epoch,
            report.agent_version,
            report.fences,
            report.task and (report.task.operation, report.task.phase),
            report.kept,
        )
    refusal = why_not(view, node.id)
    return NodeRow(
        status=status,
        detail=detail,
        current_role=role,
        report=report.to_json() if report is not None else None,
        not_primary=f"{refusal.rule} · {refusal.says}" if refusal is not None else "",
        stable=stable,
    )
