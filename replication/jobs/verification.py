"""Compares fallbacks with the master. Not there yet."""

from nodes.choices import OperationState
from replication.client import AgentClient
from replication.core.view import NodeView
from replication.stores import operations

from .telling import Refused, Telling


async def compare(telling: Telling, agents: AgentClient, primary: NodeView, node: NodeView) -> list[str]:
    """Compare one fallback with the primary, as a step of the operation that `telling` tells of; returns the tables that differ,
    each as a sentence ("vault.accounts: 3 rows differ"), and writes the outcome on the node's row.

    Called by a rebuild as well, when the node follows. Raises Refused when it could not be compared, CancelWished, Lost.
    """
    raise Refused("this version cannot compare yet")


def run(id: str) -> None:
    """Ends the operation as failed."""
    text = "this version cannot do this yet"
    operations.end(id, OperationState.FAILED, text, {"summary": text})
