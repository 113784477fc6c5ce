"""The service's loop in virtual time: what it sees, when it acts, and when it leaves things alone.

Proves: times to failover and to solo; that a new leader acts without having known the primary; that who lost the lease sends
nothing more; back-off and pre-emption. Start, Stop and wishes: test_controller_wishes.py.
"""

import asyncio
from datetime import timedelta

import pytest

from replication.core import limits
from replication.core.commands import Verb
from replication.core.errors import StepFailed
from replication.core.roles import NodeStatus, OrderKind, ProcessState
from replication.procedures.controller.heartbeat import PACE
from tests.procedures.leading import A, B, lead, pair, put_down, story, until
from tests.procedures.virtual_time import VirtualLoop, play
from tests.procedures.world import Controller, Scene, takes_over

SILENCE = limits.SILENCE_LIMIT.total_seconds()


@story()
async def test_a_healthy_vault_is_left_alone(scene: Scene, one: Controller) -> None:
    await asyncio.sleep(120)
    assert scene.sent == []
    assert scene.claims == 0
    assert scene.published[B].status is NodeStatus.WAITING
    assert "every acknowledged write is also on b.example" in scene.reason


@story()
async def test_a_dead_database_is_replaced_at_once(scene: Scene, one: Controller) -> None:
    scene["a"].set(process=ProcessState.DEAD)
    assert await until(lambda: scene["b"].open, 0.2) < 0.1


@story()
async def test_a_dead_host_is_replaced_after_the_silence(scene: Scene, one: Controller) -> None:
    scene["a"].set(reachable=False, process=ProcessState.DEAD)
    seconds = await until(lambda: scene["b"].open, 3)
    assert SILENCE - limits.HELLO_INTERVAL.total_seconds() <= seconds < 2.0


@story()
async def test_a_host_that_refuses_everything_is_replaced_without_waiting(scene: Scene, one: Controller) -> None:
    scene["a"].set(reachable=False, unreachable_kind="refused", process=ProcessState.DEAD)
    assert await until(lambda: scene["b"].open, 2) < 1.0


@story()
async def test_a_short_silence_changes_nothing(scene: Scene, one: Controller) -> None:
    scene["a"].set(reachable=False)
    await asyncio.sleep(0.8)
    scene["a"].set(reachable=True)
    await asyncio.sleep(10)
    assert scene.claims == 0


@story()
async def test_a_primary_that_a_replica_still_hears_is_left_alone(scene: Scene, one: Controller) -> None:
    scene["a"].set(reachable=False)
    await asyncio.sleep(30)
    assert scene.row.primary == A
    assert scene.row.intent is None


@story()
async def test_the_old_primary_comes_back_as_a_fallback_and_the_vault_is_lossless_again(
    scene: Scene, one: Controller
) -> None:
    scene["a"].set(reachable=False, process=ProcessState.DEAD)
    await until(lambda: scene["b"].open, 3)
    await asyncio.sleep(2)
    scene["a"].set(reachable=True)
    await until(lambda: scene.row.promotable == A, 10, "lossless again")
    await until(lambda: scene.published[B].current_role == "Primary-1", 2)
    assert scene.published[A].current_role == "Fallback-1"
    follow = next(s for s in scene.sent if s.verb is Verb.FOLLOW)
    assert follow.args["truncate_tail"] is True


def test_a_new_leader_replaces_a_primary_that_it_never_heard() -> None:
    """Leader and primary die together; the standby knows only the row."""

    async def told() -> None:
        scene = pair()
        scene["a"].set(reachable=False, process=ProcessState.DEAD)
        lead(takes_over(scene))
        assert await until(lambda: scene["b"].open, 5) < 2.0

    play(told)


