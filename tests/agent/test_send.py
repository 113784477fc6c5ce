"""The source of a full copy, on a real server: what arrives is whole, and whatever goes wrong on the way is said and leaves nothing.

The target is a real receiver with mbstream behind it, without an agent (copy_receiver.py), so that it can refuse, fall silent and hang up.
"""

import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from replication.agent.database import local_user
from replication.agent.send import ROOT, Send
from replication.agent.sender import Order
from replication.agent.state import StateFile
from replication.core import limits
from replication.core.commands import Verb
from replication.core.errors import StepFailed
from replication.core.roles import ProcessState
from replication.core.tasks import SendArgs, TaskKind, TaskOrder, TaskPhase, TaskReport
from replication.core.vault_ports import AgentState, TaskRefused
from tests.agent import orders
from tests.agent.copy_receiver import CopyReceiver, receiving
from tests.vault_host import VaultHost
from tests.waiting import wait_for

SLOW = 2 * 1024 * 1024
"""Bytes a second: the copy of 30 MB is under way for as long as a test needs, and for longer if the test did not end it."""
SECONDS = 30


@pytest.fixture(scope="module")
def source(make: Callable[..., VaultHost]) -> VaultHost:
    host = make("127.0.81.11", "source").init().start()
    orders.open_primary(host, [], jump=False)
    host.sql("CREATE TABLE vault.rows_ (id BIGINT PRIMARY KEY)")
    host.sql("CREATE TABLE vault.blobs (id BIGINT PRIMARY KEY, b BLOB) ENGINE=InnoDB")
    host.sql("INSERT INTO vault.blobs SELECT seq, RANDOM_BYTES(1000) FROM vault.seq_1_to_8000")
    return host


@pytest.fixture(scope="module")
def target(make: Callable[..., VaultHost]) -> VaultHost:
    """Has its certificate; its agent never runs."""
    return make("127.0.81.12", "target").init()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "copy"
    shutil.rmtree(tmp_path / "copy", ignore_errors=True)


@pytest.fixture
def receiver(target: VaultHost, place: Path) -> Iterator[CopyReceiver]:
    with receiving(target, place) as server:
        yield server


def send_args(target: VaultHost, rate: int = 0, **changes: Any) -> SendArgs:
    args = SendArgs(
        target_name=target.hostname,
        target_host=target.ip,
        target_port=limits.AGENT_PORT,
        target_subject=target.subject,
        bytes_per_second=rate,
    )
    return replace(args, **changes)


def begin(source: VaultHost, args: SendArgs) -> str:
    """Returns the operation."""
    return str(orders.order(source, Verb.SEND, args.to_json())["task"]["operation"])


def ended(source: VaultHost, operation: str) -> TaskReport:
    task = source.wait_report(lambda r: bool(r.task and r.task.operation == operation and not r.task.active)).task
    assert task is not None
    return task


def under_way(source: VaultHost, receiver: CopyReceiver, least: int = 1024 * 1024) -> None:
    wait_for(lambda: receiver.received > least, SECONDS, lambda: f"bytes arrive\n{source.log()}")


