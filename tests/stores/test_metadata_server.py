"""The metadata on a MariaDB server over TCP that falls silent, dies and comes back.

Proves: a leader whose server is frozen gives up its lease in time, by its own clock, and its threads do not hang; it leads
again soon after the server is back; a server that was killed and started again is found again without a hand, and what was
to be written meanwhile is written.
"""

import asyncio
import signal
import time
from collections.abc import Callable, Iterator

import pytest
from django.db import Error, connections

from nodes.models import Event, ServiceLease, Vault
from replication.core import limits
from replication.stores.events import EventStore
from replication.stores.leases import RenewingLease, acquire
from replication.stores.threads import DatabaseThread
from tests.rig.metadata import MetadataServer
from tests.stores.conftest import LEASE, holder
from tests.waiting import wait_for

METADATA = ("mariadb",)
pytestmark = pytest.mark.django_db(transaction=True)
GENEROUS = 15.0


@pytest.fixture
def frozen(mariadb: MetadataServer) -> Iterator[Callable[[], None]]:
    """Freeze the server; it thaws at the end."""
    yield lambda: mariadb.signal(signal.SIGSTOP)
    mariadb.signal(signal.SIGCONT)
    connections["default"].close()


def test_a_leader_whose_server_falls_silent_gives_up_in_time(
    leases: Callable[[str], RenewingLease], frozen: Callable[[], None], mariadb: MetadataServer
) -> None:
    lease = leases("one")
    wait_for(lambda: lease.held, GENEROUS)
    began = time.monotonic()
    frozen()
    wait_for(lambda: not lease.held, GENEROUS, "it still believes that it leads")
    assert time.monotonic() - began <= (limits.LEADER_LEASE - limits.LEADER_MARGIN).total_seconds() + 0.5
    mariadb.signal(signal.SIGCONT)
    thawed = time.monotonic()
    wait_for(lambda: lease.held, GENEROUS, "it leads again")
    assert time.monotonic() - thawed < 2 * limits.METADATA_PATIENCE.total_seconds() + 1


def test_a_lease_on_a_silent_server_can_be_put_down(
    leases: Callable[[str], RenewingLease], frozen: Callable[[], None]
) -> None:
    lease = leases("one")
    wait_for(lambda: lease.held, GENEROUS)
    frozen()
    lease.stop()
    wait_for(lambda: not lease.is_alive(), GENEROUS, "its thread has ended")
    assert not lease.held


def test_a_thread_does_not_wait_for_a_silent_server(thread: DatabaseThread, frozen: Callable[[], None]) -> None:
    assert asyncio.run(thread.run(Vault.objects.count)) == 0
    frozen()
    began = time.monotonic()
    for _ in ("on the old connection", "on a new one"):
        with pytest.raises(Error):
            asyncio.run(thread.run(Vault.objects.count))
    assert time.monotonic() - began < 2 * limits.METADATA_PATIENCE.total_seconds() + 2


def test_a_page_is_more_patient_than_the_service(thread: DatabaseThread) -> None:
    def read_timeout() -> float:
        return float(connections["default"].get_connection_params()["read_timeout"])

    assert asyncio.run(thread.run(read_timeout)) == limits.METADATA_PATIENCE.total_seconds() < read_timeout()
    assert limits.METADATA_PATIENCE < limits.LEADER_LEASE


def test_a_server_that_was_restarted_is_found_again(
    leases: Callable[[str], RenewingLease], thread: DatabaseThread, mariadb: MetadataServer
) -> None:
    lease = leases("one")
    wait_for(lambda: lease.held, GENEROUS)
    term = lease.term
    journal = EventStore(thread)

    async def tell(text: str) -> None:
        await journal.record(vault="", node="", epoch=1, rule="P30", text=text, level="info", evidence={})

    asyncio.run(tell("before"))
    mariadb.kill()
    wait_for(lambda: not lease.held, GENEROUS)
    mariadb.start()
    connections["default"].close()
    asyncio.run(tell("after"))
    assert list(Event.objects.order_by("pk").values_list("text", flat=True)) == ["before", "after"]
    wait_for(lambda: lease.held, GENEROUS)
    assert lease.term == term, "nobody else led in between"


def test_a_lease_whose_row_is_locked_is_given_up_by_its_own_clock(leases: Callable[[str], RenewingLease]) -> None:
    """A transaction that holds the row, of a backup for instance: the renewal waits, the leader must not."""
    lease = leases("one")
    wait_for(lambda: lease.held, GENEROUS)
    connection = connections["default"]
    connection.set_autocommit(False)
    try:
        ServiceLease.objects.select_for_update().get(name=LEASE)
        wait_for(lambda: not lease.held, GENEROUS)
    finally:
        connection.rollback()
        connection.set_autocommit(True)
    wait_for(lambda: lease.held, GENEROUS, "it leads again")
    assert acquire(LEASE, holder("two")) is None
