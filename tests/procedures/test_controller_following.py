"""Become lossless, go solo and follow, over scripted agents.

Proves: the row says so before a node may acknowledge; an acker is published only after the proof; a failed proof goes solo
under a new epoch; the acker is un-published before the primary may stop waiting; nobody else can acknowledge beside the acker;
who does not answer is locked out, and noted as such first; who was locked out promises before its account is unlocked.
"""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from replication.core import limits
from replication.core.commands import Verb, account_name
from replication.core.errors import NodeUnreachable, ReplicationError, StepFailed
from replication.core.plan import ActionKind, plan
from replication.core.roles import OrderKind, ProcessState
from replication.procedures.controller import following, opening
from replication.procedures.controller.watch import carry_out
from tests.builders import id_of
from tests.procedures.virtual_time import play
from tests.procedures.world import Controller, Died, Scene, takes_over

A, B, C = id_of("a"), id_of("b"), id_of("c")


def solo_vault(*followers: str) -> Scene:
    """ "a" open and solo; the others stream from it without acknowledging."""
    scene = Scene("a", *followers)
    scene.lossless_pair(*(f for f in followers if f != "b"))
    scene.row = replace(scene.row, promotable="", may_ack=frozenset())
    scene["a"].order = scene["a"].primary_order = OrderKind.SOLO
    scene["a"].semisync = False
    scene["b"].set(flag=False)
    return scene


def test_a_new_vault_becomes_a_lossless_pair_by_itself() -> None:
    async def story() -> None:
        scene = Scene("a", "b")
        assert await Controller(scene).until_quiet()
        assert scene.row.primary == A
        assert scene.row.promotable == B
        assert scene.row.may_ack == {B}
        assert scene["a"].order is OrderKind.LOSSLESS
        assert [v for v, _ in scene.verbs()] == [
            Verb.OPEN,
            Verb.ACCOUNTS,
            Verb.FOLLOW,
            Verb.ACKER,
            Verb.LOSSLESS,
            Verb.RECEIVED,
        ]

    play(story)


def test_the_order_of_the_proof() -> None:
    async def story() -> None:
        scene = solo_vault("b", "c")
        await following.become_acker(Controller(scene).procedure(), B)
        assert scene.verbs() == [
            (Verb.ACCOUNTS, "a"),
            (Verb.FOLLOW, "c"),
            (Verb.ACKER, "b"),
            (Verb.LOSSLESS, "a"),
            (Verb.RECEIVED, "b"),
        ], "the others first, then the flag, then waiting, then the proof"
        for sent in scene.sent:
            assert B in sent.row.may_ack, "said before it may acknowledge"
            assert sent.row.promotable == "", "not published before the proof"
        assert (scene.row.promotable, scene.row.may_ack) == (B, frozenset({B}))
        assert scene.sent[-1].args["position"] == "0-1-100", "the position read after the switch-on"

    play(story)


@pytest.mark.parametrize(
    ("name", "verb"), [("b", Verb.RECEIVED), ("a", Verb.LOSSLESS)], ids=["it has not received", "the primary refuses"]
)
def test_a_failed_proof_goes_solo_under_a_new_epoch(name: str, verb: Verb) -> None:
    async def story() -> None:
        scene = solo_vault("b")
        scene[name].fails[verb].append(StepFailed(name, verb.value, "timeout", "not in time"))
        with pytest.raises(StepFailed):
            await following.become_acker(Controller(scene).procedure(), B)
        solo = scene.sent[-1]
        assert (solo.verb, solo.node) == (Verb.SOLO, "a")
        assert solo.epoch > scene.sent[-2].epoch, "nothing is undone within an epoch"
        assert scene.row.promotable == ""
        assert B in scene.row.may_ack, "its flag may still be on"
        assert scene["a"].order is OrderKind.SOLO

    play(story)


def test_a_lost_answer_of_the_primary_is_a_failed_proof() -> None:
    async def story() -> None:
        scene = solo_vault("b")
        scene["a"].answer_lost.add(Verb.LOSSLESS)
        with pytest.raises(NodeUnreachable):
            await following.become_acker(Controller(scene).procedure(), B)
        assert scene["a"].order is OrderKind.SOLO
        assert scene.row.promotable == ""

    play(story)


@pytest.mark.parametrize("clients", [0, 2])
def test_exactly_one_node_acknowledges_or_nobody_is_published(clients: int) -> None:
    async def story() -> None:
        scene = solo_vault("b")
        scene["a"].says["ack_clients"] = clients
        with pytest.raises(StepFailed, match=f"{clients} nodes acknowledge"):
            await following.become_acker(Controller(scene).procedure(), B)
        assert scene.row.promotable == ""
        assert scene["a"].order is OrderKind.SOLO

    play(story)


