"""Action → Log: what the workers of a service have logged, newest first, on whatever host they run."""

import logging
from collections.abc import Iterator
from datetime import UTC
from typing import Any
from urllib.parse import urlencode

from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.urls import URLPattern, reverse
from django.utils import timezone

from nodes.admin.export import attachment, refused
from nodes.admin.filtering import for_input, short_address
from nodes.admin.live import LiveScreen
from nodes.admin.paging import addresses, page_of
from nodes.models import ApplicationNode, AppService, LogLine, ServiceWorker

from .log_filter import LEVELS, ORDER, READERS, read_filter
from .popup import ServicePopups

PERMISSION = "nodes.view_logline"
PAGE = 100
CHUNK = 1000
"""Lines per page, and per query of a download."""


class ServiceLogScreen(ServicePopups, LiveScreen):
    def service_urls(self) -> list[URLPattern]:
        return [
            *super().service_urls(),
            self._address("log", self.log, "log"),
            self._address("log/download", self.download, "log_download"),
        ]

    def log(self, request: HttpRequest, pk: int) -> HttpResponse:
        service = self._look(request, pk)
        if (short := short_address(request, READERS)) is not None:
            return short
        # Before the lines are read: one that comes in between is shown twice rather than never.
        newest = _of(service).order_by("-pk").values_list("pk", flat=True).first()

        def context() -> dict[str, Any]:
            return {
                "title": service.name,
                "service": service,
                "any": newest is not None,
                "back": self._back(),
                **self._lines(request, service),
            }

        return self.answer(
            request, f"{newest or 0}", {}, context, "nodes/service_log.html", "nodes/service_log_live.html"
        )

    @staticmethod
    def _lines(request: HttpRequest, service: AppService) -> dict[str, Any]:
        chosen = read_filter(request.GET)
        before, after = (ORDER.read(request.GET.get(name, "")) for name in ("before", "after"))
        page = page_of(_of(service).filter(chosen.where), ORDER, before, after, PAGE)
        here = reverse("admin:nodes_appservice_log", args=[service.pk])
        download = reverse("admin:nodes_appservice_log_download", args=[service.pk])
        paused = "paused" in request.GET
        return {
            # By key they are paged; within a page they are by their times.
            "lines": sorted(page.rows, key=_by_time, reverse=True),
            "chosen": chosen,
            "values": chosen.values,
            "here": here,
            "first": page.first,
            "is_live": page.first and not paused,
            "paused": paused,
            "pause_url": f"{here}?{urlencode({**chosen.values, 'paused': 1})}",
            "download_url": f"{download}?{chosen.query}" if chosen.query else download,
            "levels": LEVELS,
            "hosts": _hosts(service, chosen.values.get("host", "")),
            "since": for_input(chosen.values.get("since", "")),
            "until": for_input(chosen.values.get("until", ""), end=True),
            **addresses(here, chosen.query, page),
        }

    def download(self, request: HttpRequest, pk: int) -> HttpResponseBase:
        """Everything that the filter finds, oldest first, as a log file has it."""
        service = self._look(request, pk)
        chosen = read_filter(request.GET)
        if chosen.problems:
            return refused(chosen)
        name = f"{service.name}-{timezone.now():%Y%m%dT%H%M%SZ}.log"
        return attachment(_as_text(_of(service).filter(chosen.where)), "text/plain", name)

    def _look(self, request: HttpRequest, pk: int) -> AppService:
        if not request.user.has_perm(PERMISSION):
            raise PermissionDenied(PERMISSION)
        return self._service(pk)


def _hosts(service: AppService, chosen: str) -> list[str]:
    """What the form offers, with the one that is chosen already."""
    hosts = {*ApplicationNode.objects.values_list("hostname", flat=True), chosen}
    hosts |= {*ServiceWorker.objects.filter(service=service.name).values_list("host", flat=True)}
    return sorted(hosts - {""})


def _of(service: AppService) -> QuerySet[LogLine]:
    return LogLine.objects.filter(service=service.name)


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
