"""Cancel an operation: a wish like any other, with its event and its entry in the audit log.

What nobody has begun ends here and at once. What a worker carries out is asked to end: it does so within a second, and says
what was done by then. A worker that died cannot be asked any more; what it held ends here, or by `end_forsaken`. Not so work that
agents do: a copy goes on when no worker looks. It is asked to end, and the next worker, which the leading service hands it to
(jobs/dispatch.py), calls the agents off and says what data the node has.
However a cancel and an end meet, the row has one terminal state: each is an UPDATE of a row that is still open.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from nodes.choices import OperationKind, OperationState
from nodes.models import Operation
from nodes.models.operation import DATA_KINDS, OPEN_STATES
from nodes.sentences import written

from . import audit
from .operations import end
from .wishes import RefusedWish

FORSAKEN_AFTER: Final = timedelta(seconds=15)
"""A worker writes its progress every second: a row that has not changed for this long is held by nobody."""
HANDED_OVER: Final = (OperationKind.FAILOVER, OperationKind.SWITCHOVER)
ENDS_AT_ONCE: Final = (OperationKind.PREFLIGHT,)
"""They only look: whoever waits for them is told, and there is nothing that a worker would have to put away."""


@dataclass(frozen=True)
class Cancelled:
    """What came of the wish: it has ended, or its worker was asked to end it."""

    ended: bool


def why_not_cancel(operation: Operation, now: datetime | None = None) -> RefusedWish | None:
    """Why this operation cannot be cancelled at this moment."""
    now = now or timezone.now()
    if operation.state not in OPEN_STATES:
        return RefusedWish("W70", _("It has ended already: there is nothing left to cancel."))
    kind, queued = operation.kind, operation.state == OperationState.QUEUED
    if kind == OperationKind.FAILOVER:
        text = _(
            "Writes wait for it: once a failover is under way, stopping it would save nothing and leave no Master."
        )
        return RefusedWish("W71", text)
    if kind == OperationKind.SWITCHOVER and not queued:
        text = _(
            "It has begun, and ends within seconds by itself: either the new Master is open, or the vault is given back."
        )
        return RefusedWish("W72", text)
    if kind == OperationKind.ADOPT:
        text = _("Until every agent has said what it was told, nobody may be Master: there is nothing safe to stop at.")
        return RefusedWish("W73", text)
    if kind not in (OperationKind.SWITCHOVER, *DATA_KINDS, *ENDS_AT_ONCE):
        text = _(
            "The service does this by itself as long as it is needed. Make the node inactive, or stop the service, and"
            " it is no longer done."
        )
        return RefusedWish("W74", text)
    if operation.cancel_requested_at is not None and (at_agents(operation) or not is_forsaken(operation, now)):
        return RefusedWish("W75", _("It was asked to end a moment ago, and does so at its next step."))
    return None


def is_forsaken(operation: Operation, now: datetime) -> bool:
    """Whether no worker holds it any more: a running job says how far it is every second."""
    return operation.state == OperationState.RUNNING and now - operation.changed_at > FORSAKEN_AFTER


def at_agents(operation: Operation) -> bool:
    """Whether agents may be at it, with or without a worker that looks: it never ends behind their backs."""
    if operation.kind == OperationKind.RESYNCHRONIZE:
        return bool(operation.arguments.get("copies"))
    return operation.kind in DATA_KINDS


def request_cancel(operation: Operation, actor: Any, *, reason: str = "") -> Cancelled | RefusedWish:
    """Wish an operation away. reason: why, in the operator's words; kept with the event."""
    with transaction.atomic():
        found = Operation.objects.select_for_update().select_related("vault", "node").filter(pk=operation.pk).first()
        if found is None:
            return RefusedWish("W76", _("This operation is no longer kept: it ended a while ago."))
        now = timezone.now()
        if refused := why_not_cancel(found, now):
            return refused
        before = written(found.get_state_display)
        ended = _end_here(found, now)
        if not ended:
            asked = Operation.objects.filter(pk=found.pk, kind__in=DATA_KINDS, state=OperationState.RUNNING)
            if not asked.update(cancel_requested_at=now):
                return RefusedWish("W70", _("It has ended already: there is nothing left to cancel."))
        _tell(found, actor, reason, before, ended=ended)
        return Cancelled(ended)


def _end_here(operation: Operation, now: datetime) -> bool:
    """End what nobody has begun or nobody holds. False when somebody may be at it: then it has to be asked."""
    if operation.state == OperationState.QUEUED or operation.kind in ENDS_AT_ONCE:
        states, text = [operation.state], "cancelled before anything was done"
    elif is_forsaken(operation, now) and not at_agents(operation):
        states, text = [OperationState.RUNNING], "cancelled; its worker had ended before"
    else:
        return False
    # The very state that was judged: a leader or a worker that has begun it in between keeps it.
    still = Operation.objects.filter(pk=operation.pk, state__in=states)
    changed = {"state": OperationState.CANCELLED, "message": text, "finished_at": now, "changed_at": now}
    return bool(
        still.update(**changed, cancel_requested_at=now, result={**kept_result(operation.result), "summary": text})
    )


def kept_result(result: dict[str, Any]) -> dict[str, Any]:
    """The result without what only told of its pace."""
    return {name: value for name, value in result.items() if name != "samples"}


def end_forsaken() -> int:
    """End what was to be cancelled and whose worker has died since: called with every pass of the leading service. Returns how
    many."""
    silent = timezone.now() - FORSAKEN_AFTER
    left = Operation.objects.filter(
        state=OperationState.RUNNING, kind=OperationKind.RESYNCHRONIZE,
        cancel_requested_at__lt=silent, changed_at__lt=silent,
    )  # fmt: skip
    text = "cancelled; its worker had ended before"
    ended = 0
    for operation in (one for one in left if not at_agents(one)):
        ended += end(operation.pk, OperationState.CANCELLED, text, {**kept_result(operation.result), "summary": text})
    return ended


def _tell(operation: Operation, actor: Any, reason: str, before: str, *, ended: bool) -> None:
    kind = written(operation.get_kind_display)
    text = f"{kind} was cancelled" if ended else f"Cancel of {kind} requested"
    after = written(lambda: OperationState.CANCELLED.label) if ended else "asked to end"
    audit.tell(
        operation, text, {"state": (before, after)}, actor=actor, reason=reason,
        vault=operation.vault,
        node_name=operation.node.hostname if operation.node is not None else "",
        epoch=operation.vault.epoch if operation.vault is not None else 0,
        operation=operation.pk,
    )  # fmt: skip
