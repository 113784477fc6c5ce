"""The SystemHousekeepingService of one process: competes for a lease of its own, makes its passes while it holds it.

Nothing waits for it, so it is plain and blocking. Its lease is no fence, only what keeps two hosts from doing the same work:
deleting an old row twice is deleting it once.
"""

import contextlib
import logging
import os
import signal
import threading
import time
from datetime import timedelta
from uuid import uuid4

from django.conf import settings
from django.db import Error, connection, connections
from django.utils import timezone

from nodes.choices import DesiredState
from nodes.models import AppService
from nodes.models.service import HOUSEKEEPING_NAME
from replication.core import limits
from replication.stores import housekeeping, service_setting, workers
from replication.stores.leases import HOUSEKEEPING, Holder, RenewingLease
from replication.stores.servicelog import ServiceLog
from replication.stores.threads import write_lightly

from .queueing import operations_in_queue

log = logging.getLogger(__name__)
LOOK = 0.5
"""Seconds between two looks at the row, the lease, the parent process and the stop signal."""


class HousekeepingProcess:
    """`serve` returns when it was told to stop or has lost its parent."""

    def __init__(self, slot: str) -> None:
        self.slot = slot
        self.parent = os.getppid()
        self.stopping = threading.Event()
        holder = Holder(uuid4().hex, settings.HOST_NAME, f"{slot} (pid {os.getpid()})")
        self.log = ServiceLog(HOUSEKEEPING_NAME, holder)
        self.lease = RenewingLease(HOUSEKEEPING_NAME, holder, pace=HOUSEKEEPING)
        self._sign_due = 0.0

    def serve(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self.stopping.set())
        self.log.start()
        log.info("worker %s of %s began", self.slot, settings.HOST_NAME)
        self.lease.start()
        try:
            while self._wanted():
                try:
                    self._look()
                except Error as error:
                    log.warning("the metadata database does not answer, trying again: %s", error)
                    with contextlib.suppress(Error):
                        connection.close()
                self.stopping.wait(LOOK)
        except Exception:
            log.exception("this worker ends by a fault of ours")
            raise
        finally:
            self.lease.stop()
            with contextlib.suppress(Error):
                workers.take_out(self.lease.holder)
            log.info("worker %s of %s ended", self.slot, settings.HOST_NAME)
            self.log.stop()
            connection.close()

    def _wanted(self) -> bool:
        return not self.stopping.is_set() and os.getppid() == self.parent

    def _look(self) -> None:
        self._give_sign_of_life()
        if not self.lease.held or (service := housekeeping.row()) is None:
            return
        running = service.desired_state == DesiredState.STARTED
        if running != (service.started_on is not None):
            housekeeping.note_running(service, running)
        if running and self._due(service):
            self._pass(service)

    @staticmethod
    def _due(service: AppService) -> bool:
        if service.run_requested_at is not None or service.last_completed_on is None:
            return True
        since = timezone.now() - service.last_completed_on
        return since >= service_setting.interval_of(service) or since < timedelta()  # the clock was set back

    def _pass(self, service: AppService) -> None:
        began = time.monotonic()
        removed = housekeeping.clean(service.configuration, self._goes_on, operations_in_queue)
        if not self._goes_on():
            return  # not complete; whoever leads next goes on with it
        housekeeping.note_pass(service, service.run_requested_at)
        if removed:
            told = ", ".join(f"{count} {what}" for what, count in removed.items())
            log.info("removed in %.1f s: %s", time.monotonic() - began, told)
        elif service.run_requested_at is not None:
            log.info("nothing is older than it is to be kept")

    def _goes_on(self) -> bool:
        """Asked before every batch. Stop counts at once, and a long pass is no silence."""
        self._give_sign_of_life()
        if not self._wanted() or not self.lease.held:
            return False
        return AppService.objects.filter(name=HOUSEKEEPING_NAME, desired_state=DesiredState.STARTED).exists()

    def _give_sign_of_life(self) -> None:
        if time.monotonic() >= self._sign_due:
            self._sign_due = time.monotonic() + limits.WORKER_HEARTBEAT.total_seconds()
            workers.write_sign_of_life(HOUSEKEEPING_NAME, self.lease.holder)


def run(slot: str) -> None:
    """Body of the job. Connections opened before the fork are not ours."""
    connections.close_all()
    write_lightly()
    HousekeepingProcess(slot).serve()
