"""SQLite has one writer: a large clean-up and a busy log must leave the leader its lease.

Proves: while 100,000 old rows are deleted and the log copies what it can, a leader renews in time, every time.
"""

import itertools
import logging
import threading
import time
from collections.abc import Callable

import pytest
from django.db import connection

from nodes.models import LogLine
from replication.core import limits
from replication.stores import housekeeping
from replication.stores.leases import RenewingLease
from replication.stores.servicelog import ServiceLog
from replication.stores.threads import write_lightly
from tests.stores.conftest import LEASE, holder
from tests.waiting import wait_for

METADATA = ("sqlite",)
ROWS = 100_000
FILL = """
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %s)
INSERT INTO nodes_logline (service, at, host, process, level, text)
SELECT 'old', '2020-01-01 00:00:00', 'host', 'process', 20, 'a line of usual length, with a few words and a number ' || i FROM n
"""


@pytest.mark.django_db(transaction=True)
def test_the_leader_keeps_its_lease_while_a_hundred_thousand_rows_are_deleted() -> None:
    with connection.cursor() as cursor:
        cursor.execute(FILL, [ROWS])
    renewals: list[float] = []

    def shown() -> dict[str, object]:
        renewals.append(time.monotonic())
        return {}

    lease = RenewingLease(LEASE, holder("leader"), shown)
    log = ServiceLog("busy", holder("leader"))
    lost: list[float] = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.01):
            if not lease.held:
                lost.append(time.monotonic())

    lease.start()
    wait_for(lambda: lease.held, 15)
    watching = threading.Thread(target=watch)
    watching.start()
    log.start()
    began = time.monotonic()
    try:
        removed = _on_a_thread(lambda: housekeeping.clean({}, _while_logging(), set))
        took = time.monotonic() - began
    finally:
        over.set()
        watching.join()
        log.stop()
        lease.stop()
    gaps = [later - earlier for earlier, later in itertools.pairwise(renewals)]
    print(f"\n{ROWS} rows in {took:.1f} s; longest gap between two renewals {max(gaps):.3f} s of {len(gaps)}")
    assert removed["log lines"] == ROWS
    assert not lost, "the leader lost its lease"
    assert max(gaps) < limits.LEADER_LEASE.total_seconds()
    assert LogLine.objects.filter(service="busy").exists(), "the log was written meanwhile"


def _while_logging() -> Callable[[], bool]:
    ours = logging.getLogger("replication.tests")
    ours.setLevel(logging.INFO)

    def going_on() -> bool:
        ours.info("one more batch")
        return True

    return going_on


def _on_a_thread(work: Callable[[], dict[str, int]]) -> dict[str, int]:
    """As in the housekeeping's own process: a connection of its own that writes lightly."""
    found: list[dict[str, int]] = []

    def run() -> None:
        write_lightly()
        try:
            found.append(work())
        finally:
            connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return found[0]
