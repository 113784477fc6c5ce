"""How fast a full copy is beside a bare pipe, what its programs hold in memory, and what it costs those who write meanwhile.

Two real agents on the loopback of one host, the pipe between the same two directories; the ways take turns, so that none has the
better half of the run. The data are random bytes: nothing can be gained by leaving something out.
"""

import contextlib
import itertools
import os
import shutil
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from replication.core import limits
from replication.core.commands import Verb
from replication.core.tasks import ENDED, RebuildArgs, SendArgs, TaskPhase
from tests import evidence as pages
from tests.agent import orders
from tests.vault_host import VaultHost, vault_hosts
from tests.waiting import wait_for
from tests.writers import Writers, create_table

MIB = 2**20
ROWS = 1_900_000
"""Of 1024 bytes: 2 GiB with what InnoDB puts around them."""
ROUNDS = 3
WRITERS = 8
ALONE_SECONDS = 15
PATIENCE_SECONDS = 600
LEAST_RATE, LEAST_WRITES, MOST_RESIDENT = 0.85, 0.60, 150 * MIB
BUSY_LOAD = 1.0
BUSY = ": other programs took the processor, so the times, and what follows from them, are not to be relied on; the processor seconds are"
MARK = b"replication.agent.sender"


@dataclass
class Copied:
    """Seconds of one full copy, from the order to the source on: until all bytes are unpacked, and until the target is up again."""

    bytes: float
    whole: float
    began: float
    """Monotonic moment of the order."""
    processor: float
    """Seconds of processor of both agents and everything that they started."""


@dataclass
class Peaks:
    """The largest resident sizes that were seen, in bytes, by program."""

    of: dict[str, int] = field(default_factory=dict)

    def see(self, name: str, pid: int) -> None:
        with contextlib.suppress(OSError, IndexError, ValueError):
            status = Path(f"/proc/{pid}/status").read_text()
            resident = int(status.split("VmHWM:")[1].split()[0]) * 1024
            self.of[name] = max(self.of.get(name, 0), resident)


@contextlib.contextmanager
def watched(source: VaultHost, target: VaultHost, peaks: Peaks) -> Iterator[None]:
    """See how large the programs of a copy are, ten times a second."""
    ending = threading.Event()

    def watch() -> None:
        while not ending.wait(0.1):
            for host, name in ((source, "agent of the source"), (target, "agent of the target")):
                if host.agent is not None:
                    peaks.see(name, host.agent.pid)
            for entry in Path("/proc").iterdir():
                with contextlib.suppress(OSError):
                    words = (entry / "cmdline").read_bytes() if entry.name.isdigit() else b""
                    if MARK in words:
                        peaks.see("sending program", int(entry.name))
                    elif b"mbstream\0-x" in words and str(target.home).encode() in words:
                        peaks.see("mbstream", int(entry.name))
                    elif b"mariadb-backup\0" in words and b"--backup" in words and str(source.home).encode() in words:
                        peaks.see("mariadb-backup", int(entry.name))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ending.set()
        thread.join()


def fill(host: VaultHost) -> int:
    """Returns the size of the data in bytes, once they are on disk."""
    host.sql("CREATE TABLE vault.blobs (id BIGINT PRIMARY KEY, b BLOB) ENGINE=InnoDB")
    with contextlib.closing(host.connect()) as connection, connection.cursor() as cursor:
        for statement in ("sql_log_bin=0", "unique_checks=0", "foreign_key_checks=0"):
            cursor.execute(f"SET {statement}")
        cursor.execute(f"INSERT INTO vault.blobs SELECT seq, RANDOM_BYTES(1024) FROM vault.seq_1_to_{ROWS}")
    host.sql("SET GLOBAL innodb_max_dirty_pages_pct_lwm=0, GLOBAL innodb_max_dirty_pages_pct=0")
    dirty = "SELECT VARIABLE_VALUE AS n FROM information_schema.GLOBAL_STATUS WHERE VARIABLE_NAME='Innodb_buffer_pool_pages_dirty'"
    wait_for(lambda: int(host.sql(dirty)[0]["n"]) < 100, PATIENCE_SECONDS, "everything is on disk")
    host.sql("SET GLOBAL innodb_max_dirty_pages_pct=90")
    return (host.config.data_dir / "vault" / "blobs.ibd").stat().st_size


