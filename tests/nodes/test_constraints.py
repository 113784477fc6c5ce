"""The database itself refuses what must never be, whoever writes; and who loses a race reads a sentence."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from nodes.choices import OperationKind, OperationState
from nodes.models import ApplicationNode, AppService, Event, Operation, Vault, VaultNode
from replication.core.roles import SystemRole
from replication.stores import wishes
from replication.stores.wishes import NewNode, RefusedWish

Pair = tuple[VaultNode, VaultNode]


def refuses(constraint: str, write: Callable[[], Any]) -> None:
    """SQLite names a check by its name, a unique index by its name or its columns."""
    with pytest.raises(IntegrityError) as caught, transaction.atomic():
        write()
    assert constraint in str(caught.value)


def third(vault: Vault, **changes: Any) -> VaultNode:
    values = {"hostname": "gamma.example", "ip_address": "127.0.31.3", "agent_id": "agent-gamma", "ordinal": 3}
    return VaultNode.objects.create(vault=vault, **{**values, **changes})


@pytest.mark.parametrize(
    ("changes", "constraint"),
    [
        pytest.param({"hostname": "beta.example"}, "node_hostname_once", id="a hostname twice"),
        pytest.param({"hostname": "BETA.Example"}, "node_hostname_once", id="a hostname twice, in capitals"),
        pytest.param({"ip_address": "127.0.31.2"}, "nodes_vaultnode.ip_address", id="an address twice"),
        pytest.param({"ip_address": "::ffff:127.0.31.2"}, "nodes_vaultnode.ip_address", id="an address twice, mapped"),
        pytest.param({"agent_id": "agent-beta"}, "nodes_vaultnode.agent_id", id="a server twice"),
        pytest.param({"system_role": SystemRole.PRIMARY}, "nodes_vaultnode.vault_id", id="a second primary"),
        pytest.param({"port": 0}, "node_port_in_range", id="port 0"),
        pytest.param({"port": 70000}, "node_port_in_range", id="port 70000"),
        pytest.param({"database_port": 0}, "node_database_port_in_range", id="database port 0"),
        pytest.param({"database_port": 70000}, "node_database_port_in_range", id="database port 70000"),
        pytest.param({"port": 3307}, "node_ports_differ", id="one port for agent and database"),
        pytest.param({"system_role": "master"}, "node_system_role_known", id="a role that does not exist"),
        pytest.param({"hostname": ""}, "node_hostname_not_empty", id="no hostname"),
    ],
)
def test_a_node_that_may_not_be_is_refused(vault: Vault, pair: Pair, changes: dict[str, Any], constraint: str) -> None:
    refuses(constraint, lambda: third(vault, **changes))
    assert VaultNode.objects.count() == 2


def test_a_deleted_node_blocks_neither_its_name_nor_its_address_nor_its_server(vault: Vault, pair: Pair) -> None:
    VaultNode.objects.filter(pk=pair[1].pk).update(removed_at=timezone.now())
    third(vault, hostname="beta.example", ip_address="127.0.31.2", agent_id="agent-beta")


def test_nodes_whose_server_is_not_known_do_not_collide(vault: Vault, pair: Pair) -> None:
    VaultNode.objects.update(agent_id="")
    third(vault, agent_id="")


@pytest.mark.parametrize(
    ("write", "constraint"),
    [
        pytest.param(lambda a, b: {"promotable": a}, "vault_promotable_is_not_primary", id="primary is its own acker"),
        pytest.param(lambda a, b: {"primary": None}, "vault_promotable_needs_primary", id="an acker without primary"),
        pytest.param(
            lambda a, b: {"intent": {"kind": "failover"}}, "vault_open_intent_publishes_nobody", id="intent and acker"
        ),
    ],
)
def test_a_published_row_that_contradicts_itself_is_refused(
    vault: Vault, pair: Pair, write: Callable[[VaultNode, VaultNode], dict[str, Any]], constraint: str
) -> None:
    refuses(constraint, lambda: Vault.objects.filter(pk=vault.pk).update(**write(*pair)))


@pytest.mark.parametrize("which", [0, 1])
def test_a_node_that_is_published_cannot_be_deleted_from_under_the_vault(pair: Pair, which: int) -> None:
    with pytest.raises(IntegrityError):
        pair[which].delete()


@pytest.mark.parametrize(
    ("changes", "constraint"),
    [
        ({"percent": 101}, "operation_percent_in_range"),
        ({"state": "lost"}, "operation_state_known"),
        ({"state": OperationState.SUCCEEDED}, "operation_finished_has_a_time"),
        ({"finished_at": timezone.now()}, "operation_finished_has_a_time"),
    ],
)
def test_an_operation_that_contradicts_itself_is_refused(
    vault: Vault, changes: dict[str, Any], constraint: str
) -> None:
    values = {"kind": OperationKind.PREFLIGHT, "vault": vault}
    refuses(constraint, lambda: Operation.objects.create(**{**values, **changes}))


def test_a_vault_has_one_open_resynchronization_at_most(vault: Vault) -> None:
    Operation.objects.create(kind=OperationKind.RESYNCHRONIZE, vault=vault, state=OperationState.RUNNING)
    refuses(
        "nodes_operation.vault_id",
        lambda: Operation.objects.create(kind=OperationKind.RESYNCHRONIZE, vault=vault),
    )
    Operation.objects.create(kind=OperationKind.PREFLIGHT, vault=vault)
    Operation.objects.update(state=OperationState.FAILED, finished_at=timezone.now())
    Operation.objects.create(kind=OperationKind.RESYNCHRONIZE, vault=vault)


@pytest.mark.parametrize(
    ("changes", "constraint"),
    [
        ({"trigger_interval": 0.1}, "service_interval_in_range"),
        ({"trigger_interval": 86401}, "service_interval_in_range"),
        ({"desired_state": "paused"}, "service_state_known"),
    ],
)
def test_a_service_that_may_not_be_is_refused(service: AppService, changes: dict[str, Any], constraint: str) -> None:
    refuses(constraint, lambda: AppService.objects.filter(pk=service.pk).update(**changes))


def test_an_event_of_no_known_level_is_refused(vault: Vault) -> None:
    refuses("event_level_known", lambda: Event.objects.create(text="x", level="loud"))


def test_an_application_host_without_a_name_is_refused(vault: Vault) -> None:
    refuses(
        "application_hostname_not_empty",
        lambda: ApplicationNode.objects.create(hostname="", version="1", last_seen=timezone.now()),
    )


def new(number: int, **changes: Any) -> NewNode:
    values: dict[str, Any] = {
        "hostname": f"vault-{number}.example",
        "port": 5389,
        "database_port": 3307,
        "system_role": "fallback",
        "ip_address": f"127.0.31.{100 + number}",
        "agent_id": f"agent-{number}",
    }
    return NewNode(**{**values, **changes})


RACERS = 4


@pytest.mark.parametrize(
    ("same", "field"),
    [
        ({"hostname": "same.example"}, "hostname"),
        ({"ip_address": "127.0.31.200"}, "ip_address"),
        ({"agent_id": "the-same-server"}, "ip_address"),
        ({"system_role": "primary"}, "system_role"),
    ],
)
@pytest.mark.django_db(transaction=True)
def test_of_several_who_save_the_same_in_one_moment_one_wins_and_the_others_read_why(
    same: dict[str, Any], field: str
) -> None:
    """Real connections on a real file: each thread has its own."""
    vault = Vault.objects.create(name="Raced for")
    together = threading.Barrier(RACERS)
    answers: list[VaultNode | list[RefusedWish]] = []

    def save(number: int) -> None:
        try:
            together.wait(10)
            answers.append(wishes.add_node(vault, new(number, **same), None))
        finally:
            connection.close()

    threads = [threading.Thread(target=save, args=(number,)) for number in range(RACERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    winners = [answer for answer in answers if isinstance(answer, VaultNode)]
    refused = [answer for answer in answers if isinstance(answer, list)]
    assert (len(winners), len(refused)) == (1, RACERS - 1)
    assert {(r.field, winners[0].hostname in r.says) for one in refused for r in one} == {(field, True)}
    assert [n.hostname for n in VaultNode.objects.all()] == [winners[0].hostname]
    assert Event.objects.count() == 1


def test_what_only_the_database_refuses_is_a_sentence_as_well(vault: Vault) -> None:
    answer = wishes.add_node(vault, new(1, database_port=5389), None)
    assert isinstance(answer, list)
    (refused,) = answer
    assert refused.rule == "W24"
    assert "try again" in refused.says
    assert not VaultNode.objects.exists()
    assert not Event.objects.exists()