def test_who_does_not_answer_is_locked_out_before_the_proof_and_noted_before_that() -> None:
    async def story() -> None:
        scene = solo_vault("b", "c")
        scene["c"].set(reachable=False)
        began = scene.clock.monotonic()
        await following.become_acker(Controller(scene).procedure(), B)
        assert scene.clock.monotonic() - began < 1.0, (
            "its silence is not waited for once more: nobody is promotable meanwhile"
        )
        verbs = scene.verbs()
        assert verbs.index((Verb.LOCK_OUT, "a")) < verbs.index((Verb.LOSSLESS, "a"))
        (lock,) = [s for s in scene.sent if s.verb is Verb.LOCK_OUT]
        assert lock.args == {"account": account_name(C)}
        assert C in lock.locked_out, "noted before it is done"
        assert scene.row.promotable == B

    play(story)


def test_a_node_that_may_acknowledge_is_turned_off_even_when_its_row_does_not_say_that_it_joined() -> None:
    async def story() -> None:
        scene = solo_vault("b", "c")
        scene["c"].set(flag=True)
        scene.row = replace(scene.row, may_ack=frozenset({C}))
        scene.wish("c", joined=False)
        await following.become_acker(Controller(scene).procedure(), B)
        assert not scene["c"].flag
        assert scene.row.may_ack == {B}

    play(story)


def test_a_node_that_cannot_be_locked_out_stops_the_proof() -> None:
    async def story() -> None:
        scene = solo_vault("b", "c")
        scene["c"].set(reachable=False)
        scene["a"].fails[Verb.LOCK_OUT].append(StepFailed("a", "lock-out", "sql", "no"))
        with pytest.raises(ReplicationError):
            await following.become_acker(Controller(scene).procedure(), B)
        assert Verb.LOSSLESS not in [s.verb for s in scene.sent]
        assert scene.row.promotable == ""

    play(story)


def test_going_solo_un_publishes_before_the_primary_may_stop_waiting() -> None:
    async def story() -> None:
        scene = Scene("a", "b")
        scene.lossless_pair()
        await opening.go_solo(Controller(scene).procedure())
        (solo,) = scene.sent
        assert solo.verb is Verb.SOLO
        assert solo.row.promotable == ""
        assert solo.row.may_ack == {B}, "its flag may still be on"

    play(story)


@pytest.mark.parametrize("process", [ProcessState.UP, ProcessState.DOWN])
def test_who_was_locked_out_promises_before_its_account_is_unlocked(process: ProcessState) -> None:
    async def story() -> None:
        scene = solo_vault("b", "c")
        scene["a"].locked.add(account_name(C))
        scene["c"].set(flag=True, process=process)
        scene.wish("c", locked_out=True)
        await following.follow(Controller(scene).procedure(), C)
        first, *_ = scene.sent
        assert (first.verb, first.node) == (Verb.DETACH if process is ProcessState.UP else Verb.FENCE, "c")
        assert scene.verbs()[1] == (Verb.ACCOUNTS, "a")
        assert scene["c"].streams
        assert not scene["c"].flag
        assert not scene.nodes[C].locked_out

    play(story)


def test_a_former_primary_that_was_locked_out_is_fenced_not_detached() -> None:
    """It was away when it was replaced and still has its order: told to detach it would refuse for ever."""

    async def story() -> None:
        scene = solo_vault("b", "c")
        scene["a"].locked.add(account_name(C))
        scene["c"].set(order=OrderKind.LOSSLESS, primary_order=OrderKind.LOSSLESS, source="")
        scene.wish("c", locked_out=True)
        await following.follow(Controller(scene).procedure(), C)
        first, *_ = scene.sent
        assert (first.verb, first.node) == (Verb.FENCE, "c")
        assert scene["c"].streams
        assert not scene.nodes[C].locked_out

    play(story)


def test_a_locked_out_node_that_returns_follows_again_by_itself() -> None:
    async def story() -> None:
        scene = Scene("a", "b", "c")
        scene.lossless_pair("c")
        scene["a"].locked.add(account_name(C))
        scene["c"].says.update(receiver_errno=4151, receiver_error="this account is locked")
        scene.wish("c", locked_out=True)
        scene.settle()
        action = plan(scene.view())
        assert action is not None
        assert (action.kind, action.node) == (ActionKind.FOLLOW, C)
        scene["c"].says.clear()
        assert await Controller(scene).until_quiet()
        assert scene["c"].streams

    play(story)


