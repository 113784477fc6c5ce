"""A row of App Services: the light, who leads, who stands by, and what is missing."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.utils.formats import number_format

from nodes.admin.watch import Watch
from nodes.models import AppService, ServiceWorker
from nodes.models.service import HOUSEKEEPING_NAME
from replication.core import limits
from replication.stores.service_setting import interval_of

START_A_WORKER = "manage.py runservice"
START_A_HOUSEKEEPER = "manage.py runservice --service housekeeping"


@dataclass(frozen=True)
class Standby:
    worker: ServiceWorker
    age: float
    """Seconds since it last said that it is there."""

    @property
    def age_key(self) -> str:
        return f"worker:{self.worker.pk}"

    @property
    def silent(self) -> bool:
        """It counts as no standby any more."""
        return self.age > limits.WORKER_SILENCE.total_seconds()


@dataclass(frozen=True)
class ServiceRow:
    service: AppService
    watch: Watch
    others: tuple[Standby, ...]
    """Every worker that does not lead, the silent ones included."""

    @property
    def vital(self) -> bool:
        """Whether the vaults depend on it."""
        return self.service.name != HOUSEKEEPING_NAME

    @property
    def command(self) -> str:
        """What starts a worker, or one more."""
        return f"{START_A_WORKER if self.vital else START_A_HOUSEKEEPER} --slot {'b' if self.watch.led else 'a'}"

    @property
    def alone(self) -> bool:
        return self.watch.led and all(one.silent for one in self.others)

    @property
    def interval(self) -> str:
        """Seconds, without needless zeros."""
        return number_format(f"{interval_of(self.service).total_seconds():g}")

    @property
    def ages(self) -> dict[str, float | None]:
        done = max((at for at in (self.watch.last_pass_at, self.watch.last_completed_on) if at), default=None)
        return {
            f"lease:{self.service.pk}": self.watch.lease_age,
            f"pass:{self.service.pk}": max(0.0, (self.watch.now - done).total_seconds()) if done else None,
            **{one.age_key: one.age for one in self.others},
        }

    @property
    def facts(self) -> tuple[Any, ...]:
        s = self.service
        known = bool(self.watch.last_pass_at or self.watch.last_completed_on)
        return (
            s.pk, s.name, s.description, s.trigger_interval, self.watch.facts, known,
            tuple((one.worker.pk, one.silent) for one in self.others),
        )  # fmt: skip


def rows_of(services: Iterable[AppService], workers: Iterable[ServiceWorker]) -> list[ServiceRow]:
    """services: with lease_annotations_of_row. The service that the vaults depend on comes first."""
    by_service: dict[str, list[ServiceWorker]] = {}
    for worker in workers:
        by_service.setdefault(worker.service, []).append(worker)
    rows = []
    for service in services:
        watch = Watch.of(service)
        others = tuple(
            Standby(worker, max(0.0, (watch.now - worker.seen_at).total_seconds()))
            for worker in by_service.get(service.name, ())
            if not (watch.led and worker.pk == watch.holder)
        )
        rows.append(ServiceRow(service, watch, others))
    return sorted(rows, key=lambda row: (not row.vital, row.service.name))
