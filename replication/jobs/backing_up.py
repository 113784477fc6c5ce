"""Makes a physical backup on a fallback; has one read through or removed; looks which files are still there.

The agent does the work, also while nobody looks: a job that is begun again finds what its first worker began.
"""

import asyncio
import contextlib
import logging
import time
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Final

from django.conf import settings
from django.db import transaction

from nodes.choices import OperationState, OperationUnit
from nodes.models import Backup, Operation, Vault, VaultNode
from replication.client import AgentClient
from replication.core.backups import BackupArgs, Manifest, Member, NoMaker, choose_maker
from replication.core.errors import NodeUnreachable, StepFailed
from replication.core.tasks import TaskKind, TaskOrder, TaskPhase, TaskReport
from replication.core.view import NodeView
from replication.stores import backups, operations
from replication.stores.inventory import node_view

from .telling import CancelWished, Lost, Refused, Telling, in_thread

log = logging.getLogger(__name__)
LOOK_EVERY: Final = 0.5
SILENT_FOR: Final = 60.0
"""Seconds without an answer of the agent after which nobody waits for it any more."""
MIB: Final = 2**20
CHECKING: Final = "read the file through"


@dataclass
class Cast:
    """Who there is, as the rows and the agents say at this moment."""

    vault: Vault
    rows: dict[str, VaultNode]
    nodes: list[NodeView]


def _load(operation: Operation) -> Cast:
    """Raises Refused."""
    if operation.vault is None:
        raise Refused("its vault is gone")
    rows = {node.pk: node for node in VaultNode.objects.present().filter(vault=operation.vault).order_by("ordinal")}
    return Cast(operation.vault, rows, [node_view(node) for node in rows.values()])


async def _asked(agents: AgentClient, node: NodeView) -> NodeView:
    try:
        report = await agents.hello(node, since=-1, wait=timedelta())
    except NodeUnreachable as error:
        return replace(node, link=error.kind)
    return replace(node, report=report, link="answers")


# --- make one


async def _make(telling: Telling, agents: AgentClient, course: "Course") -> dict[str, Any]:
    cast = course.cast
    telling.track.begins("choose")
    seen = await asyncio.gather(*(_asked(agents, node) for node in cast.nodes))
    id = telling.operation.pk
    maker = next((n for n in seen if n.report and n.report.task and n.report.task.operation == id), None)
    why = "it was begun there before"
    if maker is None:
        maker, why = _choose(telling.operation, cast.vault, list(seen))
        await _begin(telling, agents, cast, maker)
    course.maker = maker
    telling.track.done("choose", f"{maker.hostname}: {why}")
    step = f"backup {maker.hostname}"
    telling.track.begins(step)
    task = await _watch(telling, agents, maker)
    if task.phase is not TaskPhase.DONE:
        raise Refused(task.says or f"the backup of {maker.hostname} ended as {task.phase.value}")
    result = await agents.task_result(maker, id)
    if result is None:
        raise Refused(f"{maker.hostname} has made it and does not say what it came to: look at its backups")
    manifest, path = Manifest.from_json(result["manifest"]), str(result["path"])
    gone = [str(name) for name in result.get("removed", [])]
    await in_thread(backups.record, cast.rows[maker.id], id, manifest, path, gone)
    telling.track.done(step, f"{manifest.bytes / MIB:.1f} MiB", manifest.position)
    summary = (
        f"Backup of {maker.hostname} ({why}): {path}, {manifest.bytes / MIB:.1f} MiB of {manifest.data_bytes / MIB:.1f} MiB, "
        f"position {manifest.position or '(empty)'}, {manifest.seconds:.0f} s."
        + (f" {len(gone)} old ones were removed." if len(gone) > 1 else " An old one was removed." if gone else "")
    )
    return {"summary": summary, "path": path, "position": manifest.position, "bytes": manifest.bytes, "removed": gone}


def _choose(operation: Operation, vault: Vault, seen: list[NodeView]) -> tuple[NodeView, str]:
    """Raises Refused."""
    primary = vault.primary_id or ""
    allowed = operation.arguments.get("allow_primary") is True
    if operation.node_id and operation.node_id != primary:
        seen = [node for node in seen if node.id == operation.node_id]
        allowed = False
    chosen = choose_maker(seen, primary=primary, acker=vault.promotable_id or "", allow_primary=allowed)
    if isinstance(chosen, NoMaker):
        raise Refused(chosen.says)
    return chosen


