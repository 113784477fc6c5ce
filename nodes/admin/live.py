"""Screens that keep themselves up to date: polled every 2 s, answered with 204 as long as nothing changed.

The version stamp covers what is shown except ages. Those travel with every answer in a header (also with 204), and the
browser counts on from there: a figure on screen is never older than it says.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
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


class Screen(admin.ModelAdmin):
    def need_view(self, request: HttpRequest) -> None:
        if not self.has_view_permission(request):
            raise PermissionDenied(f"{self.opts.app_label}.view_{self.opts.model_name}")


class LiveScreen(Screen):
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
        self.need_view(request)
        snapshot = self.snapshot(request)

        def context() -> dict[str, Any]:
            return {
                "title": self.opts.verbose_name_plural,
                "ages": snapshot.ages,
                **snapshot.context,
                **self.fill(request, snapshot),
                "live_template": self.live_template,
            }

        return self.answer(request, snapshot.stamp, snapshot.ages, context, self.screen_template, self.live_template)

    def answer(
        self,
        request: HttpRequest,
        stamp: str,
        ages: Mapping[str, float | None],
        context: Callable[[], dict[str, Any]],
        screen_template: str,
        live_template: str,
    ) -> HttpResponse:
        """The page; to a poll its live part, or 204 as long as the stamp is what the browser has already."""
        partial = bool(getattr(request, "htmx", False))
        response: HttpResponse
        if partial and request.GET.get("v") == stamp:
            response = HttpResponse(status=204)
        else:
            common = {} if partial else self.admin_site.each_context(request)
            response = TemplateResponse(
                request,
                live_template if partial else screen_template,
                {**common, "opts": self.opts, "stamp": stamp, **context()},
            )
        if partial:
            # Proxies take headers of a few kilobytes: keys are short and tenths are enough, for 200 nodes about 2 kB.
            told = {key: seconds if seconds is None else round(seconds, 1) for key, seconds in ages.items()}
            event = "HX-Trigger-After-Settle" if response.status_code == 200 else "HX-Trigger"
            response[event] = json.dumps({"ages": told}, separators=(",", ":"))
        patch_vary_headers(response, ["HX-Request"])
        return response


class FixedRows(Screen):
    """Rows that nobody adds or deletes by hand."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class Record(FixedRows):
    """What was written is not changed by hand either."""

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
