"""A pair of real agents and databases under a real service, losing parts of itself.

Proves: the pair becomes lossless by itself; a killed primary is replaced and returns as fallback without a hand, with every
acknowledged row on both, and its report has every figure; writes stand still only shortly when the only fallback dies, also with the service stopped; a
primary with transactions of its own is held closed and named; the standby takes over from a killed leader; Redis is not
needed.
"""

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.stack import Controller, controller
from tests.vault_host import VaultHost, vault_hosts
from tests.waiting import wait_for
from tests.writers import Writers, create_table, missing

A, B = "127.0.51.1", "127.0.51.2"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    import shutil
    import tempfile

    directory = Path(tempfile.mkdtemp(prefix="vha-"))
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="module")
def pair(place: Path) -> Iterator[tuple[VaultHost, VaultHost]]:
    with vault_hosts(place) as make:
        yield make(A, "vault-a").init().start(), make(B, "vault-b").init().start()


@pytest.fixture(scope="module")
def stack(place: Path, pair: tuple[VaultHost, VaultHost]) -> Iterator[Controller]:
    with controller(place) as stack:
        stack.service("a")
        stack.service("b")
        stack.add_pair(*pair)
        stack.wait_vault(primary="vault-a", acker="vault-b")
        create_table(pair[0])
        yield stack


@pytest.fixture
def lossless(stack: Controller, pair: tuple[VaultHost, VaultHost]) -> tuple[VaultHost, VaultHost]:
    """The current primary and its acker."""
    row = wait_for(
        lambda: (r := stack.vault())["acker"] and r, 60, lambda: f"lossless: {stack.vault()}\n{stack.log('service-a')}"
    )
    by_name = {host.hostname: host for host in pair}
    return by_name[row["primary"]], by_name[row["acker"]]


PHASES = ("detected", "claimed", "revoked", "drained", "recorded", "opened", "first-write")


def report(stack: Controller) -> dict[str, Any]:
    """The report of the last failover, as the console gives it."""
    last = "SELECT id FROM nodes_operation WHERE kind = 'failover' ORDER BY created_at DESC LIMIT 1"
    (row,) = stack.rows(last)
    code = (
        "import json; from nodes.models import Operation; from nodes.admin.operations.report import as_json, report_of; "
        f"print(json.dumps(as_json(report_of(Operation.objects.get(pk='{row['id']}')))))"
    )
    told: dict[str, Any] = json.loads(stack.manage("shell", "-v0", "-c", code))
    return told


def client_password(pair: tuple[VaultHost, VaultHost]) -> str:
    """The client account was made by the first primary and replicated."""
    return pair[0].client_password


def test_a_killed_primary_is_replaced_and_returns_as_fallback(
    stack: Controller, pair: tuple[VaultHost, VaultHost], lossless: tuple[VaultHost, VaultHost]
) -> None:
    primary, acker = lossless
    with Writers([primary, acker], 4, password=client_password(pair)) as writers:
        writers.wait_acknowledged(time.monotonic(), 10, host=primary, count=50)
        moment = primary.kill_database()
        writers.wait_acknowledged(moment, 10, host=acker, count=50)
        stack.wait_vault(primary=acker.hostname, acker=primary.hostname, timeout=30)
        writers.wait_acknowledged(time.monotonic(), 10, host=acker, count=50)
    assert missing(writers, acker) == set()
    wait_for(lambda: missing(writers, primary) == set(), 20, "the old primary has every acknowledged row as well")
    told = report(stack)
    assert (told["former_primary"], told["primary"]) == (primary.hostname, acker.hostname)
    assert told["rows_at_risk"] == 0, told["because"]
    phases = {phase["name"]: phase for phase in told["phases"]}
    ends = [phases[name]["ended_ms"] for name in PHASES]
    assert None not in ends, phases
    assert ends == sorted(ends)
    assert phases["first-write"]["at_the_latest"]
    assert told["rule"] in ("D10", "D20", "D60", "D70")
    assert 0 <= told["detect_ms"] < 3000
    assert told["former_returned"] == "clean"


def test_a_lost_host_is_replaced_and_returns_as_fallback(
    stack: Controller, pair: tuple[VaultHost, VaultHost], lossless: tuple[VaultHost, VaultHost]
) -> None:
    primary, acker = lossless
    with Writers([primary, acker], 4, password=client_password(pair), first_id=400_000_000) as writers:
        writers.wait_acknowledged(time.monotonic(), 10, host=primary, count=50)
        primary.kill_agent()
        moment = primary.kill_database()
        writers.wait_acknowledged(moment, 10, host=acker, count=50)
        stack.wait_vault(primary=acker.hostname, acker=None)
        primary.start(ready=False)
        stack.wait_vault(primary=acker.hostname, acker=primary.hostname, timeout=30)
    assert missing(writers, acker) == set()
    wait_for(lambda: missing(writers, primary) == set(), 20, "the returned host has every acknowledged row as well")


def test_a_frozen_primary_is_replaced_and_killed_before_it_can_thaw(
    stack: Controller, pair: tuple[VaultHost, VaultHost], lossless: tuple[VaultHost, VaultHost]
) -> None:
    primary, acker = lossless
    with Writers([primary, acker], 4, password=client_password(pair), first_id=500_000_000) as writers:
        writers.wait_acknowledged(time.monotonic(), 10, host=primary, count=50)
        frozen = primary.database_pid
        moment = primary.kill_database(signal.SIGSTOP)
        stack.wait_vault(primary=acker.hostname)
        writers.wait_acknowledged(moment, 15, host=acker, count=50)
        wait_for(lambda: primary.database_pid != frozen, 20, "the frozen process is gone")
        stack.wait_vault(primary=acker.hostname, acker=primary.hostname, timeout=30)
    assert missing(writers, acker) == set()


