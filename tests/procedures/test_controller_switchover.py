"""Switchover over scripted agents, alone and under a leader.

Proves: the order claim → close → received → revoke → drain → record → open, in one epoch; that another fallback becomes the acker
by way of solo first; that a refusal touches nothing; that whatever fails before the record is given back under a new epoch; that
the former acker is finished when the primary dies in the middle; and that a leader may die at every use of a port.
"""

import asyncio
from dataclasses import replace

import pytest

from replication.core import limits
from replication.core.commands import Command, Verb
from replication.core.errors import ClaimLost, NodeUnreachable, Refused, ReplicationError, StaleEpoch, StepFailed
from replication.core.plan import ActionKind, plan
from replication.core.roles import IntentKind, OrderKind, ProcessState
from replication.procedures.controller import failover, switchover
from tests.builders import VAULT
from tests.procedures.leading import A, B, C, lead, pair, put_down, story, until
from tests.procedures.virtual_time import play
from tests.procedures.world import Controller, Died, Scene, takes_over

ORDER = [(Verb.CLOSE, "a"), (Verb.RECEIVED, "b"), (Verb.REVOKE, "b"), (Verb.DRAIN, "b"), (Verb.OPEN, "b")]


def how_it_ended(scene: Scene) -> str:
    return scene.ended("the wish") if "the wish" in scene.operations else ""


def test_the_order_of_a_switchover() -> None:
    async def told() -> None:
        scene = pair("c")
        scene["a"].set(position=150)
        scene["b"].set(position=150)
        await switchover.switch_over(Controller(scene).procedure(), B)
        assert scene.verbs() == ORDER, "nobody is fenced"
        assert {s.epoch for s in scene.sent} == {6}, "one epoch, claimed first"
        for sent in scene.sent[:-1]:
            assert sent.row.promotable == "", "nobody may be promoted from the claim on"
            assert sent.row.primary == A
            intent = sent.row.intent
            assert intent is not None
            assert (intent.kind, intent.target, intent.entitled) == (IntentKind.SWITCHOVER, B, B)
            assert (intent.former_primary, intent.must_revoke) == (A, (B,))
        assert scene.sent[1].args["position"] == "0-1-150", "what CLOSE said"
        opened = scene.sent[-1]
        assert (opened.row.primary, opened.row.intent, opened.row.may_ack) == (B, None, frozenset())
        assert opened.args["jump"] is True
        assert scene.open_names == ["b"]
        assert scene["a"].order is OrderKind.NONE

    play(told)


def test_another_fallback_becomes_the_acker_by_way_of_solo() -> None:
    """Writes must not wait for an acker that is being switched off: with a frozen one that would be a minute."""

    async def told() -> None:
        scene = pair("c")
        await switchover.switch_over(Controller(scene).procedure(), C)
        verbs = scene.verbs()
        assert verbs[0] == (Verb.SOLO, "a")
        becoming = verbs.index((Verb.ACKER, "c"))
        assert becoming < verbs.index((Verb.LOSSLESS, "a")) < verbs.index((Verb.CLOSE, "a"))
        assert not scene["b"].flag
        (close,) = [s for s in scene.sent if s.verb is Verb.CLOSE]
        assert close.row.intent is not None
        assert close.row.intent.entitled == C
        assert scene.open_names == ["c"]

    play(told)


def test_who_cannot_become_the_acker_is_not_switched_to() -> None:
    async def told() -> None:
        scene = pair("c")
        scene["c"].fails[Verb.RECEIVED].append(StepFailed("c", "received", "timeout", "it has not received that far"))
        with pytest.raises(StepFailed):
            await switchover.switch_over(Controller(scene).procedure(), C)
        assert Verb.CLOSE not in [s.verb for s in scene.sent]
        assert scene.row.intent is None
        assert scene["a"].order is OrderKind.SOLO

    play(told)


