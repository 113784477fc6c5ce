"""Administration → Audit log: read by who may, changed by nobody."""

from typing import Any, Final

from auditlog.models import LogEntry
from django.contrib import admin
from django.contrib.contenttypes.models import ContentType
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.translation import gettext as _

from nodes.admin.export import KINDS
from nodes.admin.filtering import for_input, short_address
from nodes.admin.live import Record
from nodes.admin.paging import addresses, page_of

from .entry import kind_of, shown
from .export import AUDIT
from .filter import ORDER, READERS, read_filter

PAGE: Final = 50
"""Entries on a page."""

admin.site.unregister(LogEntry)


@admin.register(LogEntry)
class AuditLog(Record):
    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        return [
            path("", wrap(self.changelist_view), name="auditlog_logentry_changelist"),
            path("export/<str:kind>/", wrap(self.export), name="auditlog_logentry_export"),
            path("<int:pk>/", wrap(self.entry), name="auditlog_logentry_entry"),
        ]

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        self.need_view(request)
        if (short := short_address(request, READERS)) is not None:
            return short
        chosen = read_filter(request.GET)
        before, after = (ORDER.read(request.GET.get(name, "")) for name in ("before", "after"))
        page = page_of(_entries().filter(chosen.where), ORDER, before, after, PAGE)
        return self._page(
            request, "nodes/audit.html", title=_("Audit log"), chosen=chosen, values=chosen.values, here=request.path, first=page.first,
            rows=[shown(entry) for entry in page.rows], kinds=_kinds(),
            since=for_input(chosen.values.get("from", "")), until=for_input(chosen.values.get("to", ""), end=True),
            **addresses(request.path, chosen.query, page),
        )  # fmt: skip

    def entry(self, request: HttpRequest, pk: int) -> HttpResponse:
        self.need_view(request)
        row = shown(get_object_or_404(_entries(), pk=pk))
        return self._page(
            request, "nodes/audit_entry.html", title=row.what, row=row, back=reverse("admin:auditlog_logentry_changelist")
        )  # fmt: skip

    def export(self, request: HttpRequest, kind: str) -> HttpResponseBase:
        self.need_view(request)
        if kind not in KINDS:
            raise Http404("the audit log is exported as csv or json")
        return AUDIT.answer(kind, _entries(), read_filter(request.GET), timezone.now())

    def _page(self, request: HttpRequest, template: str, **context: Any) -> HttpResponse:
        response = TemplateResponse(
            request, template, {**self.admin_site.each_context(request), "opts": self.opts, **context}
        )
        response["Cache-Control"] = "no-store"
        return response


def _entries() -> Any:
    return LogEntry.objects.select_related("actor", "content_type")


def _kinds() -> list[tuple[str, str]]:
    """Kinds of object that there are entries of, for the filter."""
    there = ContentType.objects.filter(pk__in=LogEntry.objects.order_by().values("content_type").distinct())
    return sorted(((f"{kind.app_label}.{kind.model}", kind_of(kind)) for kind in there), key=lambda pair: pair[1])
