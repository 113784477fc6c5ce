"""The moments in which a copy takes the place of the data, and back.

Proves, on real servers: an agent that is killed with SIGKILL before or after any step leaves data that are whole, those of before or
the copy, and the next agent says which and goes on by itself; a mariadbd that is killed meanwhile, and new data that it cannot use,
too; a fence that arrives meanwhile wins; no verb and no revival starts anything on half a directory.
"""

import contextlib
import json
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from replication.core.commands import Verb
from replication.core.errors import StepFailed
from replication.core.report import NodeReport
from replication.core.roles import ProcessState
from replication.core.tasks import TaskKind, TaskPhase
from tests.agent.copying import PATIENCE, Push, backup_of, cancel, command, leftovers, rebuild, wait_ended, wait_phase
from tests.agent.orders import database, follow, open_primary, order
from tests.vault_host import PROGRAM, VaultHost
from tests.waiting import wait_for

Pair = tuple[VaultHost, VaultHost]
ROOT = PROGRAM.parent.parent

# The real programs, which do something before or after when a test says so with a file.
MARIADBD = """#!/bin/sh
[ "$1" = --version ] && exec /usr/sbin/mariadbd --version
rm {flags}/die 2>/dev/null && kill -9 $$
while [ -e {flags}/hold ]; do sleep 0.05; done
exec /usr/sbin/mariadbd "$@"
"""
BACKUP = """#!/bin/sh
/usr/bin/mariadb-backup "$@"
code=$?
for word in "$@"; do
    case $word in --target-dir=*) [ -e {flags}/damage ] && truncate -s 4096 "${{word#--target-dir=}}/ibdata1";; esac
done
exit $code
"""
LONG = pytest.mark.long
POINTS = [
    pytest.param("write_json:1:before", id="before the journal", marks=LONG),
    pytest.param("write_json:1:after", id="after the journal", marks=LONG),
    pytest.param("kill:1:after", id="mariadbd is killed", marks=LONG),
    pytest.param("move:1:after", id="no data directory at all"),
    pytest.param("move:2:after", id="the copy is in its place", marks=LONG),
    pytest.param("start:1:after", id="started", marks=LONG),
    pytest.param("take_position:1:before", id="without its position"),
    pytest.param("take_position:1:after", id="with its position", marks=LONG),
    pytest.param("write_json:2:after", id="found complete"),
    pytest.param("move:3:after", id="the old data are set aside", marks=LONG),
    pytest.param("_end:1:after", id="all done and not told yet", marks=LONG),
]
UNDO_POINTS = [
    pytest.param("move:1:after", id="no data directory at all"),
    pytest.param("start:1:after", id="started", marks=LONG),
    pytest.param("write_json:2:after", id="found complete", marks=LONG),
    pytest.param("_end:1:after", id="all done and not told yet", marks=LONG),
]


@pytest.fixture(scope="module")
def hosts(make: Callable[..., VaultHost]) -> Pair:
    source, target = make("127.0.80.21", "source-2", cut="none"), make("127.0.80.22", "target-2", cut="none")
    target.client_password = source.client_password
    for host in (source, target):
        host.init()
    settings = json.loads(target.config.config_file.read_text())
    programs = {"mariadbd": MARIADBD, "mariadb_backup": BACKUP}
    for name, text in programs.items():
        program = target.directory / name
        program.write_text(text.format(flags=target.directory))
        program.chmod(0o755)
    paths = {name: str(target.directory / name) for name in programs}
    target.config.config_file.write_text(json.dumps({**settings, **paths}))
    for host in (source, target):
        host.start()
    open_primary(source, [target], jump=False)
    source.sql("CREATE TABLE vault.copied (id INT PRIMARY KEY)")
    open_primary(target, [], jump=False)
    target.sql("CREATE TABLE vault.old (id INT PRIMARY KEY)")
    order(target, Verb.CLOSE)
    return source, target


