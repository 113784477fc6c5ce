"""What the housekeeping throws away: rows older than they are to be kept, in batches that nobody has to wait for.

It knows no vault, no node and no lease. What a screen or the next leader could still need stays: open operations, and the
newest event of every vault.
"""

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from auditlog.models import LogEntry
from django.contrib.sessions.models import Session
from django.db import transaction
from django.db.models import Max, QuerySet
from django.db.models.functions import Now
from django.utils import timezone

from nodes.choices import OperationKind, OperationState
from nodes.models import AppService, Event, LagSample, LogLine, Operation
from nodes.models.operation import JOB_KINDS, OPEN_STATES
from nodes.models.service import HOUSEKEEPING_NAME

from . import operations, workers
from .cancelling import at_agents
from .service_setting import AUDIT_ENTRIES, EVENTS, LAG_SAMPLES, LOG_LINES, OPERATIONS, Kept

log = logging.getLogger(__name__)
BATCH: Final = 500
"""Rows of one transaction: some milliseconds in which SQLite lets nobody else write."""
BREATH: Final = timedelta(milliseconds=20)
"""Between two batches, and never less than twice what the last one took: the leader's lease is renewed in between."""
PREFLIGHTS_KEPT: Final = timedelta(days=1)
JOB_SILENCE: Final = timedelta(minutes=10)
"""A job that has shown no progress for this long, and that no queue holds, has lost its worker."""


@dataclass(frozen=True)
class Sweep:
    """Rows of one kind that are too old, and the column that says how old they are (it has an index, or few rows)."""

    what: str
    rows: QuerySet[Any]
    age: str


def sweeps(configuration: dict[str, Any]) -> Iterator[Sweep]:
    """In the order of how much there is of each. Judged by the database's own clock."""

    def cutoff(kept: Kept) -> Any:
        return Now() - timedelta(days=kept.of(configuration))

    yield Sweep("log lines", LogLine.objects.filter(at__lt=cutoff(LOG_LINES)), "at")
    yield Sweep("lag samples", LagSample.objects.filter(at__lt=cutoff(LAG_SAMPLES)), "at")
    old = Event.objects.filter(at__lt=cutoff(EVENTS))
    if old.exists():
        newest = Event.objects.order_by().values("vault").annotate(newest=Max("pk")).values_list("newest", flat=True)
        yield Sweep("events", old.exclude(pk__in=list(newest)), "at")
    ended = Operation.objects.exclude(state__in=OPEN_STATES)
    yield Sweep("operations", ended.filter(finished_at__lt=cutoff(OPERATIONS)), "finished_at")
    checks = ended.filter(kind=OperationKind.PREFLIGHT)
    yield Sweep("checks of new nodes", checks.filter(finished_at__lt=Now() - PREFLIGHTS_KEPT), "finished_at")
    yield Sweep("audit entries", LogEntry.objects.filter(timestamp__lt=cutoff(AUDIT_ENTRIES)), "timestamp")
    yield Sweep("sessions that are over", Session.objects.filter(expire_date__lt=Now()), "expire_date")


def sweep(one: Sweep, going_on: Callable[[], bool]) -> int:
    """Delete its rows batch by batch while `going_on()`. Returns how many. Raises django.db.Error."""
    removed = 0
    while going_on():
        began = time.monotonic()
        ids = list(one.rows.order_by(one.age).values_list("pk", flat=True)[:BATCH])
        if not ids:
            break
        with transaction.atomic():
            # The condition again: what was looked at a moment ago may have changed.
            removed += one.rows.filter(pk__in=ids).delete()[0]
        time.sleep(max(BREATH.total_seconds(), 2 * (time.monotonic() - began)))
    return removed


def clean(
    configuration: dict[str, Any], going_on: Callable[[], bool], queued: Callable[[], Iterable[str] | None]
) -> dict[str, int]:
    """One pass: what was removed, and how much of it; kinds of which nothing was old are left out. Raises django.db.Error.

    queued: see `end_lost_jobs`.
    """
    removed = {one.what: sweep(one, going_on) for one in sweeps(configuration)}
    if going_on():
        removed["workers that are gone"] = workers.forget_dead()
        end_lost_jobs(queued)
    return {what: count for what, count in removed.items() if count}


def end_lost_jobs(queued: Callable[[], Iterable[str] | None]) -> int:
    """End operations of the ops workers whose worker died, for the case that nobody leads who would hand them over again
    (jobs/dispatch.py). Not what agents may be at: that waits for the next worker. Returns how many.

    queued: asked only when there is a suspect; ids of the operations that a queue or a living worker still holds, or None
    when that cannot be known now, for instance because Redis does not answer: then nobody is accused.
    """
    silent = Operation.objects.filter(kind__in=JOB_KINDS, state__in=OPEN_STATES, changed_at__lt=Now() - JOB_SILENCE)
    suspects = [one.pk for one in silent if not at_agents(one)]
    held = queued() if suspects else None
    if held is None:
        return 0
    text = "its worker ended before the work did: nothing goes on with it, so ask for it again"
    lost = set(suspects) - set(held)
    ended = sum(operations.end(id, OperationState.FAILED, text, {"summary": text}) for id in sorted(lost))
    if ended:
        log.warning("%s operations were ended: %s", ended, text)
    return ended


# --- what its leader notes on its row


def row() -> AppService | None:
    return AppService.objects.filter(name=HOUSEKEEPING_NAME).first()


def note_running(service: AppService, running: bool) -> None:
    """Write, with its event, that the leader has taken up or put down its work."""
    with transaction.atomic():
        changed = AppService.objects.filter(pk=service.pk, started_on__isnull=running)
        if changed.update(started_on=timezone.now() if running else None):
            text = f"{service.name} {'started' if running else 'stopped'}"
            log.info("%s", text)
            Event.objects.create(text=text, rule="S10")


def note_pass(service: AppService, asked: datetime | None) -> None:
    """A pass is complete. asked: the wish that it fulfilled; one that came meanwhile stays."""
    AppService.objects.filter(pk=service.pk).update(last_completed_on=timezone.now())
    if asked is not None:
        AppService.objects.filter(pk=service.pk, run_requested_at=asked).update(run_requested_at=None)
