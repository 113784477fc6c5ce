"""When even a stopped service has work in a vault, and how an intent is kept."""

from dataclasses import replace

import pytest

from replication.core.roles import NodeStatus
from replication.core.snapshot import NodeRow, VaultConfig
from replication.core.view import Intent, NodeView
from tests.builders import id_of, intent, node, topology

SOLO = {"promotable": "", "may_ack": set()}


@pytest.mark.parametrize(
    ("row", "nodes", "waiting"),
    [
        pytest.param(SOLO, [node("a"), node("b")], False, id="solo, nobody wishes anything"),
        pytest.param({}, [node("a"), node("b")], True, id="lossless: commits must not wait for anybody"),
        pytest.param({"intent": intent()}, [node("a"), node("b")], True, id="a failover was begun"),
        pytest.param(SOLO, [node("a"), node("b", active=False)], True, id="to be made inactive"),
        pytest.param(SOLO, [node("a"), node("b", active=False, detached=True)], False, id="inactive"),
        pytest.param(SOLO, [node("a"), node("b", active=False, removed=True)], True, id="to be taken out"),
        pytest.param(SOLO, [node("a"), node("b", detached=True)], True, id="to be made active"),
        pytest.param(SOLO, [node("a"), node("b", resync_wanted=True)], True, id="to be re-synchronized"),
        pytest.param({**SOLO, "primary": ""}, [node("a"), node("b", detached=True)], False, id="nobody to follow"),
        pytest.param(SOLO, [node("a", resync_wanted=True)], False, id="the primary follows nobody"),
    ],
)
def test_work_is_waiting(row: dict[str, object], nodes: list[NodeView], waiting: bool) -> None:
    assert VaultConfig(topology=topology(**row), nodes=tuple(nodes)).work_is_waiting is waiting


def test_a_report_alone_does_not_make_a_row_new() -> None:
    row = NodeRow(status=NodeStatus.MASTER, detail="", current_role="Primary-1", report={"version": 1}, stable=("x",))
    assert row == replace(row, report={"version": 2})
    assert row != replace(row, stable=("y",))


def test_an_intent_survives_its_json() -> None:
    made = intent("b", "a", "b", "c")
    assert Intent.from_json(made.to_json()) == made
    assert Intent.from_json(None) is None
    assert made.to_json()["must_revoke"] == [id_of("b"), id_of("c")]
