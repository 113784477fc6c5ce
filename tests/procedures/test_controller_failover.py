"""Failover, finish and roll back over scripted agents.

Proves: the order claim → revoke of every node that may acknowledge → drain → record → open, with the fence beside; that a
death between any two steps is resolved by the next leader with exactly one open primary; that a roll back clears the intent
before it opens; and that a controller whose claim is lost sends nothing more.
"""

import asyncio
from dataclasses import replace

import pytest

from replication.core.commands import Verb
from replication.core.errors import ClaimLost, NodeUnreachable, ReplicationError, StepFailed
from replication.core.plan import ActionKind, plan
from replication.core.roles import OrderKind, ProcessState
from replication.procedures.controller import failover
from tests.builders import id_of
from tests.procedures.virtual_time import play
from tests.procedures.world import Controller, Died, Scene, takes_over

A, B, C = id_of("a"), id_of("b"), id_of("c")


def lost_primary(how: str, *followers: str) -> Scene:
    """A lossless pair whose primary's host is gone, is frozen behind a cut (still open), or whose database died."""
    scene = Scene("a", "b", *followers)
    scene.lossless_pair(*followers)
    if how == "host":
        scene["a"].set(reachable=False, process=ProcessState.DEAD)
    elif how == "cut":
        scene["a"].set(reachable=False)
    else:
        scene["a"].set(process=ProcessState.DEAD)
    return scene


@pytest.mark.parametrize("how", ["host", "cut", "database"])
def test_the_order_of_a_failover(how: str) -> None:
    async def story() -> None:
        scene = lost_primary(how, "c")
        scene.row = replace(scene.row, may_ack=frozenset({B, C}))
        await failover.fail_over(Controller(scene).procedure(), B)
        steps = [s for s in scene.sent if s.verb is not Verb.FENCE]
        assert [s.verb for s in steps] == [Verb.REVOKE, Verb.REVOKE, Verb.DRAIN, Verb.OPEN]
        assert {s.node for s in steps[:2]} == {"b", "c"}, "every node that may acknowledge"
        assert {s.epoch for s in scene.sent} == {6}, "one epoch, claimed first"
        for sent in steps[:3]:
            assert sent.row.intent is not None, "claimed: an intent is open, nobody is promotable"
            assert sent.row.promotable == ""
            assert sent.row.primary == A, "not recorded yet"
        recorded = steps[3].row
        assert (recorded.primary, recorded.intent, recorded.may_ack) == (B, None, frozenset())
        assert steps[3].args["jump"] is True, "the first write skips sequence numbers"
        assert scene["b"].open

    play(story)


def test_the_old_primary_is_fenced_beside_it_when_it_answers() -> None:
    async def story() -> None:
        scene = lost_primary("database")
        await failover.fail_over(Controller(scene).procedure(), B)
        assert (Verb.FENCE, "a") in scene.verbs()
        assert scene["a"].order is OrderKind.NONE
        assert scene["a"].primary_order is OrderKind.LOSSLESS, "kept: it tells whether its tail may be cut off"

    play(story)


def test_a_fence_that_never_comes_back_delays_nothing_for_long() -> None:
    async def story() -> None:
        scene = lost_primary("host")
        began = scene.clock.monotonic()
        await failover.fail_over(Controller(scene).procedure(), B)
        assert scene.clock.monotonic() - began == pytest.approx(failover.FENCE_PATIENCE.total_seconds())
        assert scene.open_names == ["b"]

    play(story)


def test_nobody_is_promoted_while_a_node_that_may_acknowledge_has_not_revoked() -> None:
    async def story() -> None:
        scene = lost_primary("cut", "c")
        scene.row = replace(scene.row, may_ack=frozenset({B, C}))
        scene["c"].set(reachable=False)
        with pytest.raises(NodeUnreachable):
            await failover.fail_over(Controller(scene).procedure(), B)
        assert not scene["b"].open
        assert scene.row.primary == A
        assert scene.row.intent is not None, "the intent stays until it is resolved"

    play(story)


