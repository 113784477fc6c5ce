"""What to do next: every rule of the plan, what a stopped service still does, and what an open intent forbids."""

from dataclasses import replace
from datetime import timedelta

import pytest

from replication.core import limits
from replication.core.followers import needs_follow
from replication.core.plan import RULES, ActionKind, plan
from replication.core.roles import IntentKind, OrderKind, ProcessState, SystemRole, Witness
from replication.core.tasks import TaskPhase
from replication.core.view import NodeView, RebuildWish, SwitchoverWish, VaultView
from tests.builders import LONG, id_of, intent, node, primary, report, task, vault

FORGOT = node("a", says={"vault": "", "node": "", "db": {"source": ""}})
RESTORED = node("a", says={"vault": "", "node": "", "db": {"source": ""}, "restored": "the backup of vault-b"})

SOLO, LOSSLESS = OrderKind.SOLO, OrderKind.LOSSLESS
DEAF = {"db": {"heard_age": LONG.total_seconds()}}
DEAD = {"process": ProcessState.DEAD}
LATE = {"db": {"gtid_io_pos": "0-1-98"}}
FAR = {"db": {"gtid_io_pos": "0-1-1", "gtid_slave_pos": "0-1-1"}}
NEVER_PRIMARY = {"order": OrderKind.NONE, "db": {"source": ""}, "primary_order_kind": OrderKind.NONE}
HOST_DIED = primary(silent=LONG, witness=Witness.SILENT)
OPEN_INTENT = intent("b", "a")


def switching(*nodes: NodeView, **changes: object) -> VaultView:
    """A switchover from "a" to "b" that nobody has finished."""
    return vault(*nodes, intent=replace(OPEN_INTENT, kind=IntentKind.SWITCHOVER), may_ack={"b"}, **changes)


