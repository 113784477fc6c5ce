"""Why another node cannot be made the primary now: a case per rule, the first that holds, and never the healthy pair."""

from dataclasses import replace

import pytest

from replication.core import limits
from replication.core.roles import ProcessState, Witness
from replication.core.switchover import RULES, why_not
from replication.core.view import RebuildWish, VaultView
from tests.builders import LONG, SECOND, id_of, intent, node, primary, task, vault

NO_SPACE = "No space left on device"
TOO_OLD = limits.SWITCHOVER_MAX_TRANSACTION.total_seconds() + 0.1
TOO_LATE = limits.SWITCHOVER_MAX_LAG.total_seconds() + 0.1

REFUSALS = [
    pytest.param(vault(primary="", promotable=""), "R05", "b", id="there is no primary yet"),
    pytest.param(vault(), "R05", "z", id="the node is not in the list"),
    pytest.param(vault(), "R10", "a", id="it is the primary"),
    pytest.param(vault(primary(), node("b", active=False)), "R15", "b", id="made inactive"),
    pytest.param(vault(primary(), node("b", removed=True)), "R15", "b", id="deleted"),
    pytest.param(vault(primary(), node("b", detached=True)), "R15", "b", id="not taken in again yet"),
    pytest.param(vault(intent=intent()), "R20", "b", id="a failover is under way"),
    pytest.param(vault(high_water=9), "R20", "b", id="the metadata database is out of date"),
    pytest.param(vault(primary(says={"db": {"read_only": True}}), node("b")), "R25", "b", id="read-only by hand"),
    pytest.param(vault(primary(says={"process": ProcessState.DEAD}), node("b")), "R30", "b", id="the primary is dead"),
    pytest.param(vault(primary(silent=LONG, witness=Witness.ANSWERS), node("b")), "R30", "b", id="its agent is silent"),
    pytest.param(vault(primary(says={"disk_error": NO_SPACE}), node("b")), "R30", "b", id="the primary's disk is full"),
    pytest.param(vault(primary(says={"closed_by_lease": True}), node("b")), "R30", "b", id="the primary closed itself"),
    pytest.param(
        vault(primary(silent=LONG, witness=Witness.SILENT, says={"db": {"connections": 300}}), node("b")),
        "R30",
        "b",
        id="silent, and its table was full when it was heard last",
    ),
    pytest.param(
        vault(primary(says={"process": ProcessState.HUNG, "db": {"connections": 300}}), node("b")),
        "R30",
        "b",
        id="its database hangs, and its table was full",
    ),
    pytest.param(vault(primary(), node("b", says={"task": task()})), "R33", "b", id="its data is being replaced"),
    pytest.param(
        vault(primary(), node("b", rebuild=RebuildWish(operation="copy"))), "R33", "b", id="it is to be rebuilt"
    ),
    pytest.param(vault(primary(), node("b", silent=LONG)), "R35", "b", id="its agent is silent"),
    pytest.param(vault(primary(), node("b", never=True)), "R35", "b", id="it was never heard"),
    pytest.param(
        vault(primary(), node("b", says={"process": ProcessState.DOWN})), "R35", "b", id="its database is down"
    ),
    pytest.param(vault(primary(), node("b", says={"db": {"applier": False}})), "R40", "b", id="it does not apply"),
    pytest.param(vault(primary(), node("b", says={"db": {"receiver": "Connecting"}})), "R40", "b", id="it connects"),
    pytest.param(vault(primary(), node("b", says={"db": {"source": ""}})), "R40", "b", id="it follows nobody"),
    pytest.param(
        vault(primary(), node("b", says={"db": {"applier_errno": 1062}})), "R40", "b", id="its applier failed"
    ),
    pytest.param(vault(primary(), node("b", says={"tainted": True})), "R45", "b", id="it may lack writes"),
    pytest.param(vault(primary(), node("b", says={"quarantine": "extra 0-1-7"})), "R45", "b", id="it has diverged"),
    pytest.param(vault(primary(), node("b", says={"needs_rebuild": "purged"})), "R45", "b", id="only a copy helps"),
    pytest.param(vault(primary(), node("b", says={"disk_error": NO_SPACE})), "R45", "b", id="its disk is full"),
    pytest.param(vault(primary(), node("b", says={"db": {"drift": ("sync_binlog is 0",)}})), "R45", "b", id="drift"),
    pytest.param(vault(primary(), node("b", differs=True)), "R47", "b", id="rows differ"),
    pytest.param(
        vault(primary(), node("b", says={"db": {"seconds_behind": TOO_LATE}})), "R50", "b", id="seconds behind"
    ),
    pytest.param(
        vault(primary(says={"db": {"gtid_binlog_pos": "0-1-1101"}}), node("b")), "R50", "b", id="transactions behind"
    ),
    pytest.param(
        vault(primary(), node("b"), node("c", says={"db": {"receiver_up_for": 0.2}})),
        "R55",
        "c",
        id="not the acker, and not steady yet",
    ),
    pytest.param(vault(primary(), node("b"), node("c", locked_out=True)), "R55", "c", id="not the acker, locked out"),
    pytest.param(vault(primary(), node("b"), node("c", resting=True)), "R55", "c", id="not the acker, and resting"),
    pytest.param(vault(primary(says={"db": {"commits_stuck_for": 0.6}}), node("b")), "R60", "b", id="commits hang"),
    pytest.param(
        vault(primary(says={"db": {"oldest_transaction": TOO_OLD}}), node("b")), "R65", "b", id="a long transaction"
    ),
    # The first that holds.
    pytest.param(
        vault(primary(), node("b", silent=LONG, says={"tainted": True, "db": {"seconds_behind": 99.0}})),
        "R35",
        "b",
        id="silent before what it said last",
    ),
    pytest.param(
        vault(primary(says={"db": {"oldest_transaction": 99.0, "commits_stuck_for": 9.0}}), node("b")),
        "R60",
        "b",
        id="hanging commits before long transactions",
    ),
    pytest.param(vault(primary(), node("b", active=False), intent=intent()), "R15", "b", id="inactive before all else"),
]


