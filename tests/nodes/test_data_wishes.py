"""Wishes for work on data: each refusal with its rule, the row that is made, and what becomes of it without Redis.

- What is refused changes nothing; what is granted is one row, handed over once.
- While Redis is away a wish waits as long as somebody leads, who hands it over later; else it is refused.
"""

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from nodes.choices import OperationKind, OperationState
from nodes.models import Event, Operation, Vault, VaultNode
from nodes.models.operation import DATA_KINDS
from replication.core.roles import NodeStatus
from replication.stores.data_wishes import request
from replication.stores.wishes import QueueUnavailable, RefusedWish

Pair = tuple[VaultNode, VaultNode]
KEPT = {"operation": "o" * 32, "since": "2026-11-25T10:00:00+00:00", "bytes": 10**9}
WHY = "because of the test"
pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("led")]


@pytest.fixture
def led(lead: Callable[..., Any]) -> None:
    lead()


def no_queue(_operation: Operation) -> None:
    raise QueueUnavailable("connection refused")


def nobody(_operation: Operation) -> None:
    """Takes it and does nothing."""


def become(node: VaultNode, **fields: Any) -> VaultNode:
    VaultNode.objects.filter(pk=node.pk).update(**fields)
    node.refresh_from_db()
    return node


def open_one(node: VaultNode, kind: str) -> None:
    Operation.objects.create(kind=kind, vault=node.vault, node=node)


DIVERGED = {"status": NodeStatus.DIVERGED, "report": {"quarantine": "extra transactions 0-1-7"}}
REFUSED: list[Any] = [
    pytest.param("rebuild", lambda a, b: Vault.objects.update(primary=None, promotable=None), "W100", id="no Master"),
    pytest.param("rebuild", lambda a, b: become(b, active=False), "W101", id="inactive"),
    pytest.param("rebuild", lambda a, b: become(b, removed_at=timezone.now()), "W32", id="deleted"),
    pytest.param("rebuild", lambda a, b: become(b, status=NodeStatus.UNREACHABLE), "W102", id="silent"),
    pytest.param("undo", lambda a, b: None, "W104", id="nothing kept to put back"),
    pytest.param("remove-kept", lambda a, b: None, "W104", id="nothing kept to remove"),
    pytest.param(
        "rebuild", lambda a, b: Vault.objects.update(promotable=None, intent={"target": b.pk}), "W105", id="a failover"
    ),
    pytest.param("export", lambda a, b: None, "W107", id="nothing is lost"),
    pytest.param("rebuild", lambda a, b: open_one(b, OperationKind.RESYNCHRONIZE), "W108", id="re-synchronized now"),
    pytest.param("rebuild", lambda a, b: open_one(b, OperationKind.EXPORT), "W108", id="exported now"),
    pytest.param("verify", lambda a, b: open_one(a, OperationKind.VERIFY), "W108", id="compared now"),
    pytest.param("backup", lambda a, b: open_one(b, OperationKind.BACKUP), "W108", id="backed up now"),
    pytest.param(
        "export",
        lambda a, b: (become(b, **DIVERGED), open_one(b, OperationKind.EXPORT)),
        "W108",
        id="exported twice",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "arrange", "rule"), REFUSED)
def test_what_is_refused_says_why_and_makes_nothing(pair: Pair, kind: str, arrange: Any, rule: str) -> None:
    arrange(*pair)
    before = Operation.objects.count()
    answer = request(kind, pair[1], None, enqueue=no_queue)
    assert isinstance(answer, RefusedWish)
    assert answer.rule == rule
    assert Operation.objects.count() == before
    assert not Event.objects.exists()


@pytest.mark.parametrize(("kind", "rule"), [("rebuild", "W103"), ("undo", "W103"), ("export", "W107")])
def test_the_data_of_the_master_is_never_replaced(pair: Pair, kind: str, rule: str) -> None:
    answer = request(kind, become(pair[0], report={"kept": KEPT}), None, enqueue=nobody)
    assert isinstance(answer, RefusedWish)
    assert answer.rule == rule


@pytest.mark.parametrize("kind", ["rebuild", "undo"])
def test_what_only_the_leader_can_order_needs_one(pair: Pair, lead: Callable[..., Any], kind: str) -> None:
    lead(age=60)
    answer = request(kind, become(pair[1], report={"kept": KEPT}), None, enqueue=nobody)
    assert isinstance(answer, RefusedWish)
    assert answer.rule == "W106"


