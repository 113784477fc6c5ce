"""Two administrators press the same button in the same moment: one wish is granted, also where no constraint says so."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pytest
from django.db import connection
from django.utils import timezone

from nodes.choices import DesiredState, OperationKind
from nodes.models import AppService, Event, Operation, Vault, VaultNode
from nodes.models.service import SERVICE_NAME
from replication.stores.leases import acquire
from replication.stores.wishes import (
    NewNode,
    RefusedWish,
    add_node,
    clear_silence_hold,
    request_resynchronize,
    request_switchover,
)
from tests.stores.conftest import holder

pytestmark = pytest.mark.django_db(transaction=True)
A, B = "a" * 32, "b" * 32
PEOPLE = 6
T = TypeVar("T")


def at_once(press: Callable[[int], T]) -> list[T]:
    """Everybody presses, each with a connection of their own."""
    ready = threading.Barrier(PEOPLE)

    def one(number: int) -> T:
        try:
            connection.ensure_connection()
            ready.wait(20)
            return press(number)
        finally:
            connection.close()

    with ThreadPoolExecutor(PEOPLE) as people:
        return list(people.map(one, range(PEOPLE)))


@pytest.fixture
def led(vault: Vault) -> Vault:
    """A vault with a Master, watched by a leader."""
    acquire(SERVICE_NAME, holder("one"))
    AppService.objects.filter(name=SERVICE_NAME).update(desired_state=DesiredState.STARTED)
    Vault.objects.filter(pk=vault.pk).update(primary=A, epoch=7)
    vault.refresh_from_db()
    return vault


def test_one_switchover(led: Vault) -> None:
    node = VaultNode.objects.get(pk=B)
    answers = at_once(lambda _: request_switchover(node, None))
    assert sorted(a.rule for a in answers if isinstance(a, RefusedWish)) == ["W55"] * (PEOPLE - 1)
    assert Operation.objects.filter(kind=OperationKind.SWITCHOVER).count() == Event.objects.count() == 1


def test_one_re_synchronization(led: Vault) -> None:
    node, handed = VaultNode.objects.get(pk=A), list[str]()
    answers = at_once(lambda _: request_resynchronize(node, None, handed.append))
    assert sorted(a.rule for a in answers if isinstance(a, RefusedWish)) == ["W42"] * (PEOPLE - 1)
    assert len(handed) == Operation.objects.count() == 1


def test_one_node_of_a_name(led: Vault) -> None:
    def press(number: int) -> object:
        return add_node(
            led,
            NewNode(
                hostname="c.example",
                port=5389,
                database_port=3307,
                system_role="fallback",
                ip_address=f"127.0.31.{100 + number}",
            ),
            None,
        )

    answers = at_once(press)
    assert sum(isinstance(a, VaultNode) for a in answers) == 1
    assert VaultNode.objects.filter(hostname="c.example").count() == 1


def test_one_event_for_a_hold_that_is_cleared(led: Vault) -> None:
    Vault.objects.filter(pk=led.pk).update(silence_failover_at=timezone.now(), silence_hold_seconds=60)
    at_once(lambda _: clear_silence_hold(led, None))
    assert Event.objects.count() == 1
