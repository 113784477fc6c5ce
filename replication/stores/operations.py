"""Operation rows: a job's progress and its one terminal state. A step of a job that lost its row changes nothing."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from django.db import Error
from django.db.models import DateTimeField, Value
from django.db.models.functions import Coalesce
from django.utils import timezone

from nodes.choices import EventLevel, OperationState
from nodes.models import Event, Operation, Vault, VaultNode
from nodes.models.operation import JOB_KINDS, OPEN_STATES
from replication.core.ports import OperationEnd
from replication.core.steps import Step, StepState, shortened

from .threads import DatabaseThread

log = logging.getLogger(__name__)
EVENT_MAX: Final = 1000


def begin(id: str) -> Operation | None:
    """Take a queued operation, or one whose worker died; None when it has ended or is gone. It began when it was taken first."""
    taken, now = Operation.objects.filter(pk=id, state__in=OPEN_STATES), timezone.now()
    if not taken.update(
        state=OperationState.RUNNING, started_at=Coalesce("started_at", Value(now, DateTimeField())), changed_at=now
    ):
        return None
    return Operation.objects.select_related("vault", "node").get(pk=id)


def progress(id: str, percent: int, message: str, **more: Any) -> Operation | None:
    """Show how far it is. None when it is no longer running (cancelled, or ended by somebody else); else the row, which may
    say that it is to be cancelled. more: steps, done, total, unit; and result, which holds the samples while it runs."""
    rows = Operation.objects.filter(pk=id, state=OperationState.RUNNING)
    shown = {"percent": max(0, min(100, percent)), "message": message[:500], "changed_at": timezone.now()}
    if not rows.update(**shown, **more):
        return None
    return Operation.objects.filter(pk=id).first()


def remember(id: str, **arguments: Any) -> None:
    """Keep something with an open operation that the next worker of it has to know. Only its own worker calls this."""
    for row in Operation.objects.filter(pk=id, state__in=OPEN_STATES):
        Operation.objects.filter(pk=id).update(arguments={**row.arguments, **arguments})


def refuse_cancel(id: str) -> None:
    Operation.objects.filter(pk=id, state__in=OPEN_STATES).update(cancel_requested_at=None)


def end(id: str, state: str, message: str, result: dict[str, Any], **more: Any) -> bool:
    """Write the terminal state, once. more: steps, done."""
    now = timezone.now()
    fields: dict[str, Any] = {"state": state, "message": message[:500], "result": result, **more}
    if state == OperationState.SUCCEEDED:
        fields["percent"] = 100
    rows = Operation.objects.filter(pk=id, state__in=OPEN_STATES)
    return bool(rows.update(finished_at=now, changed_at=now, **fields))


def tell_end(operation: Operation, state: str, message: str, rule: str) -> None:
    """How it ended, as an event."""
    epoch = Vault.objects.filter(pk=operation.vault_id).values_list("epoch", flat=True).first()
    Event.objects.create(
        vault_id=operation.vault_id, node_name=operation.node.hostname if operation.node is not None else "",
        epoch=epoch or 0, rule=rule, text=message[:EVENT_MAX],
        level=EventLevel.ERROR if state == OperationState.FAILED else EventLevel.INFO, operation=operation.pk,
    )  # fmt: skip


class OperationStore:
    """Adapter of core.ports.Operations: what the leading service does, shown as rows."""

    def __init__(self, notes: DatabaseThread) -> None:
        self._notes = notes
        self._before: dict[str, tuple[tuple[Step, ...], float]] = {}
        """Operation → what earlier leaders did of it, and how many milliseconds after its beginning we took it up."""

    async def begin(self, operation: str, *, vault: str, kind: str, node: str, says: str) -> None:
        def write() -> None:
            now = timezone.now()
            started = {"state": OperationState.RUNNING, "message": says[:500], "changed_at": now}
            taken_up = Operation.objects.filter(pk=operation, state__in=OPEN_STATES)
            if (row := taken_up.exclude(started_at=None).first()) is not None:
                self._before[operation] = _left(row.steps), (now - row.started_at).total_seconds() * 1000
            if taken_up.filter(started_at__isnull=True).update(**started, started_at=now) or taken_up.update(**started):
                return
            on = node if VaultNode.objects.filter(pk=node).exists() else None
            Operation.objects.create(pk=operation, kind=kind, vault_id=vault, node_id=on, started_at=now, **started)

        await self._run(write)

    async def take_up(self, operation: str) -> bool:
        taken = False

        def take() -> None:
            nonlocal taken
            rows = Operation.objects.filter(pk=operation, state__in=OPEN_STATES)
            taken = bool(rows.update(state=OperationState.RUNNING, changed_at=timezone.now()))

        await self._run(take)
        return taken

    async def steps(self, operation: str, steps: Sequence[Step]) -> None:
        def write() -> None:
            before, ms = self._before.get(operation, ((), 0.0))
            told = shortened((*before, *(step.later(ms) for step in steps)))
            rows = Operation.objects.filter(pk=operation, state__in=OPEN_STATES)
            rows.update(steps=[step.to_json() for step in told], changed_at=timezone.now())

        await self._run(write)

    async def note(self, operation: str, facts: Mapping[str, Any]) -> None:
        def write() -> None:
            for row in Operation.objects.filter(pk=operation):
                changed = {"result": {**row.result, **facts}, "changed_at": timezone.now()}
                Operation.objects.filter(pk=operation).update(**changed)

        await self._run(write)

    async def progress(self, operation: str, says: str) -> None:
        def write() -> None:
            Operation.objects.filter(pk=operation, state__in=OPEN_STATES).update(
                message=says[:500], changed_at=timezone.now()
            )

        await self._run(write)

    async def end(self, operation: str, state: OperationEnd, says: str, result: Mapping[str, Any]) -> None:
        self._before.pop(operation, None)

        def write() -> None:
            noted = Operation.objects.filter(pk=operation).values_list("result", flat=True).first() or {}
            end(operation, state.value, says, {**noted, "summary": says, **result})

        await self._run(write)

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


def _left(steps: list[dict[str, Any]]) -> tuple[Step, ...]:
    """What a leader that ended has left: what it was at has failed, what it had not reached is another's now."""
    told = (Step.from_json(step) for step in steps)
    return tuple(
        replace(step, state=StepState.FAILED, says="the leader ended") if step.state is StepState.RUNNING else step
        for step in told
        if step.state is not StepState.WAITING
    )
