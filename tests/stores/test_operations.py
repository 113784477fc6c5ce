"""An operation ends exactly once, whoever tries, and a worker that lost it changes nothing."""

import pytest
from django.db import IntegrityError, transaction

from nodes.choices import OperationKind, OperationState
from nodes.models import Operation, Vault
from replication.stores import operations

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


def test_one_re_synchronization_per_vault(queued: Operation, vault: Vault) -> None:
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
