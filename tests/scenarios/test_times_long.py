"""How long a vault is without a primary, and where the time goes: kill -9 (also with a large buffer pool), a frozen database,
a silent host, a switchover; each many times under eight writers, with every acknowledged row looked for afterwards.

Writes docs/evidence/{kill-primary,kill-primary-4g,frozen-database,silent-host,switchover}.md.
"""

import contextlib
import os
import shutil
import signal
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests import evidence
from tests.rig import trials
from tests.rig.place import rig
from tests.rig.trials import OBSERVED, Trial, start_alike
from tests.stack import Controller, controller
from tests.vault_host import VaultHost, vault_hosts
from tests.waiting import wait_for
from tests.writers import SHORT_PATIENCE_SECONDS, Writers, create_table, missing

pytestmark = pytest.mark.long
A, B = "127.0.64.21", "127.0.64.22"
WRITERS = 8
KILLS, LARGE_KILLS, FREEZES, CUTS, SWITCHOVERS = 30, 10, 15, 15, 20
GOAL_KILL, GOAL_FROZEN, GOAL_SILENT, GOAL_GAP = 0.12, 1.0, 1.8, 0.1
LARGE_POOL = "4G"
LARGE_BYTES = 4 * 2**30
ROWS_PER_CHUNK, CHUNKS = 55_000, 10
"""Two rows fill a page of 16 KiB: a little more than the pool holds."""

Hosts = dict[str, VaultHost]


@contextlib.contextmanager
def pair(
    *init: str, before: Callable[[Sequence[VaultHost]], None] = lambda hosts: None
) -> Iterator[tuple[Controller, Hosts]]:
    """A lossless pair under an observed leader and an ordinary standby. before: done to the hosts before they are added."""
    with ExitStack() as stack:
        directory = Path(tempfile.mkdtemp(prefix="vha-"))
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        make = stack.enter_context(vault_hosts(directory))
        console = stack.enter_context(controller(directory))
        hosts = [make(A, "vault-a"), make(B, "vault-b")]
        start_alike(hosts, *init)
        before(hosts)
        console.start("service-a", *OBSERVED)
        console.add_pair(*hosts)
        console.wait_vault(primary="vault-a", acker="vault-b")
        create_table(hosts[0])
        console.service("b")
        yield console, {host.hostname: host for host in hosts}


def lossless(stack: Controller, hosts: Hosts) -> tuple[VaultHost, VaultHost]:
    row = wait_for(lambda: (r := stack.vault())["acker"] and r, 90, lambda: f"lossless again: {stack.vault()}")
    return hosts[row["primary"]], hosts[row["acker"]]


def many(
    stack: Controller,
    hosts: Hosts,
    times: int,
    strike: Callable[[VaultHost, VaultHost], float],
    *,
    prepare: Callable[[VaultHost], None] = lambda primary: None,
    repair: Callable[[VaultHost], None] = lambda old: None,
    writers: Callable[[VaultHost, VaultHost, int], Writers],
    from_decision: bool = False,
) -> list[Trial]:
    """Strike so many times; the old primary comes back as the acker by itself each time, and has every row as well."""
    done = []
    for number in range(1, times + 1):
        primary, acker = lossless(stack, hosts)
        prepare(primary)
        trials.calm()
        at_work = writers(primary, acker, number)
        done.append(
            trials.run(
                stack, primary, acker, at_work, lambda p=primary, a=acker: strike(p, a), from_decision=from_decision
            )
        )
        repair(primary)
        lossless(stack, hosts)
        wait_for(lambda w=at_work, p=primary: not missing(w, p), 60, "the old primary has every row as well")
    return done


def at_work(password: str, primary: VaultHost, acker: VaultHost, number: int) -> Writers:
    first_id = number * 1_000_000_000
    return Writers([primary, acker], WRITERS, password=password, first_id=first_id, patience=SHORT_PATIENCE_SECONDS)


