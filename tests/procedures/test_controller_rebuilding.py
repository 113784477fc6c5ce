"""A full copy and its undoing, ordered by the leader, over scripted agents.

Proves: nobody is promotable and the target is out of may_ack before its data can be replaced; the target stands back before the
source sends, both under one claimed epoch and the wish's own operation; what cannot be done is refused in the wish, with nothing
left waiting; a withdrawn wish leaves nothing behind; a leader that dies between any two steps is replaced by one that begins
nothing twice; a node is left alone until its copy has ended, and follows by itself then; a stopped service sees it to its end.
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from replication.core.commands import Verb, account_name
from replication.core.errors import NodeUnreachable, ReplicationError, StaleEpoch, StepFailed
from replication.core.roles import OrderKind, ProcessState
from replication.core.tasks import KeptData, TaskKind, TaskPhase, TaskReport
from replication.procedures.controller import rebuilding
from tests.builders import id_of
from tests.procedures.leading import A, B, C, lead, pair, put_down, story, until
from tests.procedures.virtual_time import play
from tests.procedures.world import Controller, Scene, takes_over

D = id_of("d")
KEPT = KeptData(operation="earlier", since="2026-01-01T00:00:00+00:00", bytes=10**9)
BACKUP = TaskReport(operation="nightly", kind=TaskKind.BACKUP, phase=TaskPhase.TRANSFERRING)
DONE, FAILED = TaskPhase.DONE, TaskPhase.FAILED


def ordered(scene: Scene) -> list[tuple[Verb, str]]:
    return scene.verbs(Verb.REBUILD, Verb.UNDO, Verb.SEND, Verb.SOLO)


async def step(scene: Scene) -> None:
    await Controller(scene).one_step()


def refused(scene: Scene, node: str) -> str:
    wish = scene.nodes[node].rebuild
    return wish.refused if wish is not None else ""


def test_a_third_node_is_copied_from_the_spare_fallback() -> None:
    async def told() -> None:
        scene = pair("c", "d")
        scene["c"].set(quarantine="extra transactions 0-1-7", source="")
        scene.rebuild("c", bytes_per_second=1000)
        await step(scene)
        assert ordered(scene) == [(Verb.REBUILD, "c"), (Verb.SEND, "d")], "the vault stays lossless"
        target, source = scene.sent[-2:]
        assert target.epoch == source.epoch > 5, "one epoch, claimed for it"
        assert target.args == {"source_name": "d.example", "source_subject": "/CN=d.example", "source_bytes": 10**9}
        assert source.args["target_subject"] == "/CN=c.example"
        assert (source.args["target_name"], source.args["bytes_per_second"]) == ("c.example", 1000)
        assert {scene["c"].operation, scene["d"].operation} == {"copy"}, "the operation of the wish"
        assert scene.nodes[C].rebuild is None
        assert scene.nodes[C].joined
        assert scene.row.promotable == B
        assert [text for rule, text in scene.events if rule == "P66"][-1].startswith(
            "c.example is rebuilt from d.example"
        )
        assert scene.operations == {}, "its row belongs to the job that asked for it"

    play(told)


def test_an_acker_goes_solo_before_its_data_may_be_replaced() -> None:
    async def told() -> None:
        scene = pair()
        scene.rebuild("b")
        await step(scene)
        assert ordered(scene) == [(Verb.SOLO, "a"), (Verb.REBUILD, "b"), (Verb.SEND, "a")]
        assert all(s.row.promotable == "" for s in scene.sent)
        assert scene.sent[0].epoch < scene.sent[1].epoch
        assert scene.sent[1].row.may_ack == {B}, "its flag may be on until it has stood back"
        assert scene.sent[2].row.may_ack == frozenset()

    play(told)


@pytest.mark.parametrize(
    ("prepare", "verb"),
    [
        pytest.param(lambda s: s["c"].set(process=ProcessState.DEAD), Verb.REBUILD, id="its database does not run"),
        pytest.param(lambda s: s["c"].set(vault="", member="", quarantine="its memory is lost"), Verb.REBUILD, id="it forgot"),
        pytest.param(lambda s: s.wish("c", joined=False), Verb.REBUILD, id="it was never told anything"),
        pytest.param(lambda s: s.wish("c", locked_out=True), Verb.REBUILD, id="it is locked out"),
        pytest.param(lambda s: s["c"].set(needs_rebuild="purged", source=""), Verb.REBUILD, id="its logs are gone"),
        pytest.param(
            lambda s: [s["c"].set(needs_rebuild="purged", source=""), s.wish("c", detached=True)], Verb.REBUILD,
            id="it was inactive for long",
        ),
    ],
)  # fmt: skip
def test_whatever_state_it_is_in(prepare: Callable[[Scene], None], verb: Verb) -> None:
    """And it is whole again: it follows, is unlocked, and may acknowledge."""

    async def told() -> None:
        scene = pair("c")
        scene["a"].locked |= {account_name(C)} if scene.nodes[C].locked_out else set()
        prepare(scene)
        one = Controller(scene)
        lead(one)
        await asyncio.sleep(1)
        scene.rebuild("c")
        await until(lambda: scene["c"].replacing and scene["b"].task is not None, 3)
        assert scene["c"].vault == scene.row.vault
        await asyncio.sleep(5)
        assert (Verb.FOLLOW, "c") not in scene.verbs(Verb.FOLLOW)[-1:] or scene["c"].replacing, "left alone"
        scene["c"].end_task(DONE)
        await until(lambda: scene["c"].streams, 5)
        assert not scene.nodes[C].locked_out
        assert not scene.nodes[C].detached
        await put_down(one)

    play(told)


REFUSALS = [
    pytest.param(lambda s: s["c"].set(reachable=False), "K20", id="its agent does not answer"),
    pytest.param(lambda s: s["c"].set(disk_free=10), "K40", id="no room"),
    pytest.param(lambda s: s.wish("c", active=False, detached=True), "K15", id="it is inactive"),
    pytest.param(lambda s: s["c"].set(task=BACKUP), "K30", id="its host makes a backup"),
    pytest.param(lambda s: [s[n].set(task=BACKUP) for n in "ab"], "K90", id="nobody to copy from"),
]  # fmt: skip


@pytest.mark.parametrize(("prepare", "rule"), REFUSALS)
def test_refused_before_anything_is_touched(prepare: Callable[[Scene], object], rule: str) -> None:
    async def told() -> None:
        scene = pair("c")
        prepare(scene)
        scene.rebuild("c")
        claims = scene.claims
        await step(scene)
        assert refused(scene, C).startswith(f"{rule} · ")
        assert (scene.claims, ordered(scene)) == (claims, [])
        assert scene.events[-1][1].startswith("c.example is not rebuilt: ")
        assert (await Controller(scene).one_step()) is None, "a refused wish is no wish any more"

    play(told)


def test_the_primary_is_never_rebuilt() -> None:
    async def told() -> None:
        scene = pair("c")
        scene.rebuild("a")
        await step(scene)
        assert refused(scene, A).startswith("K10 · ")
        assert ordered(scene) == []

    play(told)


@pytest.mark.parametrize(
    ("name", "verb", "error"),
    [
        ("b", Verb.REBUILD, StepFailed("b", "rebuild", "task", "no room")),
        ("b", Verb.REBUILD, NodeUnreachable("b", "silent", "no answer")),
        ("a", Verb.SEND, StepFailed("a", "send", "task", "mariadb-backup is not installed")),
        ("a", Verb.SOLO, NodeUnreachable("a", "silent", "no answer")),
    ],
)
def test_what_an_agent_refuses_ends_the_wish_and_leaves_nobody_waiting(
    name: str, verb: Verb, error: ReplicationError
) -> None:
    async def told() -> None:
        scene = pair()
        scene[name].fails[verb].append(error)
        scene.rebuild("b")
        await step(scene)
        assert refused(scene, B) == str(error)
        assert scene.cancels == [("b", "copy")]
        assert not scene["b"].replacing
        assert scene["b"].replaced == 0
        assert await Controller(scene).until_quiet()
        assert scene.row.promotable == B, "lossless again by itself"

    play(told)


@pytest.mark.parametrize(
    "error", [StaleEpoch("b", 1, 99), NodeUnreachable("a", "silent", "the answer was lost")], ids=["stale", "unknown"]
)
def test_what_may_have_begun_is_gone_on_with(error: ReplicationError) -> None:
    """A source whose answer was lost may be sending: the target is not told to end, and nothing is begun twice."""

    async def told() -> None:
        scene = pair()
        name, verb = ("b", Verb.REBUILD) if isinstance(error, StaleEpoch) else ("a", Verb.SEND)
        scene[name].fails[verb].append(error)
        scene.rebuild("b")
        await step(scene)
        assert scene.nodes[B].wish is not None
        assert scene.cancels == []
        await step(scene)
        assert scene.nodes[B].rebuild is None
        assert scene["b"].replacing
        assert scene["a"].task is not None

    play(told)


def test_a_wish_that_is_withdrawn_meanwhile_leaves_nothing_behind() -> None:
    async def told() -> None:
        scene = pair("c")
        scene["b"].slow[Verb.SEND] = 1.0
        scene.rebuild("c")
        acting = asyncio.ensure_future(step(scene))
        await asyncio.sleep(0.5)
        scene.wish("c", rebuild=None)
        await acting
        assert scene.cancels == [("c", "copy"), ("b", "copy")]
        assert not scene["c"].replacing

    play(told)


def test_a_wish_that_was_withdrawn_before_is_not_begun() -> None:
    async def told() -> None:
        scene = pair("c")
        scene.rebuild("c")
        procedure = Controller(scene).procedure()
        scene.wish("c", rebuild=None)
        await rebuilding.rebuild(procedure, C)
        assert ordered(scene) == []

    play(told)


def test_the_undoing_of_an_acker() -> None:
    async def told() -> None:
        scene = pair()
        scene["b"].set(kept=KEPT)
        scene.rebuild("b", undo=True)
        await step(scene)
        assert ordered(scene) == [(Verb.SOLO, "a"), (Verb.UNDO, "b")]
        assert (scene.nodes[B].rebuild, scene.row.may_ack) == (None, frozenset())

    play(told)


def test_nothing_to_go_back_to() -> None:
    async def told() -> None:
        scene = pair()
        scene.rebuild("b", undo=True)
        await step(scene)
        assert refused(scene, B).startswith("K35 · ")
        assert scene.row.promotable == B

    play(told)


@story(lambda: pair("c"))
async def test_until_its_copy_has_ended_it_is_left_alone_and_then_becomes_the_acker(
    scene: Scene, one: Controller
) -> None:
    scene["c"].set(process=ProcessState.DEAD)
    scene.rebuild("b")
    await until(lambda: scene["b"].replacing, 3)
    await asyncio.sleep(20)
    assert scene.verbs(Verb.FOLLOW, Verb.ACKER) == []
    assert scene.row.promotable == "", "nobody else could become it"
    scene["b"].end_task(DONE)
    await until(lambda: scene.row.promotable == B, 6)
    assert any(rule == "P65" for rule, _ in scene.events), "it is said why it follows"


@story(lambda: pair("c"))
async def test_a_copy_that_failed_leaves_the_node_as_it_was(scene: Scene, one: Controller) -> None:
    scene.rebuild("b")
    await until(lambda: scene["b"].replacing, 3)
    await until(lambda: scene.row.promotable == C, 6)
    scene["b"].end_task(FAILED)
    scene["c"].set(process=ProcessState.DEAD)
    await until(lambda: scene.row.promotable == B, 10)


@story(lambda: pair("c"))
async def test_a_failover_does_not_wait_for_a_copy(scene: Scene, one: Controller) -> None:
    scene.rebuild("c")
    await until(lambda: scene["c"].replacing, 3)
    scene["a"].set(process=ProcessState.DEAD)
    await until(lambda: scene["b"].open, 2)
    scene["c"].end_task(DONE)
    await until(lambda: scene["c"].source == "b", 5)


@story(lambda: pair("c"))
async def test_the_acker_is_promoted_although_its_rebuild_is_wished(scene: Scene, one: Controller) -> None:
    """A wish alone is no reason: the leader has not begun, and the node holds every write."""
    scene["a"].set(process=ProcessState.DEAD)
    scene.rebuild("b")
    await until(lambda: scene["b"].open, 2)
    await until(lambda: refused(scene, B).startswith("K10"), 5)


@story(lambda: pair("c"))
async def test_a_stopped_service_sees_a_rebuild_to_its_end(scene: Scene, one: Controller) -> None:
    scene.running = False
    await asyncio.sleep(5)
    scene.rebuild("c")
    await until(lambda: scene["c"].replacing, 3)
    await asyncio.sleep(30)
    scene["c"].end_task(DONE)
    await until(lambda: scene["c"].streams, 3)
    await asyncio.sleep(10)
    assert scene["a"].order is OrderKind.SOLO, "and does nothing else"


@story(lambda: pair("c"))
async def test_a_node_that_is_deleted_during_its_copy_leaves(scene: Scene, one: Controller) -> None:
    scene.rebuild("c")
    await until(lambda: scene["c"].replacing, 3)
    scene.wish("c", removed=True, active=False)
    await until(lambda: C not in scene.nodes, 5)
    assert scene.cancels == [("c", "copy")]
    assert scene["c"].vault == ""


@story(lambda: pair("c"))
async def test_a_node_without_a_way_back_leaves_when_it_has_ended(scene: Scene, one: Controller) -> None:
    scene.rebuild("c")
    await until(lambda: scene["c"].replacing, 3)
    scene["c"].cancel = lambda operation: False  # type: ignore[method-assign]  # it is swapping
    scene.wish("c", removed=True, active=False)
    await asyncio.sleep(3)
    assert (Verb.DETACH, "c") not in scene.verbs(Verb.DETACH)
    scene["c"].end_task(DONE)
    await until(lambda: C not in scene.nodes, 10)


@story(lambda: pair("c"))
async def test_an_agent_refuses_a_role_while_its_data_is_replaced(scene: Scene, one: Controller) -> None:
    """Another node becomes the acker: the one that is rebuilt promises, and is neither told to follow nor locked out."""
    scene.rebuild("b")
    await until(lambda: scene["b"].replacing, 3)
    await until(lambda: scene.row.promotable == C, 6)
    assert (Verb.PROMISE, "b") in scene.verbs()
    assert not scene.nodes[B].locked_out
    assert scene.row.may_ack == {C}


DEATHS = [(target, port) for target, uses in (("b", 13), ("c", 9)) for port in range(1, uses)]
"""At the end of which use of a port: to die before one is to die after the one before it."""
AFTERMATH = ("nothing changes", "the primary goes", "the source goes", "the wish is withdrawn")
SLOWLY = timedelta(milliseconds=150)
"""Pace of a watch's clock here, for speed."""


