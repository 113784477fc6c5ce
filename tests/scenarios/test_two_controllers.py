"""Two controller hosts with one metadata database on MariaDB over TCP, and a pair of real agents and databases under them.

Proves: one leads, the other takes over from a killed or frozen leader, without a new epoch when nothing happened to the
vault; a leader that is killed or frozen before or after any step of a failover is replaced by one that finishes it, and what
it sends when it wakes up is refused: one primary, no acknowledged row lost; a metadata database that is away for a while
costs the vault nothing, and a primary lost meanwhile is replaced when it is back.
"""

import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.rig.metadata import MetadataServer, metadata_server
from tests.rig.observed_service import RESUMED, STOPPED, told
from tests.rig.trials import start_alike
from tests.stack import Controller, controller
from tests.vault_host import VaultHost, vault_hosts
from tests.waiting import wait_for
from tests.writers import Writers, create_table, missing

A, B, METADATA = "127.0.64.11", "127.0.64.12", "127.0.64.13"
LEADS_WITHIN = 10
GAVE_UP = "no longer leads"
STEPS = ("claim", "revoke", "drain", "record", "open")
SWITCHOVER_STEPS = ("claim", "close", "received", "revoke", "drain", "record", "open")


def every(steps: Sequence[str]) -> list[tuple[str, str]]:
    return [(f"{when}:{step}", how) for step in steps for when in ("before", "after") for how in ("kill", "freeze")]


EVERY, EVERY_SWITCHOVER = every(STEPS), every(SWITCHOVER_STEPS)
SLICE = (("before:claim", "kill"), ("before:revoke", "freeze"), ("after:drain", "kill"), ("before:open", "freeze"))
SWITCHOVER_SLICE = (("after:close", "kill"), ("before:record", "freeze"))
WISH = (
    "from nodes.models import VaultNode; from replication.stores.wishes import *\n"
    "wish = request_switchover(VaultNode.objects.get(hostname={hostname!r}), None)\n"
    "assert not isinstance(wish, RefusedWish), wish\n"
)


class Place:
    """What all tests of this module share."""

    def __init__(self, server: MetadataServer, one: Controller, two: Controller, hosts: list[VaultHost]) -> None:
        self.server, self.one, self.two = server, one, two
        self.hosts = {host.hostname: host for host in hosts}
        self.password = hosts[0].client_password
        self.turn = 0

    def lossless(self) -> tuple[VaultHost, VaultHost]:
        """The current primary and its acker."""

        def look() -> dict[str, Any] | None:
            row = self.one.vault()
            return row if row["acker"] and not row["intent"] else None

        row = wait_for(look, 60, lambda: f"lossless: {self.one.vault()}\n{self.logs()}") or {}
        return self.hosts[row["primary"]], self.hosts[row["acker"]]

    def logs(self) -> str:
        return "\n".join(f"--- {stack.name}\n{stack.log('service-a')}" for stack in (self.one, self.two))

    def lead(self, stack: Controller, *command: str) -> None:
        """Have this host lead, with the ordinary service or with another program, and the other one stand by."""
        other = self.two if stack is self.one else self.one
        for each in (stack, other):
            if "service-a" in each.processes:
                each.kill("service-a", signal.SIGTERM)
        stack.start("service-a", *command) if command else stack.service("a")
        wait_for(lambda: self.leads(stack), 30, lambda: f"{stack.name} leads\n{self.logs()}")
        seen = "SELECT last_seen FROM nodes_applicationnode WHERE hostname = ?"
        before = self.one.rows(seen, other.name)
        other.service("a")
        wait_for(
            lambda: self.one.rows(seen, other.name) != before, 30, lambda: f"{other.name} stands by\n{self.logs()}"
        )

    def leads(self, stack: Controller) -> bool:
        found = self.one.rows(
            "SELECT 1 FROM nodes_servicelease WHERE host = ? AND expires_at > UTC_TIMESTAMP(6)", stack.name
        )
        return bool(found)

    def writers(self, *hosts: VaultHost, count: int = 4) -> Writers:
        self.turn += 1
        return Writers(hosts, count, password=self.password, first_id=self.turn * 100_000_000, patience=1)

    def writable_primaries(self) -> list[str]:
        return [name for name, host in self.hosts.items() if host.request("GET", "/primary", who="nobody")[0] == 200]


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    directory = Path(tempfile.mkdtemp(prefix="vha-"))
    try:
        with (
            vault_hosts(directory) as make,
            metadata_server(directory, METADATA) as server,
            controller(directory, metadata=server) as one,
            controller(directory, name="controller-2", like=one) as two,
        ):
            hosts = [make(A, "vault-a"), make(B, "vault-b")]
            start_alike(hosts)
            place = Place(server, one, two, hosts)
            one.add_pair(*hosts)
            place.lead(one)
            primary, _ = place.lossless()
            create_table(primary)
            yield place
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def test_one_leads_and_both_are_shown(place: Place) -> None:
    place.lead(place.one)
    place.lossless()
    hosts = place.one.rows("SELECT hostname FROM nodes_applicationnode ORDER BY hostname")
    assert [row["hostname"] for row in hosts] == ["controller-1", "controller-2"]
    assert place.leads(place.one)
    assert not place.leads(place.two)


