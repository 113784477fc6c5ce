"""The SystemHighAvailabilityService of one process: competes for the lease, runs the heartbeat while it holds it."""

import asyncio
import contextlib
import logging
import os
import signal
import time
from datetime import timedelta
from typing import Any
from uuid import uuid4

from django.conf import settings
from django.db import connections
from django.utils import timezone

from nodes.models.service import SERVICE_NAME
from replication.client import AgentClient, PortWitness
from replication.core import limits
from replication.procedures.controller.heartbeat import Heartbeat
from replication.procedures.controller.procedure import World
from replication.stores.applications import OwnAddresses, note_application
from replication.stores.events import EventStore
from replication.stores.highwater import HighWater
from replication.stores.inventory import InventoryStore
from replication.stores.lag import note_lag
from replication.stores.leases import Holder, RenewingLease
from replication.stores.operations import OperationStore
from replication.stores.servicelog import ServiceLog
from replication.stores.threads import DatabaseThread
from replication.stores.topology import TopologyStore, remember_epochs
from replication.stores.workers import forget_worker, note_worker

from .dispatch import Dispatcher

log = logging.getLogger(__name__)
LOOK = 0.05
"""Seconds between two looks at the lease, the parent process and the stop signal."""
PUT_DOWN_AGAIN = 1.0
"""Seconds between two tries to end a heartbeat that goes on."""
SIGN_OF_LIFE_EVERY = limits.WORKER_HEARTBEAT.total_seconds()
"""Seconds between two heartbeats of this host in High Availability → Application, and of this worker in App Services."""


class MonotonicClock:
    """Adapter of core.ports.Clock."""

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, duration: timedelta) -> None:
        await asyncio.sleep(duration.total_seconds())


def new_id() -> str:
    return uuid4().hex


class ServiceProcess:
    """Everything one process wires together; `serve` returns when it was told to stop or has lost its parent."""

    def __init__(self, slot: str) -> None:
        self.slot = slot
        self.parent = os.getppid()
        self.stopping = asyncio.Event()
        self.resigning = False
        self.heartbeat: Heartbeat | None = None
        self._task: asyncio.Task[None] | None = None
        holder = Holder(new_id(), settings.HOST_NAME, f"{slot} (pid {os.getpid()})")
        self.log = ServiceLog(SERVICE_NAME, holder)
        self._shown: dict[str, Any] = {}
        self.lease = RenewingLease(SERVICE_NAME, holder, lambda: self._shown, lambda: remember_epochs(self.marks))
        self.notes = DatabaseThread("notes")
        self.reads = DatabaseThread("reads")
        self.marks = HighWater(settings.VAR_DIR)
        self.topologies = TopologyStore(self.lease, self.marks)
        self.dispatcher = Dispatcher(lambda: self.heartbeat is not None and self.lease.held)

    async def serve(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stopping.set)
        self.log.start()
        log.info("worker %s of %s began", self.slot, settings.HOST_NAME)
        self.lease.start()
        registering = asyncio.ensure_future(self._register())
        sampling = asyncio.ensure_future(self._sample_lag())
        dispatching = asyncio.ensure_future(self.dispatcher.run())
        try:
            async with AgentClient(settings.PKI_DIR) as agents:
                world = World(
                    clock=MonotonicClock(),
                    agents=agents,
                    topologies=self.topologies,
                    inventory=InventoryStore(self.reads, self.notes, self.marks, self.lease),
                    journal=EventStore(self.notes),
                    operations=OperationStore(self.notes),
                )
                while not self.stopping.is_set() and os.getppid() == self.parent:
                    await self._follow_lease(world)
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(LOOK):
                            await self.stopping.wait()
                await self._put_down()
        except Exception:
            log.exception("this worker ends by a fault of ours")
            raise
        finally:
            registering.cancel()
            sampling.cancel()
            dispatching.cancel()
            await loop.run_in_executor(None, self.lease.stop)
            await forget_worker(self.notes, self.lease.holder)
            for thread in (self.topologies, self.reads, self.notes, self.dispatcher):
                thread.close()
            log.info("worker %s of %s ended", self.slot, settings.HOST_NAME)
            await loop.run_in_executor(None, self.log.stop)

    async def _follow_lease(self, world: World) -> None:
        if self.resigning and self.lease.held:
            log.warning("%s gives the leadership back: this host was made inactive", self.slot)
            await self._put_down()
            self.lease.give_back()
        self.resigning = False
        if self.lease.held and self.heartbeat is None:
            log.info("%s leads", self.slot)
            self.heartbeat = Heartbeat(world, PortWitness(), self.lease, new_id)
            self._task = asyncio.ensure_future(self.heartbeat.run())
        if not self.lease.held and self.heartbeat is not None:
            log.warning("%s no longer leads", self.slot)
            await self._put_down()
        if self._task is not None and self._task.done():
            self._task.result()  # a fault of ours: let the process end with its traceback, the standby takes over
        if self.heartbeat is not None:
            answers = {**self.heartbeat.answers(), **self.heartbeat.heard()}
            self._shown = {"answers": answers, **self._last_pass(self.heartbeat)}

    @staticmethod
    def _last_pass(heartbeat: Heartbeat) -> dict[str, Any]:
        if heartbeat.last_pass is None:
            return {}
        return {"last_pass_at": timezone.now() - timedelta(seconds=time.monotonic() - heartbeat.last_pass)}

    async def _put_down(self) -> None:
        while self._task is not None and not self._task.done():
            # Again and again: a cancel that meets the very end of a wait is lost (asyncio.wait_for of Python 3.11), and whoever
            # waited for it for ever would never lead again.
            self._task.cancel()
            await asyncio.wait([self._task], timeout=PUT_DOWN_AGAIN)
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)
        self.heartbeat = self._task = None
        self._shown = {}

    async def _sample_lag(self) -> None:
        while True:
            await asyncio.sleep(limits.LAG_SAMPLE.total_seconds())
            if self.heartbeat is None or not self.lease.held:
                continue
            try:
                await note_lag(self.notes, self.heartbeat.lags())
            except Exception:  # a fault of ours in a chart ends no service
                log.exception("how far the fallbacks are behind could not be sampled")

    async def _register(self) -> None:
        addresses = OwnAddresses(settings.HOST_NAME)
        while True:
            # Without an answer of the database nothing changes.
            self.resigning = await note_application(self.notes, addresses) is False
            await note_worker(self.notes, SERVICE_NAME, self.lease.holder)
            await asyncio.sleep(SIGN_OF_LIFE_EVERY)


async def _main(slot: str) -> None:
    await ServiceProcess(slot).serve()


def run(slot: str) -> None:
    """Body of the job. Connections opened before the fork are not ours."""
    connections.close_all()
    asyncio.run(_main(slot))