@story()
async def test_a_wish_is_carried_out_and_the_old_master_follows(scene: Scene, one: Controller) -> None:
    scene.ask_for("b")
    seconds = await until(lambda: scene["b"].open, 2)
    assert seconds < 1.0
    await until(lambda: scene.row.promotable == A, 10, "lossless again, the other way round")
    assert scene["a"].source == "b"
    assert scene.operations["the wish"][0] == "switchover"
    assert how_it_ended(scene) == "succeeded: switchover: b.example is Master now, a.example will follow it"
    assert Verb.FENCE not in [s.verb for s in scene.sent]


@story()
async def test_fail_back(scene: Scene, one: Controller) -> None:
    scene.ask_for("b")
    await until(lambda: scene.row.promotable == A, 10)
    scene.ask_for("a", operation="another wish")
    await until(lambda: scene.row.promotable == B, 10)
    assert scene.open_names == ["a"]


@pytest.mark.parametrize(
    ("target", "name", "changes", "rule"),
    [
        ("a", "a", {}, "R10"),
        ("b", "a", {"says": {"read_only": True}}, "R25"),
        ("b", "b", {"reachable": False, "unreachable_kind": "refused"}, "R35"),
        ("b", "b", {"quarantine": "extra 0-1-7"}, "R45"),
        ("b", "b", {"says": {"seconds_behind": 60.0}}, "R50"),
        ("c", "c", {"says": {"receiver_up_for": 0.1}}, "R55"),
        ("b", "a", {"says": {"oldest_transaction": 60.0}}, "R65"),
        ("z", "a", {}, "R05"),
    ],
)
def test_a_refusal_touches_nothing_and_ends_the_wish(
    target: str, name: str, changes: dict[str, object], rule: str
) -> None:
    async def told() -> None:
        scene = pair("c")
        lead(Controller(scene))
        await asyncio.sleep(5)
        scene[name].set(**changes)
        scene.stay_writable = False  # nothing else is done about it either
        await asyncio.sleep(1)
        scene.ask_for(target)
        await until(lambda: how_it_ended(scene), 3)
        assert how_it_ended(scene).startswith(f"failed: {rule} · ")
        await asyncio.sleep(5)
        assert scene.claims == 0
        assert scene.sent == []

    play(told)


def test_it_is_looked_at_afresh_before_anything_is_touched() -> None:
    """The report of a minute ago was good, the database says otherwise now."""

    async def told() -> None:
        scene = pair()
        procedure = Controller(scene).procedure()
        scene["a"].set(says={"oldest_transaction": 60.0})
        with pytest.raises(Refused, match="R65"):
            await switchover.switch_over(procedure, B)
        scene["a"].set(says={})
        procedure = Controller(scene).procedure()
        scene["a"].set(reachable=False)
        with pytest.raises(NodeUnreachable):
            await switchover.switch_over(procedure, B)
        assert scene.claims == 0

    play(told)


STEPS = [("a", Verb.CLOSE), ("b", Verb.RECEIVED), ("b", Verb.REVOKE), ("b", Verb.DRAIN)]


@pytest.mark.parametrize("how", ["it fails", "the answer is lost"])
@pytest.mark.parametrize(("name", "verb"), STEPS, ids=str)
def test_what_fails_before_the_record_is_given_back(name: str, verb: Verb, how: str) -> None:
    async def told() -> None:
        scene = pair()
        lead(Controller(scene))
        await asyncio.sleep(5)
        if how == "it fails":
            scene[name].fails[verb].append(StepFailed(name, verb.value, "timeout", "it was not done in time"))
        else:
            scene[name].answer_lost.add(verb)
        scene.ask_for("b")
        await until(lambda: scene.verbs(Verb.OPEN), 3)
        (opened,) = [s for s in scene.sent if s.verb is Verb.OPEN]
        closed = next(s for s in scene.sent if s.verb is Verb.CLOSE)
        assert opened.node == "a"
        assert opened.epoch > closed.epoch, "under a new epoch"
        assert opened.row.intent is None, "from here on nobody may finish"
        await until(lambda: how_it_ended(scene), 3)
        why = "it was not done in time" if how == "it fails" else "the answer was lost"
        assert how_it_ended(scene).startswith("failed: the switchover was not finished: a.example is Master again")
        assert why in how_it_ended(scene)
        await until(lambda: scene.row.promotable == B, 15, "lossless again")
        assert scene.open_names == ["a"]
        assert len(scene.verbs(Verb.CLOSE)) == 1, "it is never tried a second time"

    play(told)