def test_the_other_host_takes_over_from_a_killed_leader(place: Place) -> None:
    place.lead(place.one)
    primary, acker = place.lossless()
    before, epoch = place.one.leader(), place.one.vault()["epoch"]
    with place.writers(primary, count=2) as writers:
        writers.wait_acknowledged(time.monotonic(), 10, count=20)
        moment = time.monotonic()
        place.one.kill("service-a")
        wait_for(lambda: place.leads(place.two), LEADS_WITHIN, place.logs)
        took = time.monotonic() - moment
        writers.wait_acknowledged(time.monotonic(), 10, count=20)
        assert writers.longest_gap(moment) < 1
    assert took < 2.5
    assert place.one.leader()["term"] == before["term"] + 1
    assert place.one.vault() | {"reason": ""} == {
        "epoch": epoch, "intent": None, "reason": "", "primary": primary.hostname, "acker": acker.hostname,
    }  # fmt: skip


def test_a_frozen_leader_that_wakes_up_finds_that_it_no_longer_leads(place: Place) -> None:
    place.lead(place.one)
    primary, acker = place.lossless()
    epoch, pid = place.one.vault()["epoch"], place.one.leader_pid()
    before = len(place.one.full_log("service-a"))
    place.one.signal_process(pid, signal.SIGSTOP)
    wait_for(lambda: place.leads(place.two), LEADS_WITHIN, place.logs)
    place.one.signal_process(pid, signal.SIGCONT)
    wait_for(lambda: GAVE_UP in place.one.full_log("service-a")[before:], LEADS_WITHIN, place.logs)
    moment = primary.kill_database()
    place.one.wait_vault(primary=acker.hostname)
    assert place.leads(place.two)
    assert time.monotonic() - moment < 5
    assert place.lossless() == (acker, primary)
    assert place.one.vault()["epoch"] > epoch


class ObservedLeader:
    """controller-1, leading with a service worker that stops at a step of its next failover or switchover."""

    def __init__(self, place: Place, stop_at: str, how: str) -> None:
        self.place, self.stop_at, self.how = place, stop_at, how
        program = (sys.executable, "-m", "tests.rig.observed_service", "--stop-at", stop_at, "--how", how)
        place.lead(place.one, *program)
        self._before = len(place.one.full_log("service-a"))

    def log(self) -> str:
        return self.place.one.full_log("service-a")[self._before :]

    def reached(self, outcome: str) -> bool:
        return any((line["step"], line["outcome"]) == (self.stop_at, outcome) for line in told(self.log()))

    def wait_replaced(self) -> None:
        """It has stopped there, and the other host leads."""
        wait_for(lambda: self.reached(STOPPED), 15, self.place.logs)
        wait_for(lambda: self.place.leads(self.place.two), LEADS_WITHIN, self.place.logs)

    def wake(self) -> None:
        """A frozen one goes on, and nothing that it sends from now on is obeyed."""
        if self.how != "freeze":
            return
        self.place.one.signal_process(self.place.one.processes["service-a"].pid, signal.SIGCONT)
        wait_for(lambda: GAVE_UP in self.log(), LEADS_WITHIN, self.place.logs)
        assert self.reached(RESUMED)
        assert sent_and_obeyed_after_waking(told(self.log())) == []


def sent_and_obeyed_after_waking(steps: list[dict[str, Any]]) -> list[str]:
    """What was sent before the freeze was sent in time, whenever its answer was read."""
    woke = next(i for i, line in enumerate(steps) if line["outcome"] == RESUMED)
    sent: set[tuple[str, str]] = set()
    obeyed = []
    for line in steps[woke:]:
        key = line["step"], line.get("node", "")
        if line["outcome"] == "sent":
            sent.add(key)
        elif line["outcome"] == "done" and key in sent:
            obeyed.append(f"{line}")
    return obeyed


