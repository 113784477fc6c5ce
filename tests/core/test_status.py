"""The words of the screen: status and current role of each row, and why the vault is in its state."""

from dataclasses import replace
from datetime import timedelta

import pytest

from replication.core.roles import IntentKind, NodeStatus, OrderKind, ProcessState, VaultState, Witness
from replication.core.status import current_roles, node_status, vault_reason
from replication.core.tasks import TaskKind, TaskPhase
from replication.core.view import NodeView, VaultView
from tests.builders import LONG, id_of, intent, node, primary, task, topology, vault

S, P = NodeStatus, TaskPhase
STATUSES = [
    pytest.param(primary(), S.MASTER, "", id="the open primary"),
    pytest.param(node("a", says={"db": {"source": ""}}), S.MASTER_CLOSED, "", id="the closed primary"),
    pytest.param(primary(says={"db": {"read_only": True}}), S.MASTER_READ_ONLY, "", id="closed by hand"),
    pytest.param(primary(says={"closed_by_lease": True, "db": {"read_only": True}}), S.MASTER_FENCED, "", id="it closed itself"),
    pytest.param(primary(says={"db": {"connections": 300}}), S.MASTER_FULL, "300 of 300", id="no connection is left"),
    pytest.param(primary(says={"disk_error": "No space left on device"}), S.DISK_ERROR, "No space left on device", id="its disk is full"),
    pytest.param(node("b", says={"disk_error": "Read-only file system"}), S.DISK_ERROR, "Read-only file system", id="a fallback's disk failed"),
    pytest.param(primary(says={"process": ProcessState.DEAD}), S.DATABASE_DOWN, "dead", id="its database died"),
    pytest.param(node("b"), S.WAITING, "", id="a fallback in step"),
    pytest.param(node("b", says={"db": {"seconds_behind": 7.4}}), S.CATCHING_UP, "7 s", id="seconds behind"),
    pytest.param(node("b", says={"db": {"seconds_behind": 0.4}}), S.WAITING, "", id="less than a second is in step"),
    pytest.param(node("b", says={"db": {"receiver": "Connecting", "receiver_error": "no route"}}), S.CONNECTING, "no route", id="it connects"),
    pytest.param(node("b", says={"db": {"heard_age": 20.0}}), S.CONNECTING, "", id="Slave_IO_Running says Yes, but nothing is heard"),
    pytest.param(node("b", says={"db": {"applier_errno": 1062, "applier_error": "Duplicate entry"}}), S.ERROR, "Duplicate entry", id="its applier stopped"),
    pytest.param(node("b", says={"db": {"receiver": "No", "receiver_errno": 1236, "receiver_error": "not in the master's binlog"}}), S.ERROR, "not in the master's binlog", id="its receiver stopped"),
    pytest.param(node("b", says={"needs_rebuild": "binary logs were purged"}), S.ERROR, "binary logs were purged", id="only a copy helps"),
    pytest.param(node("b", says={"db": {"source": ""}}), S.NOT_FOLLOWING, "", id="no source yet"),
    pytest.param(node("b", says={"task": task(done=371, total=1000)}), S.RESYNCHRONIZING, "37 %", id="data comes in"),
    pytest.param(node("b", says={"task": task(done=1100, total=1000)}), S.RESYNCHRONIZING, "99 %", id="more than was expected"),
    pytest.param(node("b", says={"task": task(done=7)}), S.RESYNCHRONIZING, "copying", id="nobody knows how much"),
    pytest.param(node("b", says={"task": task(phase=P.WAITING)}), S.RESYNCHRONIZING, "waiting for the source", id="nothing came yet"),
    pytest.param(node("b", says={"task": task(phase=P.PREPARING)}), S.RESYNCHRONIZING, "preparing", id="all came"),
    pytest.param(node("b", says={"task": task(phase=P.SWAPPING), "process": ProcessState.DOWN}), S.RESYNCHRONIZING, "putting it in place", id="the swap"),
    pytest.param(node("b", says={"task": task(TaskKind.UNDO)}), S.RESYNCHRONIZING, "back to the data of before", id="the undoing"),
    pytest.param(node("b", says={"task": task(), "quarantine": "extra"}), S.RESYNCHRONIZING, "copying", id="diverged, and being rebuilt"),
    pytest.param(node("b", says={"task": task(phase=P.FAILED), "quarantine": "extra"}), S.DIVERGED, "extra", id="diverged, and its copy failed"),
    pytest.param(node("b", says={"task": task(TaskKind.SEND)}), S.WAITING, "", id="a source is a fallback like any other"),
    pytest.param(node("b", says={"quarantine": "extra transactions 0-1-7"}), S.DIVERGED, "extra transactions 0-1-7", id="diverged"),
    pytest.param(node("b", says={"process": ProcessState.STARTING}), S.DATABASE_DOWN, "starting", id="its database starts"),
    pytest.param(node("b", silent=LONG), S.UNREACHABLE, "silent", id="silent for long"),
    pytest.param(node("b", silent=timedelta(seconds=0.3)), S.WAITING, "", id="one lost packet changes no word"),
    pytest.param(node("b", never=True, link="certificate"), S.UNREACHABLE, "certificate", id="wrong certificate"),
    pytest.param(node("b", never=True), S.UNKNOWN, "", id="not asked yet"),
    pytest.param(node("b", active=False, detached=True, silent=LONG), S.INACTIVE, "", id="inactive, whatever it does"),
    pytest.param(node("b", active=False), S.WAITING, "", id="made inactive, but not carried out yet"),
]  # fmt: skip


