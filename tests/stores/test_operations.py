"""An operation ends exactly once, whoever tries, and a worker that lost it changes nothing."""

import asyncio
from datetime import timedelta

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from nodes.choices import OperationKind, OperationState
from nodes.models import Operation, Vault
from replication.core.ports import OperationEnd
from replication.core.steps import Step, StepState
from replication.stores import operations
from replication.stores.operations import OperationStore
from replication.stores.threads import DatabaseThread
from replication.stores.wishes import RefusedWish, request_resynchronize

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def queued(vault: Vault) -> Operation:
    return Operation.objects.create(kind=OperationKind.RESYNCHRONIZE, vault=vault)


def state(operation: Operation) -> str:
    return Operation.objects.get(pk=operation.pk).state


def test_a_queued_operation_runs_and_ends(queued: Operation) -> None:
    taken = operations.begin(queued.pk)
    assert taken is not None
    assert taken.state == OperationState.RUNNING
    assert operations.progress(queued.pk, 40, "on its way")
    assert operations.end(queued.pk, OperationState.SUCCEEDED, "done", {"seconds": 1.5})
    ended = Operation.objects.get(pk=queued.pk)
    assert (ended.state, ended.percent, ended.result) == (OperationState.SUCCEEDED, 100, {"seconds": 1.5})
    assert ended.started_at is not None
    assert ended.finished_at is not None


def test_it_ends_exactly_once(queued: Operation) -> None:
    operations.begin(queued.pk)
    assert operations.end(queued.pk, OperationState.FAILED, "no", {})
    assert not operations.end(queued.pk, OperationState.SUCCEEDED, "yes", {})
    assert state(queued) == OperationState.FAILED


def test_a_worker_that_died_is_replaced(queued: Operation) -> None:
    assert operations.begin(queued.pk) is not None
    assert operations.begin(queued.pk) is not None


@pytest.mark.parametrize("end", [OperationState.CANCELLED, OperationState.SUCCEEDED])
def test_what_has_ended_is_not_taken_again(queued: Operation, end: OperationState) -> None:
    operations.end(queued.pk, end, "", {})
    assert operations.begin(queued.pk) is None
    assert not operations.progress(queued.pk, 50, "late")
    assert state(queued) == end


def test_what_is_gone_is_not_taken(vault: Vault) -> None:
    assert operations.begin("9" * 32) is None


def test_progress_stays_between_nothing_and_all(queued: Operation) -> None:
    operations.begin(queued.pk)
    for given, kept in ((-3, 0), (250, 100)):
        operations.progress(queued.pk, given, "x" * 900)
        row = Operation.objects.get(pk=queued.pk)
        assert row.percent == kept
        assert len(row.message) == 500


def test_one_re_synchronization_per_vault(queued: Operation, vault: Vault, metadata: str) -> None:
    primary = vault.nodes.get(hostname="a.example")
    Vault.objects.filter(pk=vault.pk).update(primary=primary)
    refused = request_resynchronize(primary, None, lambda _: None)
    assert isinstance(refused, RefusedWish)
    assert refused.rule == "W42"
    if metadata == "sqlite":  # MariaDB has no partial constraints: there the lock of the vault's row alone holds
        with pytest.raises(IntegrityError), transaction.atomic():
            Operation.objects.create(kind=OperationKind.RESYNCHRONIZE, vault=vault)
    operations.end(queued.pk, OperationState.FAILED, "no", {})
    Operation.objects.create(kind=OperationKind.RESYNCHRONIZE, vault=vault)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"state": OperationState.SUCCEEDED}, id="ended without a time"),
        pytest.param({"state": "sleeping"}, id="an unknown state"),
        pytest.param({"percent": 101}, id="more than all"),
    ],
)
def test_the_database_refuses_what_makes_no_sense(queued: Operation, changes: dict[str, object]) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        Operation.objects.filter(pk=queued.pk).update(**changes)


# --- what the leading service does itself

ID, B = "1" * 32, "b" * 32


@pytest.fixture
def store(thread: DatabaseThread, vault: Vault) -> OperationStore:
    return OperationStore(thread)


def begin(store: OperationStore, vault: Vault, id: str = ID, node: str = B, says: str = "the primary is lost") -> None:
    asyncio.run(store.begin(id, vault=vault.pk, kind="failover", node=node, says=says))


def test_the_service_begins_an_operation_of_its_own(store: OperationStore, vault: Vault) -> None:
    begin(store, vault)
    row = Operation.objects.get(pk=ID)
    assert (row.kind, row.state, row.node_id, row.message) == ("failover", "running", B, "the primary is lost")
    assert row.started_at is not None
    asyncio.run(store.progress(ID, "trying again"))
    assert Operation.objects.get(pk=ID).message == "trying again"


def test_a_node_that_is_gone_is_no_obstacle(store: OperationStore, vault: Vault) -> None:
    begin(store, vault, node="9" * 32)
    assert Operation.objects.get(pk=ID).node is None


def test_begin_takes_up_a_wish_and_keeps_who_asked(store: OperationStore, vault: Vault) -> None:
    wish = Operation.objects.create(kind=OperationKind.SWITCHOVER, vault=vault, node_id=B, message="waiting")
    asyncio.run(store.begin(wish.pk, vault=vault.pk, kind="switchover", node=B, says="make it Master"))
    row = Operation.objects.get()
    assert (row.pk, row.state, row.message) == (wish.pk, OperationState.RUNNING, "make it Master")
    assert row.started_at is not None
    asyncio.run(store.begin(wish.pk, vault=vault.pk, kind="switchover", node=B, says="the next leader goes on"))
    again = Operation.objects.get()
    assert (again.started_at, again.message) == (row.started_at, "the next leader goes on")


