"""What the housekeeping throws away, and what it never touches.

Proves: of every kind the old rows go and the younger ones stay, to the day that is set; open operations, the newest event of
every vault, vaults, nodes and leases stay; it stops between two batches; a job is given up only when no queue holds it.
"""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from auditlog.models import LogEntry
from django.contrib.sessions.models import Session
from django.db.models.functions import Now
from django.utils import timezone

from nodes.choices import OperationKind, OperationState
from nodes.models import (
    AppService,
    Event,
    LagSample,
    LogLine,
    Operation,
    ServiceLease,
    ServiceWorker,
    Vault,
    VaultNode,
)
from nodes.models.service import HOUSEKEEPING_NAME
from replication.core import limits
from replication.stores import audit, housekeeping
from replication.stores.leases import acquire
from replication.stores.service_setting import ALLOWED
from tests.stores.conftest import LEASE, holder

pytestmark = pytest.mark.django_db(transaction=True)
DEFAULTS = {kept.name: kept.default for kept in ALLOWED[HOUSEKEEPING_NAME].kept}
HOUR = timedelta(hours=1)


def always() -> bool:
    return True


def nothing_queued() -> set[str]:
    return set()


def clean(configuration: dict[str, Any] | None = None) -> dict[str, int]:
    return housekeeping.clean(configuration or {}, always, nothing_queued)


def ago(days: float, *, more: timedelta = timedelta()) -> Any:
    return timezone.now() - timedelta(days=days) - more


def log_line(days: int, more: timedelta) -> LogLine:
    return LogLine.objects.create(service="s", at=ago(days, more=more), host="h", process="p", level=20, text="t")


def lag_sample(days: int, more: timedelta) -> LagSample:
    return LagSample.objects.create(node=VaultNode.objects.first(), at=ago(days, more=more))


def event(days: int, more: timedelta) -> Event:
    made = Event.objects.create(vault=Vault.objects.first(), text="t")
    Event.objects.filter(pk=made.pk).update(at=ago(days, more=more))
    return made


def operation(
    days: float,
    more: timedelta = timedelta(),
    *,
    kind: str = OperationKind.FAILOVER,
    state: str = OperationState.SUCCEEDED,
) -> Operation:
    at = ago(days, more=more)
    open_ = state in (OperationState.QUEUED, OperationState.RUNNING)
    made = Operation.objects.create(kind=kind, state=state, finished_at=None if open_ else at)
    Operation.objects.filter(pk=made.pk).update(created_at=at, changed_at=at)
    return made


def audit_entry(days: int, more: timedelta) -> LogEntry:
    audit.record(AppService.objects.first(), "said", {"x": (1, 2)})
    made = LogEntry.objects.order_by("-pk")[0]
    LogEntry.objects.filter(pk=made.pk).update(timestamp=ago(days, more=more))
    return made


KINDS = [
    pytest.param(log_line, "log_days", "log lines", id="log lines"),
    pytest.param(lag_sample, "lag_days", "lag samples", id="lag samples"),
    pytest.param(event, "events_days", "events", id="events"),
    pytest.param(operation, "operations_days", "operations", id="operations"),
    pytest.param(audit_entry, "audit_days", "audit entries", id="audit entries"),
]


@pytest.mark.parametrize(("make", "setting", "what"), KINDS)
@pytest.mark.parametrize("longer", [0, 40])
def test_what_is_older_than_it_is_to_be_kept_goes_and_the_rest_stays(
    vault: Vault, make: Callable[[int, timedelta], Any], setting: str, what: str, longer: int
) -> None:
    days = DEFAULTS[setting] + longer
    old = make(days, HOUR)
    young = make(days, -HOUR)
    assert clean({setting: days} if longer else {}) == {what: 1}
    assert not type(old).objects.filter(pk=old.pk).exists()
    assert type(young).objects.filter(pk=young.pk).exists()


def test_many_go_in_batches(vault: Vault) -> None:
    at = ago(30)
    LogLine.objects.bulk_create(
        LogLine(service="s", at=at, host="h", process="p", level=20, text="t") for _ in range(1234)
    )
    asked = []
    removed = housekeeping.clean({}, lambda: bool(asked.append(1)) or True, nothing_queued)
    assert removed == {"log lines": 1234}
    assert len(asked) > 1234 // housekeeping.BATCH


def test_it_stops_between_two_batches_and_goes_on_later(vault: Vault) -> None:
    at = ago(30)
    LogLine.objects.bulk_create(
        LogLine(service="s", at=at, host="h", process="p", level=20, text="t") for _ in range(housekeeping.BATCH + 1)
    )
    answers = iter([True])
    housekeeping.clean({}, lambda: next(answers, False), nothing_queued)
    assert LogLine.objects.count() == 1
    clean()
    assert not LogLine.objects.exists()


