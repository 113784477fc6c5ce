"""One operation: its steps as a timeline, its progress, its events, its result."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from nodes.admin.live import LiveScreen, Record, Snapshot
from nodes.models import Event, Operation
from nodes.models.operation import OPEN_STATES
from replication.core.steps import Step, StepState

from . import words
from .shown import operation_shown

EVENTS_SHOWN: Final = 50
STATE_WORDS: Final = {
    StepState.WAITING: _("to come"),
    StepState.RUNNING: _("under way"),
    StepState.DONE: _("done"),
    StepState.FAILED: _("failed"),
}
NOT_REACHED: Final = _("not reached")


@dataclass(frozen=True)
class StepShown:
    label: str
    state: str
    word: str
    at: str
    """When it ended, since the beginning."""
    took: str
    says: str
    position: str
    x: str
    width: str
    """Of a bar that is 100 wide; with a point whatever the language, for the picture."""


class OperationPage(Record, LiveScreen):
    """Not a list of rows but one of them; live in the same way."""

    screen_template = "nodes/operation.html"
    live_template = "nodes/operation_live.html"

    def view(self, request: HttpRequest, pk: str) -> HttpResponse:
        return self.changelist_view(request)

    def snapshot(self, request: HttpRequest) -> Snapshot:
        pk = request.resolver_match.kwargs["pk"] if request.resolver_match is not None else ""
        operation = get_object_or_404(Operation.objects.select_related("node", "vault", "requested_by"), pk=pk)
        now = timezone.now()
        shown = operation_shown(operation, now)
        events = list(
            Event.objects.filter(operation=operation.pk).defer("evidence").order_by("at", "pk")[:EVENTS_SHOWN]
        )
        may = request.user.has_perm("nodes.cancel_operation")
        begun = operation.started_at or operation.created_at
        facts = (operation.changed_at, shown.forsaken, len(events), may)
        context = {
            "title": shown.title,
            "shown": shown,
            "operation": operation,
            "steps": steps_shown(steps_of(operation), ended=operation.state not in OPEN_STATES),
            "events": events,
            "may_cancel": may,
            "took": shown.took,
        }
        return Snapshot(facts, {"op": (now - begun).total_seconds()}, context)


def steps_of(operation: Operation) -> tuple[Step, ...]:
    """The steps that its row keeps; what is strange in them is left out."""
    found = []
    for kept in operation.steps if isinstance(operation.steps, list) else ():
        try:
            found.append(Step.from_json(kept))
        except (KeyError, TypeError, ValueError):
            continue
    return tuple(found)


def steps_shown(steps: Iterable[Step], *, ended: bool) -> tuple[StepShown, ...]:
    """On one time axis, so that what ran side by side is seen side by side."""
    told = tuple(steps)
    whole = max((s.ms for s in told if s.ms is not None), default=0.0) or 1.0
    return tuple(_step_shown(step, whole, ended=ended) for step in told)


def _step_shown(step: Step, whole: float, *, ended: bool) -> StepShown:
    began, until = step.began_ms, step.ms
    took = until - began if began is not None and until is not None and step.state is not StepState.RUNNING else None
    x = 100 * (began or 0.0) / whole
    width = 100 * ((until or 0.0) - (began or 0.0)) / whole
    not_reached = ended and step.state is StepState.WAITING
    return StepShown(
        label=words.step_label(step.name),
        state="skipped" if not_reached else step.state.value,
        word=str(NOT_REACHED if not_reached else STATE_WORDS[step.state]),
        at=words.milliseconds(until) if step.state in (StepState.DONE, StepState.FAILED) else "",
        took=words.milliseconds(took) if took is not None else "",
        says=step.says,
        position=step.position,
        x=f"{min(x, 99.0):.2f}",
        width=f"{max(width, 1.0):.2f}" if began is not None else "0",
    )
