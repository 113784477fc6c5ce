"""What to do next: every rule of the plan, what a stopped service still does, and what an open intent forbids."""

from datetime import timedelta

import pytest

from replication.core import limits
from replication.core.plan import RULES, ActionKind, needs_follow, plan
from replication.core.roles import OrderKind, ProcessState, Witness
from replication.core.view import NodeView, VaultView
from tests.builders import LONG, id_of, intent, node, primary, report, vault

SOLO, LOSSLESS = OrderKind.SOLO, OrderKind.LOSSLESS
DEAF = {"db": {"heard_age": LONG.total_seconds()}}
DEAD = {"process": ProcessState.DEAD}
FAR = {"db": {"gtid_io_pos": "0-1-1", "gtid_slave_pos": "0-1-1"}}
NEVER_PRIMARY = {"order": OrderKind.NONE, "db": {"source": ""}, "primary_order_kind": OrderKind.NONE}
HOST_DIED = primary(silent=LONG, witness=Witness.SILENT)
OPEN_INTENT = intent("b", "a")


def begun(*nodes: NodeView, **changes: object) -> VaultView:
    """A failover from "a" to "b" that nobody has finished."""
    return vault(*nodes, intent=OPEN_INTENT, may_ack={"b"}, **changes)


CASES = [
    # An open intent.
    pytest.param(begun(HOST_DIED, node("b", says=DEAF)), "P10", "b", id="begun, and the entitled node is there"),
    pytest.param(begun(primary(), node("b")), "P10", "b", id="begun, although the primary is back: finish"),
    pytest.param(
        begun(primary(), node("b", silent=LONG)), "P15", "a", id="begun, the entitled node is gone: give it back"
    ),
    pytest.param(
        begun(primary(), node("b", says={"tainted": True})), "P15", "a", id="begun, but it lost its relay log"
    ),
    pytest.param(
        begun(primary(), node("b", says={"quarantine": "extra"})), "P15", "a", id="begun, but it is held back"
    ),
    pytest.param(begun(primary(), node("b", blocked=True)), "P15", "a", id="a try failed and the old primary lives"),
    pytest.param(
        begun(primary(says=DEAD), node("b", says=DEAD)), "P15", "a", id="both dead: the old primary comes back"
    ),
    pytest.param(
        begun(primary(says=DEAD), node("b", blocked=True)),
        None,
        None,
        id="a try failed, the old one is dead: again soon",
    ),
    pytest.param(
        begun(primary(says=DEAD), node("b", blocked=True, says={"db": {"applier_errno": 1062}})),
        "P15",
        "a",
        id="a try failed and will fail again: its applier has stopped",
    ),
    pytest.param(
        vault(primary(says=DEAD), node("b", blocked=True), node("c", silent=LONG), intent=intent("b", "a", "b", "c")),
        "P15",
        "a",
        id="a try failed and will fail again: a node that must revoke is gone",
    ),
    pytest.param(begun(primary(), node("b", silent=timedelta(seconds=0.1))), None, None, id="it may only be late"),
    pytest.param(begun(HOST_DIED, node("b", silent=LONG)), None, None, id="nobody is there"),
    pytest.param(begun(primary(says={"quarantine": "extra"}), node("b", silent=LONG)), None, None, id="nobody may"),
    # No primary yet.
    pytest.param(
        vault(node("a", says=NEVER_PRIMARY), node("b", says=NEVER_PRIMARY), primary="", promotable=""),
        "P20",
        "a",
        id="the first primary is the configured one",
    ),
    pytest.param(
        vault(node("b", says=NEVER_PRIMARY), primary="", promotable=""), None, None, id="only a fallback was added"
    ),
    pytest.param(
        vault(
            node("a", says={**NEVER_PRIMARY, "primary_order_kind": SOLO, "primary_order_epoch": 3}),
            node("b", says={**NEVER_PRIMARY, "primary_order_kind": SOLO, "primary_order_epoch": 7}),
            primary="",
            promotable="",
        ),
        "P20",
        "b",
        id="agents remember a primary that the row does not: the latest order wins",
    ),
    pytest.param(
        vault(
            node("a", says={**NEVER_PRIMARY, "primary_order_kind": SOLO, "primary_order_epoch": 3}),
            node("b", silent=LONG),
            primary="",
            promotable="",
        ),
        None,
        None,
        id="agents remember a primary, but not all of them answer",
    ),
    pytest.param(
        vault(node("a", says={**NEVER_PRIMARY, "quarantine": "x"}), primary="", promotable=""),
        None,
        None,
        id="held back",
    ),
    # The primary is lost.
    pytest.param(vault(HOST_DIED, node("b", says=DEAF)), "P30", "b", id="the host died: promote the acker"),
    pytest.param(vault(primary(says=DEAD), node("b")), "P30", "b", id="the database died: promote the acker"),
    pytest.param(vault(HOST_DIED, node("b", says=DEAF), solo=True), None, None, id="solo: nobody is promoted"),
    # Operators' wishes.
    pytest.param(vault(primary(), node("b", active=False)), "P40", "b", id="made inactive"),
    pytest.param(vault(primary(), node("b"), node("c", removed=True, active=False)), "P40", "c", id="deleted"),
    pytest.param(
        vault(primary(), node("b"), node("c", active=False, blocked=True)), None, None, id="again in a moment"
    ),
    pytest.param(
        vault(primary(), node("b"), node("c", removed=True, active=False, detached=True)),
        "P42",
        "c",
        id="deleted while it was away, and back",
    ),
    pytest.param(
        vault(primary(), node("b"), node("c", removed=True, active=False, detached=True, silent=LONG)),
        None,
        None,
        id="deleted and still away",
    ),
    pytest.param(
        vault(primary(solo=True), node("b", detached=True, says={"db": {"source": ""}}), solo=True),
        "P65",
        "b",
        id="made active again",
    ),
    pytest.param(
        vault(
            primary(solo=True),
            node("b", detached=True, locked_out=True, says={"db": {"receiver": "Connecting", "receiver_errno": 4151}}),
            solo=True,
        ),
        "P65",
        "b",
        id="made active again after it was locked out",
    ),
    pytest.param(vault(primary(), node("b"), node("c", resync_wanted=True)), "P65", "c", id="re-synchronize"),
    # Losing the acker.
    pytest.param(vault(running=False), "P45", "a", id="stopped: nobody must wait"),
    pytest.param(
        vault(primary(silent=LONG, witness=Witness.SILENT), node("b", says=DEAF), running=False),
        None,
        None,
        id="stopped while the primary is away: the acker stays published for the next start",
    ),
    pytest.param(vault(acker_missing_for=limits.ACKER_LOST_AFTER), "P50", "a", id="the acker is gone for the limit"),
    pytest.param(vault(primary(), node("b", says=DEAD)), "P50", "a", id="the acker says that it is dead"),
    pytest.param(
        vault(primary(says={"db": {"commits_stuck_for": 1.6}}), node("b")),
        "P50",
        "a",
        id="commits hang on a slow acker",
    ),
    pytest.param(
        vault(acker_missing_for=limits.ACKER_LOST_AFTER, stay_writable=False), None, None, id="policy: block instead"
    ),
    pytest.param(
        vault(primary(silent=timedelta(seconds=0.2)), node("b", says=DEAD)),
        None,
        None,
        id="the primary must answer to go solo",
    ),
    pytest.param(vault(primary(solo=True), node("b")), "P52", "a", id="it acknowledges alone: correct the record"),
    pytest.param(vault(primary(), node("b"), solo=True), "P55", "a", id="it waits for nobody: release the commits"),
    # The primary is closed.
    pytest.param(
        vault(node("a", says={"db": {"source": ""}}), node("b"), solo=True), "P60", "a", id="the primary has no order"
    ),
    pytest.param(
        vault(node("a", says={"process": ProcessState.STARTING}), node("b"), solo=True), None, None, id="it is starting"
    ),
    pytest.param(
        vault(node("a", says={"quarantine": "extra", "db": {"source": ""}}), node("b"), solo=True),
        None,
        None,
        id="held back",
    ),
    # Following.
    pytest.param(
        vault(primary(), node("b"), node("c", says={"db": {"source": ""}})), "P70", "c", id="it follows nobody"
    ),
    pytest.param(
        vault(primary(), node("b"), node("c", says={"db": {"source": "b"}})), "P70", "c", id="it follows somebody else"
    ),
    pytest.param(
        vault(
            primary(),
            node("b"),
            node("c", locked_out=True, says={"db": {"receiver": "Connecting", "receiver_errno": 4151}}),
        ),
        "P70",
        "c",
        id="it is back after it was locked out",
    ),
    pytest.param(
        vault(primary(solo=True), node("b", active=False, detached=True, says={"db": {"source": ""}}), solo=True),
        None,
        None,
        id="an inactive one is left alone",
    ),
    # Becoming lossless.
    pytest.param(vault(solo=True), "P80", "b", id="a fallback keeps up"),
    pytest.param(
        vault(primary(solo=True), node("b", says={"db": {"receiver_up_for": 0.3}}), solo=True),
        None,
        None,
        id="not steady yet",
    ),
    pytest.param(
        vault(primary(solo=True, says={"db": {"gtid_binlog_pos": "0-1-5000"}}), node("b", says=FAR), solo=True),
        None,
        None,
        id="too far behind",
    ),
    pytest.param(
        vault(primary(solo=True), node("b", says={"db": {"drift": ("sync_binlog is 0, must be 1",)}}), solo=True),
        None,
        None,
        id="its settings are not safe",
    ),
    pytest.param(
        vault(primary(solo=True), node("b", blocked=True), solo=True), None, None, id="a proof failed a moment ago"
    ),
    pytest.param(
        vault(primary(solo=True), node("b", resting=True), solo=True), None, None, id="commits hung on it just now"
    ),
    pytest.param(vault(), None, None, id="lossless and well: nothing to do"),
]