def test_the_newest_event_of_every_vault_stays_however_old_it_is(vault: Vault) -> None:
    other = Vault.objects.create(name="Another vault")
    kept = []
    for of in (vault, other, None):
        for text in ("older", "newest"):
            made = Event.objects.create(vault=of, text=text)
        kept.append(made.pk)
    Event.objects.update(at=ago(4000))
    assert clean() == {"events": 3}
    assert set(Event.objects.values_list("pk", flat=True)) == set(kept)


def test_open_operations_vaults_nodes_and_leases_are_not_its_business(vault: Vault) -> None:
    acquire(LEASE, holder("one"))
    for state in (OperationState.QUEUED, OperationState.RUNNING):
        operation(4000, state=state)
    old = timezone.now() - timedelta(days=4000)
    VaultNode.objects.update(changed_at=old)

    def everything() -> list[Any]:
        models = (Vault, VaultNode, ServiceLease, AppService, Operation)
        return [list(model.objects.order_by("pk").values()) for model in models]

    before = everything()
    assert clean() == {}
    assert everything() == before


def test_checks_of_new_nodes_go_after_a_day_and_sessions_when_they_are_over(vault: Vault) -> None:
    for more in (HOUR, -HOUR):
        operation(1, more, kind=OperationKind.PREFLIGHT)
    for key, at in (("over", timezone.now() - HOUR), ("valid", timezone.now() + HOUR)):
        Session.objects.create(session_key=key, session_data="", expire_date=at)
    assert clean() == {"checks of new nodes": 1, "sessions that are over": 1}
    assert Session.objects.get().session_key == "valid"


def test_workers_that_died_are_forgotten(vault: Vault) -> None:
    for name, age in (("dead", limits.WORKER_FORGOTTEN + HOUR), ("alive", timedelta())):
        ServiceWorker.objects.create(pk=name, service="s", host="h", process="p", started_at=Now(), seen_at=Now() - age)
    assert clean() == {"workers that are gone": 1}
    assert ServiceWorker.objects.get().pk == "alive"


class TestLostJobs:
    LONG = housekeeping.JOB_SILENCE + timedelta(seconds=10)

    def state(self, one: Operation) -> str:
        return str(Operation.objects.get(pk=one.pk).state)

    def test_one_that_no_queue_holds_is_ended_with_a_sentence(self, vault: Vault) -> None:
        lost = [
            operation(0, self.LONG, kind=OperationKind.PREFLIGHT, state=state)
            for state in (OperationState.QUEUED, OperationState.RUNNING)
        ]
        held = operation(0, self.LONG, kind=OperationKind.RESYNCHRONIZE, state=OperationState.RUNNING)
        assert housekeeping.end_lost_jobs(lambda: {held.pk}) == 2
        for one in lost:
            row = Operation.objects.get(pk=one.pk)
            assert row.state == OperationState.FAILED
            assert "its worker ended before the work did" in row.message
            assert row.result["summary"] == row.message
        assert self.state(held) == OperationState.RUNNING

    def test_nobody_is_accused_while_the_queue_does_not_answer(self, vault: Vault) -> None:
        suspect = operation(0, self.LONG, kind=OperationKind.PREFLIGHT, state=OperationState.RUNNING)
        assert housekeeping.end_lost_jobs(lambda: None) == 0
        assert self.state(suspect) == OperationState.RUNNING

    def test_one_that_showed_progress_lately_or_belongs_to_the_service_is_left_alone(self, vault: Vault) -> None:
        asked = []
        left = [
            operation(0, timedelta(minutes=5), kind=OperationKind.PREFLIGHT, state=OperationState.RUNNING),
            operation(0, self.LONG, kind=OperationKind.FAILOVER, state=OperationState.RUNNING),
        ]
        assert housekeeping.end_lost_jobs(lambda: asked.append(1) or set()) == 0
        assert [self.state(one) for one in left] == [OperationState.RUNNING] * 2
        assert asked == [], "without a suspect the queue is not even asked"


class TestItsRow:
    @pytest.fixture
    def service(self, vault: Vault) -> AppService:
        return AppService.objects.get_or_create(name=HOUSEKEEPING_NAME)[0]

    def test_started_and_stopped_are_written_once_with_an_event(self, service: AppService) -> None:
        for running in (True, True, False, False):
            housekeeping.note_running(service, running)
            row = AppService.objects.get(pk=service.pk)
            assert (row.started_on is not None) is running
        assert list(Event.objects.order_by("pk").values_list("text", "rule")) == [
            (f"{HOUSEKEEPING_NAME} started", "S10"),
            (f"{HOUSEKEEPING_NAME} stopped", "S10"),
        ]

    def test_a_wish_that_came_during_the_pass_is_not_lost(self, service: AppService) -> None:
        first, second = ago(0, more=HOUR), ago(0)
        AppService.objects.filter(pk=service.pk).update(run_requested_at=second)
        housekeeping.note_pass(service, first)
        row = AppService.objects.get(pk=service.pk)
        assert row.run_requested_at == second
        assert row.last_completed_on is not None
        housekeeping.note_pass(service, row.run_requested_at)
        assert AppService.objects.get(pk=service.pk).run_requested_at is None
