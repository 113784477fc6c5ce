"""Administration → Audit log: read by who may, changed by nobody."""

from typing import Any, Final

from auditlog.models import LogEntry
from django.contrib import admin
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.translation import gettext as _

from . import audit_export
from .audit_entry import kind_of, shown
from .audit_filter import page_of, read_filter

PAGE: Final = 50
"""Entries on a page."""

admin.site.unregister(LogEntry)


@admin.register(LogEntry)
class AuditLog(admin.ModelAdmin):
    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        return [
            path("", wrap(self.changelist_view), name="auditlog_logentry_changelist"),
            path("export/<str:kind>/", wrap(self.export), name="auditlog_logentry_export"),
            path("<int:pk>/", wrap(self.entry), name="auditlog_logentry_entry"),
        ]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Only as part of something else: no entry hangs on what can be deleted."""
        return False

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        self._need(request)
        chosen = read_filter(request.GET)
        asked = {name: request.GET.get(name, "") for name in ("before", "after")}
        page = page_of(_entries().filter(chosen.where), asked["before"], asked["after"], PAGE)
        return self._page(
            request, "nodes/audit.html", title=_("Audit log"), chosen=chosen, page=page,
            rows=[shown(entry) for entry in page.entries], kinds=_kinds(),
        )  # fmt: skip

    def entry(self, request: HttpRequest, pk: int) -> HttpResponse:
        self._need(request)
        row = shown(get_object_or_404(_entries(), pk=pk))
        return self._page(
            request, "nodes/audit_entry.html", title=row.what, row=row, back=reverse("admin:auditlog_logentry_changelist")
        )  # fmt: skip

    def export(self, request: HttpRequest, kind: str) -> HttpResponse:
        self._need(request)
        if kind not in audit_export.KINDS:
            raise Http404("the audit log is exported as csv or json")
        return audit_export.export(kind, _entries(), read_filter(request.GET), timezone.now())

    def _need(self, request: HttpRequest) -> None:
        if not request.user.has_perm("auditlog.view_logentry"):
            raise PermissionDenied

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