@pytest.mark.parametrize(("n", "status", "detail"), STATUSES)
def test_status(n: NodeView, status: NodeStatus, detail: str) -> None:
    view = vault(n, node("b")) if n.id == id_of("a") else vault(primary(), n)
    assert node_status(view, n) == (status, detail)


def test_every_status_has_a_case() -> None:
    assert {case.values[1] for case in STATUSES} == set(NodeStatus)


def roles(view: VaultView) -> dict[str, str]:
    return {view.node(id).hostname[0]: role for id, role in current_roles(view).items()}  # type: ignore[union-attr]


def test_current_roles_are_numbered_in_the_order_of_adding() -> None:
    assert roles(vault(node("c"), primary(), node("b"))) == {"a": "Primary-1", "b": "Fallback-1", "c": "Fallback-2"}


def test_current_roles_after_a_failover() -> None:
    view = vault(node("a"), primary(id=id_of("b"), hostname="b.example", ordinal=2), primary="b", promotable="")
    assert roles(view) == {"a": "Fallback-1", "b": "Primary-1"}


def test_before_there_is_a_primary_nobody_has_a_current_role() -> None:
    assert set(roles(vault(node("a"), node("b"), primary="", promotable="")).values()) == {""}


def test_a_deleted_node_has_no_current_role() -> None:
    assert roles(vault(primary(), node("b", removed=True), node("c"))) == {"a": "Primary-1", "b": "", "c": "Fallback-1"}


@pytest.mark.parametrize(
    ("row", "state"),
    [
        ({}, VaultState.LOSSLESS),
        ({"promotable": ""}, VaultState.SOLO),
        ({"primary": "", "promotable": ""}, VaultState.NEW),
        ({"intent": intent()}, VaultState.CHANGING),
    ],
)
def test_the_state_of_a_vault(row: dict[str, object], state: VaultState) -> None:
    assert topology(**row).state is state


ADOPTING = replace(intent("b", "a", "a", "b"), kind=IntentKind.ADOPT, target="", entitled="")
LOST = primary(silent=LONG, witness=Witness.SILENT)
DEAF = {"db": {"heard_age": 20.0}}


@pytest.mark.parametrize(
    ("view", "words"),
    [
        pytest.param(vault(), "every acknowledged write is also on b.example", id="lossless"),
        pytest.param(vault(primary="", promotable=""), "add a node with system role Primary", id="new"),
        pytest.param(vault(intent=intent()), "a failover is under way", id="changing"),
        pytest.param(vault(LOST, node("b", says=DEAF)), "no replica hears it", id="lost, and about to be replaced"),
        pytest.param(
            vault(LOST, node("b", says=DEAF), solo=True), "nobody is promoted: the vault is solo", id="lost while solo"
        ),
        pytest.param(
            vault(intent=replace(intent(), kind=IntentKind.SWITCHOVER)), "a switchover is under way", id="switching"
        ),
        pytest.param(
            vault(primary(), node("b", silent=LONG), intent=ADOPTING),
            "waits for b.example: start its agent, or delete it",
            id="adopting, and somebody is missing",
        ),
        pytest.param(vault(intent=ADOPTING), "every agent is asked who the Master is", id="adopting"),
        pytest.param(
            vault(epoch=4), "the metadata database is older than what the agents", id="the row is out of date"
        ),
        pytest.param(vault(high_water=6), "the metadata database is older", id="this host knows a later epoch"),
        pytest.param(
            vault(primary(says={"disk_error": "No space left on device"}), node("b")),
            "its disk takes no writes",
            id="its disk is full",
        ),
        pytest.param(
            vault(primary(says={"db": {"read_only": True}}), node("b")), "maintenance, not a failure", id="by hand"
        ),
        pytest.param(
            vault(primary(says={"db": {"connections": 300}}), node("b")), "its connection table is full", id="full"
        ),
        pytest.param(
            vault(LOST, node("b", says=DEAF), silence_hold=timedelta(seconds=41)),
            "another one is held back for 41 s more",
            id="lost, and held back after the last one",
        ),
        pytest.param(vault(solo=True, running=False), "the service is stopped", id="stopped"),
        pytest.param(vault(primary(solo=True), solo=True), "there is no fallback", id="alone"),
        pytest.param(
            vault(primary(solo=True), node("b", active=False, detached=True), solo=True),
            "no fallback is active",
            id="inactive",
        ),
        pytest.param(
            vault(primary(solo=True), node("b", silent=LONG), solo=True),
            "b.example is unreachable",
            id="the fallback is away",
        ),
        pytest.param(
            vault(primary(solo=True), node("b", says={"quarantine": "extra 0-1-7"}), solo=True),
            "b.example is diverged: extra 0-1-7",
            id="the fallback has diverged",
        ),
    ],
)
def test_why_the_vault_is_in_its_state(view: VaultView, words: str) -> None:
    assert words in vault_reason(view)


def test_a_primary_without_an_order_is_shown_closed_whatever_the_row_says() -> None:
    closed = node("a", says={"order": OrderKind.NONE, "db": {"source": ""}})
    assert node_status(vault(closed, node("b")), closed)[0] is S.MASTER_CLOSED


def test_a_node_that_nobody_looks_at_is_unknown() -> None:
    unseen = replace(node("b", never=True), silence=None)
    assert node_status(vault(primary(), unseen), unseen) == (S.UNKNOWN, "")
