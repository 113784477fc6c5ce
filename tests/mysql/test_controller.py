"""A pair on MySQL under a whole controller: nobody orders anything by hand.

Proves: the pair becomes lossless by itself; a planned switchover works both ways; a killed primary is replaced with every acknowledged
row; what MySQL kept of its tail is told and held; the rebuild that a person asks for brings it back, and the pair is lossless again.
"""

import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mysql.host import MySqlHost, mysql_hosts
from tests.scenarios.rebuilds import Place
from tests.stack import controller
from tests.waiting import wait_for
from tests.writers import Writers, create_table, missing

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def place(mysqld: str) -> Iterator[Place]:
    directory = Path(tempfile.mkdtemp(prefix="vha-"))
    try:
        with mysql_hosts(mysqld, directory) as make, controller(directory) as stack:
            hosts = [make(f"127.0.86.{n}", f"vault-{name}", cut="none") for n, name in ((51, "a"), (52, "b"))]
            hosts[1].client_password = hosts[0].client_password
            for host in hosts:
                host.init().start()
            stack.service("a")
            stack.ops()
            stack.add_pair(*hosts)
            stack.wait_vault(primary="vault-a", acker="vault-b")
            create_table(hosts[0])
            yield Place(stack, hosts, make)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def test_a_planned_switchover_and_back(place: Place) -> None:
    for host in (place.fallback, place.primary):
        ended = place.wait_ended(place.command("switch-over", host.hostname, "--yes"))
        assert ended["state"] == "succeeded", ended
        place.wait_lossless()
        assert place.primary is host
    assert not any(host.report().quarantine for host in place.hosts)


def test_a_killed_primary_is_replaced_held_and_rebuilt(place: Place) -> None:
    primary, acker = place.primary, place.fallback
    assert isinstance(primary, MySqlHost)
    with Writers([primary, acker], 8, password=primary.client_password) as writers:
        writers.wait_acknowledged(time.monotonic(), 10, host=primary, count=200)
        moment = primary.kill_database()
        writers.wait_acknowledged(moment, 10, host=acker, count=50)
        gap = writers.longest_gap(moment)
    assert missing(writers, acker) == set()
    print(f"{len(writers.acknowledged)} acknowledged, none lost; writes stood still for {gap * 1000:.0f} ms")
    place.stack.wait_vault(primary=acker.hostname)
    wait_for(
        lambda: primary.report().quarantine or place.stack.vault()["acker"] == primary.hostname,
        30,
        "it is held, or it had no tail and follows",
    )
    if primary.report().quarantine:
        status = place.stack.status_of(primary.hostname)
        assert "transactions that the primary does not have" in primary.report().quarantine, status
        rebuild = ("rebuild", primary.hostname, "--confirm", primary.hostname, "--reason", "a test")
        ended = place.wait_ended(place.command(*rebuild))
        assert ended["state"] == "succeeded", ended["result"]
        assert "comparisons are made between MariaDB servers" in ended["result"]["summary"], (
            "and it says what was left out"
        )
        (report,) = place.stack.rows("SELECT transaction_count, path FROM nodes_lossreport")
        assert report["transaction_count"] >= 1
        assert (Path(report["path"]) / "transactions.sql").exists()
    place.stack.wait_vault(primary=acker.hostname, acker=primary.hostname)
    wait_for(lambda: missing(writers, primary) == set(), 20, "it has every acknowledged row as well")
