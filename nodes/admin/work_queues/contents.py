"""What stands in Redis about queues, jobs and workers, read without changing any of it.

RQ tidies up while it counts (`len(registry)`, `Worker.all`, …): a page that is only looked at would fail jobs. Hence
`cleanup=False` everywhere, and workers read from their hashes.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import django_rq
from rq.exceptions import DeserializationError, NoSuchJobError
from rq.job import Job
from rq.queue import Queue
from rq.registry import (
    BaseRegistry,
    DeferredJobRegistry,
    FailedJobRegistry,
    FinishedJobRegistry,
    ScheduledJobRegistry,
    StartedJobRegistry,
)
from rq.results import Result
from rq.serializers import JSONSerializer
from rq.worker_registration import REDIS_WORKER_KEYS

REGISTRIES: Final[dict[str, type[BaseRegistry]]] = {
    "started": StartedJobRegistry,
    "failed": FailedJobRegistry,
    "finished": FinishedJobRegistry,
    "scheduled": ScheduledJobRegistry,
    "deferred": DeferredJobRegistry,
}
STATES: Final = ("queued", *REGISTRIES)
PAGE: Final = 50
"""Jobs on a page."""


@dataclass(frozen=True)
class QueueShown:
    name: str
    counts: dict[str, int]


@dataclass(frozen=True)
class WorkerShown:
    name: str
    queues: str
    state: str
    job: str
    host: str
    seen: datetime | None


@dataclass(frozen=True)
class JobShown:
    id: str
    what: str
    status: str
    created_at: datetime | None
    ended_at: datetime | None


def connection() -> Any:
    return django_rq.get_connection("ops")


def queue_names() -> list[str]:
    """The ops queue, and every queue that a worker has ever used. Raises RedisError."""
    known = {_text(key).removeprefix(Queue.redis_queue_namespace_prefix) for key in connection().smembers("rq:queues")}
    return sorted({"ops", *known})


def queue(name: str) -> Queue:
    return Queue(name, connection=connection(), serializer=JSONSerializer)


def registry(name: str, state: str) -> BaseRegistry:
    return REGISTRIES[state](name=name, connection=connection(), serializer=JSONSerializer)


def queues_shown() -> list[QueueShown]:
    """Raises RedisError."""
    return [QueueShown(name, {state: _count(name, state) for state in STATES}) for name in queue_names()]


def _count(name: str, state: str) -> int:
    return int(queue(name).count if state == "queued" else registry(name, state).get_job_count(cleanup=False))


def job_ids(name: str, state: str, start: int) -> list[str]:
    """A page of them, newest first where RQ keeps an order of time. Raises RedisError."""
    if state == "queued":
        return list(queue(name).get_job_ids(start, PAGE))
    return registry(name, state).get_job_ids(start, start + PAGE - 1, desc=True, cleanup=False)


def jobs_shown(name: str, state: str, start: int) -> list[JobShown]:
    """Raises RedisError. A job that is gone meanwhile is left out."""
    ids = job_ids(name, state, start)
    found = Job.fetch_many(ids, connection=connection(), serializer=JSONSerializer)
    return [job_shown(job) for job in found if job is not None]


def job_shown(job: Job) -> JobShown:
    return JobShown(job.id, _what(job), _status(job), job.created_at, job.ended_at)


def find_job(job_id: str) -> Job | None:
    """Raises RedisError."""
    try:
        return Job.fetch(job_id, connection=connection(), serializer=JSONSerializer)
    except NoSuchJobError:
        return None


def failure_of(job: Job) -> str:
    """The traceback of the last run, if that failed; "" otherwise."""
    try:
        last = Result.fetch_latest(job, serializer=JSONSerializer)
    except (DeserializationError, ValueError):
        return ""
    return (last.exc_string or "") if last is not None and last.type == Result.Type.FAILED else ""


def workers_shown() -> list[WorkerShown]:
    """Raises RedisError. A worker that was killed stands here until its key expires."""
    found = []
    for key in sorted(map(_text, connection().smembers(REDIS_WORKER_KEYS))):
        row = {_text(name): _text(value) for name, value in connection().hgetall(key).items()}
        if row:
            name = key.removeprefix("rq:worker:")
            seen = _time(row.get("last_heartbeat", ""))
            found.append(
                WorkerShown(
                    name, row.get("queues", ""), row.get("state", ""), row.get("current_job", ""),
                    row.get("hostname", ""), seen,
                )
            )  # fmt: skip
    return found


def _what(job: Job) -> str:
    """The function's name. The arguments are ids; what they mean is in the Operations."""
    try:
        return str(job.func_name)
    except DeserializationError:
        return "?"


def _status(job: Job) -> str:
    status = job.get_status(refresh=False)
    return str(getattr(status, "value", status) or "")


def _text(value: bytes | str) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _time(text: str) -> datetime | None:
    try:
        at = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return None
    return at if at.tzinfo else at.replace(tzinfo=UTC)