ADOPTION = replace(intent("b", "a", "a", "b"), kind=IntentKind.ADOPT, target="", entitled="")
CLOSED = node("a", says={"primary_order_kind": LOSSLESS, "primary_order_epoch": 5, "db": {"source": ""}})
COPY, BACK = RebuildWish(operation="copy"), RebuildWish(operation="back", undo=True)
REPLACED = task(phase=TaskPhase.DONE, replaced=True)
WISH = SwitchoverWish(operation="wish", node=id_of("b"))
NO_SPACE = {"disk_error": "No space left on device"}


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
    pytest.param(
        begun(primary(says=NO_SPACE), node("b", blocked=True)),
        None,
        None,
        id="a try failed, and the old one's disk takes no writes: again soon",
    ),
    # A switchover.
    pytest.param(vault(switchover=WISH), "P35", "b", id="an operator wants another Master"),
    pytest.param(
        vault(primary(says=DEAD), node("b"), switchover=WISH),
        "P30",
        "b",
        id="wanted, but the primary is lost: failover",
    ),
    pytest.param(switching(CLOSED, node("b")), "P15", "a", id="switching, both live: give it back"),
    pytest.param(
        switching(CLOSED, node("b", silent=timedelta(seconds=0.1))), "P15", "a", id="giving back needs no target"
    ),
    pytest.param(
        switching(replace(CLOSED, blocked=True), node("b")),
        None,
        None,
        id="giving back failed a moment ago: again soon",
    ),
    pytest.param(
        switching(node("a", says=DEAD), node("b")), "P10", "b", id="switching, and the old primary died: finish"
    ),
    pytest.param(
        switching(node("a", never=True, silence=timedelta(seconds=0.1)), node("b")),
        None,
        None,
        id="switching, and a new leader has not heard the old primary yet: nobody is killed for that",
    ),
    pytest.param(
        switching(node("a", silent=LONG), node("b")), "P10", "b", id="switching, and the old primary is silent: finish"
    ),
    pytest.param(
        switching(node("a", says={**NO_SPACE, "db": {"source": ""}}), node("b")),
        "P10",
        "b",
        id="switching, and the old primary's disk takes no writes: finish",
    ),
    pytest.param(
        switching(node("a", says=DEAD), node("b", says={"tainted": True})),
        "P15",
        "a",
        id="switching, the old primary died and the target is of no use: it comes back",
    ),
    # The row is out of date.
    pytest.param(vault(epoch=4), "P05", "a", id="an agent has promised a higher epoch than the row has"),
    pytest.param(vault(high_water=6), "P05", "a", id="this host has seen a higher epoch than the row has"),
    pytest.param(
        vault(HOST_DIED, node("b", says=DEAF), high_water=6), "P05", "a", id="out of date: no failover by such a row"
    ),
    pytest.param(begun(CLOSED, node("b"), high_water=6), "P05", "a", id="out of date: nor the end of one"),
    pytest.param(
        vault(
            node("a", says={"db": {"source": "b"}}),
            node("b", says={"order": SOLO, "db": {"source": ""}}),
            solo=True,
        ),
        "P05",
        "a",
        id="the recorded primary follows another one",
    ),
    pytest.param(
        vault(primary(), node("b", says={"vault": "9" * 32, "epoch": 900})),
        None,
        None,
        id="the epochs of another vault mean nothing here",
    ),
    pytest.param(vault(primary(), node("b"), intent=ADOPTION), "P05", "a", id="adopting, and everybody answers"),
    pytest.param(vault(primary(), node("b", silent=LONG), intent=ADOPTION), None, None, id="adopting: who is missing?"),
    pytest.param(
        vault(primary(), node("b", silent=LONG, removed=True, active=False), intent=ADOPTION),
        "P05",
        "a",
        id="adopting: the missing one was deleted, so a person named it dead",
    ),
    pytest.param(
        vault(primary(), node("b"), node("c", never=True), intent=ADOPTION),
        None,
        None,
        id="adopting: one that was added since has to be heard as well",
    ),
    pytest.param(
        vault(
            primary(), node("b"), node("c", joined=False, says={"vault": "", "node": "", "epoch": 0}), intent=ADOPTION
        ),
        "P05",
        "a",
        id="adopting: one that never was a member has nothing to say",
    ),
    pytest.param(vault(primary(), node("b", blocked=True), intent=ADOPTION), None, None, id="adopting: again soon"),
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
        vault(node("a", says={"db": {"source": "b"}}), node("b", never=True), solo=True),
        None,
        None,
        id="it follows somebody who has not answered yet: that one may be the primary",
    ),
    pytest.param(
        vault(node("a", says={"vault": "", "node": "", "db": {"source": ""}}), node("b"), solo=True),
        None,
        None,
        id="its agent forgot the vault that the fallback remembers: an empty one must not open",
    ),
    pytest.param(
        vault(FORGOT, node("b", silent=LONG), solo=True),
        None,
        None,
        id="it forgot, and the fallback that remembers has been silent for long: it may come back with everything",
    ),
    pytest.param(
        vault(FORGOT, replace(node("b", never=True), silence=LONG / 100), solo=True),
        None,
        None,
        id="it forgot, and this leader has not heard of the fallback yet: that one may hold everything",
    ),
    pytest.param(
        vault(FORGOT, node("b", never=True), solo=True),
        None,
        None,
        id="it forgot, and the fallback has never answered this leader",
    ),
    pytest.param(
        vault(FORGOT, node("b", never=True, joined=False), solo=True),
        "P60",
        "a",
        id="the first order was lost on its way, and the other one was never a member",
    ),
    pytest.param(
        vault(FORGOT, node("b", says={"vault": "", "node": "", "quarantine": "its memory is lost"}), solo=True),
        None,
        None,
        id="it forgot, and so did the fallback, whose data are there",
    ),
    pytest.param(
        vault(RESTORED, node("b", never=True), solo=True),
        "P60",
        "a",
        id="a person restored it, and the fallback has been silent for as long as this leader looks",
    ),
    pytest.param(
        vault(RESTORED, node("b", silent=LONG), solo=True),
        "P60",
        "a",
        id="a person restored it from a backup and said that what the silent fallback had is lost",
    ),
    pytest.param(
        vault(RESTORED, node("b"), solo=True),
        None,
        None,
        id="a person restored it, but the fallback lives and remembers: it has what the backup lacks",
    ),
    pytest.param(
        vault(RESTORED, node("b", silent=LONG / 100), solo=True),
        None,
        None,
        id="a person restored it, and the fallback that remembers is only late",
    ),
    pytest.param(
        vault(node("a", says={"vault": "", "node": "", "db": {"source": ""}}), primary="a", promotable=""),
        "P60",
        "a",
        id="nobody has joined yet: the first order was lost on its way",
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
    # Other data for a node.
    pytest.param(vault(primary(), node("b"), node("c", rebuild=COPY)), "P66", "c", id="a full copy is wanted"),
    pytest.param(vault(primary(), node("b", rebuild=COPY)), "P66", "b", id="of the acker: it goes solo first"),
    pytest.param(vault(primary(rebuild=COPY), node("b")), "P66", "a", id="of the primary: it is refused, out loud"),
    pytest.param(vault(primary(), node("b"), node("c", rebuild=BACK)), "P67", "c", id="the data of before are wanted"),
    pytest.param(
        vault(primary(), node("b"), node("c", rebuild=replace(COPY, refused="K40 · no room"))),
        None,
        None,
        id="it was refused: a wish no more",
    ),
    pytest.param(
        vault(primary(), node("b"), node("c", rebuild=COPY, blocked=True)), None, None, id="a try failed a moment ago"
    ),
    pytest.param(
        vault(primary(), node("b"), node("c", rebuild=COPY), node("d", never=True, silence=timedelta())),
        None,
        None,
        id="this leader has not heard everybody yet",
    ),
    pytest.param(
        vault(primary(), node("b"), node("c", rebuild=COPY, silent=LONG)),
        "P66",
        "c",
        id="it is gone: refused, out loud",
    ),
    pytest.param(
        vault(primary(says=DEAD), node("b"), node("c", rebuild=COPY)), "P30", "b", id="a failover comes first"
    ),
    pytest.param(
        vault(primary(says=DEAD), node("b", rebuild=COPY)), "P30", "b", id="a wish alone keeps nobody from taking over"
    ),
    pytest.param(
        vault(primary(), node("b"), node("c", active=False, rebuild=COPY)), "P40", "c", id="made inactive meanwhile"
    ),
    pytest.param(
        vault(primary(), node("b"), node("c", says={"task": task(), "db": {"source": ""}})),
        None,
        None,
        id="its data is being replaced: it is left alone",
    ),
    pytest.param(
        vault(primary(), node("b"), node("c", says={"task": REPLACED, **NEVER_PRIMARY})),
        "P65",
        "c",
        id="it has other data: it follows",
    ),
    pytest.param(
        vault(primary(), node("b"), node("c", says={"task": REPLACED, "quarantine": "extra", **NEVER_PRIMARY})),
        None,
        None,
        id="it has its data of before, which were held back",
    ),
    pytest.param(
        vault(primary(), node("b"), node("c", says={"task": task(phase=TaskPhase.FAILED), "db": {"receiver": "No"}})),
        "P70",
        "c",
        id="its copy failed: it goes on as before",
    ),
    pytest.param(
        vault(primary(solo=True), node("b", says={"task": task()}), solo=True),
        None,
        None,
        id="one whose data is being replaced acknowledges for nobody",
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
    adopt, first, second, *others = RULES
    assert adopt.kind is ActionKind.ADOPT, "and the word of the agents before that"
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
        ("to be rebuilt", vault(primary(solo=True), node("b", rebuild=COPY), solo=True, running=False)),
        ("to go back", vault(primary(solo=True), node("b", rebuild=BACK), solo=True, running=False)),
        (
            "rebuilt",
            vault(primary(solo=True), node("b", says={"task": REPLACED, **NEVER_PRIMARY}), solo=True, running=False),
        ),
    ],
)
def test_a_stopped_service_carries_out_wishes(name: str, view: VaultView) -> None:
    assert plan(view) is not None, name


