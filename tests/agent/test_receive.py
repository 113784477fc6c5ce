"""The target of a full copy, until the copy takes the place of the data (test_swap.py has what comes then).

Proves, on real servers and agents: a copy takes the place of the data, which are kept, and the node follows and acknowledges from
then on, also after a crash; while it comes in the agent answers and stays small; the wrong source or operation, another user or
version, garbage, a stream that breaks off or is cut short, a source that gives up, cancelling, stopping and killing leave the node
as it was, with a sentence and nothing on its disk.
"""

import json
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from replication.core.commands import Verb
from replication.core.roles import OrderKind
from replication.core.tasks import TaskKind, TaskPhase
from tests.agent.copying import (
    Push,
    backup_of,
    cancel,
    command,
    copy,
    leftovers,
    push,
    rebuild,
    send,
    wait_ended,
    wait_phase,
)
from tests.agent.orders import database, follow, open_primary, order
from tests.vault_host import VaultHost
from tests.waiting import wait_for

Pair = tuple[VaultHost, VaultHost]

RESIDENT_KIB_MAX = 150 * 1024
BLOBS, BLOB_BYTES = 8, 8 * 2**20


@pytest.fixture(scope="module")
def hosts(make: Callable[..., VaultHost]) -> Pair:
    """A primary, and a node with data of its own that can never follow it. Its mariadb-backup waits while `hold` is there."""
    source, target = make("127.0.80.11", "source-1", cut="none"), make("127.0.80.12", "target-1", cut="none")
    target.client_password = source.client_password
    for host in (source, target):
        host.init()
    program = target.directory / "slow-backup"
    program.write_text(
        f'#!/bin/sh\nwhile [ -e {hold(target)} ]; do sleep 0.05; done\nexec /usr/bin/mariadb-backup "$@"\n'
    )
    program.chmod(0o755)
    settings = json.loads(target.config.config_file.read_text())
    target.config.config_file.write_text(json.dumps({**settings, "mariadb_backup": str(program)}))
    for host in (source, target):
        host.start()
    open_primary(source, [target], jump=False)
    source.sql("CREATE TABLE vault.rows_ (id BIGINT AUTO_INCREMENT PRIMARY KEY, filling LONGBLOB)")
    open_primary(target, [], jump=False)
    target.sql("CREATE TABLE vault.mine (id INT PRIMARY KEY)")
    order(target, Verb.CLOSE)
    return source, target


def hold(host: VaultHost) -> Path:
    return host.directory / "hold"


@pytest.fixture
def pair(hosts: Pair) -> Iterator[Pair]:
    """As `hosts`; what a test has broken off must not be seen on the disk."""
    yield hosts
    hold(hosts[1]).unlink(missing_ok=True)
    assert leftovers(hosts[1]) == []


def has_own_data(host: VaultHost) -> bool:
    return bool(host.sql("SHOW TABLES IN vault LIKE 'mine'"))


def failed(target: VaultHost, operation: str) -> str:
    """The sentence of a copy that came to nothing; the node is as it was."""
    report = wait_ended(target, operation)
    assert report.task is not None
    assert (report.task.phase, report.task.replaced) == (TaskPhase.FAILED, False)
    assert has_own_data(target)
    assert leftovers(target) == []
    return report.task.says


def wait_for_door(source: VaultHost, target: VaultHost, operation: str) -> None:
    """A verb answers when its task has begun, which is a moment before the door is open."""

    def open_() -> bool:
        with push(target, target, operation) as stranger:  # the wrong source: refused with 403 once somebody waits
            return stranger.end()[0] == 403

    wait_for(open_, 5, "the copy is waited for")


def begin(source: VaultHost, target: VaultHost, **headers: str) -> tuple[str, Push]:
    operation = rebuild(target, source)
    wait_for_door(source, target, operation)
    return operation, Push(source, target, operation, **headers)


# --- who may not ------------------------------------------------------------------------------------------------------


def test_only_the_ordered_source_is_let_in_and_only_for_its_operation(pair: Pair) -> None:
    source, target = pair
    with push(source, target, "nothing") as early:
        assert early.end()[0] == 404
    operation, stream = begin(source, target)
    with push(source, target, operation) as second:
        status, answer = second.end()
        assert (status, answer["text"]) == (409, "this copy is being received already")
    with push(source, target, "another") as other:
        status, answer = other.end()
        assert (status, answer["text"]) == (404, "no copy of this operation is waited for here")
    with push(target, target, operation) as stranger:
        status, answer = stranger.end()
        assert status == 403
        assert source.subject in answer["text"]
    for who in ("controller", "nobody"):
        assert target.request("POST", f"/copy/{operation}", b"", who=who)[0] == 403  # type: ignore[arg-type]  # both are one
    assert target.request("POST", "/kept/remove", b"{}", who="node")[0] == 403
    assert cancel(target, operation)
    wait_ended(target, operation)
    assert stream.answer()[0] == 410
    stream.close()