def pipe(source: VaultHost, target: VaultHost, *options: str) -> tuple[float, float, int]:
    """`mariadb-backup | mbstream` into the target's home. Returns seconds, seconds of processor, and bytes that were unpacked."""
    into, scratch = target.home / "bench.incoming", source.home / "bench.tmp"
    for directory in (into, scratch):
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir()
    backup = [source.config.mariadb_backup, "--no-defaults", "--backup", "--stream=mbstream", *options]
    backup += ["--user=root", f"--socket={source.config.socket}", f"--target-dir={scratch}"]
    settle()
    began, before = time.monotonic(), os.times()
    with (source.home / "bench.log").open("wb") as log:
        reading = subprocess.Popen(backup, stdout=subprocess.PIPE, stderr=log)
        writing = subprocess.Popen([source.config.mbstream, "-x", "-C", into], stdin=reading.stdout)
        assert reading.stdout is not None
        reading.stdout.close()
        assert (reading.wait(), writing.wait()) == (0, 0), (source.home / "bench.log").read_text()[-2000:]
    seconds, after = time.monotonic() - began, os.times()
    processor = after.children_user + after.children_system - before.children_user - before.children_system
    size = sum(file.stat().st_size for file in into.rglob("*") if file.is_file())
    shutil.rmtree(into)
    shutil.rmtree(scratch, ignore_errors=True)
    return seconds, processor, size