@story()
async def test_a_step_that_takes_too_long_is_given_back_in_time(scene: Scene, one: Controller) -> None:
    scene["b"].answer_lost.add(Verb.RECEIVED)
    scene["b"].slow[Verb.RECEIVED] = limits.CLOSE_DEADLINE.total_seconds()
    scene.ask_for("b")
    await until(lambda: scene.verbs(Verb.CLOSE), 2)
    assert await until(lambda: scene["a"].open, 5) < limits.CLOSE_DEADLINE.total_seconds() + 0.5


@pytest.mark.parametrize("verb", [Verb.RECEIVED, Verb.REVOKE, Verb.DRAIN], ids=str)
def test_the_target_dies_in_the_middle(verb: Verb) -> None:
    async def told() -> None:
        scene = pair()
        lead(Controller(scene))
        await asyncio.sleep(5)
        scene["b"].slow[verb] = 0.2
        scene.ask_for("b")
        await until(lambda: (verb, "b") in scene.verbs(), 3)
        scene["b"].fails[verb].append(StepFailed("b", verb.value, "no-database", "it died"))
        scene["b"].set(process=ProcessState.DEAD)
        await until(lambda: scene["a"].open, 2)
        await until(lambda: how_it_ended(scene), 3)
        assert how_it_ended(scene).startswith("failed: ")
        await asyncio.sleep(10)
        assert scene["a"].order is OrderKind.SOLO
        assert scene.row.primary == A

    play(told)


@pytest.mark.parametrize("how", ["the database", "the host"])
@pytest.mark.parametrize(("name", "verb"), STEPS, ids=str)
def test_the_primary_dies_in_the_middle_and_the_former_acker_is_finished(name: str, verb: Verb, how: str) -> None:
    async def told() -> None:
        scene = pair()
        lead(Controller(scene))
        await asyncio.sleep(5)
        scene[name].slow[verb] = 0.2
        scene[name].fails[verb].append(StepFailed(name, verb.value, "timeout", "the primary has gone"))
        scene.ask_for("b")
        await until(lambda: (verb, name) in scene.verbs(), 3)
        scene["a"].set(process=ProcessState.DEAD, reachable=how == "the database")
        await until(lambda: scene["b"].open, 4)
        assert scene.row.primary == B
        await until(lambda: how_it_ended(scene), 3)
        assert how_it_ended(scene).startswith("succeeded: ")

    play(told)


@story()
async def test_a_primary_that_died_before_it_was_touched_is_a_failover(scene: Scene, one: Controller) -> None:
    scene["a"].set(process=ProcessState.DEAD)
    scene.ask_for("b")
    await until(lambda: scene["b"].open, 1)
    await until(lambda: how_it_ended(scene), 5)
    assert how_it_ended(scene).startswith("failed: R"), "the wish is over; it is the Master by other means"
    assert "failover" in {said[0] for said in scene.operations.values()}


def test_a_close_that_comes_late_closes_nobody() -> None:
    async def told() -> None:
        scene = pair()
        scene["a"].fails[Verb.CLOSE].append(StepFailed("a", "close", "commits-hang", "it stays open"))
        one = Controller(scene)
        with pytest.raises(StepFailed):
            await switchover.switch_over(one.procedure(), B)
        await one.one_step()
        assert scene.open_names == ["a"]
        late = Command(vault=VAULT, node=A, term=1, epoch=6, operation="x", deadline=2.0)
        with pytest.raises(StaleEpoch):
            scene["a"].obey(Verb.CLOSE, late)
        assert scene.open_names == ["a"]

    play(told)