def test_a_new_leader_finishes_what_was_begun() -> None:
    async def told() -> None:
        scene = pair()
        one = Controller(scene)
        lead(one)
        await asyncio.sleep(5)
        scene["b"].slow[Verb.DRAIN] = 1.0
        scene["a"].set(process=ProcessState.DEAD)
        await until(lambda: (Verb.DRAIN, "b") in scene.verbs(), 1)
        one.dead = True
        await put_down(one)
        two = takes_over(scene)
        scene["b"].slow.clear()
        lead(two)
        await until(lambda: scene["b"].open, 3)
        assert scene.open_names == ["b"]
        await put_down(two)

    play(told)


@story()
async def test_a_dead_acker_is_given_up(scene: Scene, one: Controller) -> None:
    scene["b"].set(process=ProcessState.DEAD)
    assert await until(lambda: scene["a"].order is OrderKind.SOLO, 3) < 0.1, "its own agent says so: no waiting"
    assert scene.row.promotable == ""


@story()
async def test_a_vanished_acker_is_given_up_in_time(scene: Scene, one: Controller) -> None:
    scene["b"].set(reachable=False, process=ProcessState.DEAD)
    seconds = await until(lambda: scene["a"].order is OrderKind.SOLO, 5)
    assert seconds < 2.5
    assert scene.sent[0].row.promotable == "", "un-published before it is told"


@story()
async def test_a_frozen_acker_is_given_up_in_time(scene: Scene, one: Controller) -> None:
    """It keeps its connections, and acknowledges nothing."""
    scene["a"].set(stuck_since=scene.clock.monotonic())
    seconds = await until(lambda: scene["a"].order is OrderKind.SOLO, 5)
    assert limits.ACKER_LOST_AFTER.total_seconds() - 0.6 <= seconds < 2.5


@story()
async def test_a_slow_acker_does_not_make_commits_hang_again_and_again(scene: Scene, one: Controller) -> None:
    """It proves itself each time, and each time commits hang on it: it rests longer and longer between."""
    since = scene.clock.monotonic()
    hung = 0.0
    while scene.clock.monotonic() - since < 120:
        if scene.row.promotable and scene["a"].stuck_since is None:
            scene["a"].set(stuck_since=scene.clock.monotonic())
        hung += 0.05 if scene["a"].order is OrderKind.LOSSLESS else 0
        await asyncio.sleep(0.05)
    assert hung < 120 * 0.15


@story()
async def test_by_policy_nobody_is_given_up(scene: Scene, one: Controller) -> None:
    scene.stay_writable = False
    await asyncio.sleep(PACE.total_seconds() * 2)
    scene["b"].set(reachable=False, process=ProcessState.DEAD)
    await asyncio.sleep(30)
    assert scene["a"].order is OrderKind.LOSSLESS


@story()
async def test_a_busy_moment_is_no_alarm_with_a_long_interval(scene: Scene, one: Controller) -> None:
    scene.interval = timedelta(seconds=20)
    await asyncio.sleep(40)
    scene["a"].says["commits_stuck_for"] = 0.05
    scene.settle()
    scene["a"].says.clear()  # the next report, twenty seconds later, says that nothing waits
    await asyncio.sleep(60)
    assert scene.claims == 0


