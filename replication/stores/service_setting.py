"""What can be set of each service, its defaults and limits, and the wish to change it.

The form (nodes/forms/service.py) says the same field by field; here it holds for whoever asks, also for a row that was
written past both.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from nodes.models import AppService
from nodes.models.service import HOUSEKEEPING_NAME, SERVICE_NAME
from nodes.sentences import written
from replication.core import limits

from . import audit
from .wishes import RefusedWish

LONGEST_DAYS: Final = 3650


@dataclass(frozen=True)
class Kept:
    """How many days something is kept. `name` is its key in AppService.configuration."""

    name: str
    what: Any
    """Translatable, the beginning of a sentence: "Events"."""
    default: int
    minimum: int

    def of(self, configuration: Mapping[str, Any]) -> int:
        """Days; whatever nonsense the row holds, never less than the minimum."""
        value = configuration.get(self.name)
        if isinstance(value, bool) or not isinstance(value, int):
            return self.default
        return min(max(value, self.minimum), LONGEST_DAYS)


@dataclass(frozen=True)
class Allowed:
    """interval_…: trigger interval."""

    interval: timedelta
    interval_min: timedelta
    interval_max: timedelta
    kept: tuple[Kept, ...] = ()


EVENTS: Final = Kept("events_days", gettext_lazy("Events"), 365, 1)
OPERATIONS: Final = Kept("operations_days", gettext_lazy("Operations"), 365, 1)
LOG_LINES: Final = Kept("log_days", gettext_lazy("Log lines"), 14, 1)
LAG_SAMPLES: Final = Kept("lag_days", gettext_lazy("Lag samples"), 2, 1)
AUDIT_ENTRIES: Final = Kept("audit_days", gettext_lazy("Audit entries"), 730, 365)

ALLOWED: Final = {
    SERVICE_NAME: Allowed(limits.HELLO_INTERVAL, limits.HELLO_INTERVAL_MIN, limits.HELLO_INTERVAL_MAX),
    HOUSEKEEPING_NAME: Allowed(
        limits.HOUSEKEEPING_INTERVAL,
        limits.HOUSEKEEPING_INTERVAL_MIN,
        limits.HOUSEKEEPING_INTERVAL_MAX,
        (EVENTS, OPERATIONS, LOG_LINES, LAG_SAMPLES, AUDIT_ENTRIES),
    ),
}


def allowed(service: AppService) -> Allowed:
    return ALLOWED.get(service.name, ALLOWED[SERVICE_NAME])


def interval_of(service: AppService) -> timedelta:
    """Whatever stands in the row, within what the service allows."""
    limit = allowed(service)
    return min(max(timedelta(seconds=service.trigger_interval), limit.interval_min), limit.interval_max)


def change_setting(
    service: AppService,
    *,
    interval: float,
    days: Mapping[str, int],
    seen: datetime | str | None,
    actor: Any,
) -> RefusedWish | bool:
    """Change trigger interval (seconds) and what is kept for how many days. True when that was a change.

    seen: `changed_at` of the row that the person looked at; "" when that is not known, then nobody's change is noticed.
    """
    limit = allowed(service)
    if not limit.interval_min.total_seconds() <= interval <= limit.interval_max.total_seconds() or any(
        not kept.minimum <= days.get(kept.name, kept.default) <= LONGEST_DAYS for kept in limit.kept
    ):
        return RefusedWish("W80", _("One of these values is not allowed: see what is said beside each of them."))
    with transaction.atomic():
        row = AppService.objects.select_for_update().get(pk=service.pk)
        if seen != "" and seen != row.changed_at:
            return RefusedWish(
                "W81", _("Somebody else has changed this setting meanwhile: look at what it is now, then decide.")
            )
        before = {"trigger_interval": row.trigger_interval, **{k.name: k.of(row.configuration) for k in limit.kept}}
        after = {"trigger_interval": float(interval), **{k.name: days.get(k.name, before[k.name]) for k in limit.kept}}
        changes = {name: (before[name], after[name]) for name in after if before[name] != after[name]}
        if not changes:
            return False
        text = f"{row.name}: {_sentence(limit, changes)}"
        configuration = {**row.configuration, **{k.name: after[k.name] for k in limit.kept}}
        AppService.objects.filter(pk=row.pk).update(
            trigger_interval=interval,
            configuration=configuration,
            changed_at=timezone.now(),
            changed_by=actor if actor is not None and actor.pk else None,
        )
        audit.tell(row, text, changes, actor=actor)
    return True


def _sentence(limit: Allowed, changes: Mapping[str, tuple[Any, Any]]) -> str:
    parts = []
    if "trigger_interval" in changes:
        seconds = f"{changes['trigger_interval'][1]:g}"
        parts.append(f"trigger interval set to {seconds} s")
    for kept in limit.kept:
        if kept.name in changes:
            days = changes[kept.name][1]
            what = written(kept.what.__str__)
            parts.append(f"{what} kept for 1 day" if days == 1 else f"{what} kept for {days} days")
    return ", ".join(parts)