@story()
async def test_who_leads_no_longer_closes_nobody(scene: Scene, one: Controller) -> None:
    scene.leader = "two"
    scene.ask_for("b")
    await asyncio.sleep(3)
    assert scene.sent == []


def test_the_leader_is_overtaken_between_drain_and_record() -> None:
    async def told() -> None:
        scene = pair()
        one = Controller(scene)
        task = asyncio.ensure_future(switchover.switch_over(one.procedure(), B))
        while not scene.verbs(Verb.DRAIN):
            await asyncio.sleep(0)
        two = takes_over(scene)
        action = await two.one_step()
        assert action is not None
        assert action.kind is ActionKind.ROLL_BACK, "both live"
        with pytest.raises(ClaimLost):
            await task
        assert scene.open_names == ["a"]
        assert await two.until_quiet()
        assert scene.row.promotable == B

    play(told)


# --- a record whose outcome is unknown


@pytest.mark.parametrize("kind", ["failover", "switchover"])
def test_a_record_that_was_written_although_it_seemed_to_fail_is_not_rolled_back(kind: str) -> None:
    """The row keeps its epoch, so the next compare-and-set alone would not find it: two masters."""

    async def told() -> None:
        scene = pair()
        one = Controller(scene)
        if kind == "failover":
            scene["a"].set(reachable=False)
        first = one.procedure()
        begin = failover.fail_over if kind == "failover" else switchover.switch_over
        task = asyncio.ensure_future(begin(first, B))
        while not scene.verbs(Verb.DRAIN):
            await asyncio.sleep(0)
        scene.outcome_lost = 1
        with pytest.raises(ClaimLost):
            await task
        assert scene.row.primary == B, "it was written"
        assert first.row.primary == A, "but it does not know"
        scene["a"].set(reachable=True)
        view = replace(scene.view(), topology=first.row)
        sent = len(scene.sent)
        again = one.procedure(view)
        with pytest.raises(ClaimLost, match="changed under its epoch"):
            await failover.roll_back(again)
        assert len(scene.sent) == sent, "nobody is told anything"
        assert again.row.primary == B, "now it knows"
        assert await one.until_quiet()
        assert scene.open_names == ["b"]

    play(told)


# --- a death between any two steps


def deaths(target: str) -> list[tuple[int, str]]:
    async def told() -> int:
        scene = pair("c")
        await switchover.switch_over(Controller(scene).procedure(), B if target == "b" else C)
        return scene.ports_used

    return [(n, when) for n in range(1, play(told) + 1) for when in ("before", "after")]


DEATHS = [(target, *death) for target in ("b", "c") for death in deaths(target)]
AFTERMATH = ["nothing changes", "the old primary goes", "the target goes", "the service is stopped"]


@pytest.mark.parametrize("then", AFTERMATH)
@pytest.mark.parametrize(("target", "port", "when"), DEATHS)
def test_whoever_dies_in_the_middle_the_next_leader_ends_with_one_open_primary(
    target: str, port: int, when: str, then: str
) -> None:
    async def told() -> None:
        scene = pair("c")
        one = Controller(scene)
        lead(one)
        await asyncio.sleep(5)
        scene.crash_at = (scene.ports_used + port, when)
        scene.ask_for(target)
        await until(lambda: one.dead, 5)
        await put_down(one)
        recorded = scene.row.primary if scene.row.primary != A else ""
        entitled = scene.row.intent.entitled if scene.row.intent is not None else scene.row.promotable
        if then == "the old primary goes":
            scene["a"].set(reachable=False, process=ProcessState.DEAD)
        if then == "the target goes":
            scene[target].set(reachable=False, process=ProcessState.DEAD)
        if then == "the service is stopped":
            scene.running = False
        if scene.operations.get("the wish"):
            scene.switchover = None  # it was taken up: its row is no longer queued
        two = takes_over(scene)
        lead(two)
        await asyncio.sleep(12)
        assert sum(a.can_acknowledge for a in scene.agents.values()) <= 1
        assert scene.row.intent is None
        assert all(scene.ended(o) for o, said in scene.operations.items() if said[0] == "switchover")
        primary = scene.agents[scene.row.primary]
        if then in ("nothing changes", "the service is stopped"):
            assert scene.open_names == [primary.name]
            assert (primary.order is OrderKind.SOLO) == (then == "the service is stopped")
        if then == "the old primary goes" and (entitled or recorded):
            assert scene.open_names == [scene.agents[entitled or recorded].name], "whoever held every write"
        if then == "the target goes":
            assert scene.open_names == ([] if recorded else ["a"]), "after the record there is no way back"

    play(told)