def test_a_drain_that_fails_promotes_nobody() -> None:
    async def story() -> None:
        scene = lost_primary("host")
        scene["b"].fails[Verb.DRAIN].append(StepFailed("b", "drain", "applier", "the applier has stopped"))
        with pytest.raises(StepFailed):
            await failover.fail_over(Controller(scene).procedure(), B)
        assert not scene["b"].open
        assert scene.row.primary == A

    play(story)


def test_a_revoke_whose_answer_is_lost_is_done_again_under_a_new_epoch() -> None:
    async def story() -> None:
        scene = lost_primary("host")
        scene["b"].answer_lost.add(Verb.REVOKE)
        one = Controller(scene)
        with pytest.raises(NodeUnreachable):
            await failover.fail_over(one.procedure(), B)
        action = await one.one_step()
        assert action is not None
        assert action.kind is ActionKind.FINISH
        assert [s.epoch for s in scene.sent if s.verb is Verb.REVOKE] == [6, 7]
        assert scene.open_names == ["b"]

    play(story)


def test_a_roll_back_clears_the_intent_before_the_old_primary_opens() -> None:
    async def story() -> None:
        scene = lost_primary("cut")
        scene["b"].fails[Verb.REVOKE].append(StepFailed("b", "revoke", "x", "it would not"))
        one = Controller(scene)
        with pytest.raises(StepFailed):
            await failover.fail_over(one.procedure(), B)
        scene["a"].set(reachable=True)
        scene["b"].set(reachable=False)
        action = await one.one_step()
        assert action is not None
        assert action.kind is ActionKind.ROLL_BACK
        (opened,) = [s for s in scene.sent if s.verb is Verb.OPEN]
        assert opened.node == "a"
        assert opened.row.intent is None, "from here on nobody may finish"
        assert opened.row.promotable == ""
        assert opened.epoch == 7, "an epoch of its own"
        assert scene["a"].order is OrderKind.SOLO

    play(story)


@pytest.mark.parametrize("procedure", [failover.finish, failover.roll_back])
def test_without_an_open_intent_nothing_is_finished_or_rolled_back(procedure) -> None:  # type: ignore[no-untyped-def]  # two coroutines
    async def story() -> None:
        scene = lost_primary("host")
        with pytest.raises(ReplicationError, match="no open intent"):
            await procedure(Controller(scene).procedure())
        assert scene.sent == []

    play(story)


def test_a_controller_that_lost_the_lease_sends_nothing() -> None:
    async def story() -> None:
        scene = lost_primary("host")
        one = Controller(scene)
        procedure = one.procedure()
        takes_over(scene)
        with pytest.raises(ClaimLost):
            await failover.fail_over(procedure, B)
        assert scene.sent == []

    play(story)


def test_a_controller_whose_record_is_refused_opens_nobody() -> None:
    """It is overtaken between drain and record: the other one resolves the intent, it sends nothing more."""

    async def story() -> None:
        scene = lost_primary("host")
        one = Controller(scene)
        scene["b"].set(position=200)
        task = asyncio.ensure_future(failover.fail_over(one.procedure(), B))
        while not scene.verbs(Verb.DRAIN):
            await asyncio.sleep(0)
        two = takes_over(scene)
        await two.procedure().claim()
        with pytest.raises(ClaimLost):
            await task
        assert (Verb.OPEN, "b") not in scene.verbs()
        await two.one_step()
        assert scene.open_names == ["b"]
        assert {s.epoch for s in scene.sent if s.verb is Verb.OPEN} == {scene.row.epoch}

    play(story)


def test_an_agent_refuses_a_command_of_an_epoch_that_was_overtaken() -> None:
    async def story() -> None:
        scene = lost_primary("host")
        one = Controller(scene)
        late = one.procedure()
        await late.claim()
        other = one.procedure()
        await other.claim()
        await other.order(B, Verb.REVOKE)
        with pytest.raises(ReplicationError, match="already promised"):
            await late.order(B, Verb.REVOKE)

    play(story)


