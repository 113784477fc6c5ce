"""Hosts that vanish, are cut off or frozen, in network namespaces: no reset, no last packet (needs root).

Proves, with clients on both sides of each cut, also ones that never leave the old primary: a primary that is isolated, lost
or frozen as a whole is replaced; when it is back it acknowledges nothing that the new primary lacks, and becomes a fallback
by itself; a fallback that is gone holds writes up only shortly; whatever was acknowledged is on the primary.
The control shows that the stubborn clients would see a false acknowledgement.
"""

import time
from collections.abc import Callable, Iterator

import pytest

from tests.rig.host import RigHost
from tests.rig.place import Place, rig
from tests.waiting import wait_for
from tests.writers import Writers, missing

GAP_SECONDS = 2.5
STUBBORN_PATIENCE_SECONDS = 60


@pytest.fixture(scope="module")
def installed() -> Iterator[Place]:
    with rig() as place:
        yield place


@pytest.fixture
def place(installed: Place) -> Iterator[Place]:
    installed.settle()
    yield installed
    installed.net.heal()


def stubborn(place: Place, host: RigHost) -> Writers:
    """Clients on the very host of the primary, which never go elsewhere and wait for a minute."""
    return place.writers(host, where=host.hostname, patience=STUBBORN_PATIENCE_SECONDS)


def isolate(place: Place, host: RigHost) -> None:
    place.net.isolate(host.hostname)


def freeze(place: Place, host: RigHost) -> None:
    host.freeze()


def lose(place: Place, host: RigHost) -> None:
    host.lose()


def cut_from_everybody_but_its_clients(place: Place, host: RigHost) -> None:
    for other in (*place.hosts, *(c.name for c in place.controllers)):
        if other != host.hostname:
            place.net.cut(host.hostname, other)


def back(place: Place, host: RigHost) -> None:
    place.net.heal()
    host.thaw()
    if host.agent is None:
        host.start(ready=False)


def replaced(place: Place, fault: Callable[[Place, RigHost], None]) -> None:
    """The primary is struck, replaced, and comes back; neither side's clients lose a row."""
    primary, acker = place.lossless()
    with stubborn(place, primary) as loyal, place.writers(primary, acker) as free:
        for writers in (loyal, free):
            writers.wait_acknowledged(time.monotonic(), 20, host=primary, count=30)
        moment = time.monotonic()
        fault(place, primary)
        place.wait_primary(acker)
        free.wait_acknowledged(moment, 20, host=acker, count=50)
        back(place, primary)
        healed = time.monotonic()
        assert place.lossless() == (acker, primary), "it is back as the acking fallback"
        free.wait_acknowledged(healed, 20, host=acker, count=50)
    first = min(a.at for a in free.since(moment, acker))
    assert not free.since(first, primary)
    assert missing(loyal, acker) == set(), "the old primary acknowledged what the new one lacks"
    assert missing(free, acker) == set()
    wait_for(lambda: not missing(loyal, primary) | missing(free, primary), 20, "the old primary has every row as well")
    assert place.statuses() == {primary.hostname: ("slave-waiting", ""), acker.hostname: ("master", "")}


@pytest.mark.parametrize("fault", [isolate, freeze])
def test_a_primary_that_falls_silent_is_replaced(place: Place, fault: Callable[[Place, RigHost], None]) -> None:
    replaced(place, fault)


@pytest.mark.long
@pytest.mark.parametrize("fault", [lose, cut_from_everybody_but_its_clients])
def test_a_primary_that_is_lost_or_half_cut_off_is_replaced(
    place: Place, fault: Callable[[Place, RigHost], None]
) -> None:
    replaced(place, fault)


@pytest.mark.long
def test_control_without_a_failover_the_stubborn_clients_get_their_acknowledgements(place: Place) -> None:
    """What the tests above say is never acknowledged is acknowledged when nobody was promoted: they can fail."""
    primary, acker = place.lossless()
    place.stack.kill("service-a")
    try:
        with stubborn(place, primary) as loyal:
            loyal.wait_acknowledged(time.monotonic(), 20, host=primary, count=30)
            place.net.cut(primary.hostname, acker.hostname)
            wait_for(lambda: not loyal.since(time.monotonic() - 1), 20, "commits wait for the acker")
            place.net.heal()
            loyal.wait_acknowledged(time.monotonic(), 30, host=primary, count=30)
    finally:
        place.stack.service("a")


def gone(place: Place, fault: Callable[[Place, RigHost], None]) -> None:
    """The fallback is struck: writes stand still shortly, the primary stays, and the vault is lossless again afterwards."""
    primary, acker = place.lossless()
    with place.writers(primary, count=2, patience=10) as writers:
        writers.wait_acknowledged(time.monotonic(), 20, count=30)
        moment = time.monotonic()
        fault(place, acker)
        place.stack.wait_vault(primary=primary.hostname, acker=None)
        writers.wait_acknowledged(time.monotonic(), 20, count=50)
        back(place, acker)
        assert place.lossless() == (primary, acker)
        writers.wait_acknowledged(time.monotonic(), 20, count=50)
        assert writers.longest_gap(moment) < GAP_SECONDS
    assert missing(writers, primary) == set()
    wait_for(lambda: missing(writers, acker) == set(), 20, "the fallback has every row as well")


def test_an_isolated_fallback_holds_writes_up_only_shortly(place: Place) -> None:
    gone(place, isolate)


@pytest.mark.long
@pytest.mark.parametrize("fault", [freeze, lose])
def test_a_frozen_or_lost_fallback_holds_writes_up_only_shortly(
    place: Place, fault: Callable[[Place, RigHost], None]
) -> None:
    gone(place, fault)


def cut_both_ways(place: Place, primary: str, acker: str) -> None:
    place.net.cut(primary, acker)


def cut_events(place: Place, primary: str, acker: str) -> None:
    place.net.cut_one_way(primary, acker)


def cut_acknowledgements(place: Place, primary: str, acker: str) -> None:
    place.net.cut_one_way(acker, primary)


@pytest.mark.long
@pytest.mark.parametrize("cut", [cut_both_ways, cut_events, cut_acknowledgements])
def test_a_cut_between_primary_and_fallback_costs_a_pause(place: Place, cut: Callable[[Place, str, str], None]) -> None:
    """Both answer the controller: the vault goes solo, nobody is promoted."""
    primary, acker = place.lossless()
    with place.writers(primary, count=2, patience=10) as writers:
        writers.wait_acknowledged(time.monotonic(), 20, count=30)
        moment = time.monotonic()
        cut(place, primary.hostname, acker.hostname)
        place.stack.wait_vault(primary=primary.hostname, acker=None)
        writers.wait_acknowledged(time.monotonic(), 20, count=100)
        place.net.heal()
        assert place.lossless() == (primary, acker)
        assert writers.longest_gap(moment) < GAP_SECONDS
    assert missing(writers, primary) == set()
