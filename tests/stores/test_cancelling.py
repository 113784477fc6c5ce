"""Cancelling: what may be cancelled and what may not; at once, or by its worker, or for a worker that died; once, whoever is faster.

The job is the real one with its real rows; only the moment at which its worker looks is the test's.
"""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from auditlog.models import LogEntry
from django.contrib.auth.models import User
from django.utils import timezone

from nodes.choices import OperationKind, OperationState
from nodes.models import Event, Operation, Vault
from replication.jobs.telling import CancelWished, Lost, Telling
from replication.stores import operations
from replication.stores.cancelling import FORSAKEN_AFTER, Cancelled, end_forsaken, request_cancel, why_not_cancel
from replication.stores.inventory import load_snapshot
from replication.stores.operations import OperationStore
from replication.stores.threads import DatabaseThread
from replication.stores.wishes import RefusedWish

pytestmark = pytest.mark.django_db(transaction=True)

K, S = OperationKind, OperationState
COPIES = (K.REBUILD, K.UNDO, K.VERIFY, K.EXPORT, K.BACKUP, K.REMOVE_KEPT)
LONG_AGO = FORSAKEN_AFTER + timedelta(seconds=1)


@pytest.fixture
def make(vault: Vault) -> Callable[..., Operation]:
    def made(kind: str = K.RESYNCHRONIZE, state: str = S.RUNNING, **changes: Any) -> Operation:
        started = timezone.now() if state != S.QUEUED else None
        ended = timezone.now() if state not in (S.QUEUED, S.RUNNING) else None
        node = vault.nodes.get(hostname="b.example")
        values = {"vault": vault, "node": node, "started_at": started, "finished_at": ended, **changes}
        return Operation.objects.create(kind=kind, state=state, **values)

    return made


def age(operation: Operation, **ago: timedelta) -> Operation:
    Operation.objects.filter(pk=operation.pk).update(**{name: timezone.now() - by for name, by in ago.items()})
    operation.refresh_from_db()
    return operation


@pytest.mark.parametrize(
    ("kind", "state", "rule"),
    [
        (K.RESYNCHRONIZE, S.QUEUED, None),
        (K.RESYNCHRONIZE, S.RUNNING, None),
        *((kind, S.RUNNING, None) for kind in COPIES),
        (K.PREFLIGHT, S.QUEUED, None),
        (K.PREFLIGHT, S.RUNNING, None),
        (K.SWITCHOVER, S.QUEUED, None),
        (K.SWITCHOVER, S.RUNNING, "W72"),
        (K.FAILOVER, S.RUNNING, "W71"),
        (K.ADOPT, S.RUNNING, "W73"),
        (K.FOLLOW, S.RUNNING, "W74"),
        (K.BECOME_ACKER, S.RUNNING, "W74"),
        (K.GO_SOLO, S.RUNNING, "W74"),
        *((K.RESYNCHRONIZE, state, "W70") for state in (S.SUCCEEDED, S.FAILED, S.CANCELLED, S.NEEDS_PERSON)),
    ],
)
def test_what_can_be_cancelled(make: Callable[..., Operation], kind: str, state: str, rule: str | None) -> None:
    operation = make(kind, state)
    refused = why_not_cancel(operation)
    assert (refused.rule if refused else None) == rule
    answer = request_cancel(operation, None)
    after = Operation.objects.get(pk=operation.pk)
    if rule is None:
        assert isinstance(answer, Cancelled)
        assert after.cancel_requested_at is not None
    else:
        assert isinstance(answer, RefusedWish)
        assert answer.rule == rule
        assert (after.state, after.cancel_requested_at) == (state, None)
        assert not Event.objects.exists()


