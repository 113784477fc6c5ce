"""Operation rows: a job's progress and its one terminal state. A step of a job that lost its row changes nothing."""

import logging
from collections.abc import Callable, Mapping
from typing import Any

from django.db import Error
from django.utils import timezone

from nodes.choices import OperationState
from nodes.models import Operation, VaultNode
from nodes.models.operation import JOB_KINDS, OPEN_STATES
from replication.core.ports import OperationEnd

from .threads import DatabaseThread

log = logging.getLogger(__name__)


def begin(id: str) -> Operation | None:
    """Take a queued operation, or one whose worker died; None when it has ended or is gone."""
    taken = Operation.objects.filter(pk=id, state__in=OPEN_STATES)
    if not taken.update(state=OperationState.RUNNING, started_at=timezone.now(), changed_at=timezone.now()):
        return None
    return Operation.objects.select_related("vault", "node").get(pk=id)


def progress(id: str, percent: int, message: str) -> bool:
    """Show how far it is. False when the operation is no longer running (cancelled, or ended by somebody else)."""
    rows = Operation.objects.filter(pk=id, state=OperationState.RUNNING)
    return bool(rows.update(percent=max(0, min(100, percent)), message=message[:500], changed_at=timezone.now()))


def end(id: str, state: str, message: str, result: dict[str, Any]) -> bool:
    """Write the terminal state, once."""
    now = timezone.now()
    fields: dict[str, Any] = {"state": state, "message": message[:500], "result": result}
    if state == OperationState.SUCCEEDED:
        fields["percent"] = 100
    rows = Operation.objects.filter(pk=id, state__in=OPEN_STATES)
    return bool(rows.update(finished_at=now, changed_at=now, **fields))


class OperationStore:
    """Adapter of core.ports.Operations: what the leading service does, shown as rows."""

    def __init__(self, notes: DatabaseThread) -> None:
        self._notes = notes

    async def begin(self, operation: str, *, vault: str, kind: str, node: str, says: str) -> None:
        def write() -> None:
            now = timezone.now()
            started = {"state": OperationState.RUNNING, "message": says[:500], "changed_at": now}
            taken_up = Operation.objects.filter(pk=operation, state__in=OPEN_STATES)
            if taken_up.filter(started_at__isnull=True).update(**started, started_at=now) or taken_up.update(**started):
                return
            on = node if VaultNode.objects.filter(pk=node).exists() else None
            Operation.objects.create(pk=operation, kind=kind, vault_id=vault, node_id=on, started_at=now, **started)

        await self._run(write)

    async def progress(self, operation: str, says: str) -> None:
        def write() -> None:
            Operation.objects.filter(pk=operation, state__in=OPEN_STATES).update(
                message=says[:500], changed_at=timezone.now()
            )

        await self._run(write)

    async def end(self, operation: str, state: OperationEnd, says: str, result: Mapping[str, Any]) -> None:
        await self._run(lambda: end(operation, state.value, says, {"summary": says, **result}))

    async def end_orphans(self, vault: str, keep: str) -> None:
        def write() -> None:
            left = Operation.objects.filter(vault=vault, state=OperationState.RUNNING)
            for orphan in left.exclude(kind__in=JOB_KINDS).exclude(pk=keep):
                end(orphan.pk, OperationState.FAILED, "the leader that began it ended; the next one decides anew", {})

        await self._run(write)

    async def _run(self, write: Callable[[], Any]) -> None:
        try:
            await self._notes.run(write)
        except Error as error:
            log.warning("an operation's row could not be written: %s", error)