def page(name: str, title: str, hosts: Hosts, what: str, goal: str, done: Sequence[Trial]) -> None:
    version = next(iter(hosts.values())).sql("SELECT VERSION() AS v")[0]["v"]
    evidence.write(
        name,
        title,
        database=version,
        paragraphs=[
            f"{what} {WRITERS} clients write all the time, each with time-outs of {SHORT_PATIENCE_SECONDS * 1000:.0f} ms; it goes "
            f"to the other node when its own fails, and pauses 5 ms after each acknowledgement. {goal}",
            f"Acknowledged rows: {sum(t.acknowledged for t in done)}; of them missing on the new primary: "
            f"**{sum(t.lost for t in done)}**; acknowledged by the old primary after the new one's first: "
            f"**{sum(t.late for t in done)}**. The old primary came back as the acking fallback each time without a hand.",
            "Milliseconds. `decided`: the controller claims the epoch; then when it had the answer to each step; `first write`: "
            "the first acknowledgement on the new primary; `gap`: since the last one on the old primary; `load`: one minute's "
            "load average before.",
        ],
        table=trials.table(done),
        more=[("Inside the steps", trials.agents_table(done))],
    )


def says(seconds: Sequence[float], goal: float, what: str) -> str:
    median, slowest = statistics.median(seconds) * 1000, max(seconds) * 1000
    return f"{what}: median **{median:.0f} ms**, slowest {slowest:.0f} ms (goal: median ≤ {goal * 1000:.0f} ms)."


def nothing_lost(done: Sequence[Trial]) -> None:
    assert [(t.lost, t.late) for t in done] == [(0, 0)] * len(done)


def test_thirty_kills_of_the_primary() -> None:
    with pair() as (stack, hosts):
        password = hosts["vault-a"].client_password
        done = many(
            stack, hosts, KILLS, lambda primary, _: primary.kill_database(),
            writers=lambda p, a, n: at_work(password, p, a, n),
        )  # fmt: skip
        first = [t.first_on_new for t in done]
        goal = says(first, GOAL_KILL, "From the kill to the first acknowledged write on the new primary")
        page(
            "kill-primary",
            f"Kill -9 of the primary, {KILLS} times",
            hosts,
            "SIGKILL to the primary's mariadbd.",
            goal,
            done,
        )
    nothing_lost(done)
    assert all(list(t.agent_ms["open"]).index("open") < list(t.agent_ms["open"]).index("lift") for t in done)
    assert statistics.median(first) <= GOAL_KILL


def fill(hosts: Sequence[VaultHost]) -> None:
    """A table as large as the pool, on each host by itself and not in its binary log: it is no part of the vault."""

    def fill_one(host: VaultHost) -> None:
        with contextlib.closing(host.connect()) as connection, connection.cursor() as cursor:
            cursor.execute("SET sql_log_bin = 0")
            cursor.execute("CREATE DATABASE filler")
            cursor.execute("USE filler")
            cursor.execute("CREATE TABLE filler.pages (id INT PRIMARY KEY, pad VARBINARY(7900) NOT NULL) ENGINE=InnoDB")
            for chunk in range(CHUNKS):
                cursor.execute(
                    f"INSERT INTO filler.pages SELECT seq + {chunk * ROWS_PER_CHUNK}, REPEAT('x', 7900) "
                    f"FROM seq_1_to_{ROWS_PER_CHUNK}"
                )

    with ThreadPoolExecutor(len(hosts)) as pool:
        list(pool.map(fill_one, hosts))


def touch(host: VaultHost) -> None:
    """Read the whole table, until the process really holds the pool's memory."""
    host.sql("SELECT SUM(LENGTH(pad)) AS n FROM filler.pages")
    status = Path(f"/proc/{host.database_pid}/status").read_text()
    resident = int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) * 1024
    assert resident > LARGE_BYTES, f"{resident / 2**30:.1f} GiB resident"