@pytest.mark.parametrize(("view", "rule", "name"), CASES)
def test_plan(view: VaultView, rule: str | None, name: str | None) -> None:
    action = plan(view)
    assert (action.rule if action else None) == rule
    assert (action.node if action else None) == (id_of(name) if name else None)


def test_every_rule_has_a_case() -> None:
    assert {case.values[1] for case in CASES} - {None} == {rule.id for rule in RULES}


def test_the_table_is_well_formed() -> None:
    ids = [rule.id for rule in RULES]
    assert len(set(ids)) == len(ids)
    assert ids == sorted(ids)
    assert {rule.kind for rule in RULES} == set(ActionKind), "every kind of action has a rule"
    assert all(rule.says for rule in RULES)


def test_an_open_intent_comes_before_everything() -> None:
    first, second, *others = RULES
    assert {first.kind, second.kind} == {ActionKind.FINISH, ActionKind.ROLL_BACK}
    for case in CASES:
        view: VaultView = case.values[0]
        if view.topology.intent is not None:
            assert all(rule.pick(view) is None for rule in others), case.id


@pytest.mark.parametrize("rule", [rule for rule in RULES if not rule.always], ids=lambda rule: rule.id)
def test_a_stopped_service_does_nothing_by_itself(rule: object) -> None:
    for case in CASES:
        view: VaultView = case.values[0]
        stopped = VaultView(topology=view.topology, nodes=view.nodes, running=False)
        action = plan(stopped)
        assert action is None or action.rule != rule.id, case.id  # type: ignore[attr-defined]  # the table's row


