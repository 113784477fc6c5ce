"""What is wrong with the primary: every rule of the table, and what may hold a failover back or hurry it on."""

from dataclasses import replace
from datetime import timedelta

import pytest

from replication.core import limits
from replication.core.diagnosis import (
    BY_SILENCE,
    RULES,
    Rule,
    Verdict,
    acker_dead,
    acker_missing,
    commits_stuck,
    diagnose,
    hears_primary,
    in_doubt,
    not_waiting,
)
from replication.core.plan import plan
from replication.core.roles import OrderKind, ProcessState, Witness
from replication.core.view import NodeView, VaultView
from tests.builders import LONG, SECOND, id_of, node, primary, vault

MOMENT = timedelta(milliseconds=100)
DEAF = {"db": {"heard_age": LONG.total_seconds()}}
NO_SPACE = "No space left on device"
CUT_OFF = {"db": {"heard_age": LONG.total_seconds(), "receiver": "Connecting"}}

CASES = [
    pytest.param(vault(primary="", promotable=""), "D05", id="a new vault has no primary"),
    pytest.param(vault(primary=id_of("z")), "D05", id="a primary that the inventory does not know is none"),
    pytest.param(
        vault(primary(says={"process": ProcessState.DEAD}), node("b")), "D10", id="its agent saw the database die"
    ),
    pytest.param(
        vault(primary(says={"process": ProcessState.DOWN}), node("b")),
        "D10",
        id="its agent runs, its database does not",
    ),
    pytest.param(
        vault(primary(says={"process": ProcessState.HUNG}, witness=Witness.SILENT), node("b")),
        "D20",
        id="hung for its agent and silent for us",
    ),
    pytest.param(
        vault(primary(says={"process": ProcessState.HUNG}, witness=Witness.REFUSED), node("b")),
        "D20",
        id="hung for its agent, and its port refuses",
    ),
    pytest.param(
        vault(primary(says={"process": ProcessState.HUNG}, witness=Witness.ANSWERS), node("b")),
        "D25",
        id="hung for its agent, but the port greets us",
    ),
    pytest.param(
        vault(primary(says={"process": ProcessState.HUNG}), node("b")),
        "D25",
        id="hung, and we have not asked the port yet",
    ),
    pytest.param(
        vault(primary(says={"process": ProcessState.STARTING}, witness=Witness.REFUSED), node("b")),
        "D25",
        id="a starting database is waited for",
    ),
    pytest.param(
        vault(primary(says={"disk_error": NO_SPACE}), node("b")),
        "D15",
        id="its agent says that the disk takes no writes",
    ),
    pytest.param(
        vault(primary(says={"disk_error": NO_SPACE, "process": ProcessState.HUNG}), node("b")),
        "D15",
        id="it hangs on a disk that takes no writes: no second opinion is needed",
    ),
    pytest.param(
        vault(primary(says={"disk_error": NO_SPACE, "process": ProcessState.STARTING}), node("b")),
        "D25",
        id="a start is waited for, whatever the disk said before",
    ),
    pytest.param(
        vault(primary(silent=MOMENT, says={"disk_error": NO_SPACE}), node("b")),
        "D50",
        id="old news of a disk are no news",
    ),
    pytest.param(
        vault(primary(says={"closed_by_lease": True, "db": {"read_only": True}}), node("b")),
        "D27",
        id="it closed itself, which is nobody's hand",
    ),
    pytest.param(vault(primary(says={"db": {"read_only": True}}), node("b")), "D28", id="an operator set it read-only"),
    pytest.param(
        vault(primary(says={"db": {"read_only": True, "connections": 300}}), node("b")),
        "D28",
        id="read-only by hand comes before a full table",
    ),
    pytest.param(
        vault(primary(says={"db": {"read_only": True}, "verb": "open"}), node("b")),
        "D30",
        id="read-only because it is being opened",
    ),
    pytest.param(
        vault(node("a", says={"db": {"source": ""}}), node("b")),
        "D30",
        id="read-only because it was never told to open",
    ),
    pytest.param(vault(primary(says={"db": {"connections": 300}}), node("b")), "D29", id="every connection is taken"),
    pytest.param(vault(primary(says={"db": {"connections": 299}}), node("b")), "D30", id="one connection is left"),
    pytest.param(
        vault(primary(says={"db": {"connections": 0, "connections_max": 0}}), node("b")),
        "D30",
        id="the size of the table is not known",
    ),
    pytest.param(vault(), "D30", id="the primary answers"),
    pytest.param(vault(primary(witness=Witness.SILENT), node("b")), "D30", id="its own good word beats an old witness"),
    pytest.param(
        vault(primary(silent=LONG, witness=Witness.ANSWERS), node("b", says=DEAF)),
        "D40",
        id="only its agent is gone",
    ),
    pytest.param(
        vault(primary(silent=LONG, witness=Witness.SILENT), node("b")),
        "D50",
        id="our link is cut, a replica still hears it",
    ),
    pytest.param(
        vault(primary(silent=LONG, witness=Witness.SILENT), node("b", says=DEAF), node("c")),
        "D50",
        id="one hearing replica is enough",
    ),
    pytest.param(
        vault(primary(refused=True, witness=Witness.REFUSED), node("b", says=CUT_OFF)),
        "D60",
        id="everything refuses at once, and the acker lost its stream: nobody waits for silence",
    ),
    pytest.param(
        vault(primary(refused=True, witness=Witness.REFUSED), node("b", says=DEAF)),
        "D80",
        id="everything refuses, but the acker still has its stream",
    ),
    pytest.param(
        vault(primary(silent=limits.SILENCE_LIMIT, witness=Witness.SILENT), node("b", says=DEAF)),
        "D70",
        id="silent for the limit, its port too, and no replica hears it",
    ),
    pytest.param(
        vault(node("a", never=True, witness=Witness.SILENT), node("b", says=DEAF)),
        "D70",
        id="a new leader that never heard the primary",
    ),
    pytest.param(
        vault(primary(silent=limits.SILENCE_LIMIT - MOMENT, witness=Witness.SILENT), node("b", says=DEAF)),
        "D80",
        id="a short silence is not a failure",
    ),
    pytest.param(
        vault(primary(silent=LONG, witness=Witness.SILENT), node("b", silent=LONG)),
        "D99",
        id="alone, we do not promote",
    ),
    pytest.param(
        vault(primary(silent=LONG), node("b", says=DEAF)), "D99", id="silent, and the port was not asked: not lost"
    ),
]


