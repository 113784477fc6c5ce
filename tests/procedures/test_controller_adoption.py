"""A metadata database that is older than the world (rule 16), over scripted agents.

Proves: nothing is decided until every node of the list has promised; the primary is the node that was last told to be it, whether it is
open, closed, fenced or away at first; deleting a node names it dead; a list that is out of date as well holds everything; and a leader
may die at every use of a port.
"""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import replace

import pytest

from replication.core.commands import Verb
from replication.core.errors import ReplicationError, StepFailed
from replication.core.plan import ActionKind, plan
from replication.core.roles import IntentKind, OrderKind, ProcessState
from replication.core.view import Topology
from replication.procedures.controller import adoption, failover
from replication.procedures.controller.watch import _wants_failover
from tests.builders import VAULT, id_of
from tests.procedures.leading import A, B, C, lead, pair, put_down, until
from tests.procedures.virtual_time import play
from tests.procedures.world import Controller, Died, Scene, takes_over

DECIDES = {Verb.OPEN, Verb.SOLO, Verb.REVOKE, Verb.LOSSLESS, Verb.FOLLOW, Verb.FENCE}


async def restored(*, marks: bool) -> Scene:
    """ "b" took over from "a", the vault is lossless again; then the row of before the failover came back from a backup."""
    scene = pair("c")
    backup = scene.row
    scene["a"].set(process=ProcessState.DEAD)
    one = Controller(scene)
    await failover.fail_over(one.procedure(), B)
    assert await one.until_quiet()
    assert scene["b"].order is OrderKind.LOSSLESS
    assert scene["a"].source == "b"
    scene.row = backup
    if not marks:
        scene.marks = 0
    scene.sent.clear()
    return scene


@pytest.mark.parametrize("marks", [True, False], ids=["this host remembers", "only the agents remember"])
def test_a_restored_row_is_corrected_by_the_agents(marks: bool) -> None:
    async def told() -> None:
        scene = await restored(marks=marks)
        known = max(scene.marks, *(a.epoch for a in scene.agents.values()))
        lead(takes_over(scene))
        await until(lambda: scene.row.primary == B, 3)
        await until(lambda: scene.row.promotable, 10, "lossless again")
        promises = [s for s in scene.sent if s.verb is Verb.PROMISE]
        assert {s.node for s in promises} == {"a", "b", "c"}
        assert min(s.epoch for s in scene.sent) > known, "never a lower epoch"
        assert scene.open_names == ["b"]
        assert Verb.OPEN not in [s.verb for s in scene.sent], "it was open all the time"
        assert scene.row.may_ack == {scene.row.promotable}

    play(told)


@pytest.mark.parametrize("away", ["a", "b", "c"])
def test_nothing_is_decided_until_everybody_has_promised(away: str) -> None:
    async def told() -> None:
        scene = await restored(marks=True)
        scene[away].set(reachable=False)
        lead(takes_over(scene))
        await asyncio.sleep(60)
        assert DECIDES.isdisjoint(s.verb for s in scene.sent), "no failover, no solo, no follow"
        assert scene.row.intent is not None
        assert scene.row.intent.kind is IntentKind.ADOPT
        assert f"waits for {away}.example" in scene.reason
        scene[away].set(reachable=True)
        await until(lambda: scene.row.primary == B and scene.row.intent is None, 35)
        assert scene.open_names == ["b"]

    play(told)


def test_not_even_when_the_recorded_primary_is_lost() -> None:
    """The old row says: a is primary, b its acker. Both that and the failover it would lead to are history."""

    async def told() -> None:
        scene = await restored(marks=True)
        scene["a"].set(process=ProcessState.DEAD)
        scene["b"].set(reachable=False)
        lead(takes_over(scene))
        await asyncio.sleep(30)
        assert DECIDES.isdisjoint(s.verb for s in scene.sent)

    play(told)


def closed(scene: Scene) -> None:
    scene["b"].set(order=OrderKind.NONE)


def fenced(scene: Scene) -> None:
    scene["b"].set(order=OrderKind.NONE, process=ProcessState.DOWN)


def overtaken(scene: Scene) -> None:
    """A node with a higher promise, and an older order to be primary."""
    scene["a"].set(epoch=scene["b"].epoch + 40, primary_order=OrderKind.SOLO, primary_order_epoch=5)


