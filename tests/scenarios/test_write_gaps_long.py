"""How long writes stand still when the only fallback goes, and how long nobody leads when the leader is killed.

Writes docs/evidence/write-gaps.md and docs/evidence/leader-handover.md.
"""

import itertools
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import evidence
from tests.stack import Controller, controller
from tests.vault_host import VaultHost, vault_hosts
from tests.waiting import wait_for
from tests.writers import Writers, create_table

A, B = "127.0.55.1", "127.0.55.2"
ROUNDS = 3
WRITERS = 2
"""More would saturate two cores that carry both databases: a fallback that cannot keep up is another subject."""
GAP_LIMIT_SECONDS = 2.5
HANDOVER_LIMIT_SECONDS = 2.0
REDIS_AWAY_SECONDS = 60

Pair = tuple[Controller, VaultHost, VaultHost]


@pytest.fixture(scope="module")
def lossless_pair() -> Iterator[Pair]:
    directory = Path(tempfile.mkdtemp(prefix="vha-"))
    with vault_hosts(directory) as make, controller(directory) as stack:
        hosts = make(A, "vault-a").init().start(), make(B, "vault-b").init().start()
        stack.service("a")
        stack.service("b")
        stack.add_pair(*hosts)
        stack.wait_vault(primary="vault-a", acker="vault-b")
        create_table(hosts[0])
        yield stack, *hosts
    shutil.rmtree(directory, ignore_errors=True)


def _wish(stack: Controller, code: str) -> None:
    stack.manage("shell", "-v0", "-c", f"from nodes.models import *; from replication.stores.wishes import *; {code}")


def _kill(stack: Controller, fallback: VaultHost) -> None:
    fallback.kill_database()


def _freeze(stack: Controller, fallback: VaultHost) -> None:
    fallback.kill_database(signal.SIGSTOP)


def _vanish(stack: Controller, fallback: VaultHost) -> None:
    """Agent and database at once."""
    fallback.kill_agent()
    fallback.kill_database()


def _deactivate(stack: Controller, fallback: VaultHost) -> None:
    _wish(stack, "set_active(VaultNode.objects.get(hostname='vault-b'), False, None)")


def _delete(stack: Controller, fallback: VaultHost) -> None:
    _wish(stack, "remove_node(VaultNode.objects.get(hostname='vault-b'), None)")


def _stop_then_kill(stack: Controller, fallback: VaultHost) -> None:
    stack.execute("UPDATE nodes_appservice SET desired_state = 'stopped'")
    wait_for(lambda: stack.rows("SELECT started_on FROM nodes_appservice")[0]["started_on"] is None, 20, "stopped")
    fallback.kill_database()


def _heal(stack: Controller, fallback: VaultHost) -> None:
    if fallback.agent is None:
        fallback.start()
    elif fallback.database_pid:
        fallback.kill_database(signal.SIGCONT)
    if not stack.rows("SELECT 1 FROM nodes_vaultnode WHERE hostname = 'vault-b' AND removed_at IS NULL"):
        new = f"NewNode(hostname='vault-b', ip_address='{fallback.ip}', port=5389, database_port=3307, system_role='fallback')"
        _wish(stack, f"add_node(default_vault(), {new}, None)")
    stack.execute("UPDATE nodes_vaultnode SET active = 1 WHERE hostname = 'vault-b' AND removed_at IS NULL")
    stack.execute("UPDATE nodes_appservice SET desired_state = 'started'")
    stack.wait_vault(primary="vault-a", acker="vault-b", timeout=60)


FAULTS: tuple[tuple[str, Callable[[Controller, VaultHost], None]], ...] = (
    ("kill -9 of its mariadbd", _kill),
    ("its mariadbd frozen (SIGSTOP)", _freeze),
    ("kill -9 of its mariadbd and its agent", _vanish),
    ("made inactive", _deactivate),
    ("deleted", _delete),
    ("service stopped, then kill -9 of its mariadbd", _stop_then_kill),
)


