"""Throws away the data of before the last full copy of a node, on its host. Safe to run twice: gone already is well."""

import asyncio
import logging
from datetime import timedelta

from django.conf import settings

from nodes.choices import OperationState
from nodes.models import Operation, VaultNode
from replication.client import AgentClient
from replication.core.errors import NodeUnreachable, StepFailed
from replication.core.view import NodeView
from replication.stores import operations
from replication.stores.inventory import node_view

from .telling import Refused, Telling

log = logging.getLogger(__name__)


def _node(operation: Operation) -> NodeView:
    node = VaultNode.objects.present().filter(pk=operation.node_id).first()
    if node is None:
        raise Refused("the node has been deleted meanwhile; nothing was removed")
    return node_view(node)


async def _remove(node: NodeView, only: str) -> str:
    """only: the operation whose old data are meant; "" for whatever is kept now. Another rebuild may have come in between."""
    async with AgentClient(settings.PKI_DIR) as agents:
        report = await agents.hello(node, since=-1, wait=timedelta())
        kept = report.kept
        if kept is None or (only and kept.operation != only):
            return f"{node.hostname} keeps no such old data any more."
        await agents.remove_kept(node, kept.operation)
    amount = f"{kept.bytes / 2**20:,.0f} MiB" if kept.bytes else "its size was not known"
    return f"The old data of {node.hostname} was removed ({amount}). Its rebuild cannot be undone any more."


def run(id: str) -> None:
    """Ends the operation succeeded or failed."""
    operation = operations.begin(id)
    if operation is None:
        return
    telling = Telling(operation)
    try:
        node = _node(operation)
        telling.track.begins(f"remove {node.hostname}")
        summary = asyncio.run(_remove(node, str(operation.arguments.get("cause") or "")))
        telling.track.done(f"remove {node.hostname}")
    except (Refused, NodeUnreachable, StepFailed) as error:
        text = f"Not removed: {str(error).rstrip('.')}."
        telling.end(OperationState.FAILED, text, {"summary": text})
    except Exception as error:
        log.exception("operation %s failed", id)
        text = f"Not removed: {error.__class__.__name__}; see the log of the ops worker."
        telling.end(OperationState.FAILED, text, {"summary": text})
    else:
        telling.end(OperationState.SUCCEEDED, summary, {"summary": summary})
