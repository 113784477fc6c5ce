"""Hands operations to the ops workers: what replication.jobs.queueing does, imported when it is needed.

The web process starts without what only workers need.
"""

from nodes.models import Operation


def enqueue(operation: Operation) -> None:
    """Raises QueueUnavailable."""
    from replication.jobs import queueing

    queueing.enqueue(operation.pk, operation.kind)


def enqueue_preflight(operation_id: str) -> None:
    """Raises QueueUnavailable."""
    _by_id(operation_id)


def enqueue_resynchronize(operation_id: str) -> None:
    """Raises QueueUnavailable."""
    _by_id(operation_id)


def _by_id(operation_id: str) -> None:
    enqueue(Operation.objects.get(pk=operation_id))
