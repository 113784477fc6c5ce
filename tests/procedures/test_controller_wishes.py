"""Start, Stop, Run Now and the wishes on nodes, in virtual time.

Proves: a stopped service leaves nobody waiting, applies wishes and does nothing else; a wish is carried out once, and does not
wait for the back-off of what failed before.
"""

import asyncio
import contextlib
from dataclasses import replace

from replication.core.commands import Verb
from replication.core.errors import StepFailed
from replication.core.roles import OrderKind, ProcessState
from replication.procedures.controller.heartbeat import LINGER, PACE
from tests.builders import id_of
from tests.procedures.leading import B, C, pair, story, until
from tests.procedures.virtual_time import play
from tests.procedures.world import Controller, Died, Scene, takes_over


@story()
async def test_a_stopped_service_goes_solo_and_then_does_nothing(scene: Scene, one: Controller) -> None:
    scene.running = False
    await until(lambda: scene["a"].order is OrderKind.SOLO, 2 * PACE.total_seconds())
    await until(lambda: not scene.noted_running, 5)
    await asyncio.sleep(5)
    before = len(scene.sent)
    scene["a"].set(process=ProcessState.DEAD)
    await asyncio.sleep(30)
    assert len(scene.sent) == before
    assert not scene["b"].open


@story()
async def test_a_stopped_service_that_cannot_reach_the_primary_tells_it_when_it_can(
    scene: Scene, one: Controller
) -> None:
    scene["a"].set(reachable=False)
    await asyncio.sleep(2)
    scene.running = False
    await asyncio.sleep(30)
    assert scene.row.promotable == B, "kept for the next start"
    scene["a"].set(reachable=True)
    await until(lambda: scene["a"].order is OrderKind.SOLO, 5)
    assert scene.row.promotable == ""


@story()
async def test_a_stopped_service_does_not_look_away_before_the_primary_was_told(scene: Scene, one: Controller) -> None:
    """The row says solo already, but the order did not arrive: commits would hang for ever with the next loss of the acker."""
    scene["a"].fails[Verb.SOLO].append(StepFailed("a", "solo", "sql", "not now"))
    scene.running = False
    await until(lambda: scene.verbs(Verb.SOLO), 2)
    scene["a"].set(reachable=False)
    await asyncio.sleep(20)
    assert scene.row.promotable == ""
    scene["a"].set(reachable=True)
    await until(lambda: scene["a"].order is OrderKind.SOLO, 5)


@story()
async def test_a_wish_made_while_the_service_is_stopped_is_carried_out(scene: Scene, one: Controller) -> None:
    scene.running = False
    await asyncio.sleep(5)
    scene.wish("b", active=False)
    await until(lambda: scene.nodes[B].detached, 2)
    assert scene["b"].source == ""
    assert scene["a"].order is OrderKind.SOLO
    await asyncio.sleep(1)
    scene.wish("b", active=True)
    await until(lambda: scene["b"].streams, 2)
    await asyncio.sleep(10)
    assert scene.row.promotable == "", "lossless again only when it is started"
    scene.running = True
    await until(lambda: scene.row.promotable == B, 5)


@story(lambda: pair("c"))
async def test_a_wish_is_carried_out_once(scene: Scene, one: Controller) -> None:
    """The inventory is read twice a second: what was done since must not be done again."""
    scene.wish("c", active=False)
    await asyncio.sleep(5)
    assert scene.verbs(Verb.DETACH) == [(Verb.DETACH, "c")]
    scene.wish("c", active=True, resync_wanted=True)
    await asyncio.sleep(5)
    assert scene.verbs(Verb.FOLLOW) == [(Verb.FOLLOW, "c")]
    scene.wish("c", active=False, removed=True)
    await asyncio.sleep(5)
    assert len(scene.verbs(Verb.DETACH)) == 2
    assert C not in scene.nodes


@story()
async def test_a_node_added_later_is_watched_and_follows(scene: Scene, one: Controller) -> None:
    scene.agents[C] = type(scene["a"])("c", scene)
    scene.nodes[C] = Scene("c").nodes[C]
    await until(lambda: scene["c"].streams, 3)
    assert scene.row.promotable == B


@story()
async def test_run_now_is_answered_with_a_full_pass(scene: Scene, one: Controller) -> None:
    scene.run_wanted = True
    await until(lambda: not scene.run_wanted, 3 * PACE.total_seconds())


@story()
async def test_start_and_stop_are_noted(scene: Scene, one: Controller) -> None:
    assert scene.noted_running
    scene.running = False
    await until(lambda: not scene.noted_running, LINGER.total_seconds() + 2)


@story(lambda: pair("c"))
async def test_an_operators_wish_does_not_wait_for_the_back_off(scene: Scene, one: Controller) -> None:
    scene["c"].fails[Verb.FOLLOW].extend([StepFailed("c", "follow", "disk", "the disk is full")] * 99)
    scene["c"].set(source="")
    await asyncio.sleep(60)
    scene.wish("c", active=False)
    await until(lambda: scene.nodes[C].detached, 2)


def test_a_recorded_primary_that_was_never_opened_still_gets_the_clients_account() -> None:
    """The leader that claimed the first primary ended before its order arrived. Found by the simulation."""

    async def tale() -> None:
        scene = Scene("a", "b")
        first = Controller(scene)
        scene.crash_at = (1, "after")
        with contextlib.suppress(Died):
            await first.one_step()
        assert (scene.row.primary, scene.open_names) == (id_of("a"), [])
        await takes_over(scene).until_quiet()
        opened = next(s for s in scene.sent if s.verb is Verb.OPEN)
        assert (opened.args["jump"], opened.args["client"]) == (True, True)
        await takes_over(scene).one_step()
        scene["a"].set(order=OrderKind.NONE)
        scene.row = replace(scene.row, promotable="")
        await takes_over(scene).until_quiet()
        assert [s for s in scene.sent if s.verb is Verb.OPEN][-1].args["client"] is False

    play(tale)
