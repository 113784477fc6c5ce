"""One full copy of a node, or its undoing, as a job sees it: the wish, the leader's order, the agents' work, what it came to.

The job orders nothing itself. It leaves the wish on the node's row, which only the leading service carries out, and reads what
the agents say. Everything that it needs to go on is with them and in the row: a second worker of the same operation finds the
wish, the task, or the data that was put in place, and goes on from there.
"""

import asyncio
import logging
import time
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from nodes.choices import OperationUnit
from nodes.models import Vault, VaultNode
from replication.client import AgentClient
from replication.core.errors import NodeUnreachable
from replication.core.report import NodeReport
from replication.core.steps import StepState
from replication.core.tasks import TaskKind, TaskPhase, TaskReport
from replication.core.view import NodeView, RebuildWish
from replication.stores import operations
from replication.stores.data_wishes import withdraw
from replication.stores.inventory import node_view
from replication.stores.wishes import is_watched

from .catching_up import takes_part
from .telling import CancelWished, Refused, Telling, in_thread

log = logging.getLogger(__name__)

LOOK_EVERY: Final = 0.5
"""Seconds between two looks at the agents."""
ORDER_LIMIT: Final = timedelta(seconds=60)
"""How long the leader may take to order what is wished."""
LATE_ORDER: Final = timedelta(seconds=10)
"""A wish that was taken back may have been read by the leader just before: its order arrives within this time, or never."""
CALLED_OFF_WITHIN: Final = 5.0
"""Seconds between the leader's cancel at the agents and its word in the wish."""
SILENT_LIMIT: Final = timedelta(minutes=15)
"""A target that has not answered for this long ends the operation, though not what it may still do by itself."""
STEPS: Final = {
    TaskPhase.WAITING: "begin",
    TaskPhase.TRANSFERRING: "transfer",
    TaskPhase.PREPARING: "prepare",
    TaskPhase.SWAPPING: "swap",
    TaskPhase.STARTING: "start",
}
AS_BEFORE: Final = "the node is as before"
SAYS_IT: Final = (
    "as before",
    "nothing was changed",
    "the data of before are",
    "were before",
    "the copy is in its place",
)
"""What agents say of the data themselves."""


class Cancelled(Exception):
    """It ended because somebody wanted it to, with the sentence that says what became of the data."""


@dataclass
class Copied:
    """What a copy came to."""

    source: str = ""
    """Hostname; "" when it was not seen."""
    bytes: int = 0
    position: str = ""
    seconds: dict[str, float] = field(default_factory=dict)
    """Step → how long it took, as far as it was watched."""

    @property
    def text(self) -> str:
        steps = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in self.seconds.items())
        amount = f"{self.bytes / 2**20:,.0f} MiB" if self.bytes else ""
        told = "; ".join(part for part in (amount, steps) if part)
        return f" ({told})" if told else ""


