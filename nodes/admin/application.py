"""System → High Availability → Application: our own hosts, as they register themselves."""

from datetime import timedelta

from django.contrib import admin
from django.http import HttpRequest
from django.urls import URLPattern, path
from django.utils import timezone

from nodes.models import ApplicationNode
from replication.core.version import VERSION

from .live import FixedRows, Snapshot

SEEN_LATELY = timedelta(seconds=30)
"""Hosts write their heartbeat every 5 s."""


@admin.register(ApplicationNode)
class ApplicationNodeAdmin(FixedRows):
    screen_template = "nodes/applications.html"
    live_template = "nodes/applications_live.html"

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        return [path("", wrap(self.changelist_view), name="nodes_applicationnode_changelist")]

    def snapshot(self, request: HttpRequest) -> Snapshot:
        now = timezone.now()
        hosts = [(host, now - host.last_seen <= SEEN_LATELY) for host in ApplicationNode.objects.order_by("hostname")]
        facts = tuple((h.pk, h.hostname, h.version, tuple(h.addresses), seen) for h, seen in hosts)
        ages: dict[str, float | None] = {f"host:{h.pk}": (now - h.last_seen).total_seconds() for h, _ in hosts}
        return Snapshot(facts, ages, {"hosts": hosts, "our_version": VERSION})
