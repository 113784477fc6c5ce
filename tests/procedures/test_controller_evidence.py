"""What a procedure writes down beside what it did: what was seen when it was decided, not what it saw on the way."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from replication.core.commands import Verb
from replication.core.errors import StepFailed
from replication.core.plan import plan
from replication.core.roles import ProcessState
from replication.procedures.controller.watch import carry_out
from tests.procedures.leading import lead, put_down, until
from tests.procedures.virtual_time import play
from tests.procedures.world import Controller, Scene


class Recorder(Controller):
    """Keeps whole events."""

    def __init__(self, scene: Scene) -> None:
        super().__init__(scene)
        self.recorded: list[dict[str, Any]] = []

    async def record(self, **event: Any) -> None:
        await super().record(**event)
        self.recorded.append(json.loads(json.dumps(event)))

    def evidence(self, rule: str) -> Mapping[str, Any]:
        (found,) = [event["evidence"] for event in self.recorded if event["rule"] == rule]
        return found


def test_a_failover_on_silence_keeps_what_every_witness_said() -> None:
    async def story() -> None:
        scene = Scene("a", "b", "c")
        scene.lossless_pair("c")
        one = Recorder(scene)
        lead(one)
        await asyncio.sleep(5)
        scene["a"].set(reachable=False, process=ProcessState.DEAD)
        await until(lambda: [e for e in one.recorded if e["rule"] == "P30"], 10, "a failover")
        await put_down(one)
        evidence = one.evidence("P30")
        seen = evidence["seen"]
        assert seen["diagnosis"]["rule"] == "D70"
        assert seen["choice"] == {"node": "b.example"}
        assert seen["witness"]["says"] == "silent"
        assert (seen["row"]["epoch"], seen["row"]["primary"], seen["row"]["promotable"]) == (
            5,
            "a.example",
            "b.example",
        )
        said = {n["node"]: n for n in seen["nodes"]}
        assert set(said) == {"a.example", "b.example", "c.example"}
        assert said["a.example"]["silence_s"] >= seen["silence_limit_s"]
        assert said["b.example"]["link"] == "answers"
        assert said["b.example"]["hears_primary"] is False
        assert next(iter(evidence["steps_ms"])) == "claimed"
        assert evidence["operation"] in scene.operations

    play(story)


def test_it_tells_of_the_moment_of_the_decision() -> None:
    """A roll back asks the former primary again on the way, and changes the row: the event keeps what was before."""

    async def story() -> None:
        scene = Scene("a", "b")
        scene.lossless_pair()
        scene["a"].set(reachable=False, process=ProcessState.DEAD)
        one = Recorder(scene)
        scene["b"].fails[Verb.REVOKE].append(StepFailed("b", "revoke", "x", "it would not"))
        await one.one_step()
        scene["a"].set(reachable=True, process=ProcessState.UP)
        scene["b"].set(reachable=False)
        action = plan(scene.view())
        assert action is not None
        await carry_out(one.procedure(rule=action.rule), action)
        row = one.evidence(action.rule)["seen"]["row"]
        assert row["state"] == "changing"
        assert row["intent"]["target"] == "b.example"
        assert row["epoch"] == 6
        assert scene.row.epoch == 7

    play(story)


def test_a_try_that_failed_is_told_with_what_was_seen() -> None:
    async def story() -> None:
        scene = Scene("a", "b")
        scene.lossless_pair()
        one = Recorder(scene)
        lead(one)
        await asyncio.sleep(5)
        scene["b"].fails[Verb.DRAIN].append(StepFailed("b", "drain", "applier", "it <b>stopped</b>"))
        scene["a"].set(process=ProcessState.DEAD)
        await until(lambda: [e for e in one.recorded if "did not succeed" in e["text"]], 10, "a failure")
        await put_down(one)
        evidence = one.evidence("P30")
        assert evidence["seen"]["diagnosis"]["rule"] == "D10"
        assert evidence["seen"]["nodes"][0]["process"] == "dead"

    play(story)