@pytest.mark.parametrize("kind", [K.RESYNCHRONIZE, K.SWITCHOVER, K.PREFLIGHT])
def test_what_nobody_has_begun_ends_at_once(make: Callable[..., Operation], kind: str) -> None:
    operation = make(kind, S.QUEUED)
    assert request_cancel(operation, None) == Cancelled(ended=True)
    after = Operation.objects.get(pk=operation.pk)
    assert after.state == S.CANCELLED
    assert after.finished_at is not None
    assert operations.begin(operation.pk) is None, "whoever takes it from the queue later finds it ended"


def test_a_cancelled_switchover_is_no_wish_any_more(
    make: Callable[..., Operation], vault: Vault, thread: DatabaseThread
) -> None:
    operation = make(K.SWITCHOVER, S.QUEUED)
    (config,) = [c for c in load_snapshot().vaults if c.topology.vault == vault.pk]
    assert config.switchover is not None
    request_cancel(operation, None)
    (config,) = [c for c in load_snapshot().vaults if c.topology.vault == vault.pk]
    assert config.switchover is None

    assert not asyncio.run(OperationStore(thread).take_up(operation.pk)), "a leader that had read it before is stopped"


def test_a_switchover_that_was_taken_up_is_cancelled_no_more(
    make: Callable[..., Operation], thread: DatabaseThread
) -> None:

    operation = make(K.SWITCHOVER, S.QUEUED)
    assert asyncio.run(OperationStore(thread).take_up(operation.pk))
    answer = request_cancel(operation, None)
    assert isinstance(answer, RefusedWish)
    assert answer.rule == "W72"
    assert Operation.objects.get(pk=operation.pk).state == S.RUNNING


def test_a_running_job_hears_of_it_with_its_next_word(make: Callable[..., Operation]) -> None:
    operation = make(state=S.QUEUED)
    begun = operations.begin(operation.pk)
    assert begun is not None
    telling = Telling(begun)
    telling.tell(10, "on its way", done=4, total=40, unit="transactions")
    assert request_cancel(operation, None) == Cancelled(ended=False)
    assert Operation.objects.get(pk=operation.pk).state == S.RUNNING, "it ends when its worker has put its things away"
    telling._told = float("-inf")
    with pytest.raises(CancelWished):
        telling.tell(20, "on its way", done=8, total=40, unit="transactions")
    assert telling.end(S.CANCELLED, "cancelled", {"summary": "cancelled"}, done=8)
    after = Operation.objects.get(pk=operation.pk)
    assert (after.state, after.done, after.total) == (S.CANCELLED, 8, 40)
    assert after.result == {"summary": "cancelled"}, "the samples of its pace are gone"


def test_where_there_is_no_way_back_it_goes_on_and_hears_the_next_wish(make: Callable[..., Operation]) -> None:
    operation = make(K.REBUILD)
    telling = Telling(operation)
    request_cancel(operation, None)
    with pytest.raises(CancelWished):
        telling.tell(50, "putting it in place")
    telling.cancel_heard()
    telling._told = float("-inf")
    telling.tell(60, "the agents are being asked")
    telling.cannot_cancel()
    assert Operation.objects.get(pk=operation.pk).cancel_requested_at is None, "nobody is told that it ends"
    telling._told = float("-inf")
    telling.tell(70, "catching up")
    assert request_cancel(operation, None) == Cancelled(ended=False)
    telling._told = float("-inf")
    with pytest.raises(CancelWished):
        telling.tell(80, "catching up")


def test_asked_twice_it_is_patient_and_then_ends_what_nobody_holds(make: Callable[..., Operation]) -> None:
    operation = make()
    request_cancel(operation, None)
    answer = request_cancel(operation, None)
    assert isinstance(answer, RefusedWish)
    assert answer.rule == "W75"
    age(operation, changed_at=LONG_AGO)
    assert request_cancel(operation, None) == Cancelled(ended=True)
    assert Operation.objects.get(pk=operation.pk).state == S.CANCELLED
    with pytest.raises(Lost):
        Telling(operation).tell(50, "the worker was only slow")


