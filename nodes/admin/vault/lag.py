"""The lag chart of the Vault screen: how far each fallback was behind, as an SVG that needs no script.

An element of its own with an address of its own: it changes every few seconds while the rest of the screen rests.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any, Final

from django.core.cache import cache
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.translation import gettext as _

from nodes.admin.live import LiveScreen
from nodes.models import Vault, VaultNode
from replication.core.lag import Lag
from replication.stores.lag import Line, Window, lag_lines, latest_lags, newest_sample
from replication.stores.wishes import default_vault

HOURS: Final = (1, 6, 24)
HISTORY_STAYS: Final = {1: 8, 6: 30, 24: 60}
"""Seconds for which the lines of a span are kept; "now" in the table is always read anew."""
NOT_KNOWN: Final = Lag(None, None)
MOST: Final = 12
"""Most lines: the worst ones."""
HEIGHT: Final = 160
LABEL: Final = 14
"""Height of a line's name beside it."""
STEPS: Final = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 28800, 86400)
"""Seconds that a scale may end with."""


@dataclass(frozen=True)
class Drawn:
    name: str
    number: int
    """0 and up: its colour and its dashes."""
    path: str
    """In a room of stores.lag.POINTS by HEIGHT."""
    label_y: float
    latest: str
    transactions: int | None
    worst: str


@dataclass(frozen=True)
class Chart:
    hours: int
    start: datetime
    middle: datetime
    end: datetime
    top: str
    half: str
    lines: tuple[Drawn, ...]
    others: int
    """How many more have samples and are not drawn."""

    @property
    def says(self) -> str:
        """The chart in words."""
        return " ".join(
            _("%(name)s: now %(latest)s, at worst %(worst)s.") % {"name": d.name, "latest": d.latest, "worst": d.worst}
            for d in self.lines
        )


def chart_of(nodes: Sequence[VaultNode], hours: int, now: datetime) -> Chart:
    """now: decides what is shown, and is part of the answer only in whole parts of the window."""
    window = Window.until(now, timedelta(hours=hours))
    lines, others = _history(nodes, hours, window)
    latest = latest_lags([line.node for line in lines], now)
    top = _scale(max((line.worst or 0.0 for line in lines), default=0.0))
    names = {n.pk: n.hostname for n in nodes}
    places = _places(lines, top)
    drawn = tuple(
        Drawn(
            name=names[line.node],
            number=number,
            path=_path(line.points, top),
            label_y=places[number],
            latest=_behind(latest.get(line.node, NOT_KNOWN).seconds),
            transactions=latest.get(line.node, NOT_KNOWN).transactions,
            worst=_behind(line.worst),
        )
        for number, line in enumerate(lines)
    )
    middle = window.start + (window.end - window.start) / 2
    return Chart(hours, window.start, middle, window.end, _span(top), _span(top / 2), drawn, others)


def _history(nodes: Sequence[VaultNode], hours: int, window: Window) -> tuple[list[Line], int]:
    """What the lines are drawn of: many open screens ask the same, and a day of samples is worth reading once a minute."""
    ids = sorted(n.pk for n in nodes)
    asked = hashlib.sha256(repr((ids, hours, window.start)).encode()).hexdigest()[:32]
    kept: tuple[list[Line], int] | None = cache.get(f"lag-{asked}")
    if kept is not None:
        return kept
    read = lag_lines(ids, window, MOST)
    if read[0]:  # the first sample is shown at once
        cache.set(f"lag-{asked}", read, HISTORY_STAYS[hours])
    return read


def _scale(worst: float) -> float:
    return float(next((step for step in STEPS if step >= worst), STEPS[-1] * (1 + worst // STEPS[-1])))


def _y(seconds: float, top: float) -> float:
    return round(HEIGHT * (1 - seconds / top), 1)


def _path(points: Sequence[float | None], top: float) -> str:
    """A gap where nothing is known; a point alone between two gaps is a dot."""
    parts: list[str] = []
    for x, (before, seconds) in enumerate(pairwise((None, *points))):
        if seconds is not None:
            parts.append(
                f"{'L' if before is not None else 'M'}{x} {_y(seconds, top)}" + ("h0" if before is None else "")
            )
    return "".join(parts)


def _places(lines: Sequence[Line], top: float) -> list[float]:
    """Where each line's name stands: beside its last known point, and below the name above it when there is no room."""
    wanted = []
    for number, line in enumerate(lines):
        last = next((s for s in reversed(line.points) if s is not None), None)
        wanted.append((_y(last, top) if last is not None else float(HEIGHT), number))
    places = [0.0] * len(lines)
    below = float(HEIGHT) - LABEL * len(lines)
    free = -float(LABEL)
    for rank, (y, number) in enumerate(sorted(wanted)):
        # Never so low that those after it have no room.
        free = max(free + LABEL, min(y, below + LABEL * (rank + 1)))
        places[number] = free
    return places


def _span(seconds: float) -> str:
    if seconds >= 7200:
        return _("%(hours)g h") % {"hours": seconds / 3600}
    if seconds >= 120:
        return _("%(minutes)g min") % {"minutes": seconds / 60}
    return _("%(seconds)g s") % {"seconds": seconds}


def _behind(seconds: float | None) -> str:
    if seconds is None:
        return _("not known")
    return _span(round(seconds, 1) if seconds < 10 else round(seconds))


class LagChart(LiveScreen):
    """Its address on the Vault screen."""

    def lag_urls(self) -> list[URLPattern]:
        return [path("lag/", self.admin_site.admin_view(self.lag), name="nodes_vaultnode_lag")]

    def lag(self, request: HttpRequest) -> HttpResponse:
        """A part for the Vault screen, else a page of its own. ?hours=1, 6 or 24; anything else is 1."""
        self.need_view(request)
        wish = request.GET.get("hours", "")
        hours = int(wish) if wish in map(str, HOURS) else HOURS[0]
        now, vault = timezone.now(), default_vault()
        window = Window.until(now, timedelta(hours=hours))
        facts = (vault.pk if vault else "", hours, window.start, newest_sample())
        stamp = hashlib.sha256(repr(facts).encode()).hexdigest()[:16]

        def context() -> dict[str, Any]:
            return {
                "title": _("Lag of the fallbacks"),
                "chart": _chart(vault, hours, now),
                "hours": HOURS,
                "back": reverse("admin:nodes_vaultnode_changelist"),
            }

        return self.answer(request, stamp, {}, context, "nodes/vault/lag_page.html", "nodes/vault/_lag.html")


def _chart(vault: Vault | None, hours: int, now: datetime) -> Chart:
    nodes = VaultNode.objects.present().filter(vault=vault, active=True).only("hostname") if vault else ()
    return chart_of(list(nodes), hours, now)