def _processor(host: VaultHost) -> float:
    """Seconds of processor that this agent, and whatever it started and has ended, took so far."""
    assert host.agent is not None
    fields = Path(f"/proc/{host.agent.pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def copy(source: VaultHost, target: VaultHost, rate: int) -> Copied:
    """One full copy by both agents."""
    before = _processor(source) + _processor(target)
    operation = _begin(source, target, rate)
    began, unpacked, version = time.monotonic(), 0.0, -1
    while True:
        report = target.report(since=version, wait=5)
        version, task = report.version, report.task
        assert task is not None
        assert task.operation == operation
        if not unpacked and task.phase not in (TaskPhase.WAITING, TaskPhase.TRANSFERRING):
            unpacked = time.monotonic()
        if task.phase in ENDED:
            break
    assert task.phase is TaskPhase.DONE, (task.says, source.report().task)
    whole = time.monotonic() - began
    target.wait_up()
    status, text = target.request("POST", "/kept/remove", f'{{"operation": "{operation}"}}'.encode())
    assert status == 200, text
    return Copied(unpacked - began, whole, began, _processor(source) + _processor(target) - before)


def _begin(source: VaultHost, target: VaultHost, rate: int) -> str:
    settle()
    to = RebuildArgs(
        source_name=source.hostname,
        source_subject=source.subject,
        source_bytes=source.wait_report(lambda report: report.data_bytes > 0).data_bytes,
    )
    by = SendArgs(
        target_name=target.hostname,
        target_host=target.ip,
        target_port=limits.AGENT_PORT,
        target_subject=target.subject,
        bytes_per_second=rate,
    )
    operation = f"bench-{next(orders.epochs)}"
    for host, verb, args in ((target, Verb.REBUILD, to.to_json()), (source, Verb.SEND, by.to_json())):
        command = {
            "vault": "a" * 32, "node": host.node, "term": 1, "epoch": next(orders.epochs), "operation": operation,
            "deadline": 20, "args": args,
        }  # fmt: skip
        status, answer = host.send(verb, command)
        assert status == 200, answer
    return operation


def settle() -> None:
    """What the last turn has written goes to the disk before the next one begins."""
    subprocess.run(["sync"], check=True)


def written(writers: Writers, begin: float, end: float) -> float:
    """Acknowledged writes a second between two moments."""
    return len([a for a in writers.acknowledged if begin < a.at <= end]) / (end - begin)


def rounds_of_writing(source: VaultHost, target: VaultHost, rate: int) -> list[tuple[float, float, float]]:
    """Of each round: writes a second without and with a copy, and the longest time without a write at the copy's end."""
    create_table(source)
    found = []
    for number in range(ROUNDS):
        first = (number + 1) * 1_000_000_000
        with Writers([source], WRITERS, password=source.client_password, first_id=first, pause=0) as writers:
            writers.wait_acknowledged(time.monotonic(), PATIENCE_SECONDS, count=WRITERS)
            began = time.monotonic()
            wait_for(lambda: time.monotonic() > began + ALONE_SECONDS, 2 * ALONE_SECONDS)  # noqa: B023
            alone = written(writers, began, time.monotonic())
            done = copy(source, target, rate)
            beside = written(writers, done.began, done.began + done.bytes)
            times = sorted(a.at for a in writers.since(done.began) if a.at < done.began + done.whole)
        gap = max(later - earlier for earlier, later in itertools.pairwise(times))
        found.append((alone, beside, gap))
    return found


@contextlib.contextmanager
def two_hosts() -> Iterator[tuple[VaultHost, VaultHost]]:
    place = Path(tempfile.mkdtemp(prefix="vha-"))
    try:
        with vault_hosts(place) as make:
            source, target = make("127.0.81.21", "source"), make("127.0.81.22", "target")
            for host in (source, target):
                host.init().start()
            orders.open_primary(source, [], jump=False)
            orders.order(target, Verb.PROMISE)
            yield source, target
    finally:
        shutil.rmtree(place, ignore_errors=True)


def bench(*, seconds: float, evidence: bool) -> list[str]:
    """Answers the goals that were missed. seconds: not used."""
    peaks = Peaks()
    pipes: dict[str, list[tuple[float, float]]] = {"one": [], "ours": []}
    copies: list[Copied] = []
    busy = os.getloadavg()[0]
    with two_hosts() as (source, target):
        size, version = fill(source), source.sql("SELECT VERSION() AS v")[0]["v"]
        print(f"{size / MIB:.0f} MiB of data", flush=True)
        bytes_ = 0
        ways = ["one", "ours", "agents"]
        for number in range(ROUNDS):
            # Each way goes first once: whoever follows a way that has freed its memory has it easier.
            for way in ways[number % 3 :] + ways[: number % 3]:
                if way == "agents":
                    with watched(source, target, peaks):
                        copies.append(copy(source, target, 0))
                    last = copies[-1]
                    print(
                        f"agents: {last.bytes:.2f} s, whole {last.whole:.2f} s, processor {last.processor:.2f} s",
                        flush=True,
                    )
                    continue
                options = ("--parallel=2",) if way == "ours" else ()
                took, processor, bytes_ = pipe(source, target, *options)
                pipes[way].append((took, processor))
                print(f"{way}: {took:.2f} s, processor {processor:.2f} s", flush=True)
        writing = rounds_of_writing(source, target, limits.COPY_MIB_PER_SECOND * MIB)
        for alone, beside, gap in writing:
            print(
                f"writes/s: {alone:.0f} alone, {beside:.0f} beside a copy; longest gap {gap * 1000:.0f} ms", flush=True
            )
    return _judge(bytes_, version, pipes, copies, peaks, writing, evidence, busy)


def _judge(
    size: int,
    version: str,
    pipes: Mapping[str, Sequence[tuple[float, float]]],
    copies: Sequence[Copied],
    peaks: Peaks,
    writing: Sequence[tuple[float, float, float]],
    evidence: bool,
    load: float,
) -> list[str]:
    """load: of the host before it began, by other programs."""
    ours = [copied.bytes for copied in copies]
    ways = {
        "(a) `mariadb-backup \\| mbstream`, default options": pipes["one"],
        "(b) the same with `--parallel=2`, as the agents call it": pipes["ours"],
        "(c) both agents, TLS: until everything is unpacked": [(copied.bytes, 0.0) for copied in copies],
        "(c) both agents: until the target is up with the copy": [
            (copied.whole, copied.processor) for copied in copies
        ],
    }
    bare = _median(pipes["one"])
    table: list[tuple[object, ...]] = [("way", "seconds, in turn", "median", "MiB/s", "rate, (a) = 1", "processor, s")]
    for way, took in ways.items():
        median = _median(took)
        in_turn = ", ".join(f"{seconds:.2f}" for seconds, _processor in took)
        processor = statistics.median(processor for _seconds, processor in took)
        table.append(
            (
                way,
                in_turn,
                f"{median:.2f}",
                f"{size / MIB / median:.0f}",
                f"{bare / median:.2f}",
                f"{processor:.1f}" if processor else "–",
            )
        )
    resident = [("program", "most resident", "goal")]
    for name, most in sorted(peaks.of.items()):
        goal = f"< {MOST_RESIDENT // MIB} MiB" if name.startswith("agent") else "–"
        resident.append((name, f"{most / MIB:.0f} MiB", goal))
    kept = [beside / alone for alone, beside, _gap in writing]
    busy: list[tuple[object, ...]] = [
        ("round", "writes/s alone", "beside a copy", "kept", "longest time without a write")
    ]
    for number, (alone, beside, gap) in enumerate(writing, 1):
        busy.append((number, f"{alone:.0f}", f"{beside:.0f}", f"{beside / alone:.0%}", f"{gap * 1000:.0f} ms"))
    goals = {
        f"(c) ≥ {LEAST_RATE} of the rate of (a)": bare / statistics.median(ours) >= LEAST_RATE,
        f"agents < {MOST_RESIDENT // MIB} MiB": all(
            most < MOST_RESIDENT for name, most in peaks.of.items() if name.startswith("agent")
        ),
        f"writers keep ≥ {LEAST_WRITES:.0%}": statistics.median(kept) >= LEAST_WRITES,
    }
    missed = [goal for goal, met in goals.items() if not met]
    for each in (table, resident, busy):
        for row in each:
            print(" | ".join(map(str, row)))
    if evidence:
        against = _median(pipes["ours"]) / statistics.median(ours)
        pages.write(
            "full-copy",
            "How fast a full copy is, and what it costs",
            database=version,
            paragraphs=[
                f"{size / MIB:.0f} MiB of random bytes, from one agent to another on the loopback of one host, {ROUNDS} turns of each way one after "
                "another, `sync` before each. All programs of both hosts, and the writers, share the two cores. The times of (a) and (b) end when both "
                "programs of the pipe have; of (c) they begin with the order to the source's agent.",
                f"The host had a load of {load:.1f} before this began{BUSY if load > BUSY_LOAD else ''}.",
                f"(c) has {against:.0%} of the rate of (b): what TLS, HTTP and two more programs cost. {len(goals) - len(missed)} of "
                f"{len(goals)} goals met{': missed ' + '; '.join(missed) if missed else ''}.",
            ],
            table=table,
            more=[
                ("Memory", resident),
                (
                    f"{WRITERS} writers on the source, an open primary, at the default rate of {limits.COPY_MIB_PER_SECOND} MiB/s "
                    f"(goal: ≥ {LEAST_WRITES:.0%})",
                    busy,
                ),
            ],
        )  # fmt: skip
    return missed


def _median(turns: Sequence[tuple[float, float]]) -> float:
    """Of the seconds."""
    return statistics.median(seconds for seconds, _processor in turns)