def test_a_row_that_is_out_of_date_is_used_for_nothing_else() -> None:
    for case in CASES:
        view: VaultView = replace(case.values[0], high_water=99)
        assert [rule.id for rule in RULES if rule.pick(view) is not None] in ([], ["P05"]), case.id


def test_an_action_goes_on_with_the_operation_of_its_wish_or_its_intent() -> None:
    wished = plan(vault(switchover=WISH))
    assert wished is not None
    assert wished.operation == "wish"
    back = plan(vault(CLOSED, node("b"), intent=replace(OPEN_INTENT, kind=IntentKind.SWITCHOVER, operation="wish")))
    assert back is not None
    assert (back.kind, back.operation) == (ActionKind.ROLL_BACK, "wish")
    copy = plan(vault(primary(), node("b"), node("c", rebuild=COPY)))
    assert copy is not None
    assert (copy.kind, copy.operation) == (ActionKind.REBUILD, "copy")
    fresh = plan(vault(primary(says=DEAD), node("b")))
    assert fresh is not None
    assert fresh.operation == ""


SOLO_PRIMARY = primary(solo=True)


@pytest.mark.parametrize(
    ("nodes", "name"),
    [
        pytest.param((node("b", says=LATE), node("c")), "c", id="who has received most"),
        pytest.param((node("b"), node("c", system_role=SystemRole.PRIMARY)), "c", id="as much: the configured Primary"),
        pytest.param((node("c", ordinal=2), node("b", ordinal=3)), "c", id="as much: who was added first"),
        pytest.param(
            (node("b"), node("c", system_role=SystemRole.PRIMARY, says=LATE)), "b", id="received counts most of all"
        ),
        pytest.param(
            (node("b", says={"disk_error": "x"}), node("c", says=LATE)), "c", id="not one with a failing disk"
        ),
        pytest.param((node("b", locked_out=True), node("c", says=LATE)), "c", id="not one that is locked out"),
        pytest.param((node("b", differs=True), node("c", says=LATE)), "c", id="not one whose data differs"),
        pytest.param((node("b", differs=True),), "b", id="unless there is no other"),
    ],
)
def test_the_next_acker(nodes: tuple[NodeView, ...], name: str) -> None:
    action = plan(vault(SOLO_PRIMARY, *nodes, solo=True, running=True))
    assert action is not None
    if action.rule == "P70":  # who was locked out follows first
        action = plan(vault(SOLO_PRIMARY, *(replace(n, blocked=n.locked_out) for n in nodes), solo=True))
    assert action is not None
    assert (action.rule, action.node) == ("P80", id_of(name))