def test_opening_never_unlocks_who_is_locked_out() -> None:
    async def story() -> None:
        scene = solo_vault("b", "c")
        scene.wish("c", locked_out=True)
        scene["a"].set(order=OrderKind.NONE, locked={account_name(C)})
        await opening.open_primary(Controller(scene).procedure(), A)
        assert scene["a"].locked == {account_name(C)}
        names = {account["name"] for account in scene.sent[-1].args["accounts"]}
        assert names == {account_name(B)}

    play(story)


def test_a_follower_can_no_longer_acknowledge() -> None:
    async def story() -> None:
        scene = solo_vault("b")
        scene.row = replace(scene.row, may_ack=frozenset({B}))
        scene["b"].set(flag=True)
        await following.follow(Controller(scene).procedure(), B)
        assert not scene["b"].flag
        assert scene.row.may_ack == frozenset()
        assert B in scene.sent[-1].row.may_ack, "taken out after it has reconnected, not before"

    play(story)


def test_an_acker_that_must_follow_again_goes_solo_first() -> None:
    async def story() -> None:
        scene = Scene("a", "b")
        scene.lossless_pair()
        await following.follow(Controller(scene).procedure(), B)
        assert scene.verbs()[0] == (Verb.SOLO, "a")
        assert scene.sent[0].row.promotable == ""

    play(story)


@pytest.mark.parametrize(
    ("last", "may"),
    [(OrderKind.LOSSLESS, True), (OrderKind.SOLO, False), (OrderKind.NONE, False)],
    ids=["a former lossless primary", "a former solo primary", "a replica"],
)
def test_only_the_tail_of_a_lossless_primary_may_be_cut_off(last: OrderKind, may: bool) -> None:
    async def story() -> None:
        scene = solo_vault("b", "c")
        scene["c"].set(source="", primary_order=last, process=ProcessState.DOWN)
        await following.follow(Controller(scene).procedure(), C)
        sent = next(s for s in scene.sent if s.verb is Verb.FOLLOW)
        assert sent.args["truncate_tail"] is may
        assert sent.args["source_binlog_state"] == "0-1-100", "read from the primary just before"

    play(story)


def test_claims_go_above_what_any_agent_has_promised() -> None:
    async def story() -> None:
        scene = Scene("a", "b")
        scene.lossless_pair()
        scene["b"].set(epoch=40)
        await opening.go_solo(Controller(scene).procedure())
        assert scene.row.epoch == 41

    play(story)


BECOMING = [(n, when) for n in range(1, 14) for when in ("before", "after")]


@pytest.mark.parametrize("gone", [None, "b"], ids=["all answer", "the new acker goes with it"])
@pytest.mark.parametrize(("port", "when"), BECOMING)
def test_whoever_dies_while_making_an_acker_the_next_leader_leaves_nobody_waiting(
    port: int, when: str, gone: str | None
) -> None:
    async def story() -> None:
        scene = solo_vault("b", "c")
        scene.crash_at = (port, when)
        try:
            await following.become_acker(Controller(scene).procedure(), B)
        except Died:
            pass
        if gone:
            scene[gone].set(reachable=False, process=ProcessState.DEAD)
        two = takes_over(scene)
        for _ in range(20):
            missing = timedelta(seconds=2) if gone and scene.row.promotable == id_of(gone) else timedelta()
            view = replace(scene.view(), acker_missing_for=missing)
            action = plan(view)
            if action is not None:
                try:
                    await carry_out(two.procedure(view, action.rule), action)
                except ReplicationError:
                    pass
            await asyncio.sleep(limits.ACKER_STEADY_FOR.total_seconds())
        acker = scene.row.promotable
        assert acker in (("", C) if gone else (B, C)), "lossless again, or nobody is waited for"
        if not acker:
            assert scene["a"].order is OrderKind.SOLO
        else:
            flags = [x.name for x in scene.agents.values() if x.flag and x.streams]
            assert flags == [next(x.name for x in scene.agents.values() if x.id == acker)]

    play(story)


def test_the_deaths_above_reach_the_end_of_the_procedure() -> None:
    async def story() -> int:
        scene = solo_vault("b", "c")
        await following.become_acker(Controller(scene).procedure(), B)
        return scene.ports_used

    assert play(story) <= max(n for n, _ in BECOMING)
