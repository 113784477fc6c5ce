"""Wishes are rows: each is granted with exactly one event that names who wished it, or refused with a rule and a sentence."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from nodes.choices import DesiredState, OperationState
from nodes.models import AppService, Event, Operation, Vault, VaultNode
from replication.stores import wishes
from replication.stores.service_setting import change_setting
from replication.stores.wishes import NewNode, QueueUnavailable, RefusedWish

Pair = tuple[VaultNode, VaultNode]


def new(**changes: Any) -> NewNode:
    values: dict[str, Any] = {
        "hostname": "gamma.example",
        "port": 5389,
        "database_port": 3307,
        "system_role": "fallback",
        "ip_address": "127.0.31.3",
        "agent_id": "agent-gamma",
    }
    return NewNode(**{**values, **changes})


def rules(answer: object) -> list[tuple[str, str]]:
    assert isinstance(answer, list)
    return [(refused.rule, refused.field) for refused in answer]


class TestAdding:
    def test_a_node_gets_the_next_ordinal_and_one_event(self, pair: Pair, administrator: User) -> None:
        node = wishes.add_node(pair[0].vault, new(), administrator)
        assert isinstance(node, VaultNode)
        assert (node.ordinal, node.joined, node.agent_id) == (3, False, "agent-gamma")
        event = Event.objects.get()
        assert (event.node_name, event.epoch, event.actor) == ("gamma.example", 7, administrator.username)
        assert event.text == "node added as Fallback, 127.0.31.3"

    def test_the_published_row_is_not_touched(self, pair: Pair) -> None:
        before = Vault.objects.values().get()
        wishes.add_node(pair[0].vault, new(), None)
        assert Vault.objects.values().get() == before

    def test_an_ordinal_is_not_given_again_while_the_deleted_node_is_still_there(self, pair: Pair) -> None:
        assert wishes.remove_node(pair[1], None) is None
        node = wishes.add_node(pair[0].vault, new(), None)
        assert isinstance(node, VaultNode)
        assert node.ordinal == 3

    @pytest.mark.parametrize(
        ("changes", "expected"),
        [
            pytest.param({"hostname": "Beta.Example"}, [("W20", "hostname")], id="name"),
            pytest.param({"ip_address": "127.0.31.2"}, [("W21", "ip_address")], id="address"),
            pytest.param({"agent_id": "agent-beta"}, [("W22", "ip_address")], id="the same server under a new name"),
            pytest.param({"system_role": "primary"}, [("W23", "system_role")], id="second primary"),
            pytest.param(
                {"hostname": "alpha.example", "ip_address": "127.0.31.1", "agent_id": "agent-alpha"},
                [("W20", "hostname"), ("W21", "ip_address"), ("W22", "ip_address")],
                id="all at once",
            ),
        ],
    )
    def test_collisions_are_named_at_their_fields_and_nothing_is_saved(
        self, pair: Pair, changes: dict[str, str], expected: list[tuple[str, str]]
    ) -> None:
        assert rules(wishes.add_node(pair[0].vault, new(**changes), None)) == expected
        assert VaultNode.objects.count() == 2
        assert not Event.objects.exists()


class TestTakingOut:
    @pytest.mark.parametrize(
        "wish", [lambda n: wishes.set_active(n, False, None), lambda n: wishes.remove_node(n, None)]
    )
    def test_the_primary_stays(self, pair: Pair, wish: Callable[[VaultNode], RefusedWish | None]) -> None:
        refused = wish(pair[0])
        assert refused is not None
        assert refused.rule == "W30"
        assert not Event.objects.exists()

    @pytest.mark.parametrize(
        "wish", [lambda n: wishes.set_active(n, False, None), lambda n: wishes.remove_node(n, None)]
    )
    def test_the_target_of_a_failover_stays(self, pair: Pair, wish: Callable[[VaultNode], RefusedWish | None]) -> None:
        Vault.objects.update(promotable=None, intent={"kind": "failover", "target": pair[1].pk})
        refused = wish(pair[1])
        assert refused is not None
        assert refused.rule == "W31"

    def test_the_row_in_the_database_counts_not_the_one_in_hand(self, pair: Pair) -> None:
        """Between the question and Yes a failover has made it the primary."""
        in_hand = VaultNode.objects.select_related("vault").get(pk=pair[1].pk)
        assert wishes.why_not_take_out(in_hand.vault, in_hand) is None
        Vault.objects.update(primary=pair[1], promotable=None)
        for refused in (wishes.remove_node(in_hand, None), wishes.set_active(in_hand, False, None)):
            assert refused is not None
            assert refused.rule == "W30"

    def test_deactivating_is_one_event_and_saying_it_again_is_none(self, pair: Pair, administrator: User) -> None:
        for _ in range(2):
            assert wishes.set_active(pair[1], False, administrator) is None
        assert [(e.text, e.actor) for e in Event.objects.all()] == [("node made inactive", administrator.username)]
        assert wishes.set_active(pair[1], True, administrator) is None
        assert Event.objects.first().text == "node made active"

    def test_a_deleted_node_leaves_the_list_at_once_and_its_row_waits_for_the_service(self, pair: Pair) -> None:
        for _ in range(2):
            assert wishes.remove_node(pair[1], None) is None
        gone = VaultNode.objects.get(pk=pair[1].pk)
        assert gone.removed_at is not None
        assert not gone.active
        assert list(VaultNode.objects.present()) == [pair[0]]
        assert Event.objects.count() == 1

    def test_a_node_that_a_colleague_deleted_meanwhile_cannot_be_updated(self, pair: Pair) -> None:
        wishes.remove_node(pair[1], None)
        for active in (True, False):
            refused = wishes.set_active(pair[1], active, None)
            assert refused is not None
            assert refused.rule == "W32"


class TestServices:
    def test_start_and_stop_are_wishes_that_name_who_wished(self, service: AppService, administrator: User) -> None:
        wishes.start_service(service, administrator)
        assert AppService.objects.get(name="SystemHighAvailabilityService").desired_state == DesiredState.STARTED
        wishes.stop_service(service, administrator)
        assert AppService.objects.get(name="SystemHighAvailabilityService").desired_state == DesiredState.STOPPED
        assert [e.text.split(": ")[1] for e in Event.objects.order_by("pk")] == ["start requested", "stop requested"]
        assert {e.actor for e in Event.objects.all()} == {administrator.username}

    def test_what_the_leader_writes_is_left_alone(self, service: AppService) -> None:
        started = timezone.now() - timedelta(days=1)
        AppService.objects.update(started_on=started, last_completed_on=started)
        wishes.stop_service(service, None)
        change_setting(service, interval=2, days={}, seen="", actor=None)
        assert AppService.objects.filter(started_on=started, last_completed_on=started).exists()

    def test_run_now_asks_a_started_service_only(self, service: AppService) -> None:
        refused = wishes.run_service_now(service, None)
        assert refused is not None
        assert refused.rule == "W10"
        wishes.start_service(service, None)
        service.refresh_from_db()
        assert wishes.run_service_now(service, None) is None
        assert AppService.objects.get(name="SystemHighAvailabilityService").run_requested_at is not None


class TestResynchronizing:
    @pytest.fixture
    def handed(self) -> list[str]:
        return []

    @pytest.mark.django_db(transaction=True)
    def test_the_id_is_handed_over_after_the_row_is_there(self, pair: Pair, handed: list[str]) -> None:
        def enqueue(id: str) -> None:
            assert Operation.objects.filter(pk=id).exists()
            handed.append(id)

        operation = wishes.request_resynchronize(pair[0], None, enqueue)
        assert isinstance(operation, Operation)
        assert handed == [operation.pk]
        assert Event.objects.get().text == "Re-synchronize Master requested"

    @pytest.mark.django_db(transaction=True)
    def test_a_second_one_is_refused_while_the_first_is_open(self, pair: Pair, handed: list[str]) -> None:
        wishes.request_resynchronize(pair[0], None, handed.append)
        refused = wishes.request_resynchronize(pair[1], None, handed.append)
        assert isinstance(refused, RefusedWish)
        assert refused.rule == "W42"
        assert len(handed) == 1

    @pytest.mark.django_db(transaction=True)
    def test_without_a_queue_nothing_stays_open(self, pair: Pair) -> None:
        def enqueue(id: str) -> None:
            raise QueueUnavailable("no answer")

        refused = wishes.request_resynchronize(pair[0], None, enqueue)
        assert isinstance(refused, RefusedWish)
        assert refused.rule == "W43"
        operation = Operation.objects.get()
        assert operation.state == OperationState.FAILED
        assert operation.finished_at is not None

    def test_inactive_nodes_and_a_vault_without_primary_are_refused(self, pair: Pair, handed: list[str]) -> None:
        VaultNode.objects.filter(pk=pair[1].pk).update(active=False)
        refused = wishes.request_resynchronize(pair[1], None, handed.append)
        assert isinstance(refused, RefusedWish)
        assert refused.rule == "W40"
        Vault.objects.update(primary=None, promotable=None)
        refused = wishes.request_resynchronize(pair[0], None, handed.append)
        assert isinstance(refused, RefusedWish)
        assert refused.rule == "W41"
        assert handed == []

    def test_an_operation_ends_once(self, vault: Vault) -> None:
        operation = Operation.objects.create(kind="preflight", vault=vault)
        assert wishes.finish_operation(operation.pk, OperationState.CANCELLED, {"summary": "first"})
        assert not wishes.finish_operation(operation.pk, OperationState.FAILED, {"summary": "second"})
        assert Operation.objects.get().result == {"summary": "first"}
