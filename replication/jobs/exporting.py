"""Exports the transactions that only a diverged node has: a file on its host, a report here. By itself, or before a rebuild.

It changes nothing of the vault. Safe to run twice: the agent begins an operation's export once, and its report is written once.
"""

import asyncio
import logging
import time
from datetime import timedelta
from typing import Any, Final

from django.conf import settings

from nodes.choices import OperationState, OperationUnit
from nodes.models import LossReport, VaultNode
from replication.client import AgentClient
from replication.core.errors import NodeUnreachable, StepFailed
from replication.core.tasks import TaskKind, TaskOrder, TaskPhase, TaskReport
from replication.core.view import NodeView
from replication.stores import losses, operations
from replication.stores.inventory import node_view

from .catching_up import ask, primary_of
from .telling import CancelWished, Lost, Refused, Telling, in_thread

log = logging.getLogger(__name__)

LOOK_EVERY: Final = 0.25
SILENT_LIMIT: Final = timedelta(minutes=2)
"""A node that has not answered for this long ends the operation; what it does by itself is found when it is asked again."""


async def export(telling: Telling, agents: AgentClient, node: NodeView, *, id: str = "") -> str:
    """Export what only this node has, as a step of the operation that `telling` tells of; returns one sentence on what came of it.

    id: of the export and its report, where one operation exports from several nodes; "" for the operation's own.

    Called by a rebuild as well, before anything is replaced. Raises Refused when there is no file and no list afterwards,
    CancelWished, Lost.
    """
    return losses.says(await export_node(telling, agents, node, id=id))


async def export_node(telling: Telling, agents: AgentClient, node: NodeView, *, id: str = "") -> LossReport:
    """As `export`; returns the report."""
    step = f"export {node.hostname}"
    telling.track.begins(step)
    operation = id or telling.operation.pk
    known = await in_thread(_known, operation)
    if known is None:
        why, result = await _result(telling, agents, node, operation)
        known = await in_thread(losses.record, node.id, operation, why, result)
    telling.track.done(step, losses.says(known), position="")
    return known


async def _result(telling: Telling, agents: AgentClient, node: NodeView, operation: str) -> tuple[str, dict[str, Any]]:
    """Why the node is held, and what its export came to."""
    primary = await in_thread(primary_of, await in_thread(_vault_of, node.id))
    if primary is None:
        raise Refused("the vault has no Master now, so nothing says what is missing there")
    report, silent = await ask(agents, node)
    if report is None:
        raise Refused(silent)
    await in_thread(lambda: telling.tell(1, f"Reading the binary logs of {primary.hostname}"))
    try:
        have = await agents.transactions(primary)
    except (NodeUnreachable, StepFailed) as error:
        raise Refused(f"what the Master has is not known: {error}") from error
    order = TaskOrder(
        kind=TaskKind.EXPORT, operation=operation, args={"have": have.to_json(), "primary": primary.hostname}
    )
    try:
        await agents.begin_task(node, order)
    except (NodeUnreachable, StepFailed) as error:
        raise Refused(str(error)) from error
    ended = await _wait(telling, agents, node, operation)
    if ended.phase is not TaskPhase.DONE:
        raise Refused(ended.says or f"the export was {ended.phase.value}")
    try:
        result = await agents.task_result(node, operation)
    except NodeUnreachable as error:
        raise Refused(str(error)) from error
    if result is None:
        raise Refused(
            "the agent has forgotten what the export came to: its files are there, export once more for the list"
        )
    return report.quarantine, result


async def _wait(telling: Telling, agents: AgentClient, node: NodeView, operation: str) -> TaskReport:
    heard = time.monotonic()
    while True:
        report, silent = await ask(agents, node)
        task = report.task if report is not None else None
        if report is not None:
            heard = time.monotonic()
            if task is None or task.operation != operation:
                raise Refused("the agent does something else now")
            if not task.active:
                return task
        elif time.monotonic() - heard > SILENT_LIMIT.total_seconds():
            raise Refused(silent)
        done, total = (task.done, task.total) if task is not None else (0, 0)
        amounts: dict[str, Any] = (
            {"done": min(done, total), "total": total, "unit": OperationUnit.BYTES.value} if total else {}
        )
        percent = min(99, 100 * done // total) if total else 1
        says = f"Exporting what only {node.hostname} has"
        await in_thread(lambda p=percent, s=says, a=amounts: telling.tell(p, s, **a))
        await asyncio.sleep(LOOK_EVERY)


def _known(operation: str) -> LossReport | None:
    return LossReport.objects.filter(pk=operation).first()


def _vault_of(node: str) -> str:
    found = VaultNode.objects.filter(pk=node).values_list("vault", flat=True).first()
    if not found:
        raise Refused("the node has been deleted meanwhile")
    return str(found)


async def _main(telling: Telling, node: NodeView) -> LossReport:
    async with AgentClient(settings.PKI_DIR) as agents:
        try:
            return await export_node(telling, agents, node)
        except CancelWished:
            try:
                await agents.cancel_task(node, telling.operation.pk)
            except NodeUnreachable as error:
                log.info("the export goes on at %s: %s", node.hostname, error)
            raise


def run(id: str) -> None:
    """Ends the operation succeeded, failed or cancelled. Succeeded with lost transactions needs a person all the same."""
    operation = operations.begin(id)
    if operation is None:
        return
    telling = Telling(operation)
    try:
        row = VaultNode.objects.present().filter(pk=operation.node_id).first()
        if row is None:
            raise Refused("the node has been deleted meanwhile")
        report = asyncio.run(_main(telling, node_view(row)))
    except Lost:
        log.info("export %s was ended by somebody else", id)
    except CancelWished:
        _end(telling, OperationState.CANCELLED, "Cancelled; nothing was changed, and there is no list.")
    except Refused as refused:
        _end(telling, OperationState.FAILED, f"Not exported: {refused}.")
    except Exception as error:
        log.exception("export %s failed", id)
        _end(
            telling, OperationState.FAILED, f"Not exported: {error.__class__.__name__}; see the log of the ops worker."
        )
    else:
        state = OperationState.SUCCEEDED if report.handled_at is not None else OperationState.NEEDS_PERSON
        _end(telling, state, losses.says(report), report=report.pk, path=report.path)


def _end(telling: Telling, state: str, text: str, **facts: str) -> None:
    telling.end(state, text, {"summary": text, **facts})