@pytest.mark.parametrize(
    ("headers", "says"),
    [
        pytest.param({"X_Copy_Bytes": str(2**50)}, "MiB of room", id="larger than it was when it was ordered"),
        pytest.param({"X_Copy_User": "somebody"}, "run both agents as the same user", id="another user"),
        pytest.param({"X_Copy_Version": "10.11.999-MariaDB"}, "upgrade this host first", id="a newer version"),
        pytest.param({"X_Copy_Version": "11.4.2-MariaDB"}, "upgrade this host first", id="another series"),
    ],
)
def test_a_copy_that_could_not_be_used_is_refused(pair: Pair, headers: dict[str, str], says: str) -> None:
    source, target = pair
    operation, stream = begin(source, target, **headers)
    status, answer = stream.answer()
    stream.close()
    assert status == 409
    assert says in answer["text"]
    assert says in failed(target, operation)


@pytest.mark.parametrize(
    ("args", "says"),
    [
        pytest.param({"source_bytes": 2**50}, "MiB of room", id="more than fits"),
        pytest.param({"source_subject": ""}, "whom the copy comes from", id="from nobody"),
    ],
)
def test_what_cannot_work_is_refused_before_it_begins(pair: Pair, args: dict[str, object], says: str) -> None:
    source, target = pair
    given = {"source_name": source.hostname, "source_subject": source.subject, "source_bytes": 1, **args}
    before = target.report().task
    status, answer = command(target, Verb.REBUILD, secrets.token_hex(8), given)
    assert (status, answer["reason"]) == (422, "task")
    assert says in answer["text"]
    assert target.report().task == before


@pytest.mark.parametrize("operation", ["../../../home/x", "a/b", ".", "", "x" * 65])
def test_what_is_no_id_becomes_part_of_no_path(pair: Pair, operation: str) -> None:
    source, target = pair
    given = {"source_name": source.hostname, "source_subject": source.subject, "source_bytes": 1}
    before = target.report().task
    assert command(target, Verb.REBUILD, operation, given)[0] in (400, 422)
    export = {"kind": "export", "operation": operation, "args": {"have": {}, "primary": "x"}}
    assert target.request("POST", "/task", json.dumps(export).encode())[0] in (400, 422)
    assert target.report().task == before


def test_old_data_that_no_copy_has_left_there_are_not_replaced(pair: Pair) -> None:
    """After a restore in place they may hold the last of what was acknowledged, and no note says so."""
    source, target = pair
    (target.home / "data.old").mkdir()
    try:
        given = {"source_name": source.hostname, "source_subject": source.subject, "source_bytes": 1}
        status, answer = command(target, Verb.REBUILD, secrets.token_hex(8), given)
        assert status == 422
        assert "move it away" in answer["text"]
        assert (target.home / "data.old").exists()
    finally:
        (target.home / "data.old").rmdir()


def test_there_is_nothing_to_put_back_yet(pair: Pair) -> None:
    status, answer = command(pair[1], Verb.UNDO, "undo-1")
    assert status == 422
    assert "there is nothing to put back" in answer["text"]


# --- what goes wrong --------------------------------------------------------------------------------------------------


def test_garbage_is_not_unpacked(pair: Pair) -> None:
    source, target = pair
    operation, stream = begin(source, target)
    stream.send(b"this is no stream of mbstream\n" * 1000)
    status, answer = stream.end()
    stream.close()
    assert status == 500
    assert "cannot be unpacked" in answer["text"]
    assert "cannot be unpacked" in failed(target, operation)