def programs(host: VaultHost) -> list[str]:
    """What runs for a copy from this host, by command line."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode() if entry.name.isdigit() else ""
            ours = "mariadb-backup" in words and str(host.home) in words
            with contextlib.suppress(OSError):
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1]) if words else 0
                ours |= "agent.sender" in words and host.agent is not None and parent == host.agent.pid
            if ours:
                found.append(words)
    return found


def assert_nothing_left(host: VaultHost) -> None:
    wait_for(lambda: not programs(host), SECONDS, lambda: f"the programs end: {programs(host)}")
    wait_for(
        lambda: not host.sql("SELECT INFO FROM information_schema.PROCESSLIST WHERE INFO LIKE 'BACKUP%%'"),
        SECONDS,
        "the database takes back what was locked",
    )
    host.sql("SET STATEMENT lock_wait_timeout=5 FOR CREATE OR REPLACE TABLE vault.unlocked (id INT PRIMARY KEY)")
    host.sql("INSERT INTO vault.unlocked VALUES (1)")
    wait_for(lambda: not (host.home / "send.tmp").exists(), SECONDS, "the scratch directory goes")


# --- it arrives -------------------------------------------------------------------------------------------------------


def test_a_whole_copy_arrives_and_starts(
    source: VaultHost, target: VaultHost, receiver: CopyReceiver, place: Path
) -> None:
    operation = begin(source, send_args(target))
    task = ended(source, operation)
    assert (task.phase, task.says) == (TaskPhase.DONE, "")
    assert receiver.whole
    assert receiver.path == f"/copy/{operation}"
    assert receiver.client == source.subject
    assert receiver.told == []
    assert receiver.headers["X-Copy-User"] == local_user()
    assert receiver.headers["X-Copy-Version"].startswith("10.")
    assert receiver.headers["X-Copy-Binlog-State"] == source.sql("SELECT @@gtid_binlog_state AS s")[0]["s"]
    assert int(receiver.headers["X-Copy-Bytes"]) == pytest.approx(receiver.received, rel=0.3)
    assert task.done == receiver.received
    assert task.position == source.sql("SELECT @@gtid_binlog_pos AS p")[0]["p"]
    assert_nothing_left(source)
    prepared = subprocess.run(["mariadb-backup", "--prepare", f"--target-dir={place}"], capture_output=True, text=True)
    assert prepared.stderr.endswith("completed OK!\n"), prepared.stderr
    assert (place / "xtrabackup_binlog_info").read_text().split()[-1] == task.position
    (here,) = source.sql("SELECT CONCAT(COUNT(*), ' ', SUM(CRC32(b))) AS c FROM vault.blobs")
    assert _asked(place, "SELECT CONCAT(COUNT(*), ' ', SUM(CRC32(b))) FROM vault.blobs") == here["c"]


def test_tables_that_change_during_the_copy(
    source: VaultHost, target: VaultHost, receiver: CopyReceiver, place: Path
) -> None:
    """Made, dropped, renamed, rebuilt and emptied while it is under way: the copy is of its end."""
    for name in ("dropped", "renamed", "altered", "emptied"):
        source.sql(f"CREATE OR REPLACE TABLE vault.{name} (id INT PRIMARY KEY, b BLOB)")
        source.sql(f"INSERT INTO vault.{name} SELECT seq, RANDOM_BYTES(1000) FROM vault.seq_1_to_1000")
    operation = begin(source, send_args(target, 2 * SLOW))
    under_way(source, receiver)
    for statement in (
        "CREATE TABLE vault.made AS SELECT * FROM vault.altered",
        "DROP TABLE vault.dropped",
        "RENAME TABLE vault.renamed TO vault.other_name",
        "ALTER TABLE vault.altered ADD COLUMN more INT NOT NULL DEFAULT 7, FORCE, ALGORITHM=COPY",
        "TRUNCATE TABLE vault.emptied",
    ):
        source.sql(statement)
    assert not receiver.whole, "it was still under way"
    assert ended(source, operation).phase is TaskPhase.DONE
    prepared = subprocess.run(["mariadb-backup", "--prepare", f"--target-dir={place}"], capture_output=True, text=True)
    assert prepared.stderr.endswith("completed OK!\n"), prepared.stderr
    there = {file.stem for file in (place / "vault").glob("*.ibd")}
    assert there & {"made", "dropped", "renamed", "other_name", "altered", "emptied"} == {
        "made", "other_name", "altered", "emptied",
    }  # fmt: skip
    count = "SELECT CONCAT((SELECT COUNT(*) FROM vault.made), ' ', (SELECT SUM(more) FROM vault.altered), ' ', (SELECT COUNT(*) FROM vault.emptied))"
    assert _asked(place, count) == "1000 7000 0"


def _asked(data: Path, statement: str) -> str:
    """What a server that is started on this directory answers."""
    answer = data.parent / "answer"
    answer.unlink(missing_ok=True)
    started = subprocess.run(
        ["mariadbd", "--no-defaults", "--bootstrap", f"--datadir={data}", f"--user={local_user()}", f"--tmpdir={data.parent}"],
        input=f"{statement} INTO OUTFILE '{answer}';\n", capture_output=True, text=True,
    )  # fmt: skip
    assert started.returncode == 0, started.stderr
    return answer.read_text().strip()


def test_the_same_order_again_sends_nothing_again(source: VaultHost, target: VaultHost, receiver: CopyReceiver) -> None:
    operation = begin(source, send_args(target))
    ended(source, operation)
    received = receiver.received
    answer = source.send(Verb.SEND, _command(source, operation, send_args(target)))
    assert (answer[0], answer[1]["facts"]["task"]["phase"]) == (200, "done")
    assert receiver.received == received


def _command(source: VaultHost, operation: str, args: SendArgs) -> dict[str, Any]:
    return {
        "vault": "a" * 32, "node": source.node, "term": 1, "epoch": next(orders.epochs), "operation": operation,
        "deadline": 20, "args": args.to_json(),
    }  # fmt: skip


# --- it is refused ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        pytest.param({"bytes_per_second": 1}, "a rate of 1 bytes a second is no rate", id="a byte a second"),
        pytest.param({"bytes_per_second": -1}, "is no rate for a copy", id="less than nothing"),
        pytest.param({"bytes_per_second": 1e9}, "whole numbers are wanted", id="no whole number"),
        pytest.param({"target_host": "target.example"}, "does not appear to be an IPv4 or IPv6 address", id="a name"),
        pytest.param({"target_port": 0}, "there is no port 0", id="no port"),
        pytest.param({"target_subject": ""}, "texts", id="nobody"),
    ],
)
def test_an_order_that_makes_no_sense(source: VaultHost, target: VaultHost, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(StepFailed) as refused:
        begin(source, replace(send_args(target), **changes))
    assert says in refused.value.text
    assert programs(source) == []


def test_an_order_without_a_target(source: VaultHost) -> None:
    with pytest.raises(StepFailed, match="makes no sense"):
        orders.order(source, Verb.SEND, {})


@pytest.mark.parametrize(
    ("state", "phase", "says"),
    [
        pytest.param(AgentState(), ProcessState.UP, "", id="in order"),
        pytest.param(
            AgentState(quarantine="extra transactions"), ProcessState.UP, "in quarantine, .*: extra", id="quarantine"
        ),
        pytest.param(AgentState(tainted=True), ProcessState.UP, "may lack transactions", id="tainted"),
        pytest.param(AgentState(needs_rebuild="purged"), ProcessState.UP, "a copy itself: purged", id="to be rebuilt"),
        pytest.param(AgentState(), ProcessState.HUNG, "its database is hung", id="hangs"),
        pytest.param(AgentState(), ProcessState.DEAD, "its database is dead", id="dead"),
    ],
)
def test_a_node_that_is_no_source(
    source: VaultHost, target: VaultHost, state: AgentState, phase: ProcessState, says: str
) -> None:
    send = Send(source.config, lambda: StateFile(source.home / "none", state), lambda: phase, object, lambda: None)
    order = TaskOrder(kind=TaskKind.SEND, operation="o", args=send_args(target).to_json())
    if not says:
        assert send.prepare(order)
        return
    with pytest.raises(TaskRefused, match=says):
        send.prepare(order)


def test_without_the_program_it_says_what_to_install(source: VaultHost, target: VaultHost) -> None:
    config = replace(source.config, mariadb_backup="/nowhere/mariadb-backup")
    send = Send(
        config, lambda: StateFile(source.home / "none", AgentState()), lambda: ProcessState.UP, object, lambda: None
    )
    order = TaskOrder(kind=TaskKind.SEND, operation="o", args=send_args(target).to_json())
    with pytest.raises(TaskRefused, match="/nowhere/mariadb-backup is missing: install it"):
        send.prepare(order)


# --- the target -------------------------------------------------------------------------------------------------------


def test_a_target_with_another_certificate_gets_no_byte(
    source: VaultHost, target: VaultHost, receiver: CopyReceiver
) -> None:
    task = ended(source, begin(source, send_args(target, target_subject="/CN=other/OU=node")))
    assert task.phase is TaskPhase.FAILED
    assert f"is {target.subject}, and the copy is for /CN=other/OU=node" in task.says
    assert receiver.path == ""
    assert_nothing_left(source)


def test_a_target_that_refuses(source: VaultHost, target: VaultHost, receiver: CopyReceiver) -> None:
    receiver.refuse = (409, "it waits for another copy")
    task = ended(source, begin(source, send_args(target, SLOW)))
    assert (task.phase, task.says) == (
        TaskPhase.FAILED,
        "target refused the copy: it waits for another copy; nothing was changed here",
    )
    assert_nothing_left(source)


def test_a_target_that_is_not_there(source: VaultHost, target: VaultHost) -> None:
    task = ended(source, begin(source, send_args(target)))
    assert task.phase is TaskPhase.FAILED
    assert "target cannot be reached at 127.0.81.12 port 5389: Connection refused" in task.says
    assert_nothing_left(source)


def test_a_target_that_dies_in_the_middle(source: VaultHost, target: VaultHost, receiver: CopyReceiver) -> None:
    receiver.stop_after, receiver.then_hang_up = 2 * SLOW, True
    task = ended(source, begin(source, send_args(target)))
    assert task.phase is TaskPhase.FAILED
    assert "the connection to target broke" in task.says
    assert_nothing_left(source)


def test_a_target_that_did_not_get_everything(source: VaultHost, target: VaultHost, receiver: CopyReceiver) -> None:
    receiver.lie = 7
    task = ended(source, begin(source, send_args(target)))
    assert task.phase is TaskPhase.FAILED
    assert f"target has {receiver.received - 7} bytes of the {receiver.received} that were sent" in task.says


def test_a_target_that_falls_silent(source: VaultHost, target: VaultHost, receiver: CopyReceiver) -> None:
    receiver.stop_after = 1
    with sender(replace(made(source, target), patience=1)) as program:
        last = outcome(program)
    assert last == {"failed": "target has been silent for 1 s"}
    assert_nothing_left(source)


# --- the source -------------------------------------------------------------------------------------------------------


def test_a_source_whose_database_is_killed(source: VaultHost, target: VaultHost, receiver: CopyReceiver) -> None:
    operation = begin(source, send_args(target, SLOW))
    under_way(source, receiver)
    source.kill_database()
    task = ended(source, operation)
    assert task.phase is TaskPhase.FAILED
    assert task.says == "the database of the source ended during the copy; nothing was changed here"
    assert not receiver.whole
    assert receiver.told == [task.says.removesuffix("; nothing was changed here")]
    source.wait_up()
    assert_nothing_left(source)


def test_a_copy_that_is_cancelled(source: VaultHost, target: VaultHost, receiver: CopyReceiver) -> None:
    operation = begin(source, send_args(target, SLOW))
    under_way(source, receiver)
    status, text = source.request("POST", f"/task/{operation}/cancel")
    assert (status, json.loads(text)) == (200, {"ends": True})
    task = ended(source, operation)
    assert (task.phase, task.says) == (TaskPhase.CANCELLED, "cancelled; nothing was changed")
    assert not receiver.whole
    assert receiver.told == ["the copy was cancelled on its source"]
    assert_nothing_left(source)


def test_an_agent_that_is_killed_leaves_nothing_running(
    source: VaultHost, target: VaultHost, receiver: CopyReceiver
) -> None:
    operation = begin(source, send_args(target, SLOW))
    under_way(source, receiver)
    assert len(programs(source)) == 2
    source.kill_agent()
    assert_nothing_left(source)
    assert not receiver.whole
    assert receiver.told == ["the agent of the source ended during the copy"]
    source.start()
    task = ended(source, operation)
    assert (task.phase, task.says) == (
        TaskPhase.FAILED,
        "the agent ended while it was transferring; nothing was changed",
    )


def test_a_sending_program_that_is_killed_takes_mariadb_backup_with_it(
    source: VaultHost, target: VaultHost, receiver: CopyReceiver
) -> None:
    operation = begin(source, send_args(target, SLOW))
    under_way(source, receiver)
    assert source.agent is not None
    os.kill(_child_of(source.agent.pid), signal.SIGKILL)
    task = ended(source, operation)
    assert (task.phase, task.says) == (
        TaskPhase.FAILED,
        "the program that sends the copy was ended by signal 9; nothing was changed here",
    )
    assert not receiver.whole
    assert_nothing_left(source)


def _child_of(agent: int) -> int:
    (child,) = (
        int(entry.name)
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit()
        and b"agent.sender" in (entry / "cmdline").read_bytes()
        and int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == agent
    )
    return child


# --- the program by itself --------------------------------------------------------------------------------------------


def made(source: VaultHost, target: VaultHost, **args: Any) -> Order:
    send = Send(
        source.config,
        lambda: StateFile(source.home / "none", AgentState()),
        lambda: ProcessState.UP,
        object,
        lambda: None,
    )
    return send._order(secrets.token_hex(8), send_args(target, **args))


@contextlib.contextmanager
def sender(order: Order) -> Iterator["subprocess.Popen[bytes]"]:
    arguments = [sys.executable, "-m", "replication.agent.sender"]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT) as program:
        assert program.stdin is not None
        program.stdin.write(order.to_json())
        program.stdin.flush()
        try:
            yield program
        finally:
            program.kill()


def outcome(program: "subprocess.Popen[bytes]") -> dict[str, Any]:
    assert program.stdout is not None
    *_progress, last = [json.loads(line) for line in program.stdout]
    return dict(last)


def test_a_backup_that_fails_is_never_whole(
    source: VaultHost, target: VaultHost, receiver: CopyReceiver, tmp_path: Path
) -> None:
    """Every byte has come, and then it says that it failed."""
    order = made(source, target)
    program = _script(tmp_path, f'{order.program} "$@"; exit 3')
    with sender(replace(order, program=program)) as sending:
        last = outcome(sending)
    assert "exit code 3" in last["failed"]
    assert not receiver.whole
    assert receiver.told == [last["failed"]]


def test_a_backup_that_ends_well_without_saying_so_is_never_whole(
    source: VaultHost, target: VaultHost, receiver: CopyReceiver, tmp_path: Path
) -> None:
    order = made(source, target)
    program = _script(tmp_path, f'{order.program} "$@" 2>/dev/null')
    with sender(replace(order, program=program)) as sending:
        assert "failed" in outcome(sending)
    assert not receiver.whole


def test_a_backup_that_hangs(source: VaultHost, target: VaultHost, receiver: CopyReceiver, tmp_path: Path) -> None:
    order = made(source, target)
    program = _script(tmp_path, "echo it begins >&2; exec sleep 60")
    with sender(replace(order, program=program, patience=1)) as sending:
        last = outcome(sending)
    assert last == {"failed": "mariadb-backup has sent nothing for 1 s; its last words: it begins"}
    assert receiver.told == [last["failed"]]


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")
@pytest.mark.parametrize(
    ("user", "says"),
    [
        pytest.param("root", "the database does not let mariadb-backup in (mariadb-backup: ", id="not let in"),
        pytest.param("nobody", "a file of the source cannot be read (mariadb-backup: ", id="files"),
    ],
)
def test_a_user_who_may_not(
    source: VaultHost, target: VaultHost, receiver: CopyReceiver, tmp_path: Path, user: str, says: str
) -> None:
    source.sql("SET STATEMENT sql_log_bin=0 FOR GRANT ALL ON *.* TO nobody@localhost IDENTIFIED VIA unix_socket")
    order = made(source, target)
    program = _script(tmp_path, f'exec setpriv --reuid=nobody --clear-groups {order.program} "$@"')
    with entered_by_others(source.directory, source.home, source.config.run_dir, source.config.data_dir):
        with sender(replace(order, program=program, user=user)) as sending:
            last = outcome(sending)
    source.sql("SET STATEMENT sql_log_bin=0 FOR DROP USER nobody@localhost")
    assert last["failed"].startswith(says)
    assert receiver.told == [last["failed"]]


@contextlib.contextmanager
def entered_by_others(*directories: Path) -> Iterator[None]:
    modes = {directory: directory.stat().st_mode for directory in directories}
    for directory in directories:
        directory.chmod(0o755)
    try:
        yield
    finally:
        for directory, mode in modes.items():
            directory.chmod(mode)


def _script(directory: Path, body: str) -> str:
    file = directory / "backup"
    file.write_text(f"#!/bin/sh\n{body}\n")
    file.chmod(0o755)
    return str(file)