@pytest.mark.parametrize("kind", [K.REBUILD, K.RESYNCHRONIZE])
def test_what_agents_go_on_with_is_never_ended_behind_their_backs(make: Callable[..., Operation], kind: str) -> None:
    operation = make(kind, arguments={"copies": {"b" * 32: "its logs were purged"}})
    age(operation, changed_at=LONG_AGO)
    assert request_cancel(operation, None) == Cancelled(ended=False), "its worker died, the copy goes on"
    age(operation, changed_at=LONG_AGO, cancel_requested_at=LONG_AGO)
    end_forsaken()
    assert Operation.objects.get(pk=operation.pk).state == S.RUNNING, "the next worker calls the agents off"


@pytest.mark.parametrize(
    ("cancel", "changed", "ended"),
    [
        pytest.param(LONG_AGO, LONG_AGO, 1, id="its worker died after the wish"),
        pytest.param(LONG_AGO, timedelta(), 0, id="its worker lives"),
        pytest.param(timedelta(), LONG_AGO, 0, id="it was asked a moment ago"),
    ],
)
def test_the_leader_ends_what_has_lost_its_worker(
    make: Callable[..., Operation], cancel: timedelta, changed: timedelta, ended: int
) -> None:
    operation = age(make(), cancel_requested_at=cancel, changed_at=changed)
    assert end_forsaken() == ended
    assert Operation.objects.get(pk=operation.pk).state == (S.CANCELLED if ended else S.RUNNING)


def test_nobody_wished_it_so_it_stays(make: Callable[..., Operation]) -> None:
    operation = age(make(), changed_at=LONG_AGO)
    assert end_forsaken() == 0
    assert Operation.objects.get(pk=operation.pk).state == S.RUNNING, "a worker that comes back goes on with it"


@pytest.mark.parametrize("first", ["end", "cancel"])
def test_cancel_and_end_at_once_are_one_end(make: Callable[..., Operation], first: str) -> None:
    operation = make(K.PREFLIGHT)
    acts: dict[str, Callable[[], Any]] = {
        "end": lambda: operations.end(operation.pk, S.SUCCEEDED, "checked", {}),
        "cancel": lambda: request_cancel(operation, None),
    }
    second = "cancel" if first == "end" else "end"
    acts[first]()
    late = acts[second]()
    assert late is False or isinstance(late, RefusedWish)
    assert Operation.objects.get(pk=operation.pk).state == (S.SUCCEEDED if first == "end" else S.CANCELLED)


def test_it_is_an_event_and_an_entry_of_the_audit_log(make: Callable[..., Operation]) -> None:
    operation, actor = make(), User.objects.create_user("olga")
    request_cancel(operation, actor, reason="the disk is to be changed first")
    event = Event.objects.get()
    assert (event.operation, event.actor, event.node_name) == (operation.pk, "olga", "b.example")
    assert event.text == "Cancel of Re-synchronize Master requested: the disk is to be changed first"
    entry = LogEntry.objects.get(object_pk=operation.pk)
    assert entry.actor == actor
    assert entry.additional_data is not None
    assert entry.additional_data["reason"] == "the disk is to be changed first"
    assert entry.changes_dict == {"state": ["Running", "asked to end"]}


def test_what_was_deleted_meanwhile_is_said(make: Callable[..., Operation]) -> None:
    operation = make()
    Operation.objects.all().delete()
    answer = request_cancel(operation, None)
    assert isinstance(answer, RefusedWish)
    assert answer.rule == "W76"


def test_a_word_is_written_twice_a_second_at_most(make: Callable[..., Operation]) -> None:
    operation = make()
    telling = Telling(operation)
    stamps: set[datetime] = set()
    for number in range(50):
        telling.tell(number, f"{number} of 50", done=number, total=50, unit="transactions")
        stamps.add(Operation.objects.get(pk=operation.pk).changed_at)
    assert len(stamps) <= 2
