"""Two things at once, with three vault hosts and two controller hosts in network namespaces (needs root).

Proves: a leader that is lost together with the primary is no reason to stay down; primary and fallback that die together
come back with every acknowledged row; the side without the primary and its acker promotes nobody; when the acker is lost
another fallback takes its part and its place; a leader that is cut off from its metadata server is replaced.
"""

import contextlib
import signal
import time
from collections.abc import Iterator

import pytest

from tests.rig.host import RigHost
from tests.rig.place import Place, rig
from tests.waiting import wait_for
from tests.writers import Writers, missing

pytestmark = pytest.mark.long
STAYS_SECONDS = 8


@pytest.fixture(scope="module")
def installed() -> Iterator[Place]:
    with rig(vaults=3, controllers=2) as place:
        yield place


@pytest.fixture
def place(installed: Place) -> Iterator[Place]:
    for controller in installed.controllers:
        if controller.processes["service-a"].poll() is not None:
            controller.service("a")
    installed.settle()
    yield installed
    installed.net.heal()


@contextlib.contextmanager
def nothing_lost(place: Place, primary: RigHost, *others: RigHost) -> Iterator[Writers]:
    """Clients everywhere, also on the primary's own host. In the end the primary of then holds every row."""
    with (
        place.writers(primary, where=primary.hostname, patience=60) as loyal,
        place.writers(primary, *others) as free,
    ):
        for writers in (loyal, free):
            writers.wait_acknowledged(time.monotonic(), 20, host=primary, count=30)
        yield free
    now, _ = place.lossless()
    assert missing(free, now) == set()
    assert missing(loyal, now) == set()


def leader_host(place: Place) -> str:
    return str(place.stack.leader()["host"])


def other_leader(place: Place, than: str) -> None:
    wait_for(lambda: leader_host(place) != than, 20, lambda: f"another leader than {than}: {place.tell()}")


def test_leader_and_primary_are_cut_off_together(place: Place) -> None:
    """The leader is on the primary's side of the cut, the metadata server on the other."""
    primary, acker = place.lossless()
    former = leader_host(place)
    with nothing_lost(place, primary, acker) as free:
        moment = time.monotonic()
        for name in (n for n in place.net.names if n not in (former, primary.hostname)):
            place.net.cut(former, name)
            place.net.cut(primary.hostname, name)
        other_leader(place, former)
        place.wait_primary(acker)
        free.wait_acknowledged(moment, 20, host=acker, count=50)
        place.net.heal()
        place.settle()
        free.wait_acknowledged(time.monotonic(), 20, host=acker, count=50)


def test_leader_and_primary_die_together(place: Place) -> None:
    primary, acker = place.lossless()
    former = leader_host(place)
    with nothing_lost(place, primary, acker) as free:
        place.signal_leader(signal.SIGKILL)
        moment = primary.kill_database()
        other_leader(place, former)
        place.wait_primary(acker)
        free.wait_acknowledged(moment, 20, host=acker, count=50)


def test_the_leader_is_cut_off_from_its_metadata_while_the_primary_dies(place: Place) -> None:
    primary, acker = place.lossless()
    former = leader_host(place)
    with nothing_lost(place, primary, acker) as free:
        place.net.cut(former, "meta")
        moment = primary.kill_database()
        place.wait_primary(acker)
        free.wait_acknowledged(moment, 20, host=acker, count=50)
        other_leader(place, former)


def test_primary_and_acker_databases_die_together(place: Place) -> None:
    primary, acker = place.lossless()
    with nothing_lost(place, primary, acker) as free:
        acker.kill_database()
        moment = primary.kill_database()
        free.wait_acknowledged(moment, 40, count=50)


def test_primary_and_acker_are_paused_together(place: Place) -> None:
    primary, acker = place.lossless()
    with nothing_lost(place, primary, acker) as free:
        for host in (primary, acker):
            host.freeze()
        for host in (primary, acker):
            place.wait_status(host, "unreachable")
        for host in (primary, acker):
            host.thaw()
        free.wait_acknowledged(time.monotonic(), 40, count=50)


def test_primary_and_acker_lose_power_and_come_back(place: Place) -> None:
    primary, acker = place.lossless()
    with nothing_lost(place, primary, acker) as free:
        for host in (primary, acker):
            host.lose()
        for host in (primary, acker):
            place.wait_status(host, "unreachable")
        third = next(h for h in place.hosts.values() if h not in (primary, acker))
        stays_closed(place, third)
        place.settle()
        free.wait_acknowledged(time.monotonic(), 40, count=50)


def test_the_side_without_primary_and_acker_promotes_nobody(place: Place) -> None:
    primary, acker = place.lossless()
    third = next(h for h in place.hosts.values() if h not in (primary, acker))
    with place.writers(primary, where=primary.hostname, patience=10) as loyal:
        loyal.wait_acknowledged(time.monotonic(), 20, count=30)
        moment = time.monotonic()
        for name in (primary.hostname, acker.hostname):
            for other in ("ctl1", "ctl2", "meta", "web", third.hostname):
                place.net.cut(name, other)
        for host in (primary, acker):
            place.wait_status(host, "unreachable")
        stays_closed(place, third)
        assert place.stack.vault()["primary"] == primary.hostname
        place.net.heal()
        assert place.settle()[0] is primary
        loyal.wait_acknowledged(time.monotonic(), 20, count=30)
        assert loyal.since(moment)
    assert missing(loyal, primary) == set()


def stays_closed(place: Place, host: RigHost) -> None:
    until = time.monotonic() + STAYS_SECONDS

    def over() -> bool:
        if host.sql("SELECT @@read_only AS closed")[0]["closed"] != 1:
            pytest.fail(f"{host.hostname} was opened: {place.tell()}")
        return time.monotonic() > until

    wait_for(over, STAYS_SECONDS + 20)


def test_another_fallback_takes_the_ackers_part_and_then_the_primarys(place: Place) -> None:
    primary, acker = place.lossless()
    third = next(h for h in place.hosts.values() if h not in (primary, acker))
    with nothing_lost(place, primary, acker, third) as free:
        acker.lose()
        place.stack.wait_vault(30, primary=primary.hostname, acker=third.hostname)
        free.wait_acknowledged(time.monotonic(), 20, host=primary, count=50)
        primary.lose()
        place.wait_primary(third)
        free.wait_acknowledged(time.monotonic(), 20, host=third, count=50)
        assert place.settle()[0] is third
        free.wait_acknowledged(time.monotonic(), 20, host=third, count=50)
