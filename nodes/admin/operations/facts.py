"""What was recorded of a change of Master, in one place: the row's steps and result, and the evidence of its events."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nodes.models import Event, Operation
from replication.core.steps import Step, StepState

from .page import steps_of

EVENTS_READ = 100


@dataclass(frozen=True)
class Facts:
    operation: Operation
    steps: tuple[Step, ...]
    decided: Event | None
    """The first event with evidence: of the decision; a later leader's sees what the first one had begun."""
    ended: Event | None
    """The last one: of how it ended."""
    seen: Mapping[str, Any]
    """Evidence of the decision; empty when none is kept."""
    told: Mapping[str, Any]
    """Evidence of the end."""
    old: str
    new: str

    def step(self, word: str, node: str = "") -> Step | None:
        """The last step of this name that was done; without a node: the last of this word."""
        for step in reversed(self.steps):
            named = step.name == f"{word} {node}" if node else step.name.partition(" ")[0] == word
            if named and step.state is StepState.DONE:
                return step
        return None

    def node(self, name: str) -> Mapping[str, Any]:
        """What a node had said when it was decided; empty when that is not kept."""
        nodes = self.seen.get("nodes")
        said = (object_of(node) for node in nodes) if isinstance(nodes, list) else ()
        return next((node for node in said if node.get("node") == name), {})

    @property
    def row(self) -> Mapping[str, Any]:
        """The published facts before anything was changed."""
        return object_of(self.seen.get("row"))


def facts_of(operation: Operation) -> Facts:
    events = Event.objects.filter(operation=operation.pk).order_by("at", "pk")[:EVENTS_READ]
    told = [event for event in events if object_of(object_of(event.evidence).get("seen"))]
    seen = object_of(object_of(told[0].evidence).get("seen")) if told else {}
    row = object_of(seen.get("row"))
    intent = object_of(row.get("intent"))
    node = operation.node.hostname if operation.node is not None else ""
    return Facts(
        operation=operation,
        steps=steps_of(operation),
        decided=told[0] if told else None,
        ended=told[-1] if told else None,
        seen=seen,
        told=object_of(told[-1].evidence) if told else {},
        old=str(row.get("primary") or intent.get("former_primary") or ""),
        new=node or str(intent.get("target") or ""),
    )


def object_of(value: Any) -> Mapping[str, Any]:
    """A JSON object, or an empty one for whatever else is there."""
    return value if isinstance(value, dict) else {}