@pytest.mark.long
def test_the_only_fallback_goes_and_writes_stand_still_only_shortly(lossless_pair: Pair) -> None:
    stack, primary, fallback = lossless_pair
    table: list[tuple[object, ...]] = []
    worst = 0.0
    for number, (name, break_it) in enumerate(FAULTS):
        gaps = []
        for turn in range(ROUNDS):
            first_id = (number * ROUNDS + turn + 1) * 1_000_000_000
            with Writers([primary], WRITERS, password=primary.client_password, first_id=first_id) as writers:
                writers.wait_acknowledged(time.monotonic(), 20, count=50)
                moment = time.monotonic()
                break_it(stack, fallback)
                stack.wait_vault(primary="vault-a", acker=None)
                writers.wait_acknowledged(time.monotonic(), 20, count=100)
                _heal(stack, fallback)
                writers.wait_acknowledged(time.monotonic(), 20, count=100)
                gaps.append(writers.longest_gap(moment))
        worst = max(worst, *gaps)
        table.append((name, ROUNDS, f"{sorted(gaps)[len(gaps) // 2]:.2f}", f"{max(gaps):.2f}"))
    evidence.write(
        "write-gaps",
        f"The only fallback goes while {WRITERS} clients write",
        database=primary.sql("SELECT VERSION() AS v")[0]["v"],
        paragraphs=[
            "The longest time without an acknowledged write, from the fault until the vault was lossless again (the way back is "
            f"part of it). Goal: never more than {GAP_LIMIT_SECONDS} s. Worst: **{worst:.2f} s**.",
        ],
        table=[("what happens to the fallback", "times", "median, s", "worst, s"), *table],
    )
    assert worst <= GAP_LIMIT_SECONDS


@pytest.mark.long
def test_the_standby_leads_soon_after_the_leader_was_killed(lossless_pair: Pair) -> None:
    stack, primary, _fallback = lossless_pair
    waits = []
    for _ in range(ROUNDS):
        before = stack.leader()
        slot = before["process"].split(" ")[0]
        moment = time.monotonic()
        os.kill(int(before["process"].split("pid ")[1].rstrip(")")), signal.SIGKILL)
        wait_for(lambda b=before: stack.leader()["term"] > b["term"], 20, "another leader")
        waits.append(time.monotonic() - moment)
        stack.processes.pop(f"service-{slot}").wait(20)
        stack.service(slot)
        fresh = f"service-controller-1-{slot}"
        wait_for(
            lambda s=slot, f=fresh: f"{f}: replication.jobs" in stack.log(f"service-{s}"), 20, "the killed one is back"
        )
    parents = []
    for _ in range(ROUNDS):
        before = stack.leader()
        slot = before["process"].split(" ")[0]
        moment = time.monotonic()
        stack.kill(f"service-{slot}")
        wait_for(lambda b=before: stack.leader()["term"] > b["term"], 20, "another leader")
        parents.append(time.monotonic() - moment)
        stack.service(slot)
    stack.wait_vault(primary="vault-a", acker="vault-b")
    longest_pause = _redis_away(stack)
    row = stack.wait_vault(primary="vault-a", acker="vault-b")
    evidence.write(
        "leader-handover",
        "The leading service worker is killed; Redis is away for a minute",
        database=primary.sql("SELECT VERSION() AS v")[0]["v"],
        paragraphs=[
            f"Seconds from kill -9 until another worker holds the lease with a higher term. Goal: under {HANDOVER_LIMIT_SECONDS} s.",
            f"Redis killed for {REDIS_AWAY_SECONDS} s: the leader's lease was never older than **{longest_pause:.2f} s**, its term did "
            f"not change, and the vault stayed lossless (epoch {row['epoch']}).",
        ],
        table=[
            ("what is killed", "times", "median, s", "worst, s"),
            ("the job that leads", ROUNDS, f"{sorted(waits)[ROUNDS // 2]:.2f}", f"{max(waits):.2f}"),
            (
                "its RQ parent (the job ends itself)",
                ROUNDS,
                f"{sorted(parents)[ROUNDS // 2]:.2f}",
                f"{max(parents):.2f}",
            ),
        ],
    )
    assert max(*waits, *parents) < HANDOVER_LIMIT_SECONDS


def _redis_away(stack: Controller) -> float:
    """Kill Redis for a minute; returns the longest time between two renewals of the lease."""
    term = stack.leader()["term"]
    epoch = stack.vault()["epoch"]
    stack.kill("redis")
    renewals: list[float] = [time.monotonic()]
    seen = ""
    until = time.monotonic() + REDIS_AWAY_SECONDS
    pause = threading.Event()
    while time.monotonic() < until:
        now = stack.rows("SELECT renewed_at FROM nodes_servicelease")[0]["renewed_at"]
        if now != seen:
            seen = now
            renewals.append(time.monotonic())
        pause.wait(0.02)
    renewals.append(time.monotonic())
    stack.redis()
    assert stack.leader()["term"] == term
    assert stack.vault()["epoch"] == epoch
    return max(later - earlier for earlier, later in itertools.pairwise(renewals))
