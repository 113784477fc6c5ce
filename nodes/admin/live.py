"""Screens that keep themselves up to date: polled every 2 s, answered with 204 as long as nothing changed.

The version stamp covers what is shown except ages. Those travel with every answer in a header (also with 204), and the
browser counts on from there: a figure on screen is never older than it says.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.cache import patch_vary_headers


@dataclass(frozen=True)
class Snapshot:
    """What a screen shows now. ages: data-age-key → seconds, or None for "never"."""

    facts: tuple[Any, ...]
    ages: Mapping[str, float | None]
    context: Mapping[str, Any]

    @property
    def stamp(self) -> str:
        return hashlib.sha256(repr(self.facts).encode()).hexdigest()[:16]


class LiveScreen(admin.ModelAdmin):
    """A ModelAdmin whose list is one of our screens. Subclasses give `snapshot`, `fill` and two templates."""

    screen_template = ""
    live_template = ""

    def snapshot(self, request: HttpRequest) -> Snapshot:
        """Few queries: this runs with every poll of every open screen."""
        raise AssertionError("each screen has its own")

    def fill(self, request: HttpRequest, snapshot: Snapshot) -> dict[str, Any]:
        """What only a full answer needs."""
        return {}

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        snapshot = self.snapshot(request)
        partial = bool(getattr(request, "htmx", False))
        response: HttpResponse
        if partial and request.GET.get("v") == snapshot.stamp:
            response = HttpResponse(status=204)
        else:
            context = {
                **({} if partial else self.admin_site.each_context(request)),
                "opts": self.opts,
                "title": self.opts.verbose_name_plural,
                "stamp": snapshot.stamp,
                "ages": snapshot.ages,
                **snapshot.context,
                **self.fill(request, snapshot),
                "live_template": self.live_template,
            }
            response = TemplateResponse(request, self.live_template if partial else self.screen_template, context)
        if partial:
            # Proxies take headers of a few kilobytes: keys are short and tenths are enough, for 200 nodes about 2 kB.
            ages = {key: seconds if seconds is None else round(seconds, 1) for key, seconds in snapshot.ages.items()}
            event = "HX-Trigger-After-Settle" if response.status_code == 200 else "HX-Trigger"
            response[event] = json.dumps({"ages": ages}, separators=(",", ":"))
        patch_vary_headers(response, ["HX-Request"])
        return response


class FixedRows(LiveScreen):
    """A screen whose rows nobody adds or deletes by hand."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
