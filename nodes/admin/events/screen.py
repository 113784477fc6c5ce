"""System → High Availability → Events: the list with its filter, an event's own page, and the export."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC
from typing import Any, Final

from django.contrib import admin
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse

from nodes.admin.filtering import for_input, short_address
from nodes.admin.live import LiveScreen, Record, Snapshot
from nodes.admin.paging import addresses, page_of
from nodes.choices import EventLevel
from nodes.models import Event, Vault, VaultNode
from nodes.sentences import said
from replication.core import diagnosis, plan

from .export import export
from .filter import ORDER, PEOPLE, PROBLEMS, READERS, SERVICE, read_filter
from .page import event_shown, neighbours, operation_url, rule_says

PAGE: Final = 50
NODES_OFFERED: Final = 200
"""Host names that the form offers; any other may be typed."""
WELL: Final = frozenset(rule.id for rule in diagnosis.RULES if rule.verdict is diagnosis.Verdict.HEALTHY)
LEVELS: Final = {EventLevel.INFO.value: "off", EventLevel.WARNING.value: "warn", EventLevel.ERROR.value: "bad"}


@dataclass(frozen=True)
class Row:
    event: Event
    text: str
    level: str
    vault: str
    says: str
    """What its rule says."""
    diagnosis: str
    """Rule of what was wrong; "" when all was well."""
    diagnosis_says: str


def _row(event: Event, vaults: Mapping[str, str]) -> Row:
    wrong = "" if event.diagnosis in WELL else event.diagnosis
    return Row(
        event=event,
        text=said(event.text),
        level=LEVELS.get(event.level, "off"),
        vault=vaults.get(event.vault_id or "", ""),
        says=rule_says(event.rule),
        diagnosis=wrong,
        diagnosis_says=rule_says(wrong),
    )


@admin.register(Event)
class EventAdmin(Record, LiveScreen):
    screen_template = "nodes/events.html"
    live_template = "nodes/events_live.html"

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        return [
            path("", wrap(self.changelist_view), name="nodes_event_changelist"),
            path("export.csv", wrap(self.export_csv), name="nodes_event_csv"),
            path("export.json", wrap(self.export_json), name="nodes_event_json"),
            path("<int:pk>/", wrap(self.detail), name="nodes_event_detail"),
        ]

    def _allow(self, request: HttpRequest) -> HttpResponse | None:
        self.need_view(request)
        return None if request.method in ("GET", "HEAD") else HttpResponseNotAllowed(["GET", "HEAD"])

    # --- the list

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        if (refused := self._allow(request)) is not None:
            return refused
        if (short := short_address(request, READERS)) is not None:
            return short
        return super().changelist_view(request, extra_context)

    def snapshot(self, request: HttpRequest) -> Snapshot:
        """Whether anything happened at all: cheap for every filter. Which of it belongs on the screen is for a full answer."""
        newest = tuple(Event.objects.order_by("-pk").values_list("pk", flat=True)[:PAGE])
        return Snapshot(newest, {}, {})

    def fill(self, request: HttpRequest, snapshot: Snapshot) -> dict[str, Any]:
        chosen = read_filter(request.GET)
        before, after = (ORDER.read(request.GET.get(name, "")) for name in ("before", "after"))
        page = page_of(Event.objects.filter(chosen.where).defer("evidence"), ORDER, before, after, PAGE)
        vaults = dict(Vault.objects.order_by("name").values_list("pk", "name"))
        here = reverse("admin:nodes_event_changelist")
        return {
            "rows": [_row(event, vaults) for event in page.rows],
            "chosen": chosen,
            "values": chosen.values,
            "vaults": vaults,
            "first": page.first,
            # Without an end, what happens now may be part of it.
            "is_live": page.first and "to" not in chosen.values,
            "here": here,
            "options": self._options(request, chosen.values),
            **addresses(here, chosen.query, page),
        }

    @staticmethod
    def _options(request: HttpRequest, values: Any) -> dict[str, Any]:
        """What the form offers; nothing of it is needed by a list that only refreshes itself."""
        if getattr(request, "htmx", False):
            return {}
        names = VaultNode.objects.present().order_by("hostname").values_list("hostname", flat=True)
        rules = [(rule.id, said(rule.says)) for rule in (*plan.RULES, *diagnosis.RULES)]
        return {
            "nodes": list(names[:NODES_OFFERED]),
            "levels": [(PROBLEMS, None), *EventLevel.choices],
            "rules": rules,
            "people": PEOPLE,
            "service": SERVICE,
            "since": for_input(values.get("from", "")),
            "until": for_input(values.get("to", ""), end=True),
        }

    # --- one event

    def detail(self, request: HttpRequest, pk: int) -> HttpResponse:
        if (refused := self._allow(request)) is not None:
            return refused
        event = get_object_or_404(Event.objects.select_related("vault"), pk=pk)
        older, newer = neighbours(event)
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": said(event.text),
            "at_utc": f"{event.at.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}"[:-3] + " UTC",
            "shown": event_shown(event),
            "event": event,
            "level": LEVELS.get(event.level, "off"),
            "older": older,
            "newer": newer,
            "operation_url": operation_url(event.operation),
            "permalink": request.build_absolute_uri(request.path),
            "raw": json.dumps(event.evidence, indent=2, ensure_ascii=False),
        }
        return TemplateResponse(request, "nodes/event.html", context)

    # --- export

    def export_csv(self, request: HttpRequest) -> HttpResponse:
        return self._export(request, "csv")

    def export_json(self, request: HttpRequest) -> HttpResponse:
        return self._export(request, "json")

    def _export(self, request: HttpRequest, kind: str) -> Any:
        refused = self._allow(request)
        return refused if refused is not None else export(kind, read_filter(request.GET))