@pytest.mark.parametrize(("view", "rule", "name"), REFUSALS)
def test_it_cannot_be_made_the_primary(view: VaultView, rule: str, name: str) -> None:
    refusal = why_not(view, id_of(name))
    assert refusal is not None
    assert refusal.rule == rule
    assert len(refusal.says) > 15, "a refusal is a sentence"


@pytest.mark.parametrize(
    ("view", "name"),
    [
        pytest.param(vault(), "b", id="the healthy pair"),
        pytest.param(vault(solo=True), "b", id="solo, and it keeps up: it is made the acker first"),
        pytest.param(vault(primary(), node("b"), node("c")), "c", id="another fallback that keeps up"),
        pytest.param(vault(primary(), node("b", resting=True)), "b", id="the acker itself may rest"),
        pytest.param(
            vault(primary(says={"db": {"connections": 300}}), node("b")), "b", id="a full table is a reason for it"
        ),
        pytest.param(
            vault(primary(says={"db": {"oldest_transaction": 1.0, "commits_stuck_for": 0.05}}), node("b")),
            "b",
            id="a busy moment",
        ),
        pytest.param(
            vault(primary(), node("b", says={"db": {"seconds_behind": None}})), "b", id="the lag is not known"
        ),
        pytest.param(vault(silence_hold=60 * SECOND), "b", id="held back: a failover on silence is, a wish is not"),
    ],
)
def test_it_can_be_made_the_primary(view: VaultView, name: str) -> None:
    assert why_not(view, id_of(name)) is None


def test_a_fallback_can_be_chosen_again_after_a_failover() -> None:
    """Fail back: the configured Primary follows, and is the acker."""
    now = vault(
        primary(id=id_of("b"), hostname="b.example"),
        node("a", says={"db": {"source": "b"}}),
        primary="b",
        promotable="a",
    )
    here = replace(now, nodes=(replace(now.nodes[0], ip="127.0.31.2"), now.nodes[1]))
    assert why_not(here, id_of("a")) is None


def test_every_rule_has_a_case() -> None:
    assert {case.values[1] for case in REFUSALS} == {rule.id for rule in RULES} | {"R05"}


def test_the_table_is_well_formed() -> None:
    ids = [rule.id for rule in RULES]
    assert ids == sorted(set(ids))
    assert all(rule.says for rule in RULES)