@pytest.mark.parametrize("state", [closed, fenced, overtaken])
def test_the_primary_is_who_was_told_last_not_who_is_open_or_promised_most(state: Callable[[Scene], None]) -> None:
    async def told() -> None:
        scene = await restored(marks=True)
        state(scene)
        lead(takes_over(scene))
        await until(lambda: scene.row.primary == B and scene.row.intent is None, 5)
        await until(lambda: scene["b"].open, 5)
        assert scene.open_names == ["b"]

    play(told)


def test_a_missing_node_that_is_deleted_was_named_dead() -> None:
    async def told() -> None:
        scene = await restored(marks=True)
        scene["c"].set(reachable=False)
        lead(takes_over(scene))
        await asyncio.sleep(20)
        assert scene.row.intent is not None
        scene.wish("c", removed=True, active=False)
        await until(lambda: scene.row.intent is None, 35)
        assert scene.row.primary == B
        await until(lambda: scene.row.promotable, 15, "lossless without it")

    play(told)


def test_a_deleted_node_that_answers_is_asked_all_the_same() -> None:
    async def told() -> None:
        scene = await restored(marks=True)
        scene.wish("b", removed=True, active=False)
        await adoption.adopt(Controller(scene).procedure())
        assert scene.row.primary == B, "the Master, whatever was wished since"

    play(told)


def test_a_primary_that_the_restored_list_does_not_have() -> None:
    """c was added, and became the Master, after the backup: who follows it gives it away; it is asked once it is in the list."""

    async def told() -> None:
        scene = await restored(marks=True)
        top = max(a.epoch for a in scene.agents.values()) + 1
        scene["b"].set(order=OrderKind.NONE, process=ProcessState.DOWN)  # it has not heard yet that it was replaced
        scene["a"].set(order=OrderKind.NONE, primary_order=OrderKind.NONE, source="c", flag=False, epoch=top)
        scene["c"].set(
            order=OrderKind.SOLO, primary_order=OrderKind.SOLO, primary_order_epoch=top, epoch=top, source=""
        )
        node = scene.nodes.pop(C)
        lead(takes_over(scene))
        await asyncio.sleep(20)
        assert DECIDES.isdisjoint(s.verb for s in scene.sent)
        assert [text for _, text in scene.events if "which is not in the list of nodes" in text]
        scene.nodes[C] = replace(node, joined=False)
        await until(lambda: scene.row.primary == C, 40)
        assert scene.open_names == ["c"]

    play(told)


def test_a_list_in_which_nobody_was_ever_the_master_opens_nobody() -> None:
    async def told() -> None:
        scene = await restored(marks=True)
        scene["b"].set(reachable=False)
        scene.wish("b", removed=True, active=False)
        two = takes_over(scene)
        with pytest.raises(ReplicationError, match="nobody is opened"):
            await adoption.adopt(two.procedure())
        assert scene.row.intent is not None
        assert DECIDES.isdisjoint(s.verb for s in scene.sent)
        scene["b"].set(reachable=True)
        assert await two.until_quiet()
        assert scene.row.primary == B, "it was not dead after all"

    play(told)


@pytest.mark.parametrize("memory", ["", "its memory is lost"])
def test_a_node_that_is_no_member_has_nothing_to_say_unless_it_forgot(memory: str) -> None:
    async def told() -> None:
        scene = await restored(marks=True)
        scene["c"].set(vault="", member="", quarantine=memory)
        scene["c"].fails[Verb.PROMISE].extend(
            [StepFailed("c", "promise", "other-vault", "it belongs to no vault")] * 99
        )
        if memory:
            with pytest.raises(StepFailed):
                await adoption.adopt(Controller(scene).procedure())
            assert scene.row.intent is not None
        else:
            await adoption.adopt(Controller(scene).procedure())
            assert scene.row.primary == B

    play(told)


def test_a_row_that_contradicts_the_agents() -> None:
    """The epoch is the right one, but it was edited by hand: the recorded primary follows the one that has an order."""

    async def told() -> None:
        scene = await restored(marks=True)
        epoch = max(a.epoch for a in scene.agents.values())
        scene.marks = epoch
        scene.row = Topology(vault=VAULT, epoch=epoch, owner="one", primary=A)
        action = plan(scene.view())
        assert action is not None
        assert action.kind is ActionKind.ADOPT
        lead(takes_over(scene))
        await until(lambda: scene.row.primary == B, 5)
        assert (Verb.OPEN, "a") not in scene.verbs(), "also while b has not answered this leader yet"
        assert scene.open_names == ["b"]

    play(told)


