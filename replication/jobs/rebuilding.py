"""Rebuild a node by a full copy, or undo the last one: export, copy, catch up, compare, each a step that shows how far it is.

Safe to run twice: what the first worker left is found at the agents (copying.py). However it ends, the operation says whether
the node is as before or has the other data.
"""

import asyncio
import contextlib
import logging
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from typing import Any, Final

from django.conf import settings
from django.utils import timezone

from nodes.choices import OperationKind, OperationState
from nodes.models import Operation, Vault, VaultNode
from replication.client import AgentClient
from replication.core.errors import NodeUnreachable, PositionsNotComparable
from replication.core.positions import beyond
from replication.core.report import NodeReport
from replication.core.roles import ProcessState
from replication.core.view import NodeView
from replication.stores import losses, operations
from replication.stores.data_wishes import withdraw_of
from replication.stores.inventory import node_view

from . import exporting, verification
from .catching_up import CaughtUp, ask, ask_patiently, catch_up, primary_of
from .copying import AS_BEFORE, Cancelled, Copied, Copy
from .telling import CancelWished, Lost, Refused, Telling, in_thread

log = logging.getLogger(__name__)
MIB = 2**20
BEGIN_WITHIN: Final = timedelta(hours=1)
"""Nobody is to be surprised by data that is replaced the day after it was asked for."""


@dataclass
class Course:
    """One node on its way to other data, and how far it has come."""

    node: NodeView
    copied: Copied | None = None
    """Set as soon as the other data is in place."""
    exported: str = ""
    caught_up: CaughtUp | None = None
    differences: list[str] | None = None
    """None: not compared."""
    not_compared: str = ""

    def to_json(self) -> dict[str, Any]:
        return {"hostname": self.node.hostname, **{k: v for k, v in asdict(self).items() if k != "node"}}

    @property
    def story(self) -> str:
        """What was done so far, as sentences."""
        if self.copied is None:
            return f"{self.exported} " if self.exported else ""
        source = f" from {self.copied.source}" if self.copied.source else ""
        told = f"{self.node.hostname} was rebuilt{source}{self.copied.text}."
        if self.exported:
            told = f"{self.exported} {told}"
        if self.caught_up is not None:
            told += f" It follows; {self.caught_up.transactions:,} transactions were caught up in {self.caught_up.seconds:.1f} s."
        if self.differences == []:
            told += " It is equal to the Master."
        elif self.differences:
            told += f" It differs from the Master: {'; '.join(self.differences[:5])}."
        elif self.not_compared:
            told += f" Not compared with the Master: {self.not_compared}."
        return told + " "


@dataclass
class Wanted:
    """What the operation asks for."""

    source: str = ""
    bytes_per_second: int = 0
    without_list: bool = False
    compare: bool = True
    vault: str = ""
    kept_for: str = ""
    undo: bool = False
    cause: str = ""
    """Of one that the service asked for by itself: for what the node was held."""
    extra: dict[str, Any] = field(default_factory=dict)


def wanted(operation: Operation) -> Wanted:
    """The arguments, with the vault's rate where none was given."""
    vault, given = operation.vault, operation.arguments
    assert vault is not None
    rate = given.get("mib_per_second", vault.copy_mib_per_second)
    hours = vault.keep_old_hours
    return Wanted(
        source=str(given.get("source") or ""),
        bytes_per_second=int(rate or 0) * MIB,
        without_list=bool(given.get("without_list")),
        compare=bool(given.get("compare", True)),
        vault=vault.pk,
        kept_for=f"{hours} h after a comparison finds it equal" if hours else "a comparison finds it equal",
        undo=operation.kind == OperationKind.UNDO,
        cause=str(given.get("cause") or "") if operation.requested_by_id is None else "",
    )


async def rebuild(telling: Telling, agents: AgentClient, course: Course, want: Wanted, id: str) -> None:
    """Give one node the data of another one, and watch it until it is a full fallback. Fills `course`.

    id: of the copy, see copying.Copy. Raises Refused, Cancelled, CancelWished, Lost; `course.copied` tells whether the node has
    the other data then.
    """
    copy = Copy(telling, agents, course.node, id=id, source=want.source, bytes_per_second=want.bytes_per_second)
    if id not in telling.operation.arguments.get("wished", []):
        await _export_first(telling, agents, course, want, id)
    _expect(telling, course.node.hostname, want)
    course.copied = await copy.carry_out()
    course.caught_up = await catch_up(telling, agents, want.vault, course.node)
    if want.compare:
        await _compare(telling, agents, course, want)
    else:
        course.not_compared = "it was not wanted"


def _expect(telling: Telling, hostname: str, want: Wanted) -> None:
    """What is still to come, so that who looks knows how far it is; less what an earlier worker of it has done."""
    done = {step.name for step in telling.track.steps}
    then = (f"catch-up {hostname}", *((f"compare {hostname}",) if want.compare else ()))
    telling.track.expect(*(step for step in Copy.steps(hostname) if step not in done), *then)


async def _export_first(telling: Telling, agents: AgentClient, course: Course, want: Wanted, id: str) -> None:
    """What only this node has goes into a file and a list before anything is replaced."""
    report = await ask_patiently(telling, agents, course.node)
    primary, _silent = await ask(agents, await in_thread(primary_of, want.vault))
    if not still_held(report, want.cause):
        raise Refused(
            f"{course.node.hostname} is no longer held for what this was wanted for ({want.cause}); nothing was done"
        )
    if not may_have_more(report, primary) or await in_thread(losses.has_whole_list, course.node.id, report.quarantine):
        return
    try:
        made = await exporting.export_node(telling, agents, course.node, id=id)
        course.exported = losses.says(made)
        if not losses.is_whole(made.notes):
            raise Refused(made.notes[0].rstrip("."))
    except CancelWished:
        with contextlib.suppress(NodeUnreachable):
            await agents.cancel_task(course.node, id)
        raise Cancelled(f"cancelled while its own transactions were exported; {AS_BEFORE}") from None
    except Refused as refused:
        if not want.without_list:
            mend = "mend that" if want.undo else "mend that, or ask for it also without a list"
            raise Refused(
                f"what only {course.node.hostname} has could not be exported ({refused}), so nothing was replaced; {mend}"
            ) from refused
        course.exported = (
            course.exported or f"Its own transactions were not exported ({refused}); they are in its old data."
        )


