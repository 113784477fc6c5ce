"""Hands operations to the ops workers. Redis only carries ids; what is asked and what came of it are rows.

The id of a job is that of its operation: an operation is in the queue once, however often it is handed over.
"""

import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Final

import django_rq
from django.utils import timezone
from redis.exceptions import RedisError
from rq.exceptions import DuplicateJobError, NoSuchJobError
from rq.executions import Execution
from rq.job import Job
from rq.registry import DeferredJobRegistry, ScheduledJobRegistry, StartedJobRegistry

from nodes.choices import OperationKind
from replication import jobs
from replication.stores.wishes import QueueUnavailable

log = logging.getLogger(__name__)
JOB_HEARTBEAT_LOST: Final = timedelta(seconds=20)
"""An ops worker beats every 5 s for the job that it carries out (jobs/worker.py): four beats are missing."""
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


OPS: Final = "ops"
ROUTINE: Final = "routine"
"""Of long work that nobody waits for: a backup of hours must not stand before the rebuild of a node, nor before a form."""
ROUTINE_KINDS: Final = frozenset({OperationKind.VERIFY.value, OperationKind.BACKUP.value})


def queue_of(kind: str) -> str:
    return ROUTINE if kind in ROUTINE_KINDS else OPS


def enqueue(operation: str, kind: str) -> None:
    """Raises QueueUnavailable. What waits or runs already stays as it is."""
    try:
        queue = django_rq.get_queue(queue_of(kind))
        queue.enqueue(FUNCTIONS[kind], operation, job_id=operation, unique=True, job_timeout=NO_DEADLINE, result_ttl=0)
    except DuplicateJobError:
        return
    except (RedisError, OSError) as error:
        raise QueueUnavailable(str(error)) from error


def enqueue_again(operation: str, kind: str) -> None:
    """As `enqueue`, for an operation that no living worker carries: what Redis still keeps of its last try goes first."""
    try:
        queue = django_rq.get_queue(queue_of(kind))
        _forget(Job.fetch(operation, connection=queue.connection, serializer=queue.serializer))
    except NoSuchJobError:
        pass
    except (RedisError, OSError) as error:
        raise QueueUnavailable(str(error)) from error
    enqueue(operation, kind)


def _forget(job: Job) -> None:
    """Delete it with the tries of workers that died. RQ 3.0 lists a try for a minute longer than it keeps it, and cannot delete a job
    that has such a one (ValueError); left in the list of what runs, it would count against the next try of the same id."""
    tries = job.execution_registry
    for id in tries.get_execution_ids():
        gone = Execution(id=id, job_id=job.id, connection=job.connection)
        if not job.connection.exists(gone.key):
            job.connection.zrem(job.started_job_registry.key, gone.composite_key)
            job.connection.zrem(tries.key, id)
    job.delete()


def operations_in_queue() -> set[str] | None:
    """Ids of the operations that wait in a queue or that a living worker carries out; None without Redis."""
    try:
        return _in_queue(OPS) | _in_queue(ROUTINE)
    except (RedisError, OSError) as error:
        log.info("Redis does not answer, so whose worker died is not known: %s", error)
        return None


def _in_queue(name: str) -> set[str]:
    queue = django_rq.get_queue(name)
    # The second: taken by a worker at this very moment.
    waiting = [*queue.get_job_ids(), *queue.intermediate_queue.get_job_ids()]
    for registry in (ScheduledJobRegistry(queue=queue), DeferredJobRegistry(queue=queue)):
        waiting += registry.get_job_ids(cleanup=False)
    started = StartedJobRegistry(queue=queue).get_job_ids(cleanup=False)
    jobs = Job.fetch_many(list({*waiting, *started}), connection=queue.connection, serializer=queue.serializer)
    return {str(job.args[0]) for job in jobs if job is not None and job.args and (job.id in waiting or _lives(job))}


def _lives(job: Job) -> bool:
    return job.last_heartbeat is not None and timezone.now() - job.last_heartbeat < JOB_HEARTBEAT_LOST
