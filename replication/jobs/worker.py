"""The RQ workers: one that carries the service, forking and patient with Redis; one for data work, which says that it is there."""

import logging
import signal
import time
from typing import Any, Final

from django.conf import settings
from django.db import Error, connection
from redis.exceptions import RedisError
from rq import Worker

from replication.stores.applications import OwnAddresses, Program, note

log = logging.getLogger(__name__)
OPS_EVERY: Final = 10
"""Seconds between two heartbeats of an ops worker that waits."""
JOB_EVERY: Final = 5
"""Seconds between two heartbeats of a job: how soon another worker takes its operation up follows from it (queueing.py)."""


class ServiceWorker(Worker):
    """A forking worker for one infinite job. The vault does not need Redis, so neither may its service.

    Stock RQ's parent dies within seconds when Redis is gone, and takes the job along: here its heartbeats may fail.
    SIGTERM is forwarded, so that the job can hand over its lease.
    """

    def maintain_heartbeats(self, job: Any, execution: Any) -> None:
        try:
            super().maintain_heartbeats(job, execution)
        except RedisError as error:
            log.warning("Redis does not answer, the service goes on without it: %s", error)

    def heartbeat(self, *args: Any, **kwargs: Any) -> None:
        try:
            super().heartbeat(*args, **kwargs)
        except RedisError as error:
            log.warning("Redis does not answer, the service goes on without it: %s", error)

    def handle_warm_shutdown_request(self) -> None:
        super().handle_warm_shutdown_request()
        if self.horse_pid:
            self.kill_horse(signal.SIGTERM)


class OpsWorker(Worker):
    """An ordinary worker that also writes its heartbeat into High Availability → Application.

    On the worker's own thread and with RQ's own heartbeats, not on a second thread: jobs are forked off this process, and a
    fork in the middle of a statement would share its connection.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._addresses: OwnAddresses | None = None
        self._noted = float("-inf")
        self._failing = False
        super().__init__(*args, **{**kwargs, "job_monitoring_interval": JOB_EVERY})

    @property
    def dequeue_timeout(self) -> int:
        """How long an idle worker waits before it beats again."""
        return min(OPS_EVERY, super().dequeue_timeout)

    def heartbeat(self, *args: Any, **kwargs: Any) -> None:
        super().heartbeat(*args, **kwargs)
        if not self.is_horse and time.monotonic() - self._noted >= OPS_EVERY / 2:
            self._note()

    def _note(self) -> None:
        self._noted = time.monotonic()
        if self._addresses is None:
            self._addresses = OwnAddresses(settings.HOST_NAME)
        try:
            note(Program.OPS, self._addresses.known)
        except Error as error:
            if not self._failing:
                log.warning("this ops worker could not be registered, it goes on without: %s", error)
            self._failing = True
        else:
            self._failing = False
        finally:
            connection.close()  # a job that is forked off opens one of its own
