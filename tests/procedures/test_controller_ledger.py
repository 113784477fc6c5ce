"""Operations of the service, and the hold after a failover on silence, over scripted agents.

Proves: one operation per intent, whoever ends it; each ends once, with its reason: succeeded, failed, cancelled or needs-a-person; what
is tried for too long ends; a failover on silence is noted once and the next one held back, never one on an agent's own word.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from itertools import count
from typing import Any

import pytest

from replication.core import limits
from replication.core.commands import Verb
from replication.core.errors import ClaimLost, Refused, ReplicationError, StaleEpoch, StepFailed
from replication.core.plan import Action, ActionKind
from replication.core.ports import OperationEnd
from replication.core.roles import IntentKind, ProcessState
from replication.core.steps import KEPT, Step, StepState
from replication.procedures.controller.ledger import NEEDS_PERSON, Ledger
from tests.builders import VAULT, id_of, intent, topology, vault
from tests.procedures.leading import A, B, lead, pair, put_down, story, until
from tests.procedures.virtual_time import VirtualClock, play
from tests.procedures.world import Controller, Scene, takes_over

FOLLOW = Action(ActionKind.FOLLOW, "b", "P70", "follow")
FAILOVER = Action(ActionKind.FAILOVER, id_of("b"), "P30", "failover")
SWITCH = Action(ActionKind.SWITCHOVER, id_of("b"), "P35", "switch", "the wish")
ROW = topology()
OPEN_ROW = topology(intent=replace(intent(), operation="op 0"))
WISHED_ROW = topology(intent=replace(intent(), kind=IntentKind.SWITCHOVER, operation="the wish"))
RECORDED = topology(primary="b", promotable="")


class Book:
    """Port Operations: what was written, in order."""

    def __init__(self) -> None:
        self.rows: dict[str, list[str]] = {}
        self.kept: list[str] = []
        self.written: list[tuple[str, tuple[Step, ...]]] = []
        self.noted: list[tuple[str, dict[str, Any]]] = []

    async def begin(self, operation: str, *, vault: str, kind: str, node: str, says: str) -> None:
        assert vault == VAULT
        self.rows.setdefault(operation, []).append(kind)

    async def take_up(self, operation: str) -> bool:
        return True

    async def progress(self, operation: str, says: str) -> None:
        self.rows[operation].append(says)

    async def steps(self, operation: str, steps: Sequence[Step]) -> None:
        self.written.append((operation, tuple(steps)))

    async def note(self, operation: str, facts: Mapping[str, Any]) -> None:
        self.noted.append((operation, dict(facts)))

    async def end(self, operation: str, state: OperationEnd, says: str, result: Mapping[str, Any]) -> None:
        self.rows[operation].append(f"{state.value}: {says}")

    async def end_orphans(self, vault: str, keep: str) -> None:
        self.kept.append(keep)


class Desk:
    def __init__(self) -> None:
        self.book, ids = Book(), count()
        self.ledger = Ledger(self.book, VirtualClock(), VAULT, lambda: f"op {next(ids)}")

    async def said(self, operation: str = "op 0") -> list[str]:
        await asyncio.sleep(0.01)
        return self.book.rows[operation]


def test_an_action_that_reaches_its_goal() -> None:
    async def told() -> None:
        desk = Desk()
        assert desk.ledger.begin(FOLLOW) == "op 0"
        desk.ledger.succeeded(FOLLOW, "b follows a")
        assert await desk.said() == ["follow", "succeeded: b follows a"]

    play(told)


def test_a_try_that_will_be_repeated_is_the_same_operation() -> None:
    async def told() -> None:
        desk = Desk()
        for _ in range(3):
            assert desk.ledger.begin(FOLLOW) == "op 0"
            desk.ledger.failed(FOLLOW, ReplicationError("the disk is full"), ROW)
        desk.ledger.succeeded(FOLLOW, "b follows a")
        again = "trying again: the disk is full"
        assert await desk.said() == ["follow", again, again, again, "succeeded: b follows a"]

    play(told)


@pytest.mark.parametrize("reason", sorted(NEEDS_PERSON))
def test_what_no_retry_mends_needs_a_person(reason: str) -> None:
    async def told() -> None:
        desk = Desk()
        desk.ledger.begin(FOLLOW)
        desk.ledger.failed(FOLLOW, StepFailed("b", "follow", reason, "extra transactions"), ROW)
        assert await desk.said() == ["follow", "needs-person: b, follow: extra transactions"]

    play(told)


def test_what_is_tried_for_too_long_has_failed() -> None:
    async def told() -> None:
        desk = Desk()
        desk.ledger.begin(FOLLOW)
        await asyncio.sleep(limits.OPERATION_DEADLINE.total_seconds() + 1)
        desk.ledger.failed(FOLLOW, ReplicationError("the disk is full"), ROW)
        assert (await desk.said())[-1] == "failed: the disk is full"

    play(told)


@pytest.mark.parametrize("error", [StaleEpoch("b", 9, 9), Refused("R50", "it is too far behind")])
def test_what_a_retry_cannot_help_has_failed_at_once(error: ReplicationError) -> None:
    async def told() -> None:
        desk = Desk()
        desk.ledger.begin(FOLLOW)
        desk.ledger.failed(FOLLOW, error, ROW)
        assert await desk.said() == ["follow", f"failed: {error}"]

    play(told)


def test_a_failover_that_a_later_try_finishes_is_one_operation() -> None:
    async def told() -> None:
        desk = Desk()
        assert desk.ledger.begin(FAILOVER) == "op 0"
        desk.ledger.failed(FAILOVER, ReplicationError("not now"), OPEN_ROW)
        finish = Action(ActionKind.FINISH, id_of("b"), "P10", "finish", "op 0")
        assert desk.ledger.begin(finish) == "op 0"
        desk.ledger.succeeded(finish, "b is Master now")
        assert await desk.said() == ["failover", "not now", "succeeded: b is Master now"]

    play(told)


def test_giving_back_is_the_failure_of_what_was_begun_with_its_first_reason() -> None:
    async def told() -> None:
        desk = Desk()
        assert desk.ledger.begin(SWITCH) == "the wish"
        desk.ledger.failed(SWITCH, ReplicationError("commits hang"), WISHED_ROW)
        back = Action(ActionKind.ROLL_BACK, id_of("a"), "P15", "give back", "the wish")
        desk.ledger.begin(back)
        desk.ledger.failed(back, ReplicationError("a lost packet"), WISHED_ROW)
        desk.ledger.begin(back)
        desk.ledger.succeeded(back, "a is Master again")
        said = await desk.said("the wish")
        assert said == ["switchover", "commits hang", "a lost packet", "failed: a is Master again: commits hang"]

    play(told)


def test_a_target_that_is_recorded_but_not_open_yet_has_succeeded() -> None:
    async def told() -> None:
        desk = Desk()
        desk.ledger.begin(FAILOVER)
        desk.ledger.failed(FAILOVER, ReplicationError("the answer was lost"), RECORDED)
        desk.ledger.settle(RECORDED, None)
        assert (await desk.said())[-1] == "succeeded: it is recorded as Master (the answer was lost)"

    play(told)


def test_a_wish_for_who_is_the_master_already_has_failed_not_succeeded() -> None:
    async def told() -> None:
        desk = Desk()
        desk.ledger.begin(SWITCH)
        desk.ledger.failed(SWITCH, Refused("R10", "it is the Master already"), RECORDED)
        desk.ledger.settle(RECORDED, None)
        assert await desk.said("the wish") == ["switchover", "failed: R10 · it is the Master already"]

    play(told)


def test_what_was_cancelled_ends_unless_its_intent_is_open() -> None:
    async def told() -> None:
        desk = Desk()
        desk.ledger.begin(FAILOVER)
        desk.ledger.cancelled(FAILOVER, OPEN_ROW, "this leader ended")
        assert await desk.said() == ["failover"], "the next leader goes on with it"
        desk.ledger.cancelled(FAILOVER, ROW, "something more urgent came first")
        assert (await desk.said())[-1] == "cancelled: something more urgent came first"

    play(told)


def test_what_is_no_longer_tried_ends() -> None:
    async def told() -> None:
        desk = Desk()
        desk.ledger.begin(FOLLOW)
        desk.ledger.failed(FOLLOW, ReplicationError("not now"), ROW)
        desk.ledger.settle(ROW, None)
        assert len(await desk.said()) == 2
        await asyncio.sleep(2 * limits.RETRY_MAX.total_seconds() + 1)
        desk.ledger.settle(ROW, None)
        assert (await desk.said())[-1] == "cancelled: it was no longer needed"

    play(told)


def test_an_intent_that_nobody_can_resolve_needs_a_person_once() -> None:
    async def told() -> None:
        desk = Desk()
        desk.ledger.begin(FAILOVER)
        desk.ledger.failed(FAILOVER, ReplicationError("b does not answer"), OPEN_ROW)
        await asyncio.sleep(limits.OPERATION_DEADLINE.total_seconds() + 1)
        for _ in range(3):
            desk.ledger.settle(OPEN_ROW, None)
        end = "needs-person: not within its time, and still open: b does not answer"
        assert await desk.said() == ["failover", "b does not answer", end]
        finish = Action(ActionKind.FINISH, id_of("b"), "P10", "finish", "op 0")
        assert desk.ledger.begin(finish) == "op 0"
        desk.ledger.succeeded(finish, "b is Master now")
        assert (await desk.said())[-1] == end, "one terminal state, whatever comes later"

    play(told)


def test_a_new_leader_ends_what_others_left_except_the_open_intent() -> None:
    async def told() -> None:
        desk = Desk()
        desk.ledger.take_over("op 7")
        await asyncio.sleep(0.01)
        assert desk.book.kept == ["op 7"]

    play(told)


def test_a_leader_that_ends_leaves_nothing_open_but_the_operation_of_the_intent() -> None:
    async def told() -> None:
        desk = Desk()
        desk.ledger.begin(FAILOVER)
        desk.ledger.failed(FAILOVER, ReplicationError("b does not answer"), OPEN_ROW)
        desk.ledger.begin(FOLLOW)
        desk.ledger.failed(FOLLOW, ReplicationError("the disk is full"), OPEN_ROW)
        desk.ledger.hand_over(OPEN_ROW)
        assert await desk.said("op 0") == ["failover", "b does not answer"]
        assert (await desk.said("op 1"))[-1] == "cancelled: this leader ended, the next one decides anew"

    play(told)


# --- under a leader


def kinds(scene: Scene, kind: str) -> list[str]:
    """How the operations of this kind ended."""
    return [scene.ended(id) for id, said in scene.operations.items() if said[0] == kind]


@story()
async def test_a_failover_is_one_operation_across_its_tries(scene: Scene, one: Controller) -> None:
    scene["b"].fails[Verb.REVOKE].extend([StepFailed("b", "revoke", "busy", "not now")] * 2)
    scene["a"].set(process=ProcessState.DEAD)
    await until(lambda: scene["b"].open, 3)
    await asyncio.sleep(1)
    assert kinds(scene, "failover") == ["succeeded: failover: b.example is Master now, a.example was lost"]
    assert kinds(scene, "finish") == kinds(scene, "roll-back") == []


def test_the_next_leader_goes_on_with_the_operation() -> None:
    async def told() -> None:
        scene = pair()
        one = Controller(scene)
        lead(one)
        await asyncio.sleep(5)
        scene["b"].slow[Verb.DRAIN] = 1.0
        scene["a"].set(process=ProcessState.DEAD)
        await until(lambda: scene.verbs(Verb.DRAIN), 1)
        one.dead = True
        await put_down(one)
        scene["b"].slow.clear()
        two = takes_over(scene)
        lead(two)
        await until(lambda: scene["b"].open, 3)
        await asyncio.sleep(0.1)
        assert kinds(scene, "failover") == ["succeeded: failover: b.example is Master now, a.example was lost"]

    play(told)


@story(lambda: pair("c"))
async def test_what_a_failover_interrupts_is_cancelled(scene: Scene, one: Controller) -> None:
    scene["c"].slow[Verb.FOLLOW] = 50.0
    scene["c"].set(source="")
    await until(lambda: (Verb.FOLLOW, "c") in scene.verbs(), 3)
    scene["a"].set(process=ProcessState.DEAD)
    await until(lambda: scene["b"].open, 2)
    assert kinds(scene, "follow")[0].startswith("cancelled: something more urgent came first")


@story(lambda: pair("c"))
async def test_a_node_that_has_diverged_needs_a_person(scene: Scene, one: Controller) -> None:
    scene["c"].fails[Verb.FOLLOW].extend([StepFailed("c", "follow", "diverged", "extra transactions 0-1-7")] * 9)
    scene["c"].set(source="")
    await asyncio.sleep(1)
    assert kinds(scene, "follow")[0] == "needs-person: c, follow: extra transactions 0-1-7"


@story(lambda: pair("c"))
async def test_every_operation_ends_within_its_deadline(scene: Scene, one: Controller) -> None:
    scene["c"].fails[Verb.FOLLOW].extend([StepFailed("c", "follow", "disk", "the disk is full")] * 99)
    scene["c"].set(source="")
    await asyncio.sleep(limits.OPERATION_DEADLINE.total_seconds() + 2 * limits.RETRY_MAX.total_seconds())
    assert kinds(scene, "follow")[0] == "failed: c, follow: the disk is full"


def test_a_claim_that_is_lost_is_no_end_of_an_operation() -> None:
    async def told() -> None:
        desk = Desk()
        desk.ledger.begin(FAILOVER)
        desk.ledger.failed(FAILOVER, ClaimLost("no longer the current epoch"), ROW)
        assert await desk.said() == ["failover", "trying again: no longer the current epoch"]

    play(told)


# --- steps


def last_steps(scene: Scene, kind: str) -> tuple[Step, ...]:
    (id,) = [id for id, said in scene.operations.items() if said[0] == kind]
    return scene.steps[id][-1]


@story()
async def test_a_failover_tells_its_steps_when_it_is_over(scene: Scene, one: Controller) -> None:
    scene["a"].set(process=ProcessState.DEAD)
    await until(lambda: scene["b"].open, 2)
    await asyncio.sleep(0.5)
    (id,) = [id for id, said in scene.operations.items() if said[0] == "failover"]
    assert len(scene.steps[id]) == 1, "one write, when nothing waits for the metadata database any more"
    told = [step for step in last_steps(scene, "failover") if not step.name.startswith("fence")]
    names = ["claimed", "revoke b.example", "drain b.example", "recorded", "open b.example"]
    assert [step.name for step in told] == names
    assert {step.state for step in told} == {StepState.DONE}
    ends = [step.ms for step in told if step.ms is not None]
    assert ends == sorted(ends)
    assert len(ends) == len(told)
    assert all(step.position for step in told if step.name.startswith(("drain", "open")))


@story()
async def test_what_is_still_to_come_is_named_while_it_waits(scene: Scene, one: Controller) -> None:
    scene["b"].slow[Verb.DRAIN] = 3.0
    scene.steps.clear()
    scene["a"].set(process=ProcessState.DEAD)
    await until(lambda: scene.steps, 2)
    shown = {step.name: step.state for step in last_steps(scene, "failover")}
    assert (shown["revoke b.example"], shown["drain b.example"]) == (StepState.DONE, StepState.RUNNING)
    assert (shown["recorded"], shown["open b.example"]) == (StepState.WAITING, StepState.WAITING)


@story()
async def test_a_second_try_goes_on_below_the_first(scene: Scene, one: Controller) -> None:
    scene["b"].fails[Verb.REVOKE].append(StepFailed("b", "revoke", "busy", "not now"))
    scene["a"].set(process=ProcessState.DEAD)
    await until(lambda: scene["b"].open, 3)
    await asyncio.sleep(1)
    told = last_steps(scene, "failover")
    revokes = [step for step in told if step.name == "revoke b.example"]
    assert [step.state for step in revokes] == [StepState.FAILED, StepState.DONE]
    assert "not now" in revokes[0].says
    assert StepState.WAITING not in {step.state for step in told}


def test_a_slow_database_gets_a_write_a_quarter_of_a_second_at_most() -> None:
    async def told() -> None:
        desk = Desk()
        desk.ledger.begin(FOLLOW)
        track = desk.ledger.track(FOLLOW)
        for number in range(200):
            track.begins(f"step {number}")
            await asyncio.sleep(0.005)
        assert len(desk.book.written) in (3, 4)
        desk.ledger.succeeded(FOLLOW, "b follows a")
        await desk.said()
        kept = desk.book.written[-1][1]
        assert len(kept) == KEPT
        assert (kept[0].name, kept[-1].name) == ("step 0", "step 199"), "its beginning and its end"

    play(told)


def test_what_failed_at_a_step_has_no_step_that_still_runs() -> None:
    async def told() -> None:
        desk = Desk()
        desk.ledger.begin(SWITCH)
        desk.ledger.track(SWITCH).begins("close a")
        desk.ledger.failed(SWITCH, StepFailed("a", "close", "busy", "commits hang"), ROW)
        await desk.said("the wish")
        assert [step.state for step in desk.book.written[-1][1]] == [StepState.FAILED]

    play(told)


# --- the first write


@story()
async def test_the_first_write_on_a_new_primary_is_noted_once(scene: Scene, one: Controller) -> None:
    scene["a"].set(process=ProcessState.DEAD)
    await until(lambda: scene["b"].open, 2)
    await asyncio.sleep(1)
    assert scene.noted == {}, "nobody has written yet"
    scene["b"].set(position=101)
    await until(lambda: scene.noted, 1)
    (first,) = scene.noted.values()
    assert first["first_write"]["position"] == "0-1-101"
    assert 1000 < first["first_write"]["after_open_ms"] < 2500
    scene["b"].set(position=109)
    await asyncio.sleep(1)
    assert list(scene.noted.values()) == [first]


@pytest.mark.parametrize("position", ["", "nonsense", "0-1"])
def test_a_position_that_is_none_makes_no_failover_fail(position: str) -> None:
    async def told() -> None:
        desk = Desk()
        desk.ledger.begin(FAILOVER)
        desk.ledger.track(FAILOVER).done("open b.example", position=position)
        desk.ledger.succeeded(FAILOVER, "b is Master now")
        desk.ledger.look(vault())
        assert (await desk.said())[-1] == "succeeded: b is Master now"
        assert desk.book.noted == []

    play(told)


# --- cancelled before it was begun


@story()
async def test_a_switchover_that_was_cancelled_in_time_touches_nobody(scene: Scene, one: Controller) -> None:
    scene.operations["the wish"] = ["switchover", f"{OperationEnd.CANCELLED.value}: an operator thought better of it"]
    sent = len(scene.sent)
    scene.ask_for("b")
    await asyncio.sleep(3)
    assert len(scene.sent) == sent
    assert (scene.row.primary, scene.row.promotable) == (A, B)
    assert scene.ended("the wish").startswith("cancelled")


# --- anti-flapping


@pytest.mark.parametrize("first_try", ["succeeds", "fails, and a later one finishes"])
@pytest.mark.parametrize("kind", ["silent", "refused"])
def test_a_failover_on_silence_is_noted_once(kind: str, first_try: str) -> None:
    async def told() -> None:
        scene = pair()
        lead(Controller(scene))
        await asyncio.sleep(5)
        if first_try != "succeeds":
            scene["b"].fails[Verb.REVOKE].extend([StepFailed("b", "revoke", "busy", "not now")] * 2)
        scene["a"].set(reachable=False, unreachable_kind=kind, process=ProcessState.DEAD)
        await until(lambda: scene["b"].open, 5)
        await asyncio.sleep(2)
        assert scene.silence_failovers == 1

    play(told)


@story()
async def test_a_claim_that_changes_nothing_is_no_failover(scene: Scene, one: Controller) -> None:
    scene.writable = False
    scene["a"].set(reachable=False, process=ProcessState.DEAD)
    await asyncio.sleep(10)
    assert scene.silence_failovers == 0


WORDS = [
    pytest.param({"process": ProcessState.DEAD}, id="its database is dead"),
    pytest.param({"disk_error": "No space left on device"}, id="its disk takes no writes"),
]


@pytest.mark.parametrize("word", WORDS)
def test_the_word_of_an_agent_is_neither_held_back_nor_noted(word: dict[str, Any]) -> None:
    async def told() -> None:
        scene = pair()
        scene.silence_hold = timedelta(seconds=60)
        lead(Controller(scene))
        await asyncio.sleep(5)
        scene["a"].set(**word)
        assert await until(lambda: scene["b"].open, 1) < 0.3
        assert scene.silence_failovers == 0
        assert (Verb.FENCE, "a") in scene.verbs(), "beside it"

    play(told)


@story()
async def test_a_failover_on_silence_is_held_back_until_it_is_cleared(scene: Scene, one: Controller) -> None:
    scene.silence_hold = timedelta(seconds=60)
    await asyncio.sleep(1)
    scene["a"].set(reachable=False, process=ProcessState.DEAD)
    await asyncio.sleep(20)
    assert scene.row.primary == A
    assert scene.claims == 0
    assert "held back for 60 s more, or until cleared" in scene.reason
    scene.silence_hold = timedelta()
    assert await until(lambda: scene.row.primary == B, 2) < 1.0


# --- hello


@story()
async def test_every_hello_gives_the_last_challenge_back_with_the_term(scene: Scene, one: Controller) -> None:
    for name in ("a", "b"):
        said = [h for h in scene.hellos if h.node == name]
        assert len(said) > 5
        assert {h.term for h in said} == {scene.term}
        assert [h.echo for h in said[1:]] == [h.challenge for h in said[:-1]], (
            "of the answer before, never an older one"
        )


@story()
async def test_a_primary_with_a_lease_is_renewed_however_long_the_interval(scene: Scene, one: Controller) -> None:
    scene.interval = timedelta(seconds=20)
    await asyncio.sleep(30)
    scene.hellos.clear()
    await asyncio.sleep(60)
    assert {h.wait for h in scene.hellos if h.node == "a"} == {limits.LEASE_RENEWAL}
    assert {h.wait for h in scene.hellos if h.node == "b"} == {timedelta(seconds=20)}
    assert len([h for h in scene.hellos if h.node == "a"]) >= 55