async def _begin(telling: Telling, agents: AgentClient, cast: Cast, maker: NodeView) -> None:
    """Raises Refused."""
    vault, given = cast.vault, telling.operation.arguments
    rate = given.get("mib_per_second", vault.copy_mib_per_second)
    members = tuple(Member(hostname=n.hostname, address=_address(n)) for n in cast.nodes)
    args = BackupArgs(keep=vault.backups_kept, bytes_per_second=int(rate or 0) * MIB, members=members)
    order = TaskOrder(kind=TaskKind.BACKUP, operation=telling.operation.pk, args=args.to_json())
    try:
        await agents.begin_task(maker, order)
    except StepFailed as error:
        raise Refused(f"{maker.hostname} cannot make it: {error.text}") from error
    except NodeUnreachable as error:
        raise Refused(str(error)) from error


def _address(node: NodeView) -> str:
    return f"[{node.ip}]:{node.port}" if ":" in node.ip else f"{node.ip}:{node.port}"


async def _watch(telling: Telling, agents: AgentClient, maker: NodeView) -> TaskReport:
    """Until the agent says that it has ended. Raises Refused, CancelWished, Lost."""
    heard, version = time.monotonic(), -1
    while True:
        try:
            report = await agents.hello(maker, since=version, wait=timedelta(seconds=LOOK_EVERY))
        except NodeUnreachable as error:
            if time.monotonic() - heard > SILENT_FOR:
                raise Refused(f"{error}; the backup may still be made there, and is found by the next look") from error
            await asyncio.sleep(LOOK_EVERY)
            continue
        heard, version = time.monotonic(), report.version
        task = report.task
        if task is None or task.operation != telling.operation.pk:
            raise Refused(f"{maker.hostname} knows nothing of the backup any more: begin another one")
        if not task.active:
            return task
        amounts: dict[str, Any] = (
            {"done": task.done, "total": max(task.total, task.done), "unit": OperationUnit.BYTES.value}
            if task.total
            else {}
        )
        percent = min(99, 100 * task.done // task.total) if task.total else 0
        says = f"{maker.hostname} writes the backup"
        await in_thread(lambda p=percent, s=says, a=amounts: telling.tell(p, s, **a))


# --- what else is wished


async def _check(telling: Telling, agents: AgentClient, cast: Cast) -> dict[str, Any]:
    backup = await in_thread(_backup_of, telling.operation)
    node, name = _host(cast, backup), backup.path.rpartition("/")[2]
    telling.track.begins(CHECKING)
    try:
        await agents.check_backup(node, name)
        while True:
            told = await agents.backups(node)
            reading = told.get("checking")
            if reading is None or reading.get("name") != name:
                break
            done = int(reading.get("done") or 0)
            amounts = {"done": done, "total": max(backup.size, 1), "unit": OperationUnit.BYTES.value}
            says, percent = f"{node.hostname} reads it through", min(99, 100 * done // max(backup.size, 1))
            await in_thread(lambda p=percent, s=says, a=amounts: telling.tell(p, s, **a))
            await asyncio.sleep(LOOK_EVERY / 2)
    except StepFailed as error:
        await _look_at(agents, cast, node)
        raise Refused(f"{node.hostname} cannot check it: {error.text}") from error
    except NodeUnreachable as error:
        raise Refused(str(error)) from error
    await in_thread(backups.reconcile, cast.rows[node.id], str(told["directory"]), _manifests(told))
    found = next((m for m in _manifests(told) if m.name == name), None)
    if found is None or found.fault:
        raise Refused(
            f"the backup is of no use: {found.fault if found is not None else backups.GONE}; make another one"
        )
    telling.track.done(CHECKING, "its checksum is right")
    return {
        "summary": f"{backup.path} on {node.hostname} is whole: {found.bytes / MIB:.1f} MiB, its checksum is right."
    }


async def _remove(telling: Telling, agents: AgentClient, cast: Cast) -> dict[str, Any]:
    backup = await in_thread(_backup_of, telling.operation)
    node, name = _host(cast, backup), backup.path.rpartition("/")[2]
    if backup.fault != backups.GONE:
        try:
            await agents.remove_backup(node, name)
        except StepFailed as error:
            await _look_at(agents, cast, node)
            raise Refused(f"{node.hostname} cannot remove it: {error.text}") from error
        except NodeUnreachable as error:
            raise Refused(str(error)) from error
    await in_thread(backups.removed, backup.pk)
    return {"summary": f"{backup.path} on {node.hostname} was removed."}


async def _look(telling: Telling, agents: AgentClient, cast: Cast) -> dict[str, Any]:
    """Every host is asked; who does not answer is left as it was."""
    silent = [n.hostname for n in cast.nodes if not await _look_at(agents, cast, n)]
    left = f" Not asked: {', '.join(silent)}." if silent else ""
    return {"summary": f"{len(cast.nodes) - len(silent)} hosts said which backups they have.{left}"}


async def _look_at(agents: AgentClient, cast: Cast, node: NodeView) -> bool:
    try:
        told = await agents.backups(node)
    except (NodeUnreachable, StepFailed) as error:
        log.warning("the backups of %s are not known: %s", node.hostname, error)
        return False
    await in_thread(backups.reconcile, cast.rows[node.id], str(told.get("directory", "")), _manifests(told))
    return True


def _manifests(told: dict[str, Any]) -> list[Manifest]:
    found = []
    for item in told.get("backups", []):
        with contextlib.suppress(ValueError):
            found.append(Manifest.from_json(item))
    return found


def _backup_of(operation: Operation) -> Backup:
    """Raises Refused."""
    found = Backup.objects.filter(pk=str(operation.arguments.get("backup", "")), vault=operation.vault).first()
    if found is None:
        raise Refused("the backup is no longer in the list")
    return found


def _host(cast: Cast, backup: Backup) -> NodeView:
    """Raises Refused."""
    found = next((node for node in cast.nodes if node.id == backup.node_id), None)
    if found is None:
        raise Refused(f"its host {backup.hostname} was deleted from the list")
    return found


# --- the job


@dataclass
class Course:
    cast: Cast
    maker: NodeView | None = None


async def _main(telling: Telling, course: Course) -> dict[str, Any]:
    action = telling.operation.arguments.get("action", "")
    async with AgentClient(settings.PKI_DIR) as agents:
        if action == backups.CHECK:
            return await _check(telling, agents, course.cast)
        if action == backups.REMOVE:
            return await _remove(telling, agents, course.cast)
        if action == backups.LOOK:
            return await _look(telling, agents, course.cast)
        try:
            result = await _make(telling, agents, course)
        except CancelWished:
            if course.maker is not None:
                with contextlib.suppress(NodeUnreachable):
                    await agents.cancel_task(course.maker, telling.operation.pk)
            raise
        await _look(telling, agents, course.cast)
        return result


def run(id: str) -> None:
    """Ends the operation succeeded, failed or cancelled. A backup that was not made is an alarm."""
    operation = operations.begin(id)
    if operation is None:
        return
    telling, course = Telling(operation), None
    makes = operation.arguments.get("action") not in backups.ACTIONS
    try:
        course = Course(_load(operation))
        result = asyncio.run(_main(telling, course))
    except Lost:
        log.info("backup %s was ended by somebody else", id)
    except CancelWished:
        text = "Cancelled; no backup was made." if makes else "Cancelled."
        telling.end(OperationState.CANCELLED, text, {"summary": text})
    except Refused as refused:
        _failed(telling, course, str(refused), makes=makes)
    except Exception as error:
        log.exception("backup %s failed", id)
        _failed(telling, course, f"{error.__class__.__name__}; see the log of the ops worker", makes=makes)
    else:
        telling.end(OperationState.SUCCEEDED, result["summary"], result)


def _failed(telling: Telling, course: Course | None, why: str, *, makes: bool) -> None:
    text = f"No backup was made: {why}." if makes else f"{why[:1].upper()}{why[1:]}."
    maker = course.maker if course is not None else None
    with transaction.atomic():  # whoever sees that it failed finds why among the events
        ended = telling.end(OperationState.FAILED, text, {"summary": text})
        if ended and makes and telling.operation.vault is not None:
            hostname = maker.hostname if maker is not None else ""
            backups.tell_failure(telling.operation.vault, hostname, telling.operation.pk, f"{why}.")