@story()
async def test_a_stalled_controller_accuses_nobody(scene: Scene, one: Controller) -> None:
    """It did not run for half a minute, and the primary's last answer was late when it stopped."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    scene["a"].set(reachable=False)
    await asyncio.sleep(0.3)
    loop.now += 30
    await asyncio.sleep(2 * limits.TICK.total_seconds())
    (watch,) = one.heartbeat.watches.values()  # type: ignore[attr-defined]  # set by `lead`
    assert watch.sights[A].silence < limits.SILENCE_LIMIT
    scene["a"].set(reachable=True)
    await asyncio.sleep(10)
    assert scene.claims == 0


@story()
async def test_who_lost_the_lease_sends_nothing_more(scene: Scene, one: Controller) -> None:
    scene["b"].slow[Verb.REVOKE] = 0.3
    scene["a"].set(process=ProcessState.DEAD)
    await until(lambda: scene.verbs(Verb.REVOKE), 1)
    scene.leader = "two"
    before = len(scene.sent)
    await asyncio.sleep(10)
    assert len(scene.sent) == before
    assert not scene["b"].open


def test_two_controllers_that_both_look_make_one_failover() -> None:
    async def told() -> None:
        scene = pair()
        one = Controller(scene)
        lead(one)
        await asyncio.sleep(5)
        two = takes_over(scene)
        lead(two)
        await asyncio.sleep(3)
        scene["a"].set(process=ProcessState.DEAD)
        await until(lambda: scene["b"].open, 3)
        assert {s.term for s in scene.sent} == {two.term}
        assert len(scene.verbs(Verb.OPEN)) == 1

    play(told)


@story()
async def test_a_claim_that_is_refused_is_not_tried_in_a_hot_loop(scene: Scene, one: Controller) -> None:
    scene.writable = False
    scene["a"].set(process=ProcessState.DEAD)
    await asyncio.sleep(10)
    assert 10 < scene.refused_claims < 60
    assert scene.sent == []
    scene.writable = True
    assert await until(lambda: scene["b"].open, 2) < 1.0


@story()
async def test_a_metadata_database_that_cannot_be_read_changes_nothing(scene: Scene, one: Controller) -> None:
    scene["b"].set(process=ProcessState.DEAD)
    await until(lambda: scene["a"].order is OrderKind.SOLO, 2)
    scene.readable = False
    await asyncio.sleep(20)
    claims = scene.claims
    await asyncio.sleep(20)
    assert scene.claims == claims, "what was read before must not undo what was done since"
    assert scene.refused_claims == 0, "nor lead to claims on a row that is long gone"
    scene.readable = True
    scene["b"].set(process=ProcessState.UP, tainted=True)
    await until(lambda: scene.row.promotable == B, 10)


@story(lambda: pair("c"))
async def test_what_fails_is_tried_again_later_and_later_and_said_once(scene: Scene, one: Controller) -> None:
    fault = StepFailed("c", "follow", "disk", "the disk is full")
    scene["c"].fails[Verb.FOLLOW].extend([fault] * 99)
    scene["c"].set(source="")
    await asyncio.sleep(120)
    tries = len(scene.verbs(Verb.FOLLOW))
    assert 4 <= tries <= 2 + 120 / limits.RETRY_MAX.total_seconds() + 5
    assert len([text for _, text in scene.events if "disk is full" in text]) == 1
    assert scene.row.promotable == B, "the vault stays lossless beside it"


@story(lambda: pair("c"))
async def test_a_failover_does_not_wait_for_a_slow_follow(scene: Scene, one: Controller) -> None:
    scene["c"].slow[Verb.FOLLOW] = 50.0
    scene["c"].set(source="")
    await until(lambda: (Verb.FOLLOW, "c") in scene.verbs(), 3)
    scene["a"].set(process=ProcessState.DEAD)
    assert await until(lambda: scene["b"].open, 2) < 0.3


@story()
async def test_a_fault_of_ours_is_an_event_and_not_the_end_of_the_watch(scene: Scene, one: Controller) -> None:
    scene["b"].fails[Verb.REVOKE].append(KeyError("position"))  # type: ignore[arg-type]  # no ReplicationError: that is the point
    scene["a"].set(process=ProcessState.DEAD)
    await until(lambda: scene["b"].open, 3)
    assert [text for _, text in scene.events if "KeyError" in text or "position" in text]


def test_a_poll_that_ends_by_a_fault_ends_the_service_with_it() -> None:
    """A watch that looks no longer must not go unnoticed: the process ends with a traceback, the standby takes over."""

    async def told() -> None:
        scene = pair()
        one = Controller(scene)
        lead(one)
        await asyncio.sleep(2)

        def broken() -> None:
            raise TypeError("a fault of ours")

        scene["a"].report = broken  # type: ignore[assignment,method-assign]  # a fault inside the poll
        scene["a"].bump()
        with pytest.raises(TypeError, match="a fault of ours"):
            await asyncio.wait_for(one.task, 10)  # type: ignore[attr-defined]  # set by `lead`

    play(told)
