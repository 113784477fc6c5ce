"""Handing over what nobody carries out, with a real Redis: once, after a moment, again when Redis or a worker has forgotten it.

And what is due becomes operations by the same wishes, once, unless the service is stopped or somebody is at work at the vault.
"""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import django_rq
import pytest
from django.utils import timezone
from rq.executions import Execution

from nodes.choices import DesiredState, OperationKind, OperationState
from nodes.models import AppService, Event, Operation, Vault, VaultNode
from nodes.models.operation import OPEN_STATES
from replication.core.roles import NodeStatus
from replication.jobs.dispatch import FORSAKEN_AFTER, MOST_TAKEN_UP, QUEUED_GRACE, ask_for_what_is_due, hand_over
from replication.jobs.queueing import enqueue
from replication.stores import data_wishes, operations, pausing

Pair = tuple[VaultNode, VaultNode]
K, S = OperationKind, OperationState
OVERDUE, SILENT = QUEUED_GRACE + timedelta(seconds=1), FORSAKEN_AFTER + timedelta(seconds=1)
LACKING = {"status": NodeStatus.ERROR, "report": {"needs_rebuild": "its logs were purged"}}


@pytest.fixture
def make(pair: Pair) -> Callable[..., Operation]:
    def made(kind: str = K.REBUILD, state: str = S.QUEUED, *, ago: timedelta = OVERDUE, **fields: Any) -> Operation:
        row = Operation.objects.create(kind=kind, state=state, vault=pair[0].vault, node=pair[1], **fields)
        then = timezone.now() - ago
        Operation.objects.filter(pk=row.pk).update(created_at=then, changed_at=then)
        return row

    return made


def queued(*names: str) -> list[str]:
    return sorted(id for name in names or ("ops", "routine") for id in django_rq.get_queue(name).get_job_ids())


@pytest.fixture
def queue(redis: None) -> None:
    django_rq.get_queue("ops").connection.flushall()


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("queue")
def test_what_is_in_no_queue_is_handed_over_once(make: Callable[..., Operation]) -> None:
    lost = [make(), make(K.VERIFY), make(K.PREFLIGHT)]
    assert hand_over(timezone.now()) == 3
    assert queued() == sorted(one.pk for one in lost)
    assert queued("routine") == [lost[1].pk], "what takes hours stands before nothing that somebody waits for"
    assert hand_over(timezone.now()) == 0, "it waits in the queue"
    assert queued() == sorted(one.pk for one in lost)


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("queue")
def test_a_row_of_this_very_moment_is_its_makers(make: Callable[..., Operation]) -> None:
    make(ago=timedelta())
    make(K.BACKUP, S.RUNNING, ago=OVERDUE)
    assert hand_over(timezone.now()) == 0


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("queue")
def test_what_the_service_itself_does_or_what_has_ended_is_not_handed_over(make: Callable[..., Operation]) -> None:
    make(K.SWITCHOVER)
    make(K.REBUILD, S.FAILED, finished_at=timezone.now())
    assert hand_over(timezone.now()) == 0


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("queue")
def test_what_redis_forgot_is_handed_over_again(make: Callable[..., Operation]) -> None:
    one = make()
    enqueue(one.pk, one.kind)
    assert hand_over(timezone.now()) == 0
    django_rq.get_queue("ops").connection.flushall()
    assert hand_over(timezone.now()) == 1
    assert queued() == [one.pk]


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("queue")
def test_what_a_dead_worker_held_is_handed_over_and_not_for_ever(make: Callable[..., Operation]) -> None:
    one = make(state=S.RUNNING, ago=SILENT)
    for times in range(1, MOST_TAKEN_UP + 1):
        assert hand_over(timezone.now()) == 1
        one.refresh_from_db()
        assert one.arguments["taken_up"] == times
        django_rq.get_queue("ops").connection.flushall()
    operations.remember(one.pk, wished=["copy-of-it"])
    Vault.objects.get().nodes.update(rebuild_wish={"operation": "copy-of-it"})
    assert hand_over(timezone.now()) == 0
    one.refresh_from_db()
    assert one.state == S.FAILED
    assert "died" in one.result["summary"]
    assert not VaultNode.objects.filter(rebuild_wish__isnull=False).exists(), "no copy begins that nobody asks for"


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("queue")
def test_the_try_of_a_worker_that_died_a_minute_ago_is_not_in_the_way(make: Callable[..., Operation]) -> None:
    one = make(state=S.RUNNING, ago=SILENT)
    enqueue(one.pk, one.kind)
    queue = django_rq.get_queue("ops")
    job = queue.fetch_job(one.pk)
    with queue.connection.pipeline() as pipeline:
        taken = Execution.create(job, ttl=60, pipeline=pipeline)
        pipeline.lrem(queue.key, 0, job.id)
        pipeline.execute()
    queue.connection.delete(taken.key)  # as when its time is over; the lists keep it for a minute longer
    with pytest.raises(ValueError, match="not found in Redis"):
        job.get_executions()
    assert hand_over(timezone.now()) == 1
    assert queued() == [one.pk]
    assert job.started_job_registry.get_job_ids(cleanup=False) == []


def test_without_redis_nothing_is_lost(make: Callable[..., Operation]) -> None:
    one = make()
    assert hand_over(timezone.now()) == 0
    one.refresh_from_db()
    assert one.state == S.QUEUED


class TestDue:
    @pytest.fixture(autouse=True)
    def ready(self, pair: Pair, lead: Callable[..., None]) -> None:
        lead()
        VaultNode.objects.filter(pk=pair[1].pk).update(**LACKING)

    def test_it_is_made_once_and_says_why(self, pair: Pair) -> None:
        assert ask_for_what_is_due(timezone.now()) == 1
        assert ask_for_what_is_due(timezone.now()) == 0
        made = Operation.objects.get()
        assert (made.kind, made.node, made.requested_by, made.state) == (K.REBUILD, pair[1], None, S.QUEUED)
        assert "its logs were purged" in Event.objects.get().text
        assert "by the vault's setting" in Event.objects.get().text

    def test_a_stopped_service_asks_for_nothing(self) -> None:
        AppService.objects.update(desired_state=DesiredState.STOPPED)
        assert ask_for_what_is_due(timezone.now()) == 0

    def test_nothing_is_begun_while_somebody_is_at_work_there(self, pair: Pair) -> None:
        pausing.pause_failover(pair[0].vault, None, None, reason="the network is being changed")
        assert ask_for_what_is_due(timezone.now()) == 0

    def test_what_is_refused_makes_no_row(self, pair: Pair) -> None:
        Operation.objects.create(kind=K.RESYNCHRONIZE, vault=pair[0].vault, node=pair[0])
        assert ask_for_what_is_due(timezone.now()) == 0
        assert not Operation.objects.filter(kind=K.REBUILD, state__in=OPEN_STATES).exists()
        assert data_wishes.around(pair[0].vault).has(K.RESYNCHRONIZE)