class Copy:
    def __init__(
        self,
        telling: Telling,
        agents: AgentClient,
        node: NodeView,
        *,
        id: str,
        source: str = "",
        bytes_per_second: int = 0,
        undo: bool = False,
    ) -> None:
        """id: what wish, order and tasks carry; the operation's own, unless it makes several copies. source: node id, or ""."""
        self.node, self.id, self.undo = node, id, undo
        self.copied = Copied()
        self._telling, self._agents = telling, agents
        self._wish = RebuildWish(operation=id, source=source, bytes_per_second=bytes_per_second, undo=undo)
        self._kind = TaskKind.UNDO if undo else TaskKind.RECEIVE
        self._source: NodeView | None = None
        self._others: list[NodeView] = []
        self._to_cancel = self._too_late = self._asked_to_cancel = False
        self._phase: TaskPhase | None = None
        self._phase_began = time.monotonic()

    async def carry_out(self) -> Copied:
        """Returns when the node's database runs on the other data. Raises Refused, Cancelled, Lost."""
        self._others = await in_thread(self._other_nodes)
        report = await self._ask()
        if not self._begun(report):
            await in_thread(self._leave_wish)
            await self._until_ordered()
        return await self._until_ended()

    @staticmethod
    def steps(hostname: str) -> tuple[str, ...]:
        """What is to come of a copy, in order."""
        return tuple(f"{name} {hostname}" for name in ("order", *STEPS.values()))

    # --- the wish

    def _other_nodes(self) -> list[NodeView]:
        row = VaultNode.objects.get(pk=self.node.id)
        return [node_view(n) for n in VaultNode.objects.present().filter(vault=row.vault_id).exclude(pk=row.pk)]

    def _leave_wish(self) -> None:
        """Once for each copy, however often a worker takes the operation up. Raises Refused."""
        wished = self._telling.operation.arguments.get("wished", [])
        if self.id in wished:
            return
        operations.remember(self._telling.operation.pk, wished=[*wished, self.id])
        self._telling.operation.arguments["wished"] = [*wished, self.id]
        row = VaultNode.objects.present().filter(pk=self.node.id, active=True)
        if not row.update(rebuild_wish=self._wish.to_json()):
            raise Refused(f"{self.node.hostname} is no longer an active node; {AS_BEFORE}")

    def _wish_now(self) -> RebuildWish | None:
        found = VaultNode.objects.filter(pk=self.node.id).values_list("rebuild_wish", flat=True).first()
        wish = RebuildWish.from_json(found)
        return wish if wish is not None and wish.operation == self.id else None

    async def _until_ordered(self) -> None:
        """Raises Refused or Cancelled, with the wish taken back."""
        step = f"order {self.node.hostname}"
        self._telling.track.begins(step)
        began = time.monotonic()
        gone: float | None = None
        why = "the service took the order and it reached nobody"
        while not self._begun(await self._ask()):
            wish = await in_thread(self._wish_now)
            now = time.monotonic()
            if wish is not None and wish.refused:
                await in_thread(withdraw, self.id)
                raise Refused(f"{wish.refused.rstrip('.')}; {AS_BEFORE}")
            if wish is not None and now - began > ORDER_LIMIT.total_seconds():
                why = await in_thread(self._why_not_ordered)
                await in_thread(withdraw, self.id)
            gone = None if wish is not None else gone or now
            if gone is not None and now - gone > LATE_ORDER.total_seconds():
                if self._to_cancel:
                    raise Cancelled(f"cancelled before the copy was ordered; {AS_BEFORE}")
                raise Refused(f"{why}; {AS_BEFORE}")
            await self._tell(0, "waiting for the service to order it")
            if self._to_cancel and wish is not None:
                await in_thread(withdraw, self.id)
            await asyncio.sleep(LOOK_EVERY)
        self._telling.track.done(step)

    def _why_not_ordered(self) -> str:
        if not is_watched():
            return f"nobody led SystemHighAvailabilityService for {ORDER_LIMIT.seconds} s, so nobody could order it"
        vault = Vault.objects.get(nodes=self.node.id)
        return f"the service did not order it within {ORDER_LIMIT.seconds} s ({vault.reason or 'no reason was given'})"

    # --- the agents

    async def _ask(self, node: NodeView | None = None) -> NodeReport | None:
        try:
            return await self._agents.hello(node or self.node, since=-1, wait=timedelta())
        except NodeUnreachable as error:
            log.info("%s", error)
            return None

    def _task(self, report: NodeReport | None) -> TaskReport | None:
        task = report.task if report is not None else None
        return task if task is not None and (task.operation, task.kind) == (self.id, self._kind) else None

    def _in_place(self, report: NodeReport | None) -> bool:
        """Whether the data that it wanted is there, whatever the agent has done since."""
        if self.undo:
            return False
        return report is not None and report.kept is not None and report.kept.operation == self.id

    def _begun(self, report: NodeReport | None) -> bool:
        return self._task(report) is not None or self._in_place(report)

    async def _until_ended(self) -> Copied:
        heard = time.monotonic()
        while True:
            report = await self._ask()
            task = self._task(report)
            if report is not None:
                heard = time.monotonic()
                await self._look_at_source()
                if task is None:
                    return self._judge_by_data(report)
                if not task.active:
                    if task.phase is TaskPhase.CANCELLED and not self._asked_to_cancel:
                        await self._called_off()
                    return self._end(task)
                await self._follow(task)
            elif time.monotonic() - heard > SILENT_LIMIT.total_seconds():
                raise Refused(
                    f"{self.node.hostname} has not answered for {SILENT_LIMIT.seconds // 60} min; whether it has the old or the"
                    " new data is not known, its row says so as soon as it answers"
                )
            else:
                await self._tell(
                    0, f"{self.node.hostname} does not answer; its agent goes on by itself when it is back"
                )
            if self._to_cancel:
                await self._cancel()
            await asyncio.sleep(LOOK_EVERY)

    async def _called_off(self) -> None:
        """Nobody here cancelled it: the leader did, because the node is to leave, or says why in the wish a moment later. Raises
        Refused then."""
        if not await in_thread(takes_part, self.node.id):
            raise Refused(f"{self.node.hostname} was made inactive or deleted meanwhile; {AS_BEFORE}")
        for _ in range(int(CALLED_OFF_WITHIN / LOOK_EVERY)):
            wish = await in_thread(self._wish_now)
            if wish is not None and wish.refused:
                await in_thread(withdraw, self.id)
                raise Refused(f"{wish.refused.rstrip('.')}; {AS_BEFORE}")
            await asyncio.sleep(LOOK_EVERY)

    async def _look_at_source(self) -> None:
        """Find who sends, by its own word: for the name, and to cancel it."""
        if self._source is not None or self.undo:
            return
        for other in self._others:
            report = await self._ask(other)
            if report is not None and report.task is not None and report.task.operation == self.id:
                self._source, self.copied.source = other, other.hostname

    async def _follow(self, task: TaskReport) -> None:
        if task.phase is not self._phase:
            self._leave_phase()
            self._phase, self._phase_began = task.phase, time.monotonic()
            self._over_before(self._step(task.phase))
        if task.phase is TaskPhase.TRANSFERRING:
            self.copied.bytes = max(self.copied.bytes, task.done)
        self._telling.track.begins(self._step(task.phase))
        said = {
            TaskPhase.WAITING: f"waiting for the copy from {self.copied.source or 'the source'}",
            TaskPhase.TRANSFERRING: f"copying from {self.copied.source or 'the source'}",
            TaskPhase.PREPARING: "preparing the copy",
            TaskPhase.SWAPPING: "putting it in the place of the old data",
            TaskPhase.STARTING: "starting the database",
        }[task.phase]
        # Only a transfer counts bytes: what stands still at its last figure afterwards would look as if it hung.
        counts = bool(task.total) and task.phase is TaskPhase.TRANSFERRING
        amount = (task.done, task.total) if counts else (None, None)
        late = "; it was too late to cancel" if self._too_late else ""
        await self._tell(_percent(task) if counts else 0, f"{self.node.hostname}: {said}{late}", *amount)

    def _leave_phase(self) -> None:
        seconds = time.monotonic() - self._phase_began
        if self._phase is not None:
            step = STEPS[self._phase]
            self.copied.seconds[step] = round(self.copied.seconds.get(step, 0.0) + seconds, 2)
            self._telling.track.done(self._step(self._phase))

    def _over_before(self, step: str = "") -> None:
        """What was expected before this step, and was over between two looks. Without a step: all of the copy."""
        for name in self.steps(self.node.hostname):
            if name == step:
                return
            if any(s.name == name and s.state is StepState.WAITING for s in self._telling.track.steps):
                self._telling.track.done(name)

    def _step(self, phase: TaskPhase) -> str:
        return f"{STEPS[phase]} {self.node.hostname}"

    async def _tell(self, percent: int, message: str, done: int | None = None, total: int | None = None) -> None:
        def write() -> None:
            unit = OperationUnit.BYTES.value if total else ""
            self._telling.tell(percent, message, done=done, total=total, unit=unit)

        try:
            await in_thread(write)
        except CancelWished:
            self._telling.cancel_heard()
            self._to_cancel = True

    async def _cancel(self) -> None:
        """Asked again with every look until the target has heard it; without an answer of it the source at least ends."""
        self._asked_to_cancel = True
        if self._source is not None:
            try:
                await self._agents.cancel_task(self._source, self.id)
            except NodeUnreachable as error:
                log.info("%s", error)
        try:
            ends = await self._agents.cancel_task(self.node, self.id)
        except NodeUnreachable as error:
            log.info("%s", error)
            return
        if not ends:
            self._to_cancel, self._too_late = False, True
            await in_thread(self._telling.cannot_cancel)

    # --- what it came to

    def _end(self, task: TaskReport) -> Copied:
        if task.phase is TaskPhase.DONE:
            self._leave_phase()
            self._over_before()
            self.copied.bytes, self.copied.position = self.copied.bytes or task.done, task.position
            return self.copied
        became = (
            "its data has been replaced all the same, and the old data is kept"
            if task.replaced and not self.undo
            else "its data has been replaced all the same"
            if task.replaced
            else AS_BEFORE
        )
        says = task.says.rstrip(".") or "no reason was given"
        at = f"{STEPS[self._phase]}: " if self._phase is not None else ""
        said = says if any(words in says for words in SAYS_IT) else f"{says}; {became}"
        if task.phase is TaskPhase.CANCELLED:
            raise Cancelled(said)
        raise Refused(f"{at}{said}")

    def _judge_by_data(self, report: NodeReport) -> Copied:
        """The agent is at, or was last at, something else: only its data tells what became of ours."""
        if self._in_place(report):
            self._leave_phase()
            self._over_before()
            return self.copied
        became = "the old data was put back, or it is still there" if self.undo else AS_BEFORE
        raise Refused(f"{self.node.hostname} no longer knows of it; {became}")


def _percent(task: TaskReport) -> int:
    return min(100, 100 * task.done // task.total) if task.total else 0