A = primary()


@pytest.mark.parametrize(
    ("b", "needs"),
    [
        pytest.param(node("b"), False, id="it follows"),
        pytest.param(node("b", silent=LONG), False, id="it does not answer"),
        pytest.param(node("b", says={"verb": "follow"}), False, id="its agent is busy with a command"),
        pytest.param(
            node("b", says={"quarantine": "extra", "db": {"receiver": "No"}}),
            False,
            id="it has diverged: a person decides",
        ),
        pytest.param(
            node("b", says={"quarantine": "extra"}, resync_wanted=True), True, id="a person wants it judged again"
        ),
        pytest.param(node("b", says={"needs_rebuild": "purged"}), False, id="only a full copy can help"),
        pytest.param(node("b", says=DEAD), False, id="a replica's database is restarted by its own agent"),
        pytest.param(
            node("b", says={**DEAD, "primary_order_kind": LOSSLESS}), True, id="a former primary's waits for this order"
        ),
        pytest.param(node("b", says=DEAD, locked_out=True), True, id="it was fenced when it was locked out"),
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
        pytest.param(
            node("b", says={"db": {"receiver": "No", "receiver_errno": 2003}}), True, id="it was stopped behind a cut"
        ),
        pytest.param(node("b", says={"db": {"receiver": "Connecting"}}), False, id="it connects by itself"),
        pytest.param(node("b", says={"quarantine": "extra", "db": {"receiver": "No"}}), False, id="it is held back"),
        pytest.param(
            node("b", says={"quarantine": "extra", "order_epoch": 4, "db": {"receiver": "No"}}),
            True,
            id="it was compared with an earlier primary",
        ),
        pytest.param(
            node("b", says={"quarantine": "its memory is lost", "vault": "", "order_epoch": 0}),
            False,
            id="it lost its memory",
        ),
    ],
)
def test_a_node_needs_to_be_told_to_follow(b: NodeView, needs: bool) -> None:
    assert needs_follow(b, A) is needs
