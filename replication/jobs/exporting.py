"""Exports the transactions that only a diverged node has. Not there yet."""

from nodes.choices import OperationState
from replication.client import AgentClient
from replication.core.view import NodeView
from replication.stores import operations

from .telling import Refused, Telling


async def export(telling: Telling, agents: AgentClient, node: NodeView) -> str:
    """Export what only this node has, as a step of the operation that `telling` tells of; returns one sentence on what came of it.

    Called by a rebuild as well, before anything is replaced. Raises Refused when there is no file and no list afterwards,
    CancelWished, Lost.
    """
    raise Refused("this version cannot export lost transactions yet")


def run(id: str) -> None:
    """Ends the operation as failed."""
    text = "this version cannot do this yet"
    operations.end(id, OperationState.FAILED, text, {"summary": text})