def test_a_stream_that_breaks_off_is_no_copy(pair: Pair, tmp_path: Path) -> None:
    source, target = pair
    operation, stream = begin(source, target)
    whole = backup_of(source, tmp_path / "scratch")
    stream.send(whole[: len(whole) // 2])
    stream.close()
    assert "broke off" in failed(target, operation)


def test_a_stream_that_is_cut_short_and_ended_well_is_no_copy(pair: Pair, tmp_path: Path) -> None:
    source, target = pair
    operation, stream = begin(source, target)
    whole = backup_of(source, tmp_path / "scratch")
    stream.send(whole[: len(whole) // 2])
    assert stream.end()[0] == 500
    stream.close()
    assert "cannot be unpacked" in failed(target, operation)


def test_half_a_copy_that_unpacks_well_is_not_prepared(pair: Pair, tmp_path: Path) -> None:
    """The end of a stream of which only the first files came."""
    source, target = pair
    operation, stream = begin(source, target)
    whole = backup_of(source, tmp_path / "scratch")
    stream.send(whole[: whole.index(b"XBSTCK01", whole.index(b"ibdata1") + 1_000_000)])
    stream.end()
    stream.close()
    assert "cannot be" in failed(target, operation)


def test_the_source_says_why_it_gives_up(pair: Pair) -> None:
    source, target = pair
    for begun in (False, True):
        operation = rebuild(target, source)
        wait_for_door(source, target, operation)
        stream = Push(source, target, operation) if begun else None
        with push(source, target, f"{operation}/failed") as word:
            word.send(json.dumps({"text": "its tables are locked"}).encode())
            assert word.end()[0] == 200
        if stream is not None:
            stream.close()
        assert "its tables are locked" in failed(target, operation)


def test_cancelling_leaves_nothing_behind(pair: Pair, tmp_path: Path) -> None:
    source, target = pair
    whole = backup_of(source, tmp_path / "scratch")
    for phase in (TaskPhase.WAITING, TaskPhase.TRANSFERRING, TaskPhase.PREPARING):
        hold(target).touch()
        operation, stream = begin(source, target)
        if phase is TaskPhase.TRANSFERRING:
            stream.send(whole[: len(whole) // 2])
        if phase is TaskPhase.PREPARING:
            stream.send(whole)
            assert stream.end() == (200, {"received": len(whole)})
        wait_phase(target, TaskPhase.TRANSFERRING if phase is TaskPhase.WAITING else phase)
        assert cancel(target, operation)
        report = wait_ended(target, operation)
        assert report.task is not None
        assert (report.task.phase, report.task.says) == (TaskPhase.CANCELLED, "cancelled; nothing was changed")
        assert leftovers(target) == []
        stream.close()
    assert has_own_data(target)


def test_while_a_copy_comes_the_node_is_given_no_role(pair: Pair) -> None:
    source, target = pair
    operation, stream = begin(source, target)
    for verb in (Verb.OPEN, Verb.ACKER):
        status, answer = command(target, verb, "x")
        assert (status, answer["reason"]) == (422, "task"), answer
        assert "replaced" in answer["text"]
    other = command(target, Verb.REBUILD, "another", {"source_name": "x", "source_subject": "x", "source_bytes": 1})
    assert other[0] == 422
    assert "busy" in other[1]["text"]
    stream.close()
    failed(target, operation)


def test_an_agent_that_is_stopped_or_killed_meanwhile_says_so(pair: Pair, tmp_path: Path) -> None:
    source, target = pair
    whole = backup_of(source, tmp_path / "scratch")
    for phase, end in (
        (TaskPhase.TRANSFERRING, target.stop),
        (TaskPhase.TRANSFERRING, target.kill_agent),
        (TaskPhase.PREPARING, target.kill_agent),
    ):
        hold(target).touch()
        operation, stream = begin(source, target)
        stream.send(whole if phase is TaskPhase.PREPARING else whole[:100_000])
        if phase is TaskPhase.PREPARING:
            assert stream.end()[0] == 200
        wait_phase(target, phase)
        end()
        stream.close()
        target.start()
        says = failed(target, operation)
        assert says.startswith("the agent was stopped" if end == target.stop else "the agent ended")
        assert says.endswith("nothing was changed")


def test_a_fence_that_came_meanwhile_keeps_the_copy_out(pair: Pair, tmp_path: Path) -> None:
    source, target = pair
    hold(target).touch()
    operation, stream = begin(source, target)
    stream.send(backup_of(source, tmp_path / "scratch"))
    assert stream.end()[0] == 200
    stream.close()
    wait_phase(target, TaskPhase.PREPARING)
    order(target, Verb.FENCE)
    hold(target).unlink()
    report = wait_ended(target, operation)
    assert report.task is not None
    assert (report.task.phase, report.task.says) == (
        TaskPhase.FAILED,
        "it was fenced in the meantime; nothing was changed",
    )
    assert (target.database_pid, report.kept) == (0, None)


# --- and when it goes well --------------------------------------------------------------------------------------------


def test_a_copy_takes_the_place_of_the_data_and_the_node_serves(pair: Pair) -> None:
    source, target = pair
    for _ in range(BLOBS):
        source.sql("INSERT INTO vault.rows_ (filling) VALUES (REPEAT('x', %s))", BLOB_BYTES)
    former = target.report()
    assert target.database_pid == 0, "it is fenced, and an order to be rebuilt ends that: it starts closed"
    operation = rebuild(target, source, source_bytes=BLOBS * BLOB_BYTES)
    send(source, target, operation, bytes_per_second=100 * 2**20)
    slowest, seen = 0.0, set()
    while True:
        began = time.monotonic()
        task = target.report().task
        slowest = max(slowest, time.monotonic() - began)
        assert task is not None
        seen.add(task.phase)
        if not task.active:
            break
    report = wait_ended(target, operation)
    task = report.task
    assert task is not None
    assert (task.kind, task.phase, task.says, task.replaced) == (TaskKind.RECEIVE, TaskPhase.DONE, "", True), (
        target.log()
    )
    assert task.position == database(source).gtid_binlog_pos
    assert task.done == task.total > BLOBS * BLOB_BYTES
    assert TaskPhase.TRANSFERRING in seen
    assert slowest < 1, "the agent answered all the time"
    assert resident_kib(target) < RESIDENT_KIB_MAX

    assert report.kept is not None
    assert report.kept.operation == operation
    assert not has_own_data(target)
    assert len(target.sql("SELECT id FROM vault.rows_")) == len(source.sql("SELECT id FROM vault.rows_"))
    found = report.database
    assert found is not None
    assert (found.read_only, found.gtid_slave_pos, found.gtid_binlog_pos) == (True, task.position, task.position)
    assert (report.vault, report.node) == (former.vault, former.node)
    assert report.epoch >= former.epoch > 0
    assert (report.quarantine, report.needs_rebuild, report.tainted, report.order_kind) == (
        "",
        "",
        False,
        OrderKind.NONE,
    )

    pid = target.database_pid
    target.kill_database()
    after = target.wait_report(lambda now: now.database is not None and target.database_pid not in (0, pid)).database
    assert after is not None
    assert (after.gtid_slave_pos, after.gtid_binlog_state) == (found.gtid_slave_pos, found.gtid_binlog_state)

    follow(target, source)
    order(target, Verb.ACKER)
    order(source, Verb.LOSSLESS)
    source.sql("INSERT INTO vault.rows_ (filling) VALUES ('after')")
    wait_for(lambda: target.sql("SELECT 1 FROM vault.rows_ WHERE filling = 'after'"), 10, "the row arrives")
    order(source, Verb.SOLO)


def test_what_is_kept_is_told_and_removed_by_its_operation(pair: Pair) -> None:
    source, target = pair
    first = target.report().kept
    assert first is not None
    again = copy(source, target)
    assert again.task is not None
    assert again.task.phase is TaskPhase.DONE
    kept = target.wait_report(lambda report: report.kept is not None and report.kept.bytes > BLOBS * BLOB_BYTES).kept
    assert kept is not None
    assert kept.operation == again.task.operation != first.operation, "the older one went when the newer was complete"
    assert target.report().data_bytes > BLOBS * BLOB_BYTES

    assert target.request("POST", "/kept/remove", json.dumps({"operation": first.operation}).encode())[0] == 422
    assert target.report().kept == kept
    for _ in range(2):  # said twice it is done once
        assert target.request("POST", "/kept/remove", json.dumps({"operation": kept.operation}).encode())[0] == 200
    assert target.report().kept is None
    wait_for(lambda: not list(target.home.glob("data.old*")), 5, "it is gone")


def test_a_purge_removes_what_is_kept_too(pair: Pair) -> None:
    source, target = pair
    assert copy(source, target).kept is not None
    order(target, Verb.DETACH, {"leave": True})
    done = target.run("purge", "--yes-i-mean", target.hostname)
    assert done.returncode == 0, done.stderr
    target.wait_agent_ended()
    assert not target.home.exists()


def resident_kib(host: VaultHost) -> int:
    """The most that its agent has had in memory."""
    assert host.agent is not None
    for line in Path(f"/proc/{host.agent.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1])
    raise AssertionError("no VmHWM")
