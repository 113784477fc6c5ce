"""A rebuild in words, and when it exports first: everything but the copy itself, which tests/scenarios/test_rebuild.py makes."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from nodes.choices import OperationKind, OperationState
from nodes.models import Operation, VaultNode
from replication.core.report import NodeReport
from replication.core.roles import ProcessState
from replication.core.view import NodeView
from replication.jobs import rebuilding
from replication.jobs.catching_up import CaughtUp
from replication.jobs.copying import Copied
from replication.jobs.rebuilding import BEGIN_WITHIN, Course, may_have_more, still_held, wanted
from replication.jobs.resynchronization import copy_id
from tests.builders import report
from tests.nodes.test_screens import Pair

PRIMARY = report(db={"gtid_binlog_state": "0-1-100"})


@pytest.mark.parametrize(
    ("mine", "primary", "may"),
    [
        pytest.param(report(db={"gtid_binlog_state": "0-1-90"}), PRIMARY, False, id="it is behind"),
        pytest.param(report(needs_rebuild="purged", db={"gtid_binlog_state": "0-1-90"}), PRIMARY, False, id="purged"),
        pytest.param(report(db={"gtid_binlog_state": "", "gtid_slave_pos": ""}), PRIMARY, False, id="empty"),
        pytest.param(
            report(db={"gtid_binlog_state": "", "gtid_slave_pos": "0-1-101"}),
            PRIMARY,
            True,
            id="its logs were begun anew",
        ),
        pytest.param(report(quarantine="extra transactions 0-2-7"), PRIMARY, True, id="it is held"),
        pytest.param(report(db={"gtid_binlog_state": "0-1-90,0-2-91"}), PRIMARY, True, id="it follows, and has more"),
        pytest.param(report(db={"gtid_binlog_state": "0-1-90", "applier_errno": 1062}), PRIMARY, True, id="an error"),
        pytest.param(report(process=ProcessState.DEAD), PRIMARY, True, id="its database does not run"),
        pytest.param(report(database=None), PRIMARY, True, id="its database says nothing"),
        pytest.param(report(db={"gtid_binlog_state": "0-1-90"}), None, True, id="the Master does not answer"),
    ],
)
def test_what_may_have_more_than_the_master_is_exported_first(
    mine: NodeReport, primary: NodeReport | None, may: bool
) -> None:
    assert may_have_more(mine, primary) == may


@pytest.mark.parametrize(
    ("mine", "cause", "held"),
    [
        pytest.param(report(needs_rebuild="purged"), "purged", True, id="as it was"),
        pytest.param(report(quarantine="x" * 600), "x" * 500, True, id="in more words than are kept"),
        pytest.param(report(), "purged", False, id="it follows again"),
        pytest.param(report(quarantine="extra"), "purged", False, id="it is held for something else by now"),
        pytest.param(report(), "", True, id="a person wants it"),
    ],
)
def test_nothing_is_rebuilt_by_policy_for_what_is_over(mine: NodeReport, cause: str, held: bool) -> None:
    assert still_held(mine, cause) == held


NODE = NodeView(id="b" * 32, hostname="vault-b", ip="127.0.82.9")
COPIED = Copied(source="vault-a", bytes=3 * 2**30, seconds={"transfer": 61.4, "prepare": 5.0})
FOLLOWS = CaughtUp(1204, "0-1-100", 2.5)


@pytest.mark.parametrize(
    ("known", "story"),
    [
        pytest.param({}, "", id="nothing was done"),
        pytest.param({"exported": "3 transactions were exported."}, "3 transactions were exported. ", id="exported"),
        pytest.param(
            {"copied": COPIED, "caught_up": FOLLOWS, "differences": []},
            "vault-b was rebuilt from vault-a (3,072 MiB; transfer 61.4 s, prepare 5.0 s)."
            " It follows; 1,204 transactions were caught up in 2.5 s. It is equal to the Master. ",
            id="all of it",
        ),
        pytest.param(
            {"copied": Copied(), "differences": ["vault.accounts: 3 rows differ"]},
            "vault-b was rebuilt. It differs from the Master: vault.accounts: 3 rows differ. ",
            id="it differs",
        ),
        pytest.param(
            {"copied": Copied(), "not_compared": "it was not wanted"},
            "vault-b was rebuilt. Not compared with the Master: it was not wanted. ",
            id="not compared",
        ),
    ],
)
def test_the_story_says_what_was_done_and_no_more(known: dict[str, Any], story: str) -> None:
    assert Course(NODE, **known).story == story


def test_a_failure_says_which_data_the_node_has() -> None:
    assert rebuilding._failed(Course(NODE), "the disk is full; the node is as before") == (
        "Failed: the disk is full; the node is as before."
    )
    said = rebuilding._failed(Course(NODE, copied=Copied()), "it does not follow")
    assert said == "vault-b was rebuilt. But it does not follow. The old data is kept."


def test_each_copy_of_one_operation_has_an_id_of_its_own() -> None:
    one, two = copy_id("a" * 32, "b" * 32), copy_id("a" * 32, "c" * 32)
    assert one != two
    assert len(one) == 32
    assert one == copy_id("a" * 32, "b" * 32), "whichever worker asks"


@pytest.mark.parametrize(
    ("arguments", "rate"),
    [({}, 50), ({"mib_per_second": 7}, 7), ({"mib_per_second": None}, 0)],
    ids=["the vault's", "its own", "no limit"],
)
def test_the_rate(pair: Pair, arguments: dict[str, Any], rate: int) -> None:
    operation = Operation(kind=OperationKind.REBUILD, vault=pair[0].vault, node=pair[1], arguments=arguments)
    assert wanted(operation).bytes_per_second == rate * 2**20


def test_nobody_is_surprised_by_a_rebuild_of_yesterday(pair: Pair, lead: Callable[..., None]) -> None:
    made = Operation.objects.create(kind=OperationKind.REBUILD, vault=pair[0].vault, node=pair[1])
    Operation.objects.filter(pk=made.pk).update(created_at=timezone.now() - BEGIN_WITHIN - timedelta(seconds=1))
    rebuilding.run(made.pk)
    made.refresh_from_db()
    assert made.state == OperationState.FAILED
    assert "nothing was done" in made.result["summary"]
    assert VaultNode.objects.get(pk=pair[1].pk).rebuild_wish is None
