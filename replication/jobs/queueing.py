"""Hands operations to the ops workers. Redis only carries ids; what is asked and what came of it are rows.

The id of a job is that of its operation: an operation is in the queue once, however often it is handed over.
"""

from collections.abc import Callable
from typing import Final

import django_rq
from redis.exceptions import RedisError
from rq.exceptions import DuplicateJobError, NoSuchJobError
from rq.job import Job

from nodes.choices import OperationKind
from replication import jobs
from replication.stores.wishes import QueueUnavailable

NO_DEADLINE: Final = -1
"""A copy of a large vault takes hours; whether it still goes on is told by its own progress, not by a clock."""

FUNCTIONS: Final[dict[str, Callable[[str], None]]] = {
    OperationKind.PREFLIGHT.value: jobs.preflight,
    OperationKind.RESYNCHRONIZE.value: jobs.resynchronize,
    OperationKind.REBUILD.value: jobs.rebuild,
    OperationKind.UNDO.value: jobs.undo,
    OperationKind.VERIFY.value: jobs.verify,
    OperationKind.EXPORT.value: jobs.export,
    OperationKind.BACKUP.value: jobs.back_up,
    OperationKind.REMOVE_KEPT.value: jobs.remove_kept,
}


def enqueue(operation: str, kind: str) -> None:
    """Raises QueueUnavailable. What waits or runs already stays as it is."""
    try:
        queue = django_rq.get_queue("ops")
        queue.enqueue(FUNCTIONS[kind], operation, job_id=operation, unique=True, job_timeout=NO_DEADLINE, result_ttl=0)
    except DuplicateJobError:
        return
    except (RedisError, OSError) as error:
        raise QueueUnavailable(str(error)) from error


def enqueue_again(operation: str, kind: str) -> None:
    """As `enqueue`, for an operation that no living worker carries: what Redis still keeps of its last try goes first."""
    try:
        queue = django_rq.get_queue("ops")
        Job.fetch(operation, connection=queue.connection, serializer=queue.serializer).delete()
    except NoSuchJobError:
        pass
    except (RedisError, OSError) as error:
        raise QueueUnavailable(str(error)) from error
    enqueue(operation, kind)
