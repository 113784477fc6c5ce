"""What a comparison costs those who write meanwhile, how fast it is, and whether a failover in its middle takes longer.

Two real agents and databases on one host, eight clients that write as fast as they can. With and without take turns.
"""

import contextlib
import itertools
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from replication.core import limits
from replication.core.commands import Verb
from replication.core.comparison import Comparison
from replication.procedures.controller.comparing import NotCompared
from tests import evidence as pages
from tests.agent.comparing import Clients, compare, lay_out_for_clients
from tests.agent.orders import database, follow, open_primary, order
from tests.vault_host import VaultHost, vault_hosts
from tests.waiting import wait_for
from tests.writers import Writers, missing

ADDRESSES = ("127.0.84.21", "127.0.84.22")
ROWS = 300_000
WRITERS = 8
ROUNDS, BUSY_ROUNDS, FAILOVERS = 3, 20, 4
ALONE_SECONDS = 20
PATIENCE = 120.0
LEAST_WRITES = 0.60
"""Of the rate without: as a full copy at its default throttle has to leave."""
LONGEST_HOLD = limits.COMPARE_REACH.total_seconds()

_first_ids = itertools.count(10**9, 10**9)


@contextlib.contextmanager
def pair() -> Iterator[list[VaultHost]]:
    """A lossless primary and its acker; who is which changes with each failover."""
    directory = Path(tempfile.mkdtemp(prefix="vha-"))
    try:
        with vault_hosts(directory) as make:
            hosts = [make(address, f"bench-{n}", cut="none") for n, address in enumerate(ADDRESSES, 1)]
            hosts[1].client_password = hosts[0].client_password
            for host in hosts:
                host.init().start()
            open_primary(hosts[0], [hosts[1]], jump=False)
            lay_out_for_clients(hosts[0])
            join(hosts[0], hosts[1])
            yield hosts
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def make_large(primary: VaultHost, acker: VaultHost) -> None:
    primary.sql(
        "CREATE TABLE vault.large (id BIGINT PRIMARY KEY, name VARCHAR(60), secret VARBINARY(120), changed DATETIME(6))"
    )
    primary.sql(
        f"INSERT INTO vault.large SELECT seq, CONCAT('account-', seq), RANDOM_BYTES(100), NOW(6) FROM vault.seq_1_to_{ROWS}"
    )
    primary.sql("ANALYZE TABLE vault.large")
    position = database(primary).gtid_binlog_pos
    wait_for(lambda: database(acker).gtid_slave_pos == position, PATIENCE, "the acker has the large table")


def busy_rounds(primary: VaultHost, acker: VaultHost) -> list[Comparison]:
    """While clients change the same rows all the time: what has to be held, and for how long."""
    with Clients(primary):
        return [compare(primary, acker) for _ in range(BUSY_ROUNDS)]


def join(primary: VaultHost, acker: VaultHost) -> None:
    follow(acker, primary, truncate_tail=True)
    order(acker, Verb.ACKER, deadline=PATIENCE / 2)
    order(primary, Verb.LOSSLESS)


def rate(writers: Writers, begin: float, end: float) -> float:
    return len([a for a in writers.acknowledged if begin < a.at <= end]) / (end - begin)


def round_of_writing(primary: VaultHost, acker: VaultHost) -> tuple[float, float, Comparison]:
    """Writes a second without and with, and what the comparison says of itself."""
    first = next(_first_ids)
    with Writers([primary], WRITERS, password=primary.client_password, first_id=first, pause=0) as writers:
        writers.wait_acknowledged(0, PATIENCE, count=WRITERS)
        began = time.monotonic()
        found = compare(primary, acker, duty=limits.COMPARE_DUTY)
        middle = time.monotonic()
        wait_for(lambda: time.monotonic() > middle + ALONE_SECONDS, PATIENCE)
        return rate(writers, middle, time.monotonic()), rate(writers, began, middle), found


def failover(hosts: list[VaultHost], *, comparing: bool) -> float:
    """Milliseconds from the death of the primary until the acker is open. Afterwards the roles are changed, and nothing is lost."""
    primary, acker = hosts
    reached = threading.Event()

    async def progress(table: str, rows: int, total: int) -> None:
        if rows > 2000:
            reached.set()

    def work() -> None:
        with contextlib.suppress(NotCompared):
            compare(primary, acker, progress=progress, duty=limits.COMPARE_DUTY)

    thread = threading.Thread(target=work)
    first = next(_first_ids)
    with Writers(hosts, WRITERS, password=primary.client_password, first_id=first) as writers:
        writers.wait_acknowledged(0, PATIENCE, count=100)
        if comparing:
            thread.start()
            wait_for(reached.is_set, PATIENCE, "the comparison is in the large table")
        killed = primary.kill_database()
        order(primary, Verb.FENCE)
        order(acker, Verb.REVOKE)
        order(acker, Verb.DRAIN)
        open_primary(acker, [primary], jump=True)
        seconds = time.monotonic() - killed
        writers.wait_acknowledged(killed, PATIENCE, host=acker, count=50)
    assert missing(writers, acker) == set()
    if comparing:
        thread.join(PATIENCE)
    join(acker, primary)
    hosts.reverse()
    return seconds * 1000


