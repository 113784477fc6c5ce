"""Hands operations to the ops workers. Redis only carries ids; what is asked and what came of it are rows."""

import django_rq
from redis.exceptions import RedisError

from replication.stores.wishes import QueueUnavailable


def enqueue_preflight(operation_id: str) -> None:
    """Raises QueueUnavailable."""
    # Imported here: the web process starts without what only workers need.
    from replication.jobs import preflight

    _enqueue(preflight, operation_id)


def enqueue_resynchronize(operation_id: str) -> None:
    """Raises QueueUnavailable."""
    from replication.jobs import resynchronize

    _enqueue(resynchronize, operation_id)


def _enqueue(function: object, operation_id: str) -> None:
    try:
        django_rq.get_queue("ops").enqueue(function, operation_id, result_ttl=0)
    except (RedisError, OSError) as error:
        raise QueueUnavailable(str(error)) from error
