"""The RQ worker that carries the service: forking, and patient with Redis."""

import logging
import signal
from typing import Any

from redis.exceptions import RedisError
from rq import Worker

log = logging.getLogger(__name__)


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
