"""What else may happen while a node is being rebuilt: two faults at once, a failover, a switchover, a stop.

Real agents and databases under a whole controller. Proves: a Master that dies is replaced as quickly as always, with every
acknowledged row, while a third node is rebuilt, and the copy goes on or says truthfully that it ended; a Master that dies while its
only fallback is rebuilt is replaced by nobody and comes back; two faults at once end in one true state; a stopped service lets a
copy come to its end.
"""

import contextlib
import time
from collections.abc import Callable, Iterator

import pytest

from tests.scenarios.rebuilds import Place, place, share, write
from tests.scenarios.test_rebuild_kills_long import (
    TIMEOUT,
    kill_leader,
    kill_ops_worker,
)
from tests.vault_host import VaultHost
from tests.waiting import wait_for
from tests.writers import Writers, create_table, missing

pytestmark = pytest.mark.long

A, B, C = "127.0.87.1", "127.0.87.2", "127.0.87.3"
ROWS = 60_000
"""KiB of data: some 6 s of copying at the throttle."""
MIB_PER_SECOND = 12
FAILOVER_SECONDS = 3.0
"""Of a killed database, until a client's next acknowledgement: as always."""


@pytest.fixture(scope="module")
def three() -> Iterator[Place]:
    with place(A, B, C, rows=ROWS) as found:
        found.stack.execute("UPDATE nodes_vault SET rebuild_policy = 'never', copy_mib_per_second = ?", MIB_PER_SECOND)
        create_table(found.hosts[0])
        yield found


@pytest.fixture
def whole(three: Place) -> Place:
    """vault-a is the Master, vault-b its acker, and vault-c follows."""
    for host in three.hosts:
        if host.agent is None:
            host.start(ready=False)
        host.wait_up()
    in_order(three)
    if three.stack.vault()["primary"] != "vault-a":
        switch_over(three, "vault-a")
        in_order(three)
    if three.stack.vault()["acker"] != "vault-b":
        out(three, "vault-c")
        three.stack.wait_vault(acker="vault-b", timeout=60)
        three.stack.manage("vault", "activate", "vault-c")
        in_order(three)
    three.stack.manage("vault", "clear-hold", "--yes")
    return three


def in_order(at: Place) -> None:
    """Lossless, and every other node follows the Master of the moment."""

    def all_follow() -> bool:
        row = at.stack.vault()
        others = [host for host in at.hosts if host.hostname != row["primary"]]
        return bool(row["acker"]) and all(follows(at, host) for host in others) and at.stack.vault() == row

    wait_for(all_follow, 120, lambda: f"all follow: {states(at)}\n{at.stack.log('service-a')}")


def out(at: Place, hostname: str) -> None:
    at.stack.manage("vault", "deactivate", hostname, "--confirm", hostname, "--reason", "a test", "--yes")


def switch_over(at: Place, hostname: str) -> None:
    def moved() -> bool:
        with contextlib.suppress(AssertionError):  # not in order yet
            at.stack.manage("vault", "switch-over", hostname, "--yes")
        return at.stack.vault()["primary"] == hostname

    wait_for(moved, 60, lambda: f"{hostname} is the Master: {states(at)}")
    at.wait_lossless(60)


def follows(at: Place, host: VaultHost) -> bool:
    report, primary = host.report(), at.primary
    db = report.database
    return db is not None and db.source_host == primary.ip and db.receiver == "Yes" and db.applier


def states(at: Place) -> list[object]:
    return [at.stack.vault(), *((h.hostname, *at.stack.status_of(h.hostname)) for h in at.hosts)]


def begin(at: Place, host: VaultHost, *more: str) -> str:
    return at.command(
        "rebuild", host.hostname, "--do-not-compare", "--confirm", host.hostname, "--reason", "a test", *more
    )


def copying(at: Place, host: VaultHost, moment: float = 0.2) -> None:
    wait_for(lambda: share(host) >= moment, TIMEOUT, lambda: f"{moment:.0%} of the copy: {host.report().task}")


def nothing_left(host: VaultHost) -> bool:
    return not [name for name in ("copy.new", "copy.ready") if (host.home / name).exists()]


def once(at: Place, id: str) -> None:
    """It has one terminal state, and what was wished is gone from the node's row."""
    rows = at.stack.rows("SELECT state, finished_at FROM nodes_operation WHERE id = ?", id)
    assert len(rows) == 1
    assert rows[0]["finished_at"]
    assert at.stack.rows("SELECT hostname FROM nodes_vaultnode WHERE rebuild_wish IS NOT NULL") == []


