"""Which processes lead a service or stand by for it: each says so itself, by the database's own clock."""

import logging

from django.db import Error
from django.db.models.functions import Now

from nodes.models import ServiceWorker
from replication.core import limits

from .leases import Holder
from .threads import DatabaseThread

log = logging.getLogger(__name__)


def write_sign_of_life(service: str, holder: Holder) -> None:
    """Raises django.db.Error."""
    if not ServiceWorker.objects.filter(pk=holder.id).update(seen_at=Now()):
        ServiceWorker.objects.create(
            pk=holder.id,
            service=service,
            host=holder.host,
            process=holder.process,
            started_at=Now(),
            seen_at=Now(),
        )


def take_out(holder: Holder) -> None:
    """A clean end: nobody counts on this worker any more. Raises django.db.Error."""
    ServiceWorker.objects.filter(pk=holder.id).delete()


def forget_dead() -> int:
    """Throw away the rows of workers that died without saying so. Returns how many."""
    return ServiceWorker.objects.filter(seen_at__lt=Now() - limits.WORKER_FORGOTTEN).delete()[0]


async def note_worker(thread: DatabaseThread, service: str, holder: Holder) -> None:
    """Write a sign of life. Never raises: the vault does not depend on it."""
    try:
        await thread.run(lambda: write_sign_of_life(service, holder))
    except Error as error:
        log.warning("this worker could not be registered: %s", error)


async def forget_worker(thread: DatabaseThread, holder: Holder) -> None:
    """Never raises; what stays is forgotten later."""
    try:
        await thread.run(lambda: take_out(holder))
    except Error as error:
        log.warning("this worker could not be taken out of the list: %s", error)