@pytest.fixture(scope="module")
def stream(hosts: Pair, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A whole copy of the source; always the same, so that a copy costs no mariadb-backup."""
    return backup_of(hosts[0], tmp_path_factory.mktemp("scratch") / "target")


@pytest.fixture
def pair(hosts: Pair) -> Iterator[Pair]:
    """The target has data of its own at the beginning of each test."""
    target = hosts[1]
    if target.agent is None:
        target.start()
    if "copied" in data(target):
        undone = secrets.token_hex(8)
        assert command(target, Verb.UNDO, undone)[0] == 200
        wait_ended(target, undone)
    assert data(target) == {"old"}
    yield hosts
    assert leftovers(target) == []


def data(host: VaultHost) -> set[str]:
    """Which data it serves."""
    host.wait_up()
    return {str(next(iter(row.values()))) for row in host.sql("SHOW TABLES IN vault")} & {"old", "copied"}


def begin(source: VaultHost, target: VaultHost, stream: bytes) -> str:
    operation = rebuild(target, source)

    def pushed() -> bool:
        pushing = Push(source, target, operation)
        try:
            pushing.send(stream)
            return pushing.end()[0] == 200
        finally:
            pushing.close()

    wait_for(pushed, PATIENCE, "the stream is taken")
    return operation


def restart_to_die(host: VaultHost, point: str) -> "subprocess.Popen[bytes]":
    host.stop()
    with host.log_file.open("ab") as log:
        host.agent = subprocess.Popen(
            [sys.executable, "-m", "tests.agent.dying_agent", point, "serve", "--home", host.home],
            stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=ROOT,
        )  # fmt: skip
    host.wait_up()
    return host.agent


def wait_dead(host: VaultHost) -> None:
    assert host.agent is not None
    assert host.agent.wait(PATIENCE) == -9, host.log()
    host.agent = None


@pytest.mark.parametrize("point", POINTS)
def test_an_agent_killed_between_two_steps(pair: Pair, stream: bytes, point: str) -> None:
    source, target = pair
    restart_to_die(target, point)
    operation = begin(source, target, stream)
    wait_dead(target)
    target.start()
    report = wait_ended(target, operation)
    task = report.task
    assert task is not None
    assert data(target) == {"copied"}, target.log()
    assert (task.phase, task.says, task.replaced) == (TaskPhase.DONE, "", True)
    assert report.kept is not None
    assert report.kept.operation == operation
    serves(source, target, task.position)


def serves(source: VaultHost, target: VaultHost, position: str) -> None:
    found = database(target)
    assert (found.gtid_binlog_pos, found.gtid_slave_pos, found.read_only) == (position, position, True)
    follow(target, source)
    order(target, Verb.DETACH)


@pytest.mark.parametrize("point", UNDO_POINTS)
def test_an_agent_killed_while_it_puts_data_back(pair: Pair, stream: bytes, point: str) -> None:
    source, target = pair
    wait_ended(target, begin(source, target, stream))
    assert data(target) == {"copied"}
    restart_to_die(target, point)
    operation = secrets.token_hex(8)
    command_that_dies(target, Verb.UNDO, operation)
    wait_dead(target)
    target.start()
    report = wait_ended(target, operation)
    assert report.task is not None
    assert (report.task.phase, report.task.replaced) == (TaskPhase.DONE, True), report.task
    assert data(target) == {"old"}
    assert report.kept is None


def command_that_dies(host: VaultHost, verb: Verb, operation: str) -> None:
    with contextlib.suppress(OSError):  # it may die before it answers
        command(host, verb, operation)


def test_a_swap_that_no_task_remembers_is_undone(pair: Pair, stream: bytes) -> None:
    source, target = pair
    restart_to_die(target, "move:1:after")
    begin(source, target, stream)
    wait_dead(target)
    assert not (target.home / "data").exists()
    (target.home / "task.json").unlink()
    target.start()
    assert data(target) == {"old"}
    assert (target.report().task, target.report().kept) == (None, None)


@contextlib.contextmanager
def flag(host: VaultHost, name: str) -> Iterator[None]:
    (host.directory / name).touch()
    try:
        yield
    finally:
        (host.directory / name).unlink(missing_ok=True)


def went_back(target: VaultHost, operation: str) -> NodeReport:
    report = wait_ended(target, operation)
    task = report.task
    assert task is not None
    assert (task.phase, task.replaced, report.kept) == (TaskPhase.FAILED, False, None)
    assert task.says.endswith("; the data of before are in their place again")
    assert data_on_disk(target) == "old"
    return report


def test_a_mariadbd_that_is_killed_meanwhile_is_started_again(pair: Pair, stream: bytes) -> None:
    source, target = pair
    with flag(target, "die"):
        report = wait_ended(target, begin(source, target, stream))
        assert not (target.directory / "die").exists(), "it did die"
    assert report.task is not None
    assert report.task.phase is TaskPhase.DONE
    serves(source, target, report.task.position)


def test_data_that_do_not_start_are_taken_out_again(pair: Pair, stream: bytes) -> None:
    source, target = pair
    before = target.report()
    with flag(target, "damage"):
        operation = begin(source, target, stream)
        report = went_back(target, operation)
    assert report.task is not None
    assert "the copy cannot be used" in report.task.says
    assert data(target) == {"old"}, "it was started again by itself"
    after = target.report()
    assert before.database is not None
    assert after.database is not None
    assert after.database.gtid_binlog_state == before.database.gtid_binlog_state
    assert after.database.server_id == before.database.server_id


def test_a_fence_that_comes_meanwhile_wins_and_no_order_starts_anything(pair: Pair, stream: bytes) -> None:
    source, target = pair
    with flag(target, "hold"):
        operation = begin(source, target, stream)
        wait_phase(target, TaskPhase.STARTING)
        for verb in (Verb.OPEN, Verb.FOLLOW, Verb.ACKER, Verb.DETACH):
            status, answer = command(target, verb, "x")
            assert (status, answer["reason"]) == (422, "task"), answer
        status, answer = command(target, Verb.PROMISE, "x")
        assert status == 200, answer
        assert cancel(target, operation) is False, "there is no way back"
        order(target, Verb.FENCE)
        report = went_back(target, operation)
    assert report.task is not None
    assert "it was fenced" in report.task.says
    assert target.report().process is ProcessState.DEAD
    target.stop()
    target.start(ready=False)
    assert target.database_pid == 0, "fenced also for the next agent"
    with pytest.raises(StepFailed, match="transactions that the primary does not have"):
        follow(target, source)  # which ends the fence


@LONG
def test_an_agent_that_is_stopped_meanwhile_leaves_the_rest_to_the_next(pair: Pair, stream: bytes) -> None:
    source, target = pair
    with flag(target, "hold"):
        operation = begin(source, target, stream)
        wait_phase(target, TaskPhase.STARTING)
        assert target.stop() == 0
        assert data_on_disk(target) == "copied"
    report = wait_ended(target.start(), operation)
    assert report.task is not None
    assert (report.task.phase, report.task.says, report.task.replaced) == (TaskPhase.DONE, "", True)
    serves(source, target, report.task.position)


def data_on_disk(host: VaultHost) -> str:
    return "copied" if (host.home / "data" / "vault" / "copied.ibd").exists() else "old"


def test_what_quarantine_and_memory_were_comes_back_with_the_old_data(pair: Pair, stream: bytes) -> None:
    source, target = pair
    with pytest.raises(StepFailed, match="transactions that the primary does not have"):
        follow(target, source)
    held = target.report().quarantine
    assert held
    copied = wait_ended(target, begin(source, target, stream))
    assert (copied.quarantine, copied.tainted) == ("", False)
    assert copied.kept is not None
    undone = secrets.token_hex(8)
    assert command(target, Verb.UNDO, undone)[0] == 200
    report = wait_ended(target, undone)
    assert report.task is not None
    assert (report.task.kind, report.task.phase, report.task.replaced) == (TaskKind.UNDO, TaskPhase.DONE, True)
    assert (report.quarantine, report.kept) == (held, None)
    assert report.tainted, "it lacks what the copy may have acknowledged"
    assert data(target) == {"old"}
    status, answer = command(target, Verb.UNDO, secrets.token_hex(8))
    assert (status, answer["reason"]) == (422, "task"), "what was undone is gone"


def test_a_node_with_damaged_data_and_no_memory_is_brought_back(pair: Pair, stream: bytes) -> None:
    source, target = pair
    target.stop()
    target.kill_database()
    (target.home / "state.json").unlink()
    (target.home / "data" / "ibdata1").write_bytes(b"")
    target.start(ready=False)
    lost = target.wait_report(lambda report: bool(report.quarantine))
    assert (lost.vault, lost.epoch) == ("", 0)
    report = wait_ended(target, begin(source, target, stream))
    assert report.task is not None
    assert (report.task.phase, report.task.says) == (TaskPhase.DONE, "")
    assert (report.quarantine, report.node) == ("", target.node)
    assert data(target) == {"copied"}
    serves(source, target, report.task.position)

    undone = secrets.token_hex(8)  # which cannot work: the old data do not start
    assert command(target, Verb.UNDO, undone)[0] == 200
    after = wait_ended(target, undone)
    assert after.task is not None
    assert after.task.phase is TaskPhase.FAILED
    assert after.task.says.startswith("the kept data cannot be used")
    assert after.task.says.endswith("the copy is in its place again, and they are kept")
    assert data(target) == {"copied"}
    assert after.kept is not None, "they are kept still"
    follow(target, source)


def test_a_member_whose_data_directory_is_gone_is_brought_back(hosts: Pair, stream: bytes) -> None:
    source, target = hosts
    target.stop()
    target.kill_database()
    shutil.rmtree(target.home / "data")
    target.start(ready=False)
    assert target.wait_report(lambda report: bool(report.needs_rebuild)).vault, "it remembers what it promised"
    report = wait_ended(target, begin(source, target, stream))
    assert report.task is not None
    assert (report.task.phase, report.task.says, report.needs_rebuild) == (TaskPhase.DONE, "", "")
    assert report.kept is None or report.kept.operation != report.task.operation, "there was nothing to keep"
    assert data(target) == {"copied"}
    follow(target, source)