def test_a_lost_agent_is_no_lost_primary(stack: Controller, lossless: tuple[VaultHost, VaultHost]) -> None:
    primary, acker = lossless
    epoch = stack.vault()["epoch"]
    primary.kill_agent()
    wait_for(
        lambda: stack.rows(
            "SELECT 1 FROM nodes_vaultnode WHERE hostname = ? AND status = 'unreachable'", primary.hostname
        ),
        20,
        lambda: str(stack.rows("SELECT hostname, status FROM nodes_vaultnode")),
    )
    assert stack.vault()["primary"] == primary.hostname
    primary.start()
    wait_for(
        lambda: stack.rows("SELECT 1 FROM nodes_vaultnode WHERE hostname = ? AND status = 'master'", primary.hostname),
        20,
        "the agent is back",
    )
    assert stack.vault()["epoch"] == epoch
    assert stack.vault()["acker"] == acker.hostname


def test_writes_go_on_when_the_only_fallback_dies(
    stack: Controller, pair: tuple[VaultHost, VaultHost], lossless: tuple[VaultHost, VaultHost]
) -> None:
    primary, acker = lossless
    with Writers([primary], 2, password=client_password(pair), first_id=100_000_000) as writers:
        writers.wait_acknowledged(time.monotonic(), 10, count=20)
        moment = acker.kill_database()
        stack.wait_vault(primary=primary.hostname, acker=None)
        writers.wait_acknowledged(time.monotonic(), 10, count=20)
        stack.wait_vault(primary=primary.hostname, acker=acker.hostname, timeout=30)
        writers.wait_acknowledged(time.monotonic(), 10, count=20)
        assert writers.longest_gap(moment) < 2.5


def test_a_frozen_fallback_does_not_hold_writes_for_long(
    stack: Controller, pair: tuple[VaultHost, VaultHost], lossless: tuple[VaultHost, VaultHost]
) -> None:
    primary, acker = lossless
    with Writers([primary], 2, password=client_password(pair), first_id=200_000_000) as writers:
        writers.wait_acknowledged(time.monotonic(), 10, count=20)
        moment = acker.kill_database(signal.SIGSTOP)
        try:
            stack.wait_vault(primary=primary.hostname, acker=None)
            writers.wait_acknowledged(time.monotonic(), 10, count=20)
        finally:
            acker.kill_database(signal.SIGCONT)
        assert writers.longest_gap(moment) < 2.5
    stack.wait_vault(primary=primary.hostname, acker=acker.hostname, timeout=30)


def test_a_stopped_service_leaves_writes_free_of_the_fallback(
    stack: Controller, pair: tuple[VaultHost, VaultHost], lossless: tuple[VaultHost, VaultHost]
) -> None:
    primary, acker = lossless
    with Writers([primary], 2, password=client_password(pair), first_id=300_000_000) as writers:
        writers.wait_acknowledged(time.monotonic(), 10, count=20)
        moment = time.monotonic()
        stack.execute("UPDATE nodes_appservice SET desired_state = 'stopped'")
        stack.wait_vault(primary=primary.hostname, acker=None)
        wait_for(lambda: stack.rows("SELECT started_on FROM nodes_appservice")[0]["started_on"] is None, 10, "stopped")
        acker.kill_database()
        writers.wait_acknowledged(time.monotonic(), 10, count=50)
        assert writers.longest_gap(moment) < 2.5
        stack.execute("UPDATE nodes_appservice SET desired_state = 'started'")
    stack.wait_vault(primary=primary.hostname, acker=acker.hostname, timeout=30)


def test_the_standby_takes_over_from_a_killed_leader(stack: Controller, lossless: tuple[VaultHost, VaultHost]) -> None:
    primary, acker = lossless
    before = stack.leader()
    pid = int(before["process"].split("pid ")[1].rstrip(")"))
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: stack.leader()["term"] > before["term"], 10, lambda: f"a new leader: {stack.leader()}")
    slot = before["process"].split(" ")[0]
    stack.processes.pop(f"service-{slot}").wait(20)
    stack.service(slot)
    moment = primary.kill_database()
    stack.wait_vault(primary=acker.hostname, acker=primary.hostname, timeout=30)
    assert moment


def test_the_service_does_not_need_redis(stack: Controller, lossless: tuple[VaultHost, VaultHost]) -> None:
    primary, acker = lossless
    term = stack.leader()["term"]
    stack.kill("redis")
    try:
        primary.kill_database()
        stack.wait_vault(primary=acker.hostname, acker=primary.hostname, timeout=30)
        assert stack.leader()["term"] == term
    finally:
        stack.redis()


def test_a_primary_with_transactions_of_its_own_is_held_closed_and_named(
    stack: Controller, pair: tuple[VaultHost, VaultHost], lossless: tuple[VaultHost, VaultHost]
) -> None:
    primary, acker = lossless
    acker_writes = "SET GLOBAL read_only = 0"
    acker.sql(acker_writes)
    acker.sql("INSERT INTO vault.written VALUES (-1, -1)")
    acker.sql("SET GLOBAL read_only = 1")
    acker.kill_database()
    found = wait_for(
        lambda: stack.rows(
            "SELECT status, status_detail FROM nodes_vaultnode WHERE hostname = ? AND status = 'diverged'",
            acker.hostname,
        ),
        40,
        lambda: str(stack.rows("SELECT hostname, status, status_detail FROM nodes_vaultnode")),
    )
    assert "0-" in found[0]["status_detail"]
    assert acker.sql("SELECT @@read_only AS closed")[0]["closed"] == 1
    assert stack.vault()["primary"] == primary.hostname
    assert stack.vault()["acker"] is None