@pytest.mark.parametrize("end", list(OperationEnd))
def test_the_first_end_counts_with_its_reason(store: OperationStore, vault: Vault, end: OperationEnd) -> None:
    begin(store, vault)
    asyncio.run(store.end(ID, end, "so it ended", {"steps_ms": {"claimed": 2.5}}))
    other = OperationEnd.FAILED if end is OperationEnd.SUCCEEDED else OperationEnd.SUCCEEDED
    asyncio.run(store.end(ID, other, "too late", {}))
    asyncio.run(store.progress(ID, "too late"))
    row = Operation.objects.get(pk=ID)
    assert (row.state, row.message) == (end.value, "so it ended")
    assert row.result == {"summary": "so it ended", "steps_ms": {"claimed": 2.5}}
    assert row.finished_at is not None


def test_what_has_ended_is_not_begun_again(store: OperationStore, vault: Vault) -> None:
    begin(store, vault)
    asyncio.run(store.end(ID, OperationEnd.FAILED, "no", {}))
    begin(store, vault)
    assert Operation.objects.get(pk=ID).state == OperationState.FAILED


def test_a_new_leader_ends_what_the_old_one_left_and_nothing_else(store: OperationStore, vault: Vault) -> None:
    other = Vault.objects.create(name="Another")
    kept = "2" * 32
    for number, changes in enumerate(
        [
            {"kind": OperationKind.FOLLOW, "state": OperationState.RUNNING},
            {"kind": OperationKind.FAILOVER, "state": OperationState.RUNNING, "pk": kept},
            {"kind": OperationKind.RESYNCHRONIZE, "state": OperationState.RUNNING},
            {"kind": OperationKind.PREFLIGHT, "state": OperationState.RUNNING},
            {"kind": OperationKind.SWITCHOVER, "state": OperationState.QUEUED},
            {"kind": OperationKind.FOLLOW, "state": OperationState.RUNNING, "vault": other},
        ]
    ):
        Operation.objects.create(**{"pk": f"{number + 10:032}", "vault": vault, **changes})
    asyncio.run(store.end_orphans(vault.pk, kept))
    (ended,) = Operation.objects.exclude(finished_at=None)
    assert (ended.kind, ended.vault_id, ended.state) == (OperationKind.FOLLOW, vault.pk, OperationState.FAILED)
    assert "the leader that began it ended" in ended.message


def test_a_row_that_cannot_be_written_stops_no_failover(store: OperationStore, vault: Vault) -> None:
    asyncio.run(store.begin(ID, vault="9" * 32, kind="failover", node=B, says="x"))
    assert not Operation.objects.filter(pk=ID).exists()


# --- steps and notes


def steps(*names: str, state: StepState = StepState.DONE, ms: float = 10.0) -> tuple[Step, ...]:
    return tuple(Step(name, state, ms - 5, ms) for name in names)


def test_steps_are_kept_while_it_is_open_and_stay_afterwards(store: OperationStore, vault: Vault) -> None:
    begin(store, vault)
    asyncio.run(store.steps(ID, steps("claimed", "recorded")))
    asyncio.run(store.end(ID, OperationEnd.SUCCEEDED, "done", {}))
    asyncio.run(store.steps(ID, steps("too late")))
    kept = [Step.from_json(step) for step in Operation.objects.get(pk=ID).steps]
    assert kept == list(steps("claimed", "recorded"))


def test_the_next_leader_writes_below_what_the_last_one_left(
    store: OperationStore, vault: Vault, thread: DatabaseThread
) -> None:
    begin(store, vault)
    left = (
        *steps("claimed"),
        *steps("revoke b.example", state=StepState.RUNNING),
        *steps("recorded", state=StepState.WAITING),
    )
    asyncio.run(store.steps(ID, left))
    began = timezone.now() - timedelta(seconds=4)
    Operation.objects.filter(pk=ID).update(started_at=began)
    second = OperationStore(thread)
    begin(second, vault)
    asyncio.run(second.steps(ID, steps("claimed")))
    kept = [Step.from_json(step) for step in Operation.objects.get(pk=ID).steps]
    assert [(s.name, s.state) for s in kept] == [
        ("claimed", StepState.DONE),
        ("revoke b.example", StepState.FAILED),
        ("claimed", StepState.DONE),
    ]
    assert kept[1].says == "the leader ended"
    assert kept[2].ms is not None
    assert 4000 < kept[2].ms < 10000, "since the operation began, not since this leader took it up"


def test_a_note_joins_the_result_before_and_after_the_end(store: OperationStore, vault: Vault) -> None:
    begin(store, vault)
    asyncio.run(store.note(ID, {"early": 1}))
    asyncio.run(store.end(ID, OperationEnd.SUCCEEDED, "done", {"steps_ms": {}}))
    asyncio.run(store.note(ID, {"first_write": {"after_open_ms": 300}}))
    found = {"early": 1, "summary": "done", "steps_ms": {}, "first_write": {"after_open_ms": 300}}
    assert Operation.objects.get(pk=ID).result == found
