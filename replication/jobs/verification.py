"""Compares fallbacks with the Master, row by row: on request, by schedule, and at the end of a rebuild.

It takes no epochs and changes nothing. Safe to run twice: it begins at the first table again.
"""

import asyncio
import logging
from dataclasses import dataclass, field
from typing import Any

from django.conf import settings

from nodes.choices import OperationState, OperationUnit
from nodes.models import Operation
from replication.client import AgentClient
from replication.core.comparison import Comparison
from replication.core.view import NodeView
from replication.procedures.controller.comparing import Comparing, NotCompared
from replication.stores import operations, verification

from .participants import primary_and_fallbacks
from .service import MonotonicClock
from .telling import CancelWished, Lost, Refused, Telling, in_thread

log = logging.getLogger(__name__)


async def compare(telling: Telling, agents: AgentClient, primary: NodeView, node: NodeView) -> list[str]:
    """Compare one fallback with the primary, as a step of the operation that `telling` tells of; returns the tables that differ,
    each as a sentence ("vault.accounts: 3 rows differ"), and writes the outcome on the node's row.

    Called by a rebuild as well, when the node follows. Raises Refused when it could not be compared, CancelWished, Lost.
    """
    return list((await _compare(telling, agents, primary, node)).differences)


async def _compare(
    telling: Telling, agents: AgentClient, primary: NodeView, node: NodeView, *, number: int = 0, count: int = 1
) -> Comparison:
    """number, count: it is this one of so many."""
    step = f"compare {node.hostname}"
    telling.track.begins(step)

    async def progress(table: str, rows: int, total: int) -> None:
        says = (
            f"Comparing {node.hostname} with the Master: {table}" if table else "Waiting for another comparison to end"
        )
        part = rows / total if total else 0.0
        amounts: dict[str, Any] = {"done": rows, "total": total, "unit": OperationUnit.ROWS.value} if table else {}
        await in_thread(lambda: telling.tell(min(99, int(100 * (number + part) / count)), says, **amounts))

    try:
        found = await Comparing(MonotonicClock(), agents, primary, node, telling.operation.pk, progress).run()
    except NotCompared as error:
        telling.track.failed(step, str(error))
        await in_thread(verification.not_compared, node.id, str(error), telling.operation.pk)
        raise Refused(str(error)) from error
    await in_thread(verification.record, node.id, found, telling.operation.pk)
    telling.track.done(step, "; ".join(found.differences) or "equal", position=found.position)
    return found


@dataclass
class Outcome:
    compared: list[Comparison] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    """Why one of them was not compared."""

    @property
    def state(self) -> str:
        if any(not one.equal for one in self.compared):
            return OperationState.NEEDS_PERSON.value
        return (OperationState.FAILED if self.failed else OperationState.SUCCEEDED).value

    @property
    def says(self) -> str:
        return " ".join([*(one.says for one in self.compared), *(f"Not compared: {why}." for why in self.failed)])

    def to_json(self) -> dict[str, Any]:
        nodes = [
            {
                "hostname": one.node, "position": one.position, "tables": one.tables, "rows": one.rows,
                "seconds": round(one.seconds, 2), "differences": list(one.differences),
                "not_compared": list(one.not_compared), "figures": dict(one.figures),
            }
            for one in self.compared
        ]  # fmt: skip
        return {"summary": self.says, "nodes": nodes}


def _participants(operation: Operation) -> tuple[NodeView, list[NodeView]]:
    """The primary, and whom to compare with it: the node that it was asked on, or all active fallbacks. Raises Refused."""
    primary, fallbacks = primary_and_fallbacks(operation)
    if primary is None:
        raise Refused("the vault has no Master, so there is nothing to compare with")
    if not fallbacks:
        raise Refused("there is no active fallback to compare with the Master")
    return primary, fallbacks


async def _main(telling: Telling, outcome: Outcome) -> None:
    primary, nodes = await in_thread(_participants, telling.operation)
    telling.track.expect(*(f"compare {node.hostname}" for node in nodes))
    async with AgentClient(settings.PKI_DIR) as agents:
        for number, node in enumerate(nodes):
            try:
                found = await _compare(telling, agents, primary, node, number=number, count=len(nodes))
                outcome.compared.append(found)
            except Refused as refused:
                outcome.failed.append(str(refused))


def run(id: str) -> None:
    """Ends the operation: succeeded when all are equal, in need of a person when one differs, failed when one was not compared."""
    operation = operations.begin(id)
    if operation is None:
        return
    telling, outcome = Telling(operation), Outcome()
    try:
        asyncio.run(_main(telling, outcome))
    except Lost:
        log.info("comparison %s was ended by somebody else", id)
    except CancelWished:
        done = f" {outcome.says}" if outcome.compared else " What the last comparison found stays."
        text = f"Cancelled.{done}"
        telling.end(OperationState.CANCELLED, text, {**outcome.to_json(), "summary": text})
    except Refused as refused:
        text = f"Not compared: {refused}."
        telling.end(OperationState.FAILED, text, {"summary": text})
    except Exception as error:
        log.exception("comparison %s failed", id)
        text = f"Not compared: {error.__class__.__name__}; see the log of the ops worker."
        telling.end(OperationState.FAILED, text, {"summary": text})
    else:
        telling.end(outcome.state, outcome.says, outcome.to_json())
