"""A full copy that loses what carries it: afterwards the node is either as before or rebuilt, and the operation says which.

Real agents and databases under a whole controller; kill -9 of source and target database, source and target agent, ops worker,
Redis and the leader, at about 10 %, 50 % and 90 % of the bytes and during the swap; cancelled at each phase; refused by target, source
and disk. Writes docs/evidence/full-copy-kills.md. What is true is asked of the data: a row that
only the old data of the node has, and one that only the Master has.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests import evidence
from tests.scenarios.rebuilds import ENDED, Place, place, purge_what_it_lacks, secrets_in, share
from tests.waiting import wait_for

pytestmark = pytest.mark.long

A, B = "127.0.82.11", "127.0.82.12"
MIB_PER_SECOND = 40
ROWS = 160_000
"""KiB of data: some 4 s of copying at the throttle."""
TIMEOUT = 180
HUGE = 256 * 2**20


@pytest.fixture(scope="module")
def pair() -> Iterator[Place]:
    with place(A, B, rows=ROWS) as found:
        found.stack.execute("UPDATE nodes_vault SET rebuild_policy = 'never', copy_mib_per_second = ?", MIB_PER_SECOND)
        database = str(found.hosts[0].sql("SELECT VERSION() AS v")[0]["v"])
        yield found
    if len(OUTCOMES) == len(KILLS) * len(MOMENTS):
        _write(database)


OUTCOMES: list[tuple[str, str, str, float]] = []
"""What was killed, when, what the node was afterwards, and how many seconds after the kill the operation said so."""
MOMENTS = {"10 %": 0.1, "50 %": 0.5, "90 %": 0.9, "swap": 2.0}


def _write(database: str) -> None:
    evidence.write(
        "full-copy-kills",
        "A full copy that loses what carries it",
        database=database,
        paragraphs=[
            f"Two hosts under a whole controller on one machine, {ROWS // 1024} MiB of data at {MIB_PER_SECOND} MiB a second. "
            "`kill -9` at about so many of the bytes, or during the swap. What is true was asked of the data itself, and is what the "
            "operation said: in each case the node was as before, or rebuilt with every row equal. Made by "
            "`tests/scenarios/test_rebuild_kills_long.py`.",
        ],
        table=[
            ("killed", "at", "afterwards the node is", "said after, s"),
            *((a, b, c, f"{d:.1f}") for a, b, c, d in OUTCOMES),
        ],
    )


@pytest.fixture
def lacking(pair: Place) -> Place:
    """vault-b lacks what vault-a has purged: the row "while it was away" is in the data of vault-a only."""
    if pair.stack.vault()["primary"] != "vault-a":
        pair.wait_lossless()
        pair.stack.manage("vault", "switch-over", "vault-a", "--yes")
        pair.stack.wait_vault(primary="vault-a")
    if not pair.fallback.report().needs_rebuild:
        pair.wait_lossless(120)
        pair.primary.sql("DELETE FROM vault.passwords WHERE LENGTH(secret) < 100")
        pair.fallback.wait_report(
            lambda r: (
                r.database is not None and r.database.gtid_slave_pos == pair.primary.report().database.gtid_binlog_pos
            )  # type: ignore[union-attr]
        )
        purge_what_it_lacks(pair)
        pair.fallback.wait_report(lambda report: bool(report.needs_rebuild))
    return pair


def begin(pair: Place, *more: str) -> str:
    return pair.command("rebuild", pair.fallback.hostname, "--do-not-compare", *more)


def at(pair: Place, moment: float, id: str) -> None:
    """Wait for about this share of the bytes. It may be over too soon: then the row says so, and what follows is checked all the same."""
    wait_for(
        lambda: share(pair.fallback) >= moment or pair.operation(id)["state"] in ENDED,
        TIMEOUT,
        lambda: f"{moment:.0%} of the copy; {pair.fallback.report().task}, {pair.operation(id)}",
    )


def judge(pair: Place, ended: dict[str, Any]) -> None:
    """The truth, from the data itself, against what the operation says."""
    node, says = pair.fallback, ended["result"]["summary"]
    node.wait_up()
    rebuilt = b"while it was away" in secrets_in(node)
    if ended["state"] == "succeeded":
        assert rebuilt, says
        assert "vault-b was rebuilt" in says
        pair.wait_lossless(120)
        pair.wait_equal()
        return
    assert ended["state"] in ("failed", "cancelled"), ended
    report = node.report()
    as_before = any(
        words in says
        for words in (
            "the node is as before",
            "nothing was changed",
            "nothing was begun",
            "the data of before are there",
        )
    )
    assert as_before == (not rebuilt), f"{says}; {report}"
    assert as_before or "was rebuilt" in says or "has been replaced" in says, says
    if not rebuilt:
        assert report.needs_rebuild, "it is as before in every respect"
        assert not [p for p in ("copy.new", "copy.ready") if (node.home / p).exists()], "nothing is left behind"


def _horses(pair: Place) -> list[int]:
    worker = pair.stack.processes["ops"].pid
    return [int(pid) for pid in Path(f"/proc/{worker}/task/{worker}/children").read_text().split()]


def kill_source_database(pair: Place) -> None:
    pair.primary.kill_database()


def kill_source_agent(pair: Place) -> None:
    source = pair.primary
    source.kill_agent()
    source.start(ready=False)


def kill_target_database(pair: Place) -> None:
    with contextlib.suppress(AssertionError, ProcessLookupError):  # during the swap it does not run for a moment
        pair.fallback.kill_database()


def kill_target_agent(pair: Place) -> None:
    node = pair.fallback
    node.kill_agent()
    node.start(ready=False)


def kill_ops_worker(pair: Place) -> None:
    for pid in _horses(pair):
        pair.stack.signal_process(pid, signal.SIGKILL)
    pair.stack.kill("ops")
    pair.stack.ops()


def kill_redis(pair: Place) -> None:
    pair.stack.kill("redis")
    (pair.stack.var / "redis.sock").unlink(missing_ok=True)
    pair.stack.redis()
    if pair.stack.processes["ops"].poll() is not None:  # its supervisor would
        pair.stack.processes.pop("ops")
        pair.stack.ops()


def kill_leader(pair: Place) -> None:
    pair.stack.signal_process(pair.stack.leader_pid(), signal.SIGKILL)
    pair.stack.kill("service-a")
    pair.stack.service("a")


KILLS: dict[str, Callable[[Place], None]] = {
    "source database": kill_source_database,
    "source agent": kill_source_agent,
    "target database": kill_target_database,
    "target agent": kill_target_agent,
    "ops worker": kill_ops_worker,
    "Redis": kill_redis,
    "leader": kill_leader,
}


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("what", KILLS)
def test_after_a_kill_it_is_as_before_or_rebuilt_and_said_which(lacking: Place, what: str, moment: str) -> None:
    id = begin(lacking)
    at(lacking, MOMENTS[moment], id)
    killed = time.monotonic()
    KILLS[what](lacking)
    ended = lacking.wait_ended(id, TIMEOUT)
    seconds = time.monotonic() - killed
    judge(lacking, ended)
    OUTCOMES.append((what, moment, "rebuilt" if ended["state"] == "succeeded" else "as before", seconds))
    if what in ("ops worker", "Redis", "leader"):
        assert ended["state"] == "succeeded", "what only watches and orders does no harm to a copy"


@pytest.mark.parametrize("moment", [0.1, 0.6, 1.0, 2.0], ids=["10 %", "60 %", "prepare", "swap"])
def test_cancel_at_each_phase(lacking: Place, moment: float) -> None:
    """While it is copied there is always a way back; what is being put in its place goes on, and says so."""
    id = begin(lacking, "--rate", "12" if moment >= 1 else "6")
    at(lacking, moment, id)
    if moment < 1:
        lacking.stack.manage("vault", "cancel", id)
    else:  # a command takes longer than the phase lasts: the wish as it is written
        lacking.stack.execute(
            "UPDATE nodes_operation SET cancel_requested_at = ? WHERE id = ? AND state = 'running'",
            datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f"),
            id,
        )
    ended = lacking.wait_ended(id, TIMEOUT)
    judge(lacking, ended)
    if moment < 1:
        assert ended["state"] == "cancelled", ended["result"]["summary"]
        assert "was rebuilt" not in ended["result"]["summary"], "the copy takes half a minute: there was a way back"
    if moment > 1 and ended["state"] == "cancelled":
        assert "after the copy was in place" in ended["result"]["summary"]


def test_cancelled_before_anybody_ordered_it(lacking: Place) -> None:
    lacking.stack.kill("ops")
    try:
        id = begin(lacking)
        lacking.stack.manage("vault", "cancel", id)
        ended = lacking.operation(id)
        assert (ended["state"], ended["message"]) == ("cancelled", "cancelled before anything was done")
    finally:
        lacking.stack.ops()
    assert lacking.fallback.report().needs_rebuild


def test_a_target_that_may_not_write_there_refuses_before_anything_is_touched(lacking: Place) -> None:
    node = lacking.fallback
    in_the_way = node.home / "copy.new"
    in_the_way.mkdir(mode=0o700)
    (in_the_way / "kept").write_text("x")
    _immutable(in_the_way / "kept", True)
    try:
        ended = lacking.wait_ended(begin(lacking), TIMEOUT)
    finally:
        _immutable(in_the_way / "kept", False)
        shutil.rmtree(in_the_way, ignore_errors=True)
    assert ended["state"] == "failed", ended["result"]["summary"]
    assert "cannot write to" in ended["result"]["summary"]
    judge(lacking, ended)


def _immutable(file: Path, wanted: bool) -> None:
    done = subprocess.run(["chattr", "+i" if wanted else "-i", file], capture_output=True, text=True, check=False)
    if done.returncode and wanted:
        pytest.skip(f"this file system knows no immutable files: {done.stderr.strip()}")


def test_a_disk_without_room_refuses_and_says_how_much_is_missing(lacking: Place) -> None:
    """The disk is not filled: one file counts as often as it has names in the data of the source."""
    node, source = lacking.fallback, lacking.primary
    huge, names = source.home / "data" / "huge", node.report().disk_free_bytes // HUGE + 4
    huge.mkdir()
    with (huge / "0").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, HUGE)
    try:
        for number in range(1, names):
            os.link(huge / "0", huge / str(number))
        wait_for(
            lambda: source.report().data_bytes > node.report().disk_free_bytes,
            TIMEOUT,
            lambda: f"the source has counted it: {source.report().data_bytes}",
        )
        ended = lacking.wait_ended(begin(lacking), TIMEOUT)
    finally:
        shutil.rmtree(huge)
    assert ended["state"] == "failed", ended["result"]["summary"]
    assert "no room" in ended["result"]["summary"]
    judge(lacking, ended)
    wait_for(lambda: source.report().data_bytes < node.report().disk_free_bytes, TIMEOUT, "counted again")


def test_a_source_that_cannot_make_a_copy_says_why(lacking: Place) -> None:
    source = lacking.primary
    config = (source.home / "agent.json").read_text()
    source.stop()
    (source.home / "agent.json").write_text(config.replace("/usr/bin/mariadb-backup", "/usr/bin/no-such-program"))
    source.start()
    try:
        lacking.stack.wait_vault(primary="vault-a")
        ended = lacking.wait_ended(begin(lacking), TIMEOUT)
    finally:
        source.stop()
        (source.home / "agent.json").write_text(config)
        source.start()
        lacking.stack.wait_vault(primary="vault-a")
    assert ended["state"] == "failed", ended["result"]["summary"]
    assert "mariadb-backup" in ended["result"]["summary"] or "no-such-program" in ended["result"]["summary"]
    judge(lacking, ended)


def test_a_rate_of_nothing_is_refused(lacking: Place) -> None:
    with pytest.raises(AssertionError, match="W109"):
        begin(lacking, "--rate", "0")


def test_with_no_service_worker_it_says_that_nobody_could_order_it(lacking: Place) -> None:
    id = begin(lacking)
    lacking.stack.signal_process(lacking.stack.leader_pid(), signal.SIGSTOP)
    try:
        ended = lacking.wait_ended(id, TIMEOUT)
    finally:
        with contextlib.suppress(AssertionError, ProcessLookupError):
            os.kill(lacking.stack.leader_pid(), signal.SIGCONT)
    if ended["state"] != "succeeded":  # it may have been ordered a moment before
        assert "nobody led" in ended["result"]["summary"]
    judge(lacking, ended)