@pytest.mark.parametrize(
    ("name", "view"),
    [
        ("made inactive", vault(primary(solo=True), node("b", active=False), solo=True, running=False)),
        ("deleted", vault(primary(solo=True), node("b", removed=True, active=False), solo=True, running=False)),
        (
            "made active",
            vault(primary(solo=True), node("b", detached=True, says={"db": {"source": ""}}), solo=True, running=False),
        ),
        ("asked to re-synchronize", vault(primary(solo=True), node("b", resync_wanted=True), solo=True, running=False)),
        ("begun", begun(primary(), node("b"), running=False)),
    ],
)
def test_a_stopped_service_carries_out_wishes(name: str, view: VaultView) -> None:
    assert plan(view) is not None, name


A = primary()


@pytest.mark.parametrize(
    ("b", "needs"),
    [
        pytest.param(node("b"), False, id="it follows"),
        pytest.param(node("b", silent=LONG), False, id="it does not answer"),
        pytest.param(node("b", says={"verb": "follow"}), False, id="its agent is busy with a command"),
        pytest.param(node("b", says={"quarantine": "extra"}), False, id="it has diverged: a person decides"),
        pytest.param(
            node("b", says={"quarantine": "extra"}, resync_wanted=True), True, id="a person wants it judged again"
        ),
        pytest.param(node("b", says={"needs_rebuild": "purged"}), False, id="only a full copy can help"),
        pytest.param(node("b", says=DEAD), False, id="a replica's database is restarted by its own agent"),
        pytest.param(
            node("b", says={**DEAD, "primary_order_kind": LOSSLESS}), True, id="a former primary's waits for this order"
        ),
        pytest.param(node("b", says={"process": ProcessState.STARTING}), False, id="it is starting"),
        pytest.param(node("b", report=report("b", database=None)), False, id="SQL has not answered yet"),
        pytest.param(node("b", says={"tainted": True}), True, id="it restarted without its relay log"),
        pytest.param(node("b", says={"order": SOLO}), True, id="it thinks that it is a primary"),
        pytest.param(node("b", says={"db": {"read_only": False}}), True, id="it is open to writes"),
        pytest.param(node("b", says={"db": {"receiver": "No"}}), True, id="its receiver was stopped"),
        pytest.param(node("b", says={"db": {"applier": False}}), True, id="its applier was stopped"),
        pytest.param(
            node("b", says={"db": {"receiver": "No", "receiver_errno": 1236}}),
            False,
            id="an error that a retry cannot mend",
        ),
        pytest.param(node("b", says={"db": {"receiver": "Connecting"}}), False, id="it connects by itself"),
    ],
)
def test_a_node_needs_to_be_told_to_follow(b: NodeView, needs: bool) -> None:
    assert needs_follow(b, A) is needs
