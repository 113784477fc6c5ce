"""What is no reason for a failover, on real servers: epoch and primary stay, clients write on, the screen says what is wrong.

A dead agent beside a living database; a controller that is cut off from the primary, one way or both; a primary without
processor time; a full connection table; a primary that an administrator has set read-only. Needs root, for the network and
for the share of a processor.
"""

import contextlib
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest

from replication.core import limits
from tests.rig.host import RigHost
from tests.rig.place import Place, rig
from tests.rig.starvation import starved
from tests.waiting import wait_for
from tests.writers import Writers

LASTS_SECONDS = 6
"""Longer than every time after which somebody could act: silence, the primary's lease with its grants, the agent's patience."""


@pytest.fixture(scope="module")
def installed() -> Iterator[Place]:
    with rig() as place:
        yield place


@pytest.fixture
def place(installed: Place) -> Iterator[Place]:
    installed.settle()
    yield installed
    installed.net.heal()


@contextlib.contextmanager
def nothing_changes(place: Place) -> Iterator[Writers]:
    """At the end of the block the vault is what it was, under the same epoch, and has been writable all the time."""
    primary, acker = place.lossless()
    before = place.stack.vault()
    with place.writers(primary, acker, patience=10) as writers:
        writers.wait_acknowledged(time.monotonic(), 20, host=primary, count=30)
        moment = time.monotonic()
        yield writers
        writers.wait_acknowledged(time.monotonic(), 20, host=primary, count=30)
        assert not writers.since(moment, acker)
    now = place.stack.vault()
    assert {**now, "reason": ""} == {**before, "reason": ""}, place.tell()


def lasts(place: Place, holds: Callable[[], bool]) -> None:
    """It stays so: looked at all the time, for longer than anybody's patience."""
    until = time.monotonic() + LASTS_SECONDS

    def over() -> bool:
        assert_now(place, holds)
        return time.monotonic() > until

    wait_for(over, LASTS_SECONDS + 10)


def assert_now(place: Place, holds: Callable[[], bool]) -> None:
    if not holds():
        pytest.fail(f"it did not stay so: {place.tell()}")


def test_a_dead_agent_is_no_dead_database(place: Place) -> None:
    primary, _acker = place.lossless()
    with nothing_changes(place):
        primary.kill_agent()
        place.wait_status(primary, "unreachable")
        place.wait_reason("the primary's agent does not answer, but its database does")
        lasts(place, lambda: place.statuses()[primary.hostname][0] == "unreachable")
        primary.start()
        place.wait_status(primary, "master")


@pytest.mark.long
def test_a_frozen_agent_is_no_dead_database(place: Place) -> None:
    """It cannot renew or fence anything meanwhile; when it wakes up it finds its lease outdated, and is confirmed again."""
    primary, _acker = place.lossless()
    assert primary.agent is not None
    with nothing_changes(place):
        primary.agent.send_signal(signal.SIGSTOP)
        try:
            place.wait_status(primary, "unreachable")
            place.wait_reason("the primary's agent does not answer, but its database does")
            lasts(place, lambda: place.statuses()[primary.hostname][0] == "unreachable")
        finally:
            primary.agent.send_signal(signal.SIGCONT)
        place.wait_status(primary, "master")


@pytest.mark.long
def test_a_blocked_agent_port_is_no_dead_database(place: Place) -> None:
    primary, _acker = place.lossless()
    with nothing_changes(place):
        place.net.cut(place.stack.name, primary.hostname, port=limits.AGENT_PORT)
        place.wait_status(primary, "unreachable")
        place.wait_reason("the primary's agent does not answer, but its database does")
        lasts(place, lambda: place.statuses()[primary.hostname][0] == "unreachable")
        place.net.heal()
        place.wait_status(primary, "master")


@pytest.mark.long
def test_the_agent_of_a_fallback_is_no_reason_either(place: Place) -> None:
    primary, acker = place.lossless()
    with nothing_changes(place):
        acker.kill_agent()
        place.wait_status(acker, "unreachable")
        lasts(place, lambda: place.statuses()[primary.hostname][0] == "master")
        acker.start()
        place.wait_status(acker, "slave-waiting")