def test_the_deaths_above_are_all_of_them() -> None:
    assert len([d for d in DEATHS if d[0] == "b"]) >= 2 * 8, "claim, five commands, record, event"
    assert len([d for d in DEATHS if d[0] == "c"]) > len([d for d in DEATHS if d[0] == "b"])


# --- a stopped service ends what was begun


@story()
async def test_the_service_is_stopped_in_the_middle(scene: Scene, one: Controller) -> None:
    scene["b"].slow[Verb.DRAIN] = 1.0
    scene.ask_for("b")
    await until(lambda: scene.verbs(Verb.DRAIN), 2)
    scene.running = False
    await until(lambda: how_it_ended(scene), 5)
    assert scene["b"].open
    await until(lambda: not scene.noted_running, 5)
    assert scene["b"].order is OrderKind.SOLO


@story()
async def test_a_recorded_primary_that_was_not_opened_is_opened_although_the_service_was_stopped(
    scene: Scene, one: Controller
) -> None:
    scene["b"].fails[Verb.OPEN].extend([StepFailed("b", "open", "busy", "not now")] * 3)
    scene.ask_for("b")
    await until(lambda: scene.row.primary == B, 2)
    scene.running = False
    await until(lambda: scene["b"].open, 15)
    await until(lambda: how_it_ended(scene), 5)
    assert how_it_ended(scene).startswith("succeeded")


@story(lambda: pair("c"))
async def test_a_node_of_an_open_intent_is_not_taken_out_before_it_is_resolved(scene: Scene, one: Controller) -> None:
    scene["b"].slow[Verb.DRAIN] = 1.0
    scene.ask_for("b")
    await until(lambda: scene.verbs(Verb.DRAIN), 2)
    scene.wish("b", active=False, removed=True)
    scene.wish("a", active=False)
    await until(lambda: scene["b"].open, 5)
    await until(lambda: scene.nodes[A].detached, 5)
    assert scene.nodes[B].detached is False, "it is the Master now"
    assert scene.open_names == ["b"]


def test_a_leader_that_has_just_begun_to_look_kills_nobody() -> None:
    """The target answers first; the old primary, closed and well, a moment later: it is given back to it."""

    async def told() -> None:
        scene = pair()
        one = Controller(scene)
        task = asyncio.ensure_future(switchover.switch_over(one.procedure(), B))
        while not scene.verbs(Verb.CLOSE):
            await asyncio.sleep(0)
        task.cancel()
        scene["a"].set(reachable=False)
        lead(takes_over(scene))
        await asyncio.sleep(0.6)
        scene["a"].set(reachable=True)
        await until(lambda: scene["a"].open, 2)
        assert Verb.FENCE not in [s.verb for s in scene.sent]

    play(told)


def test_a_plan_is_made_for_every_row_that_a_death_can_leave() -> None:
    async def told() -> None:
        for target, port, when in DEATHS:
            scene = pair("c")
            scene.crash_at = (port, when)
            with pytest.raises((Died, ReplicationError)):
                await switchover.switch_over(Controller(scene).procedure(), B if target == "b" else C)
            action = plan(replace(scene.view(), running=False))
            if scene.row.intent is not None or scene.open_names == []:
                assert action is not None, (target, port, when)

    play(told)