@pytest.mark.parametrize(("view", "rule"), CASES)
def test_diagnosis(view: VaultView, rule: str) -> None:
    assert diagnose(view).id == rule


def test_the_table_is_well_formed() -> None:
    ids = [rule.id for rule in RULES]
    assert len(set(ids)) == len(ids)
    assert ids == sorted(ids)
    assert all(rule.says and rule.says[0].islower() for rule in RULES)


def test_every_rule_has_a_case() -> None:
    assert {case.values[1] for case in CASES} == {rule.id for rule in RULES}


def test_the_last_rule_always_holds_and_never_promotes() -> None:
    last = RULES[-1]
    assert all(last.holds(case.values[0]) for case in CASES)
    assert last.verdict is Verdict.UNCLEAR


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule.verdict is Verdict.PRIMARY_LOST], ids=lambda r: r.id)
def test_silence_is_told_apart_from_the_word_of_an_agent(rule: Rule) -> None:
    """Anti-flapping holds back only what rests on silence: never what the primary's own agent says."""
    assert (rule.id in BY_SILENCE) == ("own agent" not in rule.says)


@pytest.mark.parametrize("says", [{"db": {"read_only": True}}, {"db": {"connections": 300}}, {"closed_by_lease": True}])
def test_maintenance_full_tables_and_closed_primaries_are_no_failure(says: dict[str, object]) -> None:
    view = vault(primary(says=says), node("b"))
    assert diagnose(view).verdict is Verdict.WAIT
    assert plan(view) is None


@pytest.mark.parametrize(
    ("replica", "hears"),
    [
        pytest.param(node("b"), True, id="a heartbeat a moment ago"),
        pytest.param(node("b", says={"db": {"heard_age": None}}), False, id="never heard it"),
        pytest.param(node("b", says=DEAF), False, id="heard it long ago; Slave_IO_Running may still say Yes"),
        pytest.param(node("b", silence=limits.HEARD_LIMIT), False, id="the report itself is too old"),
        pytest.param(node("b", silent=MOMENT), False, id="does not answer now"),
        pytest.param(node("b", says={"db": {"source": "c"}}), False, id="hears somebody else"),
    ],
)
def test_a_replica_hears_the_primary(replica: NodeView, hears: bool) -> None:
    assert hears_primary(replica, vault(primary(), replica)) is hears


