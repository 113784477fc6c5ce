"""The leader's lease in a real database: one holder, a term per holder, hand-over when it stops renewing."""

import threading
import time
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from nodes.models import ApplicationNode, ServiceLease
from replication.core import limits
from replication.stores.leases import LEADER, LONG_AGO, Pace, RenewingLease, acquire, release
from tests.stores.conftest import LEASE, holder
from tests.waiting import wait_for

pytestmark = pytest.mark.django_db(transaction=True)
ONE, TWO = holder("one"), holder("two")
GENEROUS = 10.0


def expire() -> None:
    ServiceLease.objects.filter(name=LEASE).update(expires_at=LONG_AGO)


def test_the_first_who_asks_holds_it() -> None:
    assert acquire(LEASE, ONE) == 1
    assert acquire(LEASE, TWO) is None


def test_renewing_keeps_the_term() -> None:
    terms = [acquire(LEASE, ONE) for _ in range(3)]
    assert terms == [1, 1, 1]


def test_renewing_puts_the_end_off() -> None:
    acquire(LEASE, ONE)
    before = ServiceLease.objects.get(name=LEASE).expires_at
    wait_for(lambda: acquire(LEASE, ONE) and ServiceLease.objects.get(name=LEASE).expires_at > before, GENEROUS)


def test_the_term_rises_with_every_new_holder() -> None:
    terms = []
    for who in (ONE, TWO, ONE, TWO):
        terms.append(acquire(LEASE, who))
        expire()
    assert terms == [1, 2, 3, 4]


def test_a_holder_whose_lease_ran_out_unnoticed_keeps_its_term_when_nobody_else_came() -> None:
    assert acquire(LEASE, ONE) == 1
    expire()
    assert acquire(LEASE, ONE) == 1


def test_the_database_judges_the_end_by_its_own_clock() -> None:
    acquire(LEASE, ONE, ttl=timedelta(milliseconds=300))
    assert acquire(LEASE, TWO) is None
    term = wait_for(lambda: acquire(LEASE, TWO), GENEROUS, "the lease never ran out")
    assert term == 2


def test_its_times_are_exact_and_in_utc() -> None:
    """Whatever zone the database server lives in: a DATETIME has none, and its end is judged to the microsecond."""
    acquire(LEASE, ONE, ttl=timedelta(seconds=1, microseconds=234567))
    row = ServiceLease.objects.get(name=LEASE)
    assert row.renewed_at is not None
    assert abs(timezone.now() - row.renewed_at) < timedelta(seconds=GENEROUS)
    assert abs(row.expires_at - row.renewed_at - timedelta(seconds=1.234567)) < timedelta(milliseconds=2)


def test_a_released_lease_is_free_at_once() -> None:
    acquire(LEASE, ONE)
    release(LEASE, TWO)
    assert acquire(LEASE, TWO) is None, "only its holder may release it"
    release(LEASE, ONE)
    assert acquire(LEASE, TWO) == 2


def test_what_the_screens_show_rides_on_the_renewal() -> None:
    acquire(LEASE, ONE, answers={"a" * 32: 0.2})
    row = ServiceLease.objects.get(name=LEASE)
    assert row.answers == {"a" * 32: 0.2}
    assert (row.host, row.process) == (ONE.host, ONE.process)
    assert row.renewed_at is not None


def test_many_who_ask_at_once_get_one_holder() -> None:
    got: list[int | None] = []
    start = threading.Barrier(4)

    def ask(name: str) -> None:
        start.wait()
        got.append(acquire(LEASE, holder(name)))
        connection.close()

    asking = [threading.Thread(target=ask, args=(f"holder {n}",)) for n in range(4)]
    for each in asking:
        each.start()
    for each in asking:
        each.join()
    assert sorted(term for term in got if term is not None) == [1]


def test_a_renewing_lease_holds_and_the_standby_waits(leases: Callable[[str], RenewingLease]) -> None:
    one = leases("one")
    wait_for(lambda: one.held, GENEROUS)
    two = leases("two")
    first = ServiceLease.objects.get(name=LEASE).renewed_at
    wait_for(lambda: ServiceLease.objects.get(name=LEASE).renewed_at != first, GENEROUS, "it is renewed")
    assert one.held
    assert not two.held
    assert (one.term, two.term) == (1, 0)