def bench(*, seconds: float, evidence: bool) -> list[str]:
    """Returns the goals that were missed. seconds: not used, a comparison takes as long as it takes."""
    with pair() as hosts:
        version = str(hosts[0].sql("SELECT VERSION() AS v")[0]["v"])
        busy = busy_rounds(*hosts)
        make_large(*hosts)
        rounds = [round_of_writing(*hosts) for _ in range(ROUNDS)]
        times: dict[bool, list[float]] = {True: [], False: []}
        for _, comparing in itertools.product(range(FAILOVERS), (False, True)):
            times[comparing].append(failover(hosts, comparing=comparing))
    table: list[list[Any]] = [
        ["round", "writes/s without", "writes/s beside it", "ratio", "rows/s compared", "ranges", "looked again", "holds",
         "longest hold ms", "differences"],
    ]  # fmt: skip
    for number, (alone, beside, found) in enumerate(rounds, 1):
        f = found.figures
        table.append([
            number, f"{alone:.0f}", f"{beside:.0f}", f"{beside / alone:.2f}", f"{found.rows / found.seconds:.0f}",
            f["ranges"], f["looked_again"], f["holds"], f"{f['longest_hold'] * 1000:.0f}", len(found.differences),
        ])  # fmt: skip
    failovers = [["", "median ms", "smallest", "largest"]] + [
        [name, f"{statistics.median(of):.0f}", f"{min(of):.0f}", f"{max(of):.0f}"]
        for name, of in (("without a comparison", times[False]), ("in the middle of one", times[True]))
    ]
    longest = sorted(found.figures["longest_hold"] * 1000 for found in busy)
    held = [
        ["comparisons", "false alarms", "ranges looked at again", "holds", "longest hold ms: median", "largest", "rows left out"],
        [
            len(busy), sum(bool(found.differences) for found in busy), _sum(busy, "looked_again"), _sum(busy, "holds"),
            f"{statistics.median(longest):.0f}", f"{longest[-1]:.0f}", _sum(busy, "undecided"),
        ],
    ]  # fmt: skip
    for row in (*table, *held, *failovers):
        print("  ".join(map(str, row)))
    if evidence:
        pages.write(
            "comparison",
            "What a comparison costs",
            database=version,
            paragraphs=[
                f"`script/bench compare`: a lossless pair on one host, a table of {ROWS} rows, {WRITERS} clients that write as fast as they"
                f" can. The comparison works {limits.COMPARE_DUTY:.0%} of the time ([design](../design/comparison.md)).",
                "All of it shares the processors of one machine: on hosts of their own the Master has only its own half of the work.",
                f"Failover: from the death of the primary's database until the acker is open (fence, revoke, drain, open), {FAILOVERS} times each, in turns;"
                " nothing that was acknowledged was missing afterwards.",
            ],
            table=table,
            more=[
                ("While eight clients change the same rows, and tables, all the time", held),
                ("A failover in the middle of a comparison", failovers),
            ],
        )
    return list(_missed(rounds, busy, times))


def _sum(found: list[Comparison], figure: str) -> int:
    return sum(one.figures[figure] for one in found)


def _missed(
    rounds: list[tuple[float, float, Comparison]], busy: list[Comparison], times: dict[bool, list[float]]
) -> Iterator[str]:
    share = statistics.median(beside / alone for alone, beside, _ in rounds)
    if share < LEAST_WRITES:
        yield f"clients keep {share:.0%} of their rate, not {LEAST_WRITES:.0%}"
    everything = [*busy, *(found for _, _, found in rounds)]
    if any(found.differences for found in everything):
        yield "a false alarm"
    if any(found.figures["longest_hold"] > LONGEST_HOLD for found in everything):
        yield f"rows were held for longer than {LONGEST_HOLD} s"
    if statistics.median(times[True]) > 2 * statistics.median(times[False]) + 100:
        yield "a failover takes longer in the middle of a comparison"
