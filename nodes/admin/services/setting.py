"""Action → Setting: trigger interval and configuration, their defaults, and who changed what when."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from auditlog.models import LogEntry
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext as _

from nodes.admin import dialogs
from nodes.choices import DesiredState
from nodes.forms import ServiceSettingForm
from nodes.models import AppService
from replication.stores.service_setting import change_setting
from replication.stores.wishes import RefusedWish

from .popup import ServicePopups

HISTORY_SHOWN = 10


@dataclass(frozen=True)
class Changed:
    label: str
    before: str
    after: str


@dataclass(frozen=True)
class HistoryEntry:
    at: datetime
    who: str
    where: str
    reason: str
    changes: tuple[Changed, ...]


class SettingPopup(ServicePopups):
    def service_urls(self) -> list[URLPattern]:
        return [*super().service_urls(), self._address("setting", self.setting, "setting")]

    def setting(self, request: HttpRequest, pk: int) -> HttpResponse:
        self._need(request, "change")
        service = self._service(pk)
        defaulted = request.method == "POST" and "default" in request.POST
        form = ServiceSettingForm(
            service, request.POST if request.method == "POST" and not defaulted else None, defaulted=defaulted
        )
        if form.is_bound and form.is_valid():
            done = change_setting(
                service,
                interval=form.cleaned_data["trigger_interval"],
                days=form.days,
                seen=_seen(request.POST.get("seen", "")),
                actor=request.user,
            )
            if not isinstance(done, RefusedWish):
                text = _("The setting of %(name)s was changed.") if done else _("%(name)s is set like that already.")
                messages.success(request, text % {"name": service.name})
                return dialogs.done(request, self._back())
            form.add_error(None, done.says)
            service = self._service(pk)
        return dialogs.show(
            request, self, "nodes/setting.html", title=_("Setting"), back=self._back(), form=form, service=service,
            defaulted=defaulted, seen=service.changed_at.isoformat() if service.changed_at else "never",
            history=list(history_of(service)),
        )  # fmt: skip


def _seen(text: str) -> datetime | str | None:
    """`changed_at` of the row as the person saw it; "" when the form does not say."""
    if text == "never":
        return None
    try:
        return parse_datetime(text) or ""
    except ValueError:
        return ""


def history_of(service: AppService) -> Iterator[HistoryEntry]:
    """The last changes that people asked for, newest first."""
    entries = LogEntry.objects.get_for_object(service).select_related("actor").order_by("-timestamp", "-pk")
    for entry in entries[:HISTORY_SHOWN]:
        more: dict[str, Any] = entry.additional_data or {}
        yield HistoryEntry(
            at=entry.timestamp,
            who=str(more.get("actor") or entry.actor or more.get("system_user") or _("unknown")),
            where=str(entry.remote_addr or more.get("via") or ""),
            reason=str(more.get("reason") or ""),
            changes=tuple(_changes(service, entry.changes_dict)),
        )


def _changes(service: AppService, changes: dict[str, Any]) -> Iterator[Changed]:
    labels = {"trigger_interval": _("Trigger interval"), "desired_state": _("Status")}
    labels |= {kept.name: _("%(what)s, days") % {"what": kept.what} for kept in ServiceSettingForm(service).limit.kept}
    for name, (before, after) in changes.items():
        if name == "run_requested_at":
            yield Changed(_("Run Now"), "", "")
        else:
            yield Changed(str(labels.get(name, name)), _value(before), _value(after))


def _value(text: Any) -> str:
    try:
        return f"{float(text):g}"
    except ValueError:
        return str(dict(DesiredState.choices).get(text, text))
