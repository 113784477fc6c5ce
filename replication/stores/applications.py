"""The heartbeat of controller hosts in High Availability → Application."""

import logging
import socket
import threading

from django.conf import settings
from django.db import Error
from django.utils import timezone

from nodes.models import ApplicationNode
from replication.core.version import VERSION

from .threads import DatabaseThread

log = logging.getLogger(__name__)


class OwnAddresses:
    """What this host's name resolves to, asked once, on a thread of its own.

    A silent name server keeps the answer back for ten seconds and more: nothing that a failover waits for may share that
    thread, and the end of the process does not wait for it either.
    """

    def __init__(self, hostname: str) -> None:
        self.known: list[str] = []
        self._hostname = hostname
        threading.Thread(target=self._ask, name="addresses", daemon=True).start()

    def _ask(self) -> None:
        try:
            found = socket.getaddrinfo(self._hostname, None)
        except OSError:
            return
        self.known = sorted({str(address[0]) for *_, address in found})


async def note_application(thread: DatabaseThread, addresses: OwnAddresses) -> None:
    """Write that this host is alive, and its version. Never raises: the vault does not depend on it."""

    def write() -> None:
        defaults = {"version": VERSION, "addresses": addresses.known, "last_seen": timezone.now()}
        ApplicationNode.objects.update_or_create(hostname=settings.HOST_NAME, defaults=defaults)

    try:
        await thread.run(write)
    except Error as error:
        log.warning("this host could not be registered: %s", error)