@pytest.mark.parametrize("then", AFTERMATH)
@pytest.mark.parametrize(("target", "port"), DEATHS)
def test_whoever_dies_in_the_middle_the_next_leader_begins_nothing_twice(target: str, port: int, then: str) -> None:
    async def told() -> None:
        scene = pair("c", "d")
        one = Controller(scene)
        one.world = replace(one.world, tick=SLOWLY)
        lead(one)
        await asyncio.sleep(2)
        scene.crash_at = (scene.ports_used + port, "after")
        scene.rebuild(target)
        node, id = scene[target], id_of(target)
        await until(lambda: one.dead or (node.task is not None and scene.nodes[id].rebuild is None), 10)
        await put_down(one)
        source = next((a for a in scene.agents.values() if a.task is not None and a.task.kind is TaskKind.SEND), None)
        if then == "the primary goes":
            scene["a"].set(reachable=False, process=ProcessState.DEAD)
        if then == "the source goes" and source is not None:
            source.set(reachable=False, process=ProcessState.DEAD)
        if then == "the wish is withdrawn":
            scene.wish(target, rebuild=None)
        two = takes_over(scene)
        two.world = replace(two.world, tick=SLOWLY)
        lead(two)
        await asyncio.sleep(4)
        if then == "the source goes" and node.replacing:
            node.end_task(FAILED)  # it waits for no longer than it must
        await until(lambda: scene.nodes[id].wish is None, 35)
        assert sum(a.can_acknowledge for a in scene.agents.values()) <= 1
        senders = [
            a.name
            for a in scene.agents.values()
            if a.task is not None and a.task.kind is TaskKind.SEND and a.task.active
        ]
        assert len(senders) <= 1
        assert scene.row.promotable != id or not node.replacing
        if node.replacing:
            assert not node.flag
            assert id not in scene.row.may_ack
            node.end_task(DONE if senders else FAILED)
        for agent in scene.agents.values():
            agent.set(reachable=True, process=ProcessState.UP if agent.process is ProcessState.DEAD else agent.process)
        await until(lambda: scene.row.promotable and whole(scene), 40)
        assert scene.open_names == [scene.agents[scene.row.primary].name]
        await put_down(two)

    play(told)


def whole(scene: Scene) -> bool:
    """Everybody follows the one primary."""
    primary = scene.agents[scene.row.primary]
    return all(a.streams and a.source == primary.name for a in scene.agents.values() if a is not primary)


def test_a_late_order_finds_a_node_that_has_promised_more() -> None:
    """The leader was deposed between its claim and the order: the node is the acker of the next one by then."""

    async def told() -> None:
        scene = pair()
        scene["b"].epoch = scene["b"].epoch + 10
        scene.row = replace(scene.row, epoch=scene.row.epoch + 10)
        scene.owned[scene.row.epoch] = "two"
        stale = Controller(scene)
        procedure = stale.procedure()
        procedure.row = replace(procedure.row, epoch=7)
        scene.owned[7] = "one"
        with pytest.raises(StaleEpoch):
            await procedure.order(B, Verb.REBUILD, args={})
        assert not scene["b"].replacing

    play(told)