def both_ways(place: Place, controller: str, primary: str) -> None:
    place.net.cut(controller, primary)


def questions_lost(place: Place, controller: str, primary: str) -> None:
    place.net.cut_one_way(controller, primary)


def answers_lost(place: Place, controller: str, primary: str) -> None:
    place.net.cut_one_way(primary, controller)


@pytest.mark.parametrize(
    "cut",
    [
        both_ways,
        pytest.param(questions_lost, marks=pytest.mark.long),
        pytest.param(answers_lost, marks=pytest.mark.long),
    ],
)
def test_a_controller_that_does_not_reach_the_primary_promotes_nobody(
    place: Place, cut: Callable[[Place, str, str], None]
) -> None:
    """The fallback hears the primary, and grants it the time that no controller can give it."""
    primary, acker = place.lossless()
    with nothing_changes(place) as writers:
        moment = time.monotonic()
        cut(place, place.stack.name, primary.hostname)
        place.wait_status(primary, "unreachable")
        place.wait_reason("we do not reach the primary, but a replica still hears it")
        # A busy acker may be a second behind for a moment; what must stay is that it hears the primary.
        lasts(place, lambda: place.statuses()[acker.hostname][0] in ("slave-waiting", "slave-catching-up"))
        assert writers.longest_gap(moment) < 1, "the primary never closed"
        place.net.heal()
        place.wait_status(primary, "master")


@pytest.mark.long
def test_a_controller_that_reaches_nobody_promotes_nobody(place: Place) -> None:
    primary, acker = place.lossless()
    with nothing_changes(place) as writers:
        moment = time.monotonic()
        place.net.isolate(place.stack.name)
        for host in (primary, acker):
            place.wait_status(host, "unreachable")
        place.wait_reason("no replica can say whether it lives")
        lasts(place, lambda: place.stack.vault()["primary"] == primary.hostname)
        assert writers.longest_gap(moment) < 1
        place.net.heal()
        place.wait_status(primary, "master")


def test_a_full_connection_table_is_no_dead_database(place: Place) -> None:
    primary, _acker = place.lossless()
    limit = primary.sql("SELECT @@max_connections AS n")[0]["n"]
    with nothing_changes(place), contextlib.ExitStack() as held:
        fill(primary, held, limit)
        place.wait_status(primary, "master-full")
        place.wait_reason("its connection table is full")
        lasts(place, lambda: place.statuses()[primary.hostname][0] == "master-full")
        held.close()
        place.wait_status(primary, "master")


def fill(primary: RigHost, held: contextlib.ExitStack, limit: int) -> None:
    """Idle clients until no more are let in."""
    with contextlib.suppress(Exception):
        for _ in range(limit + 1):
            held.enter_context(contextlib.closing(primary.connect_client()))


def test_a_read_only_maintenance_is_no_failure(place: Place) -> None:
    primary, acker = place.lossless()
    before = place.stack.vault()
    primary.sql("SET GLOBAL read_only = 1")
    try:
        place.wait_status(primary, "master-read-only")
        place.wait_reason("set read-only by hand")
        lasts(place, lambda: place.statuses()[primary.hostname][0] == "master-read-only")
        assert primary.sql("SELECT @@read_only AS r")[0]["r"] == 1, "what an administrator has set is left alone"
    finally:
        primary.sql("SET GLOBAL read_only = 0")
    place.wait_status(primary, "master")
    assert {**place.stack.vault(), "reason": ""} == {**before, "reason": ""}
    assert place.lossless() == (primary, acker)


@pytest.mark.long
@pytest.mark.parametrize("share", [0.2, 0.1])
def test_a_slow_host_is_no_dead_host(place: Place, share: float) -> None:
    """Agent and database together get this share of one processor."""
    primary, _acker = place.lossless()
    limited: AbstractContextManager[Any] = starved(primary.programs(), share)
    with nothing_changes(place), limited:
        lasts(place, lambda: place.stack.vault()["primary"] == primary.hostname)
