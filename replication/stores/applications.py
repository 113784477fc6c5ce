"""The heartbeat of controller hosts in High Availability → Application."""

import logging
import socket

from django.conf import settings
from django.db import Error
from django.utils import timezone

from nodes.models import ApplicationNode
from replication.core.version import VERSION

from .threads import DatabaseThread

log = logging.getLogger(__name__)


def own_addresses() -> list[str]:
    """Addresses that this host's name resolves to; empty when it does not resolve."""
    try:
        found = socket.getaddrinfo(settings.HOST_NAME, None)
    except OSError:
        return []
    return sorted({str(address[0]) for *_, address in found})


async def note_application(thread: DatabaseThread) -> None:
    """Write that this host is alive, and its version. Never raises: the vault does not depend on it."""

    def write() -> None:
        now = timezone.now()
        defaults = {"version": VERSION, "addresses": own_addresses(), "last_seen": now}
        ApplicationNode.objects.update_or_create(hostname=settings.HOST_NAME, defaults=defaults)

    try:
        await thread.run(write)
    except Error as error:
        log.warning("this host could not be registered: %s", error)