@pytest.mark.parametrize(
    ("view", "doubt"),
    [
        pytest.param(vault(), False, id="all is well"),
        pytest.param(vault(primary="", promotable=""), False, id="no primary"),
        pytest.param(vault(primary(says={"process": ProcessState.HUNG}), node("b")), True, id="it hangs"),
        pytest.param(vault(primary(silent=MOMENT), node("b")), True, id="it does not answer"),
        pytest.param(vault(primary(silence=SECOND), node("b")), True, id="its answer is late"),
        pytest.param(vault(node("a", never=True), node("b")), True, id="this leader has never heard it"),
    ],
)
def test_when_the_second_witness_is_asked(view: VaultView, doubt: bool) -> None:
    assert in_doubt(view) is doubt


@pytest.mark.parametrize(
    ("view", "missing"),
    [
        pytest.param(vault(), False, id="it acknowledges"),
        pytest.param(vault(solo=True), False, id="nobody is published"),
        pytest.param(vault(primary(), node("b", says={"process": ProcessState.DEAD})), True, id="its database died"),
        pytest.param(vault(primary(), node("b", says=CUT_OFF)), True, id="its receiver is not connected"),
        pytest.param(vault(primary(says={"db": {"ack_clients": 0}}), node("b")), True, id="the primary counts nobody"),
        pytest.param(
            vault(primary(), node("b", silent=LONG)), False, id="only its agent is silent: it still acknowledges"
        ),
        pytest.param(vault(primary()), True, id="it is no longer in the inventory"),
    ],
)
def test_the_acker_is_missing(view: VaultView, missing: bool) -> None:
    assert acker_missing(view) is missing


@pytest.mark.parametrize(
    ("acker", "dead"),
    [
        pytest.param(node("b"), False, id="alive"),
        pytest.param(node("b", says={"process": ProcessState.DEAD}), True, id="its agent saw it die"),
        pytest.param(node("b", says={"tainted": True}), True, id="it restarted and lost its relay log"),
        pytest.param(node("b", says={"process": ProcessState.DEAD}, silent=LONG), False, id="old news are no news"),
        pytest.param(node("b", says={"process": ProcessState.HUNG}), False, id="a hung one may come back"),
    ],
)
def test_the_acker_is_dead_by_its_own_word(acker: NodeView, dead: bool) -> None:
    assert acker_dead(vault(primary(), acker)) is dead


LIMIT = limits.ACKER_LOST_AFTER.total_seconds()


@pytest.mark.parametrize(
    ("a", "stuck"),
    [
        pytest.param(primary(), False, id="nothing waits"),
        pytest.param(primary(says={"db": {"commits_stuck_for": LIMIT}}), True, id="waiting for the limit"),
        pytest.param(
            primary(says={"db": {"commits_stuck_for": LIMIT - 0.2}}, silence=SECOND / 2), True, id="its age counts"
        ),
        pytest.param(
            primary(says={"db": {"commits_stuck_for": 0.02}}, silence=60 * SECOND),
            False,
            id="an old report of a busy moment, with a long trigger interval, is no alarm",
        ),
        pytest.param(primary(says={"db": {"commits_stuck_for": LIMIT}}, silent=SECOND), False, id="it does not answer"),
    ],
)
def test_commits_are_stuck(a: NodeView, stuck: bool) -> None:
    assert commits_stuck(vault(a, node("b"))) is stuck


def test_a_primary_that_does_not_wait_although_an_acker_is_published() -> None:
    assert not not_waiting(vault())
    assert not_waiting(vault(primary(solo=True), node("b")))
    assert not_waiting(vault(primary(says={"db": {"semisync_primary": False}}), node("b")))
    assert not not_waiting(vault(solo=True))
    closed = node("a", says={"order_kind": OrderKind.NONE})
    assert not_waiting(vault(closed, node("b")))
    assert not not_waiting(vault(replace(closed, link="silent"), node("b"))), "what does not answer is unknown"
