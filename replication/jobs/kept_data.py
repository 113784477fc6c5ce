"""Throws away the data of before the last full copy of a node, on its host. Safe to run twice: gone already is well."""

import asyncio
import logging
import time
from datetime import timedelta
from typing import Final

from django.conf import settings

from nodes.choices import OperationState
from nodes.models import Operation, VaultNode
from replication.client import AgentClient
from replication.core.errors import NodeUnreachable, StepFailed
from replication.core.view import NodeView
from replication.stores import operations
from replication.stores.inventory import node_view

from .telling import CancelWished, Lost, Refused, Telling, in_thread

log = logging.getLogger(__name__)
PATIENCE: Final = timedelta(minutes=2)
"""With an agent that does not answer."""
LOOK_EVERY: Final = 0.5


def _node(operation: Operation) -> NodeView:
    node = VaultNode.objects.present().filter(pk=operation.node_id).first()
    if node is None:
        raise Refused("the node has been deleted meanwhile; nothing was removed")
    return node_view(node)


async def _remove(telling: Telling, node: NodeView, only: str) -> str:
    """only: the operation whose old data are meant; "" for whatever is kept now. Another rebuild may have come in between.

    An agent that is slow to answer is asked again: what counts is that it no longer keeps them.
    """
    removed = ""
    until = time.monotonic() + PATIENCE.total_seconds()
    async with AgentClient(settings.PKI_DIR) as agents:
        while True:
            try:
                kept = (await agents.hello(node, since=-1, wait=timedelta())).kept
                if kept is None or (only and kept.operation != only) or (removed and kept.operation != removed):
                    break
                removed, amount = kept.operation, f"{kept.bytes / 2**20:,.0f} MiB" if kept.bytes else "of unknown size"
                await agents.remove_kept(node, kept.operation)
            except NodeUnreachable:
                if time.monotonic() > until:
                    raise
            await in_thread(lambda: telling.tell(0, f"{node.hostname} removes its old data"))
            await asyncio.sleep(LOOK_EVERY)
    if not removed:
        return f"{node.hostname} keeps no such old data any more."
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
        summary = asyncio.run(_remove(telling, node, str(operation.arguments.get("cause") or "")))
        telling.track.done(f"remove {node.hostname}")
    except Lost:
        log.info("operation %s was ended by somebody else", id)
    except CancelWished:
        text = "Cancelled; what the agent had been told it does all the same, its row says whether old data is kept."
        telling.end(OperationState.CANCELLED, text, {"summary": text})
    except (Refused, NodeUnreachable, StepFailed) as error:
        text = f"Not removed: {str(error).rstrip('.')}."
        telling.end(OperationState.FAILED, text, {"summary": text})
    except Exception as error:
        log.exception("operation %s failed", id)
        text = f"Not removed: {error.__class__.__name__}; see the log of the ops worker."
        telling.end(OperationState.FAILED, text, {"summary": text})
    else:
        telling.end(OperationState.SUCCEEDED, summary, {"summary": summary})