def test_a_command_under_an_epoch_that_was_not_claimed_is_never_sent() -> None:
    async def story() -> None:
        scene = lost_primary("host")
        with pytest.raises(ReplicationError, match="not claimed"):
            await Controller(scene).procedure().order(B, Verb.REVOKE)
        assert scene.sent == []

    play(story)


# --- a death between any two steps


def deaths(how: str) -> list[tuple[int, str]]:
    """Every use of a port by an undisturbed failover, before and after its effect."""

    async def story() -> int:
        scene = lost_primary(how, "c")
        await failover.fail_over(Controller(scene).procedure(), B)
        return scene.ports_used

    return [(n, when) for n in range(1, play(story) + 1) for when in ("before", "after")]


AFTERMATH = ["nothing changes", "the old primary returns", "the target goes", "both change places"]
DEATHS = [(how, *death) for how in ("host", "cut", "database") for death in deaths(how)]


@pytest.mark.parametrize("then", AFTERMATH)
@pytest.mark.parametrize(("how", "port", "when"), DEATHS)
def test_whoever_dies_in_the_middle_the_next_leader_ends_with_one_open_primary(
    how: str, port: int, when: str, then: str
) -> None:
    async def story() -> None:
        scene = lost_primary(how, "c")
        scene.crash_at = (port, when)
        try:
            await failover.fail_over(Controller(scene).procedure(), B)
        except Died:
            pass
        begun, recorded = scene.row.epoch > 5, scene.row.primary == B
        if then in ("the old primary returns", "both change places"):
            back = {"process": ProcessState.UP} if scene["a"].process is ProcessState.DEAD else {}
            scene["a"].set(reachable=True, **back)
        if then in ("the target goes", "both change places"):
            scene["b"].set(reachable=False)
        two = takes_over(scene)
        quiet = await two.until_quiet()
        assert len([a for a in scene.agents.values() if a.can_acknowledge]) <= 1
        if then == "the target goes":
            # Alone among the dead it waits, or goes on trying; the intent stays for who comes back.
            assert scene["a"].open or scene["b"].open or scene.row.intent is not None or not begun or recorded
            return
        assert quiet, scene.events[-6:]
        assert scene.row.intent is None
        if not begun:
            assert scene.open_names == [scene.agents[scene.row.primary].name]
            return
        if then == "nothing changes":
            assert scene.open_names in (["b"], ["a", "b"]), "an isolated old one may be open, but cannot acknowledge"
            assert scene.row.primary == B
        if then == "the old primary returns":
            assert scene.open_names == ["b"], "finish comes before giving it back"
            assert scene["a"].source == "b"
        if then == "both change places":
            assert scene.row.primary == (B if recorded else A), "after the record there is no way back"
            assert recorded or scene["a"].open

    play(story)


def test_the_deaths_above_are_all_of_them() -> None:
    assert {how for how, _, _ in DEATHS} == {"host", "cut", "database"}
    assert len(DEATHS) > 3 * 2 * 6, "claim, revoke, fence, drain, record, open at least"


def test_a_transient_failure_does_not_give_the_vault_back_to_a_dead_primary() -> None:
    """The first try fails on a hiccup while the old primary's database is dead: trying again beats restarting a dead one."""

    async def story() -> None:
        scene = lost_primary("database")
        scene["b"].fails[Verb.REVOKE].append(StepFailed("b", "revoke", "busy", "another verb is under way"))
        one = Controller(scene)
        with pytest.raises(StepFailed):
            await failover.fail_over(one.procedure(), B)
        view = scene.view()
        held = tuple(replace(n, blocked=n.id == B) for n in view.nodes)
        assert plan(replace(view, nodes=held)) is None, "wait out the pause"
        assert await one.until_quiet()
        assert scene.row.primary == B

    play(story)