def test_kills_with_a_large_buffer_pool_in_memory() -> None:
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if free < 3 * LARGE_BYTES:
        pytest.skip(f"two pools of {LARGE_POOL} need 12 GiB of free memory, there are {free / 2**30:.0f}")
    with pair("--buffer-pool", LARGE_POOL, before=fill) as (stack, hosts):
        password = hosts["vault-a"].client_password
        done = many(
            stack, hosts, LARGE_KILLS, lambda primary, _: primary.kill_database(), prepare=touch,
            writers=lambda p, a, n: at_work(password, p, a, n),
        )  # fmt: skip
        first = [t.first_on_new for t in done]
        goal = says(first, GOAL_KILL, "From the kill to the first acknowledged write on the new primary")
        what = f"SIGKILL to the primary's mariadbd, whose buffer pool of {LARGE_POOL} is filled: over 4 GiB resident."
        page(
            "kill-primary-4g",
            f"Kill -9 of a primary with {LARGE_POOL} in memory, {LARGE_KILLS} times",
            hosts,
            what,
            goal,
            done,
        )
    nothing_lost(done)
    assert statistics.median(first) <= GOAL_KILL


def test_a_frozen_database() -> None:
    with pair() as (stack, hosts):
        password = hosts["vault-a"].client_password
        done = many(
            stack, hosts, FREEZES, lambda primary, _: primary.kill_database(signal.SIGSTOP),
            writers=lambda p, a, n: at_work(password, p, a, n),
        )  # fmt: skip
        first = [t.first_on_new for t in done]
        goal = says(first, GOAL_FROZEN, "From the freeze to the first acknowledged write on the new primary")
        what = "SIGSTOP to the primary's mariadbd: it keeps its connections and answers nobody."
        page("frozen-database", f"The primary's database freezes, {FREEZES} times", hosts, what, goal, done)
    nothing_lost(done)
    assert statistics.median(first) <= GOAL_FROZEN


def test_a_silent_host() -> None:
    with rig(service=OBSERVED) as place:
        hosts: Hosts = dict(place.hosts)

        def cut(primary: VaultHost, acker: VaultHost) -> float:
            moment = time.monotonic()
            place.net.isolate(primary.hostname)
            return moment

        done = many(
            place.stack, hosts, CUTS, cut, prepare=lambda _: place.clear_hold(), repair=lambda _: place.net.heal(),
            writers=lambda p, a, n: place.writers(place.hosts[p.hostname], place.hosts[a.hostname], count=WRITERS),
        )  # fmt: skip
        first = [t.first_on_new for t in done]
        goal = says(first, GOAL_SILENT, "From the cut to the first acknowledged write on the new primary")
        what = "The switch drops every packet to and from the primary's host (network namespaces): no reset, no answer."
        page("silent-host", f"The primary's host falls silent, {CUTS} times", hosts, what, goal, done)
    nothing_lost(done)
    assert statistics.median(first) <= GOAL_SILENT


WISH = (
    "from nodes.models import VaultNode; from replication.stores.wishes import *\n"
    "wish = request_switchover(VaultNode.objects.get(hostname={hostname!r}), None)\n"
    "assert not isinstance(wish, RefusedWish), wish\n"
)


def test_a_planned_switchover() -> None:
    with pair() as (stack, hosts):
        password = hosts["vault-a"].client_password

        def wish(primary: VaultHost, acker: VaultHost) -> float:
            moment = time.monotonic()
            stack.manage("shell", "-v0", "-c", WISH.format(hostname=acker.hostname))
            return moment

        done = many(
            stack, hosts, SWITCHOVERS, wish, writers=lambda p, a, n: at_work(password, p, a, n), from_decision=True
        )
        gaps = [t.gap for t in done]
        goal = says(gaps, GOAL_GAP, "From the last acknowledged write on the old primary to the first on the new one")
        what = "A wish to make the fallback the Master; times count from the claim."
        page("switchover", f"Planned switchover, {SWITCHOVERS} times", hosts, what, goal, done)
    nothing_lost(done)
    assert statistics.median(gaps) <= GOAL_GAP
