"""The heartbeat of our own hosts in High Availability → Application: each program says itself that it runs.

A row is one host. An operator may have entered it before; a host that nobody entered enters itself. Service workers beat on
their own loop, ops workers with RQ's heartbeat (jobs/worker.py), web processes on a thread (`WebHeartbeat`).
"""

import contextlib
import logging
import os
import socket
import threading
from enum import StrEnum

from django.conf import settings
from django.db import Error, IntegrityError, connection, transaction
from django.db.models import Case, F, Value, When
from django.db.models.functions import Now

from nodes.choices import ApplicationRole
from nodes.models import ApplicationNode
from replication.core.version import VERSION

from .threads import DatabaseThread, lose_patience

log = logging.getLogger(__name__)
WEB_EVERY = 10.0
"""Seconds between two heartbeats of a web process."""


class Program(StrEnum):
    """By the column that it writes."""

    SERVICE = "service_seen"
    OPS = "ops_seen"
    WEB = "web_seen"


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


def note(program: Program, addresses: list[str]) -> bool:
    """Write that this program runs on this host, by the database's clock. Returns whether the host is active.

    addresses: [] while they are not known, which keeps those that were. Raises django.db.Error.
    """
    row = ApplicationNode.objects.filter(hostname__iexact=settings.HOST_NAME)
    seen = {
        "version": VERSION,
        "last_seen": Now(),
        program.value: Now(),
        **({"addresses": addresses} if addresses else {}),
    }
    role = ApplicationRole.WEB if program is Program.WEB else ApplicationRole.CONTROLLER
    # Without an address nobody has described the host: then its role is what it does.
    described = {} if program is Program.WEB else {
        "system_role": Case(When(ip_address__isnull=True, then=Value(role)), default=F("system_role"))
    }  # fmt: skip
    if not row.update(**seen, **described):
        with contextlib.suppress(IntegrityError), transaction.atomic():  # another program of this host came first
            ApplicationNode.objects.create(hostname=settings.HOST_NAME, system_role=role, **seen)
    return row.values_list("active", flat=True).first() is not False


async def note_application(thread: DatabaseThread, addresses: OwnAddresses) -> bool | None:
    """`note` of a service worker; None when the database did not answer. Never raises: the vault does not depend on it."""
    try:
        return await thread.run(lambda: note(Program.SERVICE, addresses.known))
    except Error as error:
        log.warning("this host could not be registered: %s", error)
        return None


class WebHeartbeat(threading.Thread):
    """Says every 10 s that this web process lives. No request waits for it; an outage of the database is logged once."""

    def __init__(self, every: float = WEB_EVERY) -> None:
        super().__init__(name="web-heartbeat", daemon=True)
        self.every = every
        self.ended = threading.Event()
        self._failing = False

    def run(self) -> None:
        lose_patience()
        addresses = OwnAddresses(settings.HOST_NAME)
        while True:
            self.beat(addresses.known)
            if self.ended.wait(self.every):
                break
        connection.close()

    def beat(self, addresses: list[str]) -> None:
        try:
            note(Program.WEB, addresses)
        except Error as error:
            if not self._failing:
                log.warning("this web process could not be registered, it goes on without: %s", error)
            self._failing = True
            with contextlib.suppress(Error):
                connection.close()
        else:
            self._failing = False


def start_web_heartbeat() -> None:
    """In this process, and in those that a preloading server forks off it: threads do not survive a fork."""
    WebHeartbeat().start()
    os.register_at_fork(after_in_child=lambda: WebHeartbeat().start())
