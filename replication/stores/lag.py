"""How far each fallback was behind: one small write of the leader every few seconds, and what the chart reads of it."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from django.db import Error
from django.db.models import F, Func, IntegerField, Max, Subquery
from django.utils import timezone

from nodes.models import LagSample
from replication.core import limits
from replication.core.lag import Lag

from .threads import DatabaseThread

log = logging.getLogger(__name__)
POINTS: Final = 120
"""Most points of one line of a chart; each is the worst of its span."""


async def note_lag(thread: DatabaseThread, lags: Mapping[str, Lag]) -> None:
    """Write one sample per node. Never raises: a lost sample is a gap in a chart."""
    if not lags:
        return

    def write() -> None:
        now = timezone.now()
        LagSample.objects.bulk_create(
            LagSample(node_id=id, at=now, seconds=lag.seconds, transactions=lag.transactions)
            for id, lag in lags.items()
        )

    try:
        await thread.run(write)
    except Error as error:
        log.warning("how far the fallbacks are behind could not be noted: %s", error)


@dataclass(frozen=True)
class Line:
    """One fallback over the span of a chart."""

    node: str
    points: tuple[float | None, ...]
    """Seconds behind, the worst of each part of the span; None where nothing is known."""
    worst: float | None


@dataclass(frozen=True)
class Window:
    start: datetime
    step: timedelta

    @property
    def end(self) -> datetime:
        return self.start + POINTS * self.step

    @classmethod
    def until(cls, now: datetime, span: timedelta) -> "Window":
        """The last `span` in POINTS parts that begin at round times; the last one has only begun."""
        step = span / POINTS
        parts = int(now.timestamp() // step.total_seconds()) + 1
        return cls(datetime.fromtimestamp((parts - POINTS) * step.total_seconds(), now.tzinfo), step)


class _Part(Func):
    """Number of the part of the window that a time falls into, computed by the database: thousands of rows become 120."""

    output_field = IntegerField()

    def __init__(self, at: Any, window: Window) -> None:
        super().__init__(at, seconds=int(window.start.timestamp()), step=int(window.step.total_seconds()))

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        # Doubled for the template and once more for the parameters of the statement.
        since = "CAST(strftime('%%%%s', %(expressions)s) AS INTEGER)"
        return self.as_sql(compiler, connection, template=f"(({since} - %(seconds)s) / %(step)s)", **context)

    def as_mysql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        # Not UNIX_TIMESTAMP: that would take the stored UTC for the time zone of the server.
        since = "TIMESTAMPDIFF(SECOND, '1970-01-01', %(expressions)s)"
        return self.as_sql(compiler, connection, template=f"(({since} - %(seconds)s) DIV %(step)s)", **context)


def newest_sample() -> int:
    """Rises with every write; 0 before the first."""
    return LagSample.objects.order_by("-pk").values_list("pk", flat=True).first() or 0


def lag_lines(nodes: Sequence[str], window: Window, most: int) -> tuple[list[Line], int]:
    """The worst `most` of these nodes, the worst first, and how many others have samples too. Two queries, which look at every sample."""
    within = LagSample.objects.filter(at__gte=window.start, at__lt=window.end).order_by()
    worst = dict(within.values_list("node").annotate(worst=Max("seconds")))
    known = sorted((id for id in nodes if id in worst), key=lambda id: -1.0 if worst[id] is None else worst[id])[::-1]
    drawn = known[:most]
    points: dict[str, list[float | None]] = {id: [None] * POINTS for id in drawn}
    parts = within.filter(node__in=drawn, seconds__isnull=False).annotate(part=_Part(F("at"), window))
    for id, part, seconds in parts.values_list("node", "part").annotate(worst=Max("seconds")):
        points[id][part] = seconds
    return [Line(id, tuple(points[id]), worst[id]) for id in drawn], len(known) - len(drawn)


def latest_lags(nodes: Sequence[str], now: datetime) -> dict[str, Lag]:
    """By node, of the last write; empty when that is so long ago that nobody samples now. One small query."""
    rows = LagSample.objects.filter(node__in=nodes, at__gte=now - 3 * limits.LAG_SAMPLE)
    last = rows.filter(at=Subquery(LagSample.objects.order_by("-at").values("at")[:1])).order_by()
    return {row.node_id: Lag(row.seconds, row.transactions) for row in last}
