"""What the leader tells the screens beside decisions: what a loss would lead to, who heard the primary when, who is behind."""

import asyncio

from replication.core.foresight import Foresight
from replication.core.roles import ProcessState
from replication.procedures.controller.heartbeat import Heartbeat
from tests.procedures.leading import A, B, C, pair, story, until
from tests.procedures.world import Controller, Scene


def heartbeat_of(one: Controller) -> Heartbeat:
    heartbeat: Heartbeat = one.heartbeat  # type: ignore[attr-defined]  # set by `lead`
    return heartbeat


def foreseen(scene: Scene) -> Foresight:
    assert scene.if_lost is not None
    return scene.if_lost


@story()
async def test_the_acker_is_foreseen_and_it_is_who_takes_over(scene: Scene, one: Controller) -> None:
    seen = foreseen(scene)
    assert seen.candidate == B
    assert seen.holds_for(scene.row)
    scene["a"].set(reachable=False, unreachable_kind="refused", process=ProcessState.DEAD)
    await until(lambda: scene.row.primary == B, 10, "the failover")
    await until(lambda: foreseen(scene).primary == B, 5, "the answer follows the row")


@story()
async def test_an_acker_that_falls_silent_is_no_longer_promised(scene: Scene, one: Controller) -> None:
    scene["b"].set(reachable=False)
    await until(lambda: not foreseen(scene).candidate, 5, "the answer changes without a change of the row")
    assert foreseen(scene).died.rule in ("C20", "C10")


@story()
async def test_a_pause_and_a_hold_are_foreseen(scene: Scene, one: Controller) -> None:
    scene.paused = "until tomorrow, by admin: maintenance"
    await until(lambda: foreseen(scene).died.rule == "C05", 5, "the pause is said")
    scene.paused, scene.silence_hold = "", 60 * (await one.load()).interval
    await until(lambda: foreseen(scene).silent.rule == "C70", 5, "the hold is said")
    assert foreseen(scene).died.node == B, "the agent's own word is never held back"


@story(lambda: pair("c"))
async def test_only_the_acker_s_hearing_is_told(scene: Scene, one: Controller) -> None:
    heard = heartbeat_of(one).heard()
    assert set(heard) == {f"heard:{B}"}
    age = heard[f"heard:{B}"]
    assert age is not None
    assert 0 <= age < 2
    scene["b"].set(reachable=False)
    await asyncio.sleep(1)
    later = heartbeat_of(one).heard().get(f"heard:{B}")
    assert later is None or later > age, "what it heard gets older while it says nothing"


@story(lambda: pair("c"))
async def test_every_fallback_s_lag_is_told_and_silence_is_not_zero(scene: Scene, one: Controller) -> None:
    lags = heartbeat_of(one).lags()
    assert set(lags) == {B, C}
    assert lags[C].seconds == 0
    scene["c"].set(reachable=False)
    await asyncio.sleep(3)
    assert heartbeat_of(one).lags()[C].seconds is None
    assert A not in heartbeat_of(one).lags()
