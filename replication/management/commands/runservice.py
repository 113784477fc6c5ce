"""`manage.py runservice --slot a`: one service worker. Two of them per host make a hot standby."""

import re
from collections.abc import Callable
from typing import Any, Final
from uuid import uuid4

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django_rq import get_connection
from redis.exceptions import RedisError
from rq import Queue
from rq.serializers import JSONSerializer

from replication.jobs import run_housekeeping, run_service
from replication.jobs.worker import ServiceWorker

HIGH_AVAILABILITY: Final = "high-availability"
SERVICES: Final[dict[str, tuple[str, Callable[[str], None]]]] = {
    HIGH_AVAILABILITY: ("service", run_service),
    "housekeeping": ("housekeeping", run_housekeeping),
}
"""--service → the beginning of its queue's name, and its job."""


class Command(BaseCommand):
    help = "Run a worker of a service. Ends when its job ends; let a supervisor start it again."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--service", default=HIGH_AVAILABILITY, choices=sorted(SERVICES), help="which service it works for"
        )
        parser.add_argument("--slot", default="a", help="name of this worker among those of the host: a, b …")

    def handle(self, *args: Any, **options: Any) -> None:
        slot = str(options["slot"])
        if not re.fullmatch(r"[A-Za-z0-9._-]{1,32}", slot):
            raise CommandError(f"the slot is {slot!r}: give it a short name of letters and digits, such as a.")
        if options["service"] == HIGH_AVAILABILITY:
            _need_certificate()
        queue_name, job = SERVICES[options["service"]]
        name = f"{queue_name}-{settings.HOST_NAME}-{slot}"
        try:
            queue = Queue(name, connection=get_connection("service"), serializer=JSONSerializer)
            queue.empty()  # a job left by an earlier run of this very worker
            queue.enqueue(job, slot, job_id=f"{name}-{uuid4().hex}", job_timeout=-1, result_ttl=0)
            worker = ServiceWorker(
                [queue], connection=queue.connection, serializer=JSONSerializer, job_monitoring_interval=1
            )
            worker.work(burst=True, logging_level="INFO")
        except RedisError as error:
            raise CommandError(
                f"Redis does not answer: {error}. The worker needs it to start, not to go on."
            ) from error


def _need_certificate() -> None:
    missing = [name for name in ("ca.pem", "cert.pem", "key.pem") if not (settings.PKI_DIR / name).is_file()]
    if missing:
        raise CommandError(
            f"{', '.join(missing)} missing in {settings.PKI_DIR}: without its certificate a controller reaches no agent. "
            "Make one with manage.py issue_certificate."
        )