def survive(place: Place, stop_at: str, how: str) -> None:
    """The leader stops at this step of a failover; the other host finishes; a frozen one wakes up and is refused."""
    leader = ObservedLeader(place, stop_at, how)
    primary, acker = place.lossless()
    with place.writers(primary, acker) as writers:
        writers.wait_acknowledged(time.monotonic(), 10, host=primary, count=50)
        moment = primary.kill_database()
        leader.wait_replaced()
        place.two.wait_vault(primary=acker.hostname, intent=None)
        writers.wait_acknowledged(moment, 10, host=acker, count=50)
        leader.wake()
        writers.wait_acknowledged(time.monotonic(), 10, host=acker, count=50)
        assert place.lossless() == (acker, primary), "the old primary is back, as fallback"
        assert place.writable_primaries() == [acker.hostname]
        writers.wait_acknowledged(time.monotonic(), 10, host=acker, count=50)
    first = min(a.at for a in writers.since(moment, acker))
    assert not writers.since(first, primary), "the old primary acknowledged nothing any more"
    nothing_lost(writers, acker, primary)


def nothing_lost(writers: Writers, primary: VaultHost, acker: VaultHost) -> None:
    assert missing(writers, primary) == set()
    wait_for(lambda: missing(writers, acker) == set(), 20, "the acker has every acknowledged row as well")


def survive_in_a_switchover(place: Place, stop_at: str, how: str) -> None:
    """Both nodes live: the other host finishes it or gives the vault back. Either way one primary, soon, and every row."""
    leader = ObservedLeader(place, stop_at, how)
    primary, acker = place.lossless()
    with place.writers(primary, acker) as writers:
        writers.wait_acknowledged(time.monotonic(), 10, host=primary, count=50)
        place.two.manage("shell", "-v0", "-c", WISH.format(hostname=acker.hostname))
        leader.wait_replaced()
        place.two.wait_vault(intent=None)
        writers.wait_acknowledged(time.monotonic(), 15, count=50)
        leader.wake()
        now, other = place.lossless()
        assert place.writable_primaries() == [now.hostname]
        writers.wait_acknowledged(time.monotonic(), 10, host=now, count=50)
    nothing_lost(writers, now, other)
    wait_for(lambda: not place.one.rows("SELECT 1 FROM nodes_operation WHERE state IN ('queued', 'running')"), 60,
             lambda: f"the operation has ended: {place.one.rows('SELECT * FROM nodes_operation')}")  # fmt: skip


@pytest.mark.parametrize(("stop_at", "how"), SLICE)
def test_a_leader_lost_in_a_failover_is_replaced(place: Place, stop_at: str, how: str) -> None:
    survive(place, stop_at, how)


@pytest.mark.long
@pytest.mark.parametrize(("stop_at", "how"), [each for each in EVERY if each not in SLICE])
def test_a_leader_lost_at_any_other_step_is_replaced(place: Place, stop_at: str, how: str) -> None:
    survive(place, stop_at, how)


@pytest.mark.parametrize(("stop_at", "how"), SWITCHOVER_SLICE)
def test_a_leader_lost_in_a_switchover_is_replaced(place: Place, stop_at: str, how: str) -> None:
    survive_in_a_switchover(place, stop_at, how)


@pytest.mark.long
@pytest.mark.parametrize(("stop_at", "how"), [each for each in EVERY_SWITCHOVER if each not in SWITCHOVER_SLICE])
def test_a_leader_lost_at_any_other_step_of_a_switchover_is_replaced(place: Place, stop_at: str, how: str) -> None:
    survive_in_a_switchover(place, stop_at, how)


@pytest.mark.parametrize("away", ["killed", "frozen"])
def test_without_its_metadata_database_the_vault_goes_on(place: Place, away: str) -> None:
    """Nothing is decided meanwhile; what happened meanwhile is acted upon when the database is back."""
    place.lead(place.one)
    primary, acker = place.lossless()
    epoch, before = place.one.vault()["epoch"], len(place.one.full_log("service-a"))
    with place.writers(primary, acker) as writers:
        writers.wait_acknowledged(time.monotonic(), 10, host=primary, count=50)
        moment = time.monotonic()
        if away == "killed":
            place.server.kill()
        else:
            place.server.signal(signal.SIGSTOP)
        try:
            wait_for(lambda: GAVE_UP in place.one.full_log("service-a")[before:], LEADS_WITHIN, place.logs)
            writers.wait_acknowledged(time.monotonic(), 10, host=primary, count=100)
            assert writers.longest_gap(moment) < 1
            primary.kill_database()
        finally:
            if away == "killed":
                place.server.start()
            else:
                place.server.signal(signal.SIGCONT)
        back = time.monotonic()
        writers.wait_acknowledged(back, 15, host=acker, count=50)
        assert place.lossless()[0] is acker
    assert place.one.vault()["epoch"] > epoch
    assert missing(writers, acker) == set()
