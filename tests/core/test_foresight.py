"""If the primary were lost this second: the answer is the one that the deciding functions would give, and its seconds follow the limits."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from replication.core import limits
from replication.core.foresight import Foresight, foresee
from replication.core.plan import ActionKind, plan
from replication.core.roles import IntentKind, OrderKind, ProcessState, Witness
from replication.core.view import Thresholds, VaultView
from tests.builders import LONG, id_of, intent, node, primary, vault

B = id_of("b")


def test_a_lossless_pair_is_taken_over_by_its_acker_whatever_the_loss() -> None:
    seen = foresee(vault())
    assert (seen.candidate, seen.died.node, seen.silent.node) == (B, B, B)
    assert not seen.died.rule
    assert not seen.silent.rule


@pytest.mark.parametrize(
    ("view", "died", "silent"),
    [
        pytest.param(vault(solo=True), "C10", "C10", id="solo"),
        pytest.param(vault(primary(), node("b", silent=LONG)), "C20", "C20", id="the acker does not answer"),
        pytest.param(vault(primary(), node("b", never=True)), "C20", "C20", id="the acker was never heard"),
        pytest.param(vault(primary(), node("b", says={"process": ProcessState.DEAD})), "C30", "C30", id="its database is down"),
        pytest.param(vault(primary(), node("b", says={"tainted": True})), "C40", "C40", id="it may lack writes"),
        pytest.param(vault(primary(), node("b", says={"quarantine": "extra"})), "C50", "C50", id="it is held back"),
        pytest.param(vault(primary(), node("b", says={"disk_error": "full"})), "C55", "C55", id="its disk is full"),
        pytest.param(
            vault(primary(), node("b"), node("c", silent=LONG), may_ack={"b", "c"}), "C60", "C60", id="another may acknowledge"
        ),
        pytest.param(vault(silence_hold=timedelta(seconds=37)), "", "C70", id="held back after a failover on silence"),
        pytest.param(vault(paused="until 18:00"), "C05", "C05", id="automatic failover is paused"),
        pytest.param(vault(running=False), "S10", "S10", id="the service is stopped"),
        pytest.param(vault(primary="", promotable=""), "D05", "D05", id="a new vault"),
        pytest.param(vault(high_water=6), "P05", "P05", id="the row is out of date"),
        pytest.param(
            vault(intent=replace(intent(), kind=IntentKind.ADOPT, target="")), "P05", "P05", id="the agents are being asked"
        ),
        pytest.param(
            vault(primary(), node("b", silent=LONG), intent=intent()), "P15", "P15", id="a failover that cannot be finished"
        ),
    ],
)  # fmt: skip
def test_why_nobody_would_be_promoted(view: VaultView, died: str, silent: str) -> None:
    seen = foresee(view)
    assert (seen.died.rule, seen.silent.rule) == (died, silent)
    for loss in (seen.died, seen.silent):
        assert bool(loss.node) != bool(loss.rule)
        assert bool(loss.says) == bool(loss.rule)
        assert (loss.seconds is None) == bool(loss.rule)


def test_a_failover_that_can_be_finished_names_its_target() -> None:
    assert foresee(vault(node("a"), node("b"), intent=intent())).candidate == B


def test_a_held_back_failover_has_no_running_figure_so_that_its_sentence_stays() -> None:
    first, later = (foresee(vault(silence_hold=timedelta(seconds=s))) for s in (37, 36))
    assert first == later


@pytest.mark.parametrize(
    "view",
    [
        pytest.param(vault(primary(witness=Witness.ANSWERS), node("b")), id="its port answered a moment ago"),
        pytest.param(vault(primary(says={"db": {"read_only": True}}), node("b")), id="it is read-only by hand"),
        pytest.param(vault(primary(says={"db": {"connections": 300}}), node("b")), id="its connections are used up"),
        pytest.param(vault(primary(), node("b"), node("c", silent=LONG)), id="a bystander is gone"),
    ],
)
def test_what_is_odd_now_does_not_save_a_primary_that_dies(view: VaultView) -> None:
    assert foresee(view).candidate == B


def test_the_answer_is_what_the_plan_does_when_it_happens() -> None:
    """The same loss as a controller would see it, built by hand."""
    gone = vault(
        primary(silent=limits.SILENCE_LIMIT, witness=Witness.REFUSED), node("b", says={"db": {"heard_age": 2.0}})
    )
    dead = vault(primary(says={"process": ProcessState.DEAD}), node("b"))
    for view in (gone, dead):
        action = plan(view)
        assert action is not None
        assert (action.kind, action.node) == (ActionKind.FAILOVER, foresee(vault()).candidate)


# --- seconds


def test_without_a_measured_failover_only_the_time_until_it_is_noticed_is_given() -> None:
    seen = foresee(vault())
    noticed = (limits.PROCESS_TICK + limits.TICK).total_seconds()
    assert seen.measured == 0
    assert seen.died.seconds == pytest.approx(noticed, abs=0.01)
    unheard = limits.SILENCE_LIMIT + limits.WITNESS_DEADLINE + limits.TICK
    assert seen.silent.seconds == pytest.approx(unheard.total_seconds(), abs=0.01)


def test_measured_failovers_are_added_the_median_of_the_last_five() -> None:
    plain, seen = foresee(vault()), foresee(vault(), (0.06, 0.08, 9.0, 0.07, 0.05, 100.0))
    assert seen.measured == 5
    for was, now in ((plain.died, seen.died), (plain.silent, seen.silent)):
        assert was.seconds is not None
        assert now.seconds is not None
        assert now.seconds - was.seconds == pytest.approx(0.07, abs=0.011)


def test_a_longer_interval_makes_silence_longer_and_a_death_not() -> None:
    slow = replace(vault(), thresholds=Thresholds(silence=timedelta(seconds=30)))
    plain, seen = foresee(vault()), foresee(slow)
    assert seen.died.seconds == plain.died.seconds
    assert seen.silent.seconds == pytest.approx(30.12, abs=0.02)


def test_a_candidate_that_is_behind_applies_first() -> None:
    plain, seen = foresee(vault()), foresee(vault(primary(), node("b", says={"db": {"seconds_behind": 7.4}})))
    assert seen.died.seconds is not None
    assert plain.died.seconds is not None
    assert seen.died.seconds - plain.died.seconds == pytest.approx(7)


# --- its word and its end


def test_it_holds_only_for_the_row_it_was_made_for() -> None:
    seen = foresee(vault())
    assert seen.holds_for(vault().topology)
    for changes in ({"epoch": 6}, {"promotable": ""}, {"primary": "b", "promotable": ""}):
        assert not seen.holds_for(vault(**changes).topology), changes


def test_it_goes_through_json_unharmed() -> None:
    for view in (vault(), vault(solo=True)):
        seen = foresee(view, (0.07,))
        assert Foresight.from_json(seen.to_json()) == seen


@pytest.mark.parametrize("data", [None, {}, {"epoch": 1}, {**foresee(vault()).to_json(), "newer": 1}, {**foresee(vault()).to_json(), "died": 7}])  # fmt: skip
def test_what_cannot_be_read_is_nothing(data: Any) -> None:
    assert Foresight.from_json(data) is None


def test_it_never_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(view: VaultView) -> None:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr("replication.core.foresight.plan", broken)
    seen = foresee(vault())
    assert not seen.candidate
    assert "RuntimeError: a fault of ours" in seen.died.says
    assert not seen.died.rule


def test_a_primary_that_has_not_answered_this_leader_is_no_reason_to_promise_anything() -> None:
    seen = foresee(vault(node("a", never=True), node("b")))
    assert not seen.candidate
    assert not seen.died.node
    assert seen.died.rule


def test_solo_orders_do_not_matter_only_the_published_row_does() -> None:
    assert foresee(vault(primary(says={"order": OrderKind.SOLO}), node("b"))).died.node == B
