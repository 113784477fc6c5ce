"""Action → Log: what the workers of a service have logged, newest first, on whatever host they run."""

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC
from typing import Any
from urllib.parse import urlencode

from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, reverse
from django.utils import timezone
from django.utils.cache import patch_vary_headers

from nodes.forms import LogFilterForm
from nodes.models import ApplicationNode, AppService, LogLine, ServiceWorker

from .service_popup import ServicePopups

PAGE = 100
CHUNK = 1000
"""Lines per page, and per query of a download."""
FILTERS = ("q", "level", "host", "since", "until")


@dataclass(frozen=True)
class Page:
    lines: list[LogLine]
    older: int | None
    """The last line's number, when there are older ones."""
    newer: int | None


class ServiceLogScreen(ServicePopups):
    def service_urls(self) -> list[URLPattern]:
        return [
            *super().service_urls(),
            self._address("log", self.log, "log"),
            self._address("log/download", self.download, "log_download"),
        ]

    def log(self, request: HttpRequest, pk: int) -> HttpResponse:
        service, form = self._look(request, pk)
        # Before the lines are read: one that comes in between is shown twice rather than never.
        newest = _of(service).order_by("-pk").values_list("pk", flat=True).first()
        before, after = _number(request, "before"), _number(request, "after")
        paused = "paused" in request.GET
        live = not paused and before is None and after is None
        partial = bool(getattr(request, "htmx", False))
        stamp = f"{newest or 0}"
        response: HttpResponse
        if partial and request.GET.get("v") == stamp:
            response = HttpResponse(status=204)
        else:
            page = _page(_matching(service, form), before, after) if form.is_valid() else Page([], None, None)
            chosen = {name: request.GET[name] for name in FILTERS if request.GET.get(name)}
            address = reverse("admin:nodes_appservice_log", args=[service.pk])
            context = {
                **({} if partial else self.admin_site.each_context(request)),
                "opts": self.opts,
                "title": service.name,
                "service": service,
                "form": form,
                "page": page,
                "stamp": stamp,
                "live": live,
                "paused": paused,
                "any": newest is not None,
                "filtered": bool(chosen),
                "searched": "q" in chosen,
                "newest_url": _url(address, chosen),
                "pause_url": _url(address, chosen, paused=1),
                "older_url": _url(address, chosen, before=page.older) if page.older else "",
                "newer_url": _url(address, chosen, after=page.newer) if page.newer else "",
                "download_url": _url(reverse("admin:nodes_appservice_log_download", args=[service.pk]), chosen),
                "back": self._back(),
            }
            template = "nodes/service_log_live.html" if partial else "nodes/service_log.html"
            response = TemplateResponse(request, template, context)
        if partial:
            response["HX-Trigger"] = json.dumps({"ages": {}})
        patch_vary_headers(response, ["HX-Request"])
        return response

    def download(self, request: HttpRequest, pk: int) -> HttpResponseBase:
        """Everything that the filter finds, oldest first, as a log file has it."""
        service, form = self._look(request, pk)
        if not form.is_valid():
            said = "\n".join(error for errors in form.errors.values() for error in errors)
            return HttpResponse(said + "\n", status=400, content_type="text/plain; charset=utf-8")
        response = StreamingHttpResponse(_as_text(_matching(service, form)), content_type="text/plain; charset=utf-8")
        name = f"{service.name}-{timezone.now():%Y%m%d-%H%M%S}.log"
        response["Content-Disposition"] = f'attachment; filename="{name}"'
        return response

    def _look(self, request: HttpRequest, pk: int) -> tuple[AppService, LogFilterForm]:
        if not self.has_view_permission(request):
            raise PermissionDenied
        service = self._service(pk)
        hosts = {*ApplicationNode.objects.values_list("hostname", flat=True)}
        hosts |= {*ServiceWorker.objects.filter(service=service.name).values_list("host", flat=True)}
        return service, LogFilterForm(request.GET, sorted(hosts))


def _of(service: AppService) -> QuerySet[LogLine]:
    return LogLine.objects.filter(service=service.name)


def _matching(service: AppService, form: LogFilterForm) -> QuerySet[LogLine]:
    wanted, rows = form.cleaned_data, _of(service)
    if wanted["q"]:
        rows = rows.filter(text__icontains=wanted["q"])
    if wanted["level"] and wanted["level"] != "20":
        rows = rows.filter(level__gte=int(wanted["level"]))
    if wanted["host"]:
        rows = rows.filter(host=wanted["host"])
    if wanted["since"]:
        rows = rows.filter(at__gte=wanted["since"])
    if wanted["until"]:
        rows = rows.filter(at__lte=wanted["until"])
    return rows


def _page(rows: QuerySet[LogLine], before: int | None, after: int | None) -> Page:
    """One page by the numbers of its lines, so that it stays the same while new ones come; within it, by their times."""
    if after is not None:
        found = list(rows.filter(pk__gt=after).order_by("pk")[: PAGE + 1])
    else:
        found = list((rows.filter(pk__lt=before) if before is not None else rows).order_by("-pk")[: PAGE + 1])
    numbers = [line.pk for line in found[:PAGE]]
    if not numbers:
        return Page([], None, None)
    more = len(found) > PAGE
    return Page(
        sorted(found[:PAGE], key=_by_time, reverse=True),
        older=min(numbers) if more or after is not None else None,
        newer=max(numbers) if before is not None or (more and after is not None) else None,
    )


def _by_time(line: LogLine) -> tuple[Any, int]:
    """Each worker writes its lines up to a second after they were logged: numbers alone would mix them up."""
    return line.at, line.pk


def _as_text(rows: QuerySet[LogLine]) -> Iterator[str]:
    """In short queries, so that a slow reader holds nothing; what is logged meanwhile is not part of it."""
    end = rows.order_by("-pk").values_list("pk", flat=True).first()
    last = 0
    while end is not None and last < end:
        lines = list(rows.filter(pk__gt=last, pk__lte=end).order_by("pk")[:CHUNK])
        if not lines:
            return
        last = lines[-1].pk
        lines.sort(key=_by_time)
        yield "".join(
            f"{line.at.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}Z {logging.getLevelName(line.level)}"
            f" {line.host} {line.process}: {line.text}\n"
            for line in lines
        )


def _number(request: HttpRequest, name: str) -> int | None:
    text = request.GET.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None


def _url(address: str, chosen: dict[str, Any], **more: Any) -> str:
    query = urlencode({**chosen, **more})
    return f"{address}?{query}" if query else address