@pytest.mark.parametrize("source", ["vault-b", "vault-a"], ids=["from the acker", "from the Master"])
def test_a_failover_during_a_copy_is_as_quick_as_always(whole: Place, source: str) -> None:
    primary, acker, node = whole.hosts
    id = begin(whole, node, "--source", source)
    copying(whole, node)
    with Writers(
        [primary, acker], 4, password=primary.client_password, first_id=int(time.time() * 1000) * 1000
    ) as writers:
        writers.wait_acknowledged(time.monotonic(), 10, host=primary, count=50)
        moment = primary.kill_database()
        gap = writers.wait_acknowledged(moment, 20, host=acker, count=20)
        print(f"failover while vault-c was copied from {source}: {gap:.2f} s")
        assert share(node) < 2.0, "it was over before: nothing is shown"
        assert gap < FAILOVER_SECONDS
        ended = whole.wait_ended(id, TIMEOUT)
    print(ended["state"], ended["result"]["summary"])
    assert missing(writers, acker) == set()
    once(whole, id)
    assert nothing_left(node)
    if ended["state"] == "failed":
        assert source == "vault-a", "the source lives"
        assert "as before" in ended["result"]["summary"] or "nothing was changed" in ended["result"]["summary"]
    else:
        assert ended["state"] == "succeeded"
        assert source == "vault-b"
    wait_for(lambda: missing(writers, node) == set(), 60, lambda: f"vault-c has every row as well: {states(whole)}")


def test_a_lost_master_whose_only_fallback_is_being_rebuilt_comes_back(whole: Place) -> None:
    primary, other, node = whole.hosts
    out(whole, other.hostname)
    try:
        whole.stack.wait_vault(acker="vault-c", timeout=60)
        before = whole.stack.events("P30")
        id = begin(whole, node)
        copying(whole, node)
        primary.kill_agent()
        primary.kill_database()
        ended = whole.wait_ended(id, TIMEOUT)
        print(ended["state"], ended["result"]["summary"])
        print(states(whole))
        assert whole.stack.vault()["primary"] == "vault-a", "nobody was promoted"
        assert whole.stack.events("P30") == before
        assert ended["state"] == "failed"
        primary.start()
        whole.stack.wait_vault(primary="vault-a", acker="vault-c", timeout=60)
        once(whole, id)
        whole.wait_equal_on(node)
    finally:
        whole.stack.manage("vault", "activate", other.hostname)


def test_a_switchover_during_a_copy_of_a_third_node(whole: Place) -> None:
    node = whole.hosts[2]
    id = begin(whole, node, "--source", "vault-b")
    copying(whole, node)
    whole.stack.manage("vault", "switch-over", "vault-b", "--yes")
    whole.stack.wait_vault(primary="vault-b", timeout=20)
    ended = whole.wait_ended(id, TIMEOUT)
    print(ended["state"], ended["result"]["summary"])
    assert ended["state"] == "succeeded", ended["result"]["summary"]
    whole.wait_equal_on(node)
    once(whole, id)


def source_agent_and_ops_worker(at: Place, source: VaultHost, _node: VaultHost) -> None:
    source.kill_agent()
    kill_ops_worker(at)
    source.start(ready=False)


def target_agent_and_leader(at: Place, _source: VaultHost, node: VaultHost) -> None:
    node.kill_agent()
    kill_leader(at)
    node.start(ready=False)


def target_agent_and_ops_worker(at: Place, _source: VaultHost, node: VaultHost) -> None:
    node.kill_agent()
    kill_ops_worker(at)
    node.start(ready=False)


PAIRS: dict[str, Callable[[Place, VaultHost, VaultHost], None]] = {
    "source's agent and ops worker": source_agent_and_ops_worker,
    "target's agent and leader": target_agent_and_leader,
    "target's agent and ops worker": target_agent_and_ops_worker,
}


@pytest.mark.parametrize("moment", [0.2, 2.0], ids=["20 %", "swap"])
@pytest.mark.parametrize("what", PAIRS)
def test_two_faults_at_once_end_in_one_true_state(whole: Place, what: str, moment: float) -> None:
    source, node = whole.hosts[1], whole.hosts[2]
    write(whole.primary, f"{what} {moment}")
    id = begin(whole, node, "--source", source.hostname)
    copying(whole, node, moment)
    kept_before = node.report().kept
    began = time.monotonic()
    PAIRS[what](whole, source, node)
    ended = whole.wait_ended(id, TIMEOUT)
    print(what, moment, f"{time.monotonic() - began:.1f} s", ended["state"], ended["result"]["summary"])
    node.wait_up()
    once(whole, id)
    kept = node.report().kept
    rebuilt = kept is not None and kept.operation == id
    assert rebuilt == (ended["state"] == "succeeded"), (kept_before, kept, ended)
    assert nothing_left(node)
    wait_for(lambda: follows(whole, node), 60, lambda: f"it follows: {states(whole)}")
    whole.wait_equal_on(node)


def test_a_stopped_service_lets_a_copy_come_to_its_end(whole: Place) -> None:
    """What has begun is not left half done: the node is let follow, though nothing else is done for the vault."""
    node = whole.hosts[2]
    id = begin(whole, node)
    copying(whole, node)
    whole.stack.manage("vault", "stop", "--yes")
    try:
        ended = whole.wait_ended(id, TIMEOUT)
        print(ended["state"], ended["result"]["summary"])
        once(whole, id)
        kept = node.report().kept
        assert kept is not None
        assert kept.operation == id
        assert ended["state"] == "succeeded", ended["result"]["summary"]
        assert follows(whole, node)
    finally:
        whole.stack.manage("vault", "start")