def test_a_row_that_was_read_late_is_left_as_it_is() -> None:
    """It looks like a restored one; the compare-and-set of the adoption then changes nothing."""

    async def told() -> None:
        scene = pair("c")
        late = scene.view()
        one = Controller(scene)
        await failover.fail_over(one.procedure(), B)
        now, sent = scene.row, len(scene.sent)
        stale = replace(scene.view(), topology=late.topology)
        action = plan(stale)
        assert action is not None
        assert action.kind is ActionKind.ADOPT
        with pytest.raises(ReplicationError):
            await adoption.adopt(one.procedure(stale))
        assert (scene.row, len(scene.sent)) == (now, sent)

    play(told)


def test_an_outdated_row_cancels_nothing_for_a_failover_of_its_own() -> None:
    async def told() -> None:
        scene = pair()
        scene["a"].set(process=ProcessState.DEAD)
        assert _wants_failover(scene.view())
        assert not _wants_failover(replace(scene.view(), high_water=9))
        assert not _wants_failover(replace(scene.view(), running=False)), "a stopped service fails nobody over"

    play(told)


def test_a_leader_at_work_does_not_take_its_own_epoch_for_a_restored_database() -> None:
    """Agents have promised what the running procedure claimed, before the row is read again."""

    async def told() -> None:
        scene = pair("c")
        one = Controller(scene)
        lead(one)
        await asyncio.sleep(5)
        scene["c"].slow[Verb.FOLLOW] = 5.0
        scene["c"].set(source="")
        await until(lambda: (Verb.FOLLOW, "c") in scene.verbs(), 3)
        scene["c"].epoch = scene.row.epoch
        scene.settle()
        for _ in range(30):
            await asyncio.sleep(0.1)
            assert "older" not in scene.reason
        await put_down(one)

    play(told)


def test_a_service_that_is_stopped_adopts_when_it_is_started() -> None:
    async def told() -> None:
        scene = await restored(marks=True)
        scene.running = False
        lead(takes_over(scene))
        await asyncio.sleep(20)
        assert scene.sent == []
        assert scene.claims == 0 or scene.row.epoch == 5, "a stopped service does nothing by an outdated row"
        scene.running = True
        await until(lambda: scene.row.primary == B, 5)

    play(told)


def test_an_adoption_that_waits_for_long_needs_a_person() -> None:
    async def told() -> None:
        scene = await restored(marks=True)
        scene["c"].set(reachable=False)
        lead(takes_over(scene))
        await asyncio.sleep(400)
        (operation,) = scene.operations
        assert scene.ended(operation).startswith("needs-person: not within its time")
        assert "c.example" in scene.ended(operation) or "c must say" in scene.ended(operation)
        scene["c"].set(reachable=True)
        await until(lambda: scene.row.primary == B and scene.row.intent is None, 40)

    play(told)


def deaths() -> list[tuple[int, str]]:
    async def told() -> int:
        scene = await restored(marks=True)
        scene.ports_used = 0
        await adoption.adopt(takes_over(scene).procedure())
        return scene.ports_used

    return [(n, when) for n in range(1, play(told) + 1) for when in ("before", "after")]


@pytest.mark.parametrize("then", ["nothing changes", "the primary is fenced", "the primary goes for a while"])
@pytest.mark.parametrize(("port", "when"), deaths())
def test_whoever_dies_in_the_middle_of_an_adoption(port: int, when: str, then: str) -> None:
    async def told() -> None:
        scene = await restored(marks=True)
        two = takes_over(scene)
        scene.ports_used, scene.crash_at = 0, (port, when)
        with contextlib.suppress(Died):  # three promises are under way at once: not every death hits one
            await adoption.adopt(two.procedure())
        if then == "the primary is fenced":
            fenced(scene)
        scene.leader, scene.term, scene.crash_at = "three", scene.term + 1, None
        three = Controller(scene, "three")
        if then == "the primary goes for a while" and scene.row.primary != B:
            scene["b"].set(reachable=False)
            await three.until_quiet(5)
            assert scene.open_names == ["b"]
            scene["b"].set(reachable=True)
        assert await three.until_quiet(), scene.events[-5:]
        assert scene.row.primary == B
        assert scene.row.intent is None
        assert scene.open_names == ["b"]
        assert scene.agents[id_of("b")].order is OrderKind.LOSSLESS

    play(told)


def test_the_deaths_above_are_all_of_them() -> None:
    assert len(deaths()) >= 2 * 6, "claim, three promises, record, event"
