"""A switchover that was asked for is read with the inventory for a short while, and then ends by itself."""

import asyncio
from datetime import timedelta

import pytest
from django.utils import timezone

from nodes.choices import OperationKind, OperationState
from nodes.models import Operation, Vault
from replication.core import limits
from replication.core.view import SwitchoverWish
from replication.stores.highwater import HighWater
from replication.stores.inventory import InventoryStore, expire_wishes, load_snapshot
from replication.stores.leases import RenewingLease
from replication.stores.threads import DatabaseThread
from tests.stores.conftest import LEASE, holder

pytestmark = pytest.mark.django_db(transaction=True)
B = "b" * 32
LATE = limits.SWITCHOVER_BEGIN + timedelta(seconds=1)


def asked(vault: Vault, *, ago: timedelta = timedelta(), **changes: object) -> Operation:
    made = Operation.objects.create(**{"kind": OperationKind.SWITCHOVER, "vault": vault, "node_id": B, **changes})
    Operation.objects.filter(pk=made.pk).update(created_at=timezone.now() - ago)
    return made


def wish(vault: Vault) -> SwitchoverWish | None:
    return next(c.switchover for c in load_snapshot().vaults if c.topology.vault == vault.pk)


def test_a_fresh_wish_is_in_the_snapshot(vault: Vault) -> None:
    assert wish(vault) is None
    operation = asked(vault)
    assert wish(vault) == SwitchoverWish(operation=operation.pk, node=B)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"ago": LATE}, id="too old"),
        pytest.param({"node_id": None}, id="its node is gone"),
        pytest.param({"state": OperationState.RUNNING}, id="begun"),
        pytest.param({"state": OperationState.FAILED, "finished_at": timezone.now()}, id="ended"),
        pytest.param({"kind": OperationKind.RESYNCHRONIZE}, id="something else"),
    ],
)
def test_anything_else_is_no_wish(vault: Vault, changes: dict[str, object]) -> None:
    asked(vault, **changes)  # type: ignore[arg-type]
    assert wish(vault) is None


def test_the_wish_of_one_vault_is_not_that_of_another(vault: Vault) -> None:
    asked(vault)
    other = Vault.objects.create(name="Another")
    assert wish(other) is None


def test_a_wish_that_nobody_began_fails_with_its_reason_when_a_leader_reads(vault: Vault, marks: HighWater) -> None:
    operation = asked(vault, ago=LATE)
    reads, notes = DatabaseThread("reads"), DatabaseThread("notes")
    asyncio.run(InventoryStore(reads, notes, marks, RenewingLease(LEASE, holder("one"))).load())
    for thread in (reads, notes):
        thread.close()
    ended = Operation.objects.get(pk=operation.pk)
    assert ended.state == OperationState.FAILED
    assert ended.finished_at is not None
    assert "not begun in time" in ended.message


@pytest.mark.parametrize("changes", [{}, {"state": OperationState.RUNNING, "ago": LATE}])
def test_only_wishes_that_waited_too_long_expire(vault: Vault, changes: dict[str, object]) -> None:
    operation = asked(vault, **changes)  # type: ignore[arg-type]
    expire_wishes()
    assert Operation.objects.get(pk=operation.pk).finished_at is None