def still_held(mine: NodeReport, cause: str) -> bool:
    """Whether what the service wanted a copy for still holds the node; it may have waited for a worker meanwhile. cause: "" of a
    person's wish."""
    return not cause or cause in (mine.quarantine[: losses.TEXT_MAX], mine.needs_rebuild[: losses.TEXT_MAX])


def may_have_more(mine: NodeReport, primary: NodeReport | None) -> bool:
    """Whether a node might have transactions that the primary does not have. No only when that is seen: nothing holds it, its
    replication stands at no error, and neither its binary logs nor what it has applied name anything that the primary's do not."""
    db, theirs = mine.database, primary.database if primary is not None else None
    if mine.quarantine or mine.process is not ProcessState.UP or db is None or theirs is None or db.applier_errno:
        return True
    try:
        return any(beyond(state, theirs.gtid_binlog_state) for state in (db.gtid_binlog_state, db.gtid_slave_pos))
    except (ValueError, PositionsNotComparable):
        return True


async def _compare(telling: Telling, agents: AgentClient, course: Course, want: Wanted) -> None:
    primary = await in_thread(primary_of, want.vault)
    if primary is None:
        course.not_compared = "the vault has no Master now"
        return
    try:
        course.differences = await verification.compare(telling, agents, primary, course.node)
    except (Refused, NodeUnreachable) as error:
        course.not_compared = str(error)


async def _rebuild(telling: Telling, course: Course, want: Wanted) -> str:
    async with AgentClient(settings.PKI_DIR) as agents:
        await rebuild(telling, agents, course, want, telling.operation.pk)
    if course.differences:
        raise Refused(f"{course.story}The old data is kept")
    return f"{course.story}Its old data is kept until {want.kept_for}."


async def _undo(telling: Telling, course: Course, want: Wanted) -> str:
    id = telling.operation.pk
    async with AgentClient(settings.PKI_DIR) as agents:
        if id not in telling.operation.arguments.get("wished", []):  # the copy is removed, and with it what only it has
            await _export_first(telling, agents, course, want, id)
        copied = await Copy(telling, agents, course.node, id=id, undo=True).carry_out()
    told = f"{course.exported} " if course.exported else ""
    return f"{told}{course.node.hostname} has the data of before its rebuild again{copied.text}. Its row says whether it can follow."


def _course(operation: Operation) -> Course:
    node = VaultNode.objects.present().filter(pk=operation.node_id).first()
    if node is None:
        raise Refused("the node has been deleted meanwhile; nothing was begun")
    if Vault.objects.filter(pk=node.vault_id, primary=node).exists():
        raise Refused(f"{node.hostname} is the Master now, and its data is never replaced; nothing was begun")
    return Course(node_view(node))


def run(id: str) -> None:
    """Ends the operation succeeded, failed or cancelled, with a result that says what data the node has."""
    if _is_too_late(id):
        text = f"Failed: no ops worker began it within {BEGIN_WITHIN.seconds // 60} min, so nothing was done: ask for it again."
        operations.end(id, OperationState.FAILED, text, {"summary": text})
    operation = operations.begin(id)
    if operation is None:
        return
    telling, course = Telling(operation), None
    carry_out, rule = (_undo, "P67") if operation.kind == OperationKind.UNDO else (_rebuild, "P66")
    try:
        course = _course(operation)
        summary = asyncio.run(carry_out(telling, course, wanted(operation)))
    except Lost:
        log.info("operation %s was ended by somebody else", id)
    except (Cancelled, CancelWished) as error:
        text = _cancelled(course, str(error))
        telling.end(OperationState.CANCELLED, text, _result(text, course), rule=rule)
    except Refused as refused:
        text = _failed(course, str(refused))
        telling.end(OperationState.FAILED, text, _result(text, course), rule=rule)
    except Exception as error:
        log.exception("operation %s failed", id)
        text = f"{error.__class__.__name__}: see the log of the ops worker; its row says what data the node has."
        telling.end(OperationState.FAILED, text, _result(text, course), rule=rule)
    else:
        telling.end(OperationState.SUCCEEDED, summary, _result(summary, course), rule=rule)
    finally:
        withdraw_of(operation)


def _is_too_late(id: str) -> bool:
    waiting = Operation.objects.filter(pk=id, state=OperationState.QUEUED)
    return waiting.filter(created_at__lt=timezone.now() - BEGIN_WITHIN).exists()


def _failed(course: Course | None, why: str) -> str:
    if course is not None and course.copied is not None and not why.startswith(course.story):
        return f"{course.story}But {why}. The old data is kept."
    return f"Failed: {why}."


def _cancelled(course: Course | None, says: str) -> str:
    if course is not None and course.copied is not None:
        return f"{course.story}Cancelled after the copy was in place: what was left is not waited for."
    return f"Cancelled: {says or f'nothing was begun; {AS_BEFORE}'}."


def _result(summary: str, course: Course | None) -> dict[str, Any]:
    return {"summary": summary, **({"nodes": [course.to_json()]} if course is not None else {})}
