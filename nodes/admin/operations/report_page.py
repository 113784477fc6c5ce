"""The report of a change of Master as a page to read and to print, and as JSON."""

import json
from dataclasses import dataclass

from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import override

from nodes.admin.events.page import event_shown
from nodes.admin.live import Screen
from nodes.models import Operation
from nodes.models.operation import OPEN_STATES

from . import words
from .report import Phase, Report, as_json, report_of
from .shown import LEVELS, is_reported, title_of


@dataclass(frozen=True)
class PhaseShown:
    number: int
    phase: Phase
    took: str
    at: str
    x: str
    width: str


def report(screen: Screen, request: HttpRequest, pk: str) -> HttpResponse:
    found = _found(screen, request, pk)
    if isinstance(found, HttpResponse):
        return found
    operation, told = found
    context = {
        **screen.admin_site.each_context(request),
        "opts": screen.opts,
        "title": _("Report: %(title)s") % {"title": title_of(operation)},
        "operation": operation,
        "operation_title": title_of(operation),
        "level": LEVELS.get(operation.state, "off"),
        "report": told,
        "phases": phases_shown(told),
        "whole": words.milliseconds(told.whole_ms),
        "detect": words.milliseconds(told.detect_ms),
        "seen": event_shown(told.first_event) if told.first_event is not None else None,
        "made_at": timezone.now(),
    }
    return TemplateResponse(request, "nodes/report.html", context)


def report_json(screen: Screen, request: HttpRequest, pk: str) -> HttpResponse:
    with override("en"):  # for machines, and for whoever it is sent to
        found = _found(screen, request, pk)
        if isinstance(found, HttpResponse):
            return found
        operation, told = found
        text = json.dumps(as_json(told), indent=2, ensure_ascii=False)
    response = HttpResponse(text, content_type="application/json")
    response["Content-Disposition"] = f'attachment; filename="{operation.kind}-{operation.pk}.json"'
    return response


def _found(screen: Screen, request: HttpRequest, pk: str) -> HttpResponse | tuple[Operation, Report]:
    screen.need_view(request)
    if request.method not in ("GET", "HEAD"):
        return HttpResponseNotAllowed(["GET", "HEAD"])
    operation = get_object_or_404(Operation.objects.select_related("node", "vault", "requested_by"), pk=pk)
    if not is_reported(operation):
        raise Http404("there is a report of failovers, switchovers and adoptions only")
    if operation.state in OPEN_STATES:
        raise Http404("the report is made when it has ended")
    return operation, report_of(operation)


def phases_shown(told: Report) -> tuple[PhaseShown, ...]:
    """On one time axis, from the last sign of life to the first write."""
    begins = [p.began_ms for p in told.phases if p.began_ms is not None]
    ends = [p.ended_ms for p in told.phases if p.ended_ms is not None]
    first, whole = (min(begins), max(ends) - min(begins)) if begins and ends else (0.0, 0.0)
    return tuple(_shown(number, phase, first, whole or 1.0) for number, phase in enumerate(told.phases, start=1))


def _shown(number: int, phase: Phase, first: float, whole: float) -> PhaseShown:
    if phase.began_ms is None or phase.ended_ms is None:
        return PhaseShown(number, phase, "", "", "0", "0")
    x, width = 100 * (phase.began_ms - first) / whole, 100 * (phase.ended_ms - phase.began_ms) / whole
    width = max(width, 0.8)
    return PhaseShown(
        number=number,
        phase=phase,
        took=words.milliseconds(phase.took_ms),
        at=words.milliseconds(phase.ended_ms - first),
        x=f"{min(x, 100 - width):.2f}",
        width=f"{width:.2f}",
    )