@pytest.mark.django_db(transaction=True)
def test_a_wish_is_one_row_with_its_event_and_is_handed_over_after_the_commit(pair: Pair, administrator: User) -> None:
    handed: list[str] = []
    arguments = {"source": pair[0].pk, "mib_per_second": 20, "without_list": False, "compare": True}
    made = request(
        OperationKind.REBUILD, pair[1], administrator, reason=WHY, arguments=arguments, typed=pair[1].hostname,
        enqueue=lambda operation: handed.append(Operation.objects.get(pk=operation.pk).state),
    )  # fmt: skip
    assert isinstance(made, Operation)
    assert handed == [OperationState.QUEUED]
    assert (made.kind, made.node, made.reason, made.arguments) == (OperationKind.REBUILD, pair[1], WHY, arguments)
    event = Event.objects.get()
    assert event.text == f"Rebuild (full copy) requested: {WHY}"
    assert event.operation == made.pk


def test_what_the_service_asks_for_says_by_what(pair: Pair) -> None:
    made = request(OperationKind.VERIFY, pair[1], None, by="every 24 h, by the vault's setting", enqueue=nobody)
    assert isinstance(made, Operation)
    event = Event.objects.get()
    assert (event.actor, event.operation) == ("", made.pk)
    assert event.text == "Compare with the Master begun by the service: every 24 h, by the vault's setting"


def test_the_vault_as_a_whole_can_be_compared_and_backed_up(pair: Pair) -> None:
    for kind in (OperationKind.VERIFY, OperationKind.BACKUP):
        made = request(kind, pair[0].vault, None, enqueue=nobody)
        assert isinstance(made, Operation)
        assert made.node is None


@pytest.mark.parametrize(
    ("kind", "state", "typed", "rule"),
    [
        pytest.param("rebuild", {}, "", "W62", id="it follows well"),
        pytest.param("rebuild", DIVERGED, "alpha.example", "W62", id="it has diverged"),
        pytest.param("rebuild", DIVERGED, "BETA.example ", "W63", id="typed, without a reason"),
        pytest.param("undo", {"report": {"kept": KEPT}}, "", "W62", id="undo"),
    ],
)
def test_what_could_be_lost_is_confirmed_by_its_hostname_and_a_reason(
    pair: Pair, kind: str, state: dict[str, Any], typed: str, rule: str
) -> None:
    answer = request(kind, become(pair[1], **state), None, typed=typed, enqueue=nobody)
    assert isinstance(answer, RefusedWish)
    assert answer.rule == rule


def test_a_node_that_cannot_go_on_is_rebuilt_without_typing(pair: Pair) -> None:
    become(pair[1], status=NodeStatus.ERROR, report={"needs_rebuild": "the Master has purged what it lacks"})
    assert isinstance(request("rebuild", pair[1], None, typed="", enqueue=nobody), Operation)


@pytest.mark.parametrize(
    "arguments", [{"mib_per_second": 0}, {"source": "b" * 32}, {"source": "f" * 32}], ids=["rate 0", "itself", "nobody"]
)
def test_what_could_never_work_is_refused_at_its_field(pair: Pair, arguments: dict[str, Any]) -> None:
    answer = request("rebuild", pair[1], None, arguments=arguments, enqueue=nobody)
    assert isinstance(answer, RefusedWish)
    assert (answer.rule, answer.field) == ("W109", next(iter(arguments)))


@pytest.mark.django_db(transaction=True)
def test_without_redis_it_waits_while_somebody_leads_and_says_so(pair: Pair) -> None:
    made = request("backup", pair[0].vault, None, enqueue=no_queue)
    assert isinstance(made, Operation)
    made.refresh_from_db()
    assert made.state == OperationState.QUEUED
    assert "Redis" in made.message


@pytest.mark.django_db(transaction=True)
def test_without_redis_and_a_leader_nothing_would_begin_it(pair: Pair, lead: Callable[..., Any]) -> None:
    lead(age=60)
    answer = request("backup", pair[0].vault, None, enqueue=no_queue)
    assert isinstance(answer, RefusedWish)
    assert answer.rule == "W43"
    assert Operation.objects.get().state == OperationState.FAILED


@pytest.mark.django_db(transaction=True)
def test_every_kind_has_its_function(redis: None) -> None:
    import django_rq

    from replication.jobs.queueing import FUNCTIONS, enqueue, enqueue_again

    assert set(FUNCTIONS) == {*DATA_KINDS, OperationKind.PREFLIGHT}
    for _ in range(2):
        enqueue("a" * 32, OperationKind.REBUILD)
    enqueue_again("a" * 32, OperationKind.REBUILD)
    assert django_rq.get_queue("ops").get_job_ids() == ["a" * 32]
