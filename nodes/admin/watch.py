"""Whether anybody watches: the wish to run, the leader's lease and its age by the database's own clock.

All screens judge by this one value, so that a green light and a live status never contradict each other.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from django.db.models import DateTimeField, JSONField, OuterRef, Subquery
from django.db.models.functions import Now
from django.utils.translation import gettext as _

from nodes.choices import DesiredState
from nodes.models import ServiceLease
from replication.core import limits

_LEASE_FIELDS = ("holder", "term", "host", "process", "renewed_at", "last_pass_at")


def lease_annotations(name: Any) -> dict[str, Any]:
    """The lease of the service called `name` (a value or OuterRef) and the database's clock, for one annotate()."""
    rows = ServiceLease.objects.filter(name=name)
    return {
        **{f"lease_{field}": Subquery(rows.values(field)[:1]) for field in _LEASE_FIELDS},
        "lease_answers": Subquery(rows.values("answers")[:1], output_field=JSONField()),
        "database_now": Now(output_field=DateTimeField()),
    }


def lease_annotations_of_row() -> dict[str, Any]:
    return lease_annotations(OuterRef("name"))


class Light(StrEnum):
    """App Services: red stopped, green started, yellow triggered. Each has its word beside it on screen."""

    STARTED = "started"
    TRIGGERED = "triggered"
    STOPPED = "stopped"
    NOBODY = "nobody"
    """It should run and nobody does it: red as well, with its own word."""


@dataclass(frozen=True, kw_only=True)
class Watch:
    desired_state: str
    started_on: datetime | None
    run_requested_at: datetime | None
    last_completed_on: datetime | None
    holder: str = ""
    host: str
    process: str
    term: int
    renewed_at: datetime | None
    last_pass_at: datetime | None = None
    """As the leader said with its lease; older ones are in last_completed_on."""
    now: datetime
    answers: dict[str, float | None]

    @classmethod
    def of(cls, row: Any, prefix: str = "") -> "Watch":
        """From a row with lease_annotations and the service's fields, the latter perhaps under a prefix."""
        return cls(
            desired_state=getattr(row, prefix + "desired_state") or DesiredState.STOPPED,
            started_on=getattr(row, prefix + "started_on"),
            run_requested_at=getattr(row, prefix + "run_requested_at"),
            last_completed_on=getattr(row, prefix + "last_completed_on"),
            holder=row.lease_holder or "",
            host=row.lease_host or "",
            process=row.lease_process or "",
            term=row.lease_term or 0,
            renewed_at=row.lease_renewed_at if row.lease_holder else None,
            last_pass_at=row.lease_last_pass_at,
            now=row.database_now,
            answers=row.lease_answers or {},
        )

    @property
    def lease_age(self) -> float | None:
        """Seconds since the leader gave its last sign of life; None when there never was one."""
        return max(0.0, (self.now - self.renewed_at).total_seconds()) if self.renewed_at else None

    @property
    def led(self) -> bool:
        return self.lease_age is not None and self.lease_age <= limits.LEASE_SILENCE.total_seconds()

    @property
    def wanted(self) -> bool:
        return self.desired_state == DesiredState.STARTED

    @property
    def trusted(self) -> bool:
        """Whether what the service wrote last still says what is."""
        return self.wanted and self.led

    def answer_age(self, node_id: str) -> float | None:
        """Seconds since the node's last answer to this leader; None when it never answered it."""
        then = self.answers.get(node_id)
        return None if then is None or self.lease_age is None else then + self.lease_age

    @property
    def light(self) -> Light:
        if self.wanted and not self.led:
            return Light.NOBODY
        if self.run_requested_at or (self.wanted and not self.started_on):
            return Light.TRIGGERED
        if not self.wanted and self.started_on and self.led:
            return Light.TRIGGERED  # it has not stopped yet
        return Light.STARTED if self.wanted else Light.STOPPED

    @property
    def light_label(self) -> str:
        if self.light is Light.TRIGGERED and not self.wanted:
            return _("Stopping")
        return {
            Light.STARTED: _("Started"),
            Light.TRIGGERED: _("Triggered"),
            Light.STOPPED: _("Stopped"),
            Light.NOBODY: _("No worker"),
        }[self.light]

    @property
    def light_level(self) -> str:
        return {Light.STARTED: "ok", Light.TRIGGERED: "warn", Light.STOPPED: "bad", Light.NOBODY: "bad"}[self.light]

    @property
    def facts(self) -> tuple[Any, ...]:
        """Everything a screen shows of it except ages: part of its version stamp."""
        return (self.light, self.light_label, self.started_on, self.host, self.process, self.term, self.led)
