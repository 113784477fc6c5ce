"""The leader's lease: a row judged by the database's own clock, renewed on a thread of its own.

The holder stops acting by its own monotonic clock, a margin before the lease is over, when a renewal is late.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from django.db import Error, connection
from django.db.models import Case, Exists, F, Q, When
from django.db.models.functions import Now

from nodes.models import ApplicationNode, ServiceLease
from replication.core import limits

from .threads import lose_patience

log = logging.getLogger(__name__)
LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Pace:
    """How long a lease lasts, how often its holder renews it, and how often others try to take it."""

    ttl: timedelta
    renewal: timedelta
    retry: timedelta


LEADER: Final = Pace(limits.LEADER_LEASE, limits.LEADER_RENEWAL, timedelta(seconds=0.2))
HOUSEKEEPING: Final = Pace(limits.HOUSEKEEPING_LEASE, limits.HOUSEKEEPING_RENEWAL, limits.HOUSEKEEPING_RENEWAL)
"""Nobody waits for it, so it disturbs the metadata database less."""


@dataclass(frozen=True)
class Holder:
    """Who competes for a lease: `id` is random per process, host and process are for people."""

    id: str
    host: str
    process: str


def acquire(name: str, holder: Holder, *, ttl: timedelta = limits.LEADER_LEASE, **shown: Any) -> int | None:
    """Take or renew the lease in one statement. Returns the term, or None when somebody else holds it.

    A host that was made inactive takes no lease. What it holds it renews until it gives it back by itself (jobs/service.py), so
    that it puts down first what it has begun.

    `term` stands before `holder`: MySQL evaluates SET from left to right.
    """
    ServiceLease.objects.get_or_create(name=name, defaults={"expires_at": LONG_AGO})
    inactive = Exists(ApplicationNode.objects.filter(hostname__iexact=holder.host, active=False))
    mine_or_over = Q(holder=holder.id) | (Q(expires_at__lt=Now()) & ~inactive)
    taken = ServiceLease.objects.filter(mine_or_over, name=name).update(
        term=Case(When(holder=holder.id, then=F("term")), default=F("term") + 1),
        holder=holder.id,
        expires_at=Now() + ttl,
        renewed_at=Now(),
        host=holder.host,
        process=holder.process,
        **shown,
    )
    return ServiceLease.objects.values_list("term", flat=True).get(name=name) if taken else None


def release(name: str, holder: Holder) -> None:
    """End the lease now, if it is ours, so that the standby need not wait for it."""
    ServiceLease.objects.filter(name=name, holder=holder.id).update(expires_at=LONG_AGO, holder="")


class RenewingLease(threading.Thread):
    """Competes for the lease until stopped. `held` and `term` may be read from any thread."""

    def __init__(
        self,
        name: str,
        holder: Holder,
        shown: Callable[[], Mapping[str, Any]] = dict,
        standing_by: Callable[[], None] = lambda: None,
        pace: Pace = LEADER,
    ) -> None:
        """standing_by: called on this thread after every try in which somebody else led; may raise django.db.Error."""
        super().__init__(name="lease", daemon=True)
        self.lease_name, self.holder, self.shown, self.standing_by = name, holder, shown, standing_by
        self.pace = pace
        self.term = 0
        self._valid_until = 0.0
        self._stop_now = threading.Event()
        self._giving_back = False

    @property
    def held(self) -> bool:
        return not self._giving_back and time.monotonic() < self._valid_until

    @property
    def owner(self) -> str:
        """Random per process and different in every term: the owner of the epochs it claims."""
        return f"{self.holder.id}:{self.term}"

    def run(self) -> None:
        lose_patience()
        while not self._stop_now.wait((self.pace.renewal if self._renew() else self.pace.retry).total_seconds()):
            pass
        self._valid_until = 0.0
        try:
            release(self.lease_name, self.holder)
        except Error as error:
            log.warning("the lease could not be released, it will run out: %s", error)
        connection.close()

    def _renew(self) -> bool:
        asked = time.monotonic()
        try:
            if self._giving_back:
                release(self.lease_name, self.holder)
                self._valid_until, self._giving_back = 0.0, False
                return False
            term = acquire(self.lease_name, self.holder, ttl=self.pace.ttl, **self.shown())
            if term is None:
                self._valid_until = 0.0
                self.standing_by()
                return False
        except Error as error:
            log.warning("the lease could not be renewed: %s", error)
            with contextlib.suppress(Error):
                connection.close()
            return False
        if term != self.term:
            log.info("leading %s, term %s", self.lease_name, term)
        self.term = term
        self._valid_until = asked + (self.pace.ttl - limits.LEADER_MARGIN).total_seconds()
        return True

    def give_back(self) -> None:
        """Hold it no more from now on, and release it at the next turn. Afterwards it competes again, like any other."""
        self._giving_back = True

    def stop(self) -> None:
        """Release the lease and end the thread."""
        self._stop_now.set()
        self.join(timeout=5)