def test_a_lease_that_is_put_down_is_taken_over_without_waiting_for_its_end(
    leases: Callable[[str], RenewingLease],
) -> None:
    one = leases("one")
    wait_for(lambda: one.held, GENEROUS)
    two = leases("two")
    one.stop()
    assert not one.held
    wait_for(lambda: two.held, GENEROUS)
    assert two.term == one.term + 1


def test_a_holder_that_stops_renewing_is_replaced_in_time(
    leases: Callable[[str], RenewingLease], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Like a killed or a stalled process: it does not release, it only renews no more."""
    one = leases("one")
    wait_for(lambda: one.held, GENEROUS)
    two = leases("two")
    monkeypatch.setattr(one, "_renew", lambda: False)
    stopped = time.monotonic()
    held_together = []

    def handed_over() -> bool:
        held_together.append(one.held and two.held)
        return two.held

    wait_for(handed_over, GENEROUS, "nobody took over")
    took = time.monotonic() - stopped
    # From the last renewal: the lease, and the standby's pace; the deadline is generous because machines are busy.
    assert took < (limits.LEADER_LEASE + limits.LEADER_RENEWAL).total_seconds() + 0.5
    assert not any(held_together), "never two leaders, by the word of each"
    assert two.term == 2


def test_the_owner_of_epochs_differs_in_every_term(leases: Callable[[str], RenewingLease]) -> None:
    one = leases("one")
    wait_for(lambda: one.held, GENEROUS)
    assert one.owner == "one:1"


def inactive(host: str, *, active: bool = False) -> None:
    ApplicationNode.objects.update_or_create(hostname=host, defaults={"active": active})


def test_a_host_that_was_made_inactive_takes_no_lease_and_another_host_does() -> None:
    inactive(ONE.host.upper())  # as an operator may have typed it
    assert acquire(LEASE, ONE) is None
    assert acquire(LEASE, TWO) == 1
    expire()
    assert acquire(LEASE, ONE) is None
    inactive(ONE.host.upper(), active=True)
    assert acquire(LEASE, ONE) == 2


def test_a_leader_whose_host_was_made_inactive_renews_until_it_gives_the_lease_back() -> None:
    assert acquire(LEASE, ONE) == 1
    inactive(ONE.host)
    assert acquire(LEASE, ONE) == 1
    release(LEASE, ONE)
    assert acquire(LEASE, ONE) is None


def test_a_lease_that_is_given_back_goes_to_the_other_host_at_once_and_comes_back_when_active(
    leases: Callable[[str], RenewingLease],
) -> None:
    one = leases("one")
    wait_for(lambda: one.held, GENEROUS)
    two = leases("two")
    inactive(one.holder.host)
    given_back = time.monotonic()
    one.give_back()
    assert not one.held
    wait_for(lambda: two.held, GENEROUS)
    took = time.monotonic() - given_back
    # The holder's next turn, then the standby's; its lease would have lasted longer. 0.3: machines are busy.
    assert took < (LEADER.renewal + LEADER.retry).total_seconds() + 0.3
    two.stop()
    assert not one.held  # still inactive
    inactive(one.holder.host, active=True)
    wait_for(lambda: one.held, GENEROUS)
    assert one.term == 3


def test_a_lease_may_have_a_pace_of_its_own() -> None:
    """Long, and rarely renewed: what nobody waits for disturbs the database less."""
    asked: list[float] = []

    def shown() -> dict[str, object]:
        asked.append(time.monotonic())
        return {}

    slow = Pace(timedelta(seconds=30), timedelta(seconds=20), timedelta(seconds=20))
    lease = RenewingLease(LEASE, ONE, shown, pace=slow)
    lease.start()
    wait_for(lambda: lease.held, GENEROUS)
    row = ServiceLease.objects.get(name=LEASE)
    assert row.renewed_at is not None
    assert row.expires_at - row.renewed_at == timedelta(seconds=30)
    lease.stop()
    assert len(asked) == 1
    assert acquire(LEASE, TWO) == 2, "released at the end, however long it would have lasted"
