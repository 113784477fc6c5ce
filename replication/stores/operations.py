"""Operation rows: a job's progress and its one terminal state. A step of a job that lost its row changes nothing."""

from typing import Any

from django.utils import timezone

from nodes.choices import OperationState
from nodes.models import Operation
from nodes.models.operation import OPEN_STATES


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
