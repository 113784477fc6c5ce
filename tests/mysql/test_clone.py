"""Full copies on MySQL, by the clone plugin: real agents, real mysqld, ordered with the verbs that a controller sends.

Proves: a held node is rebuilt, follows and acknowledges again, its errant rows gone from the data and kept beside; the account of the
copy is left on neither host; a copy that is cancelled, or whose source, target or agent dies, leaves the node as it was; only the
ordered certificate is let in; the old data can be put back; what MySQL nodes cannot do is refused in words.
"""

import json
import secrets
from collections.abc import Callable
from pathlib import Path

import MySQLdb
import pytest

from replication.core import limits
from replication.core.commands import Verb
from replication.core.errors import StepFailed
from replication.core.report import NodeReport
from replication.core.roles import ProcessState
from replication.core.tasks import TaskKind, TaskPhase
from tests.agent.copying import cancel, command, copy, rebuild, send, wait_ended
from tests.agent.orders import account, database, follow, has, open_primary, order, write
from tests.mysql.host import MySqlHost
from tests.waiting import wait_for

PATIENCE = limits.STEP_DEADLINE.total_seconds()
SLOW = 2 * 1024 * 1024
"""Bytes per second: the copy of an empty server has 70 MiB."""
MINE = -7
SECRET = "not-to-be-shown\nin two lines"
FAKE = "\n### INSERT INTO `vault`.`rows_`\n### SET\n###   @1=666\n"
"""A client's text that looks like the reading of a row."""


@pytest.fixture(scope="module")
def pair(make: Callable[..., MySqlHost]) -> tuple[MySqlHost, MySqlHost]:
    """A primary; and a node that is held, with one row that nobody else has."""
    primary, held = (make(f"127.0.86.{n}", f"my-clone-{n}", cut="none") for n in (21, 22))
    held.client_password = primary.client_password
    for host in (primary, held):
        host.init().start()
    open_primary(primary, [held], jump=False)
    primary.sql("CREATE TABLE vault.rows_ (id BIGINT PRIMARY KEY)")
    row = write(primary)
    follow(held, primary)
    wait_for(lambda: has(held, row), PATIENCE, "the row arrives")
    order(held, Verb.DETACH)
    held.sql("SET GLOBAL super_read_only = 0")
    held.sql("INSERT INTO vault.rows_ VALUES (%s)", MINE)
    held.sql(
        "CREATE TABLE vault.passwords (id INT PRIMARY KEY, account VARCHAR(40), password VARBINARY(40)) COMMENT = %s",
        FAKE,
    )
    held.sql("INSERT INTO vault.passwords VALUES (1, 'it''s root', %s), (2, NULL, NULL)", SECRET)
    held.sql("UPDATE vault.passwords SET password = 'newer' WHERE id = 1")
    with pytest.raises(StepFailed):
        follow(held, primary)
    return primary, held


def as_it_was(target: MySqlHost, source: MySqlHost) -> NodeReport:
    """Held, up, closed, with its own row; nothing of the copy on either host."""
    report = target.wait_report(lambda report: report.process is ProcessState.UP and report.database is not None)
    assert "transactions that the primary does not have" in report.quarantine
    assert report.database is not None
    assert report.database.read_only
    assert has(target, MINE)
    wait_for(lambda: nothing_left(target, source), PATIENCE, "nothing of the copy is left")
    return report


def nothing_left(target: MySqlHost, source: MySqlHost) -> bool:
    accounts = [host.sql("SELECT User FROM mysql.user WHERE User = 'vha_copy'") for host in (target, source)]
    directories = [target.home / name for name in ("copy.new", "copy.ready", "data.out", "swap.json")]
    return not any(accounts) and not any(path.exists() for path in directories)


def begin_slow(target: MySqlHost, source: MySqlHost) -> str:
    """A copy that is under way; returns the operation."""
    operation = rebuild(target, source)
    send(source, target, operation, bytes_per_second=SLOW)
    target.wait_report(lambda report: report.task is not None and report.task.done > 0)
    assert target.report().task.phase is TaskPhase.TRANSFERRING  # type: ignore[union-attr]
    return operation


def test_cancelled_it_leaves_nothing_behind(pair: tuple[MySqlHost, MySqlHost]) -> None:
    primary, held = pair
    operation = begin_slow(held, primary)
    assert cancel(held, operation)
    assert wait_ended(held, operation).task.phase is TaskPhase.CANCELLED  # type: ignore[union-attr]
    ended = wait_ended(primary, operation).task
    assert ended is not None
    assert ended.phase is TaskPhase.FAILED
    as_it_was(held, primary)


def test_cancelled_at_the_source_the_target_says_why(pair: tuple[MySqlHost, MySqlHost]) -> None:
    primary, held = pair
    operation = begin_slow(held, primary)
    assert cancel(primary, operation)
    ended = wait_ended(held, operation).task
    assert ended is not None
    assert ended.phase is TaskPhase.FAILED
    assert "nothing was changed" in ended.says
    as_it_was(held, primary)


def kill_source(source: MySqlHost, target: MySqlHost) -> None:
    former = source.database_pid
    source.kill_database()
    source.wait_report(lambda report: report.database is not None and source.database_pid not in (0, former))


def kill_target(source: MySqlHost, target: MySqlHost) -> None:
    target.kill_database()


def kill_agent_of_target(source: MySqlHost, target: MySqlHost) -> None:
    target.kill_agent()
    target.start()


def kill_agent_of_source(source: MySqlHost, target: MySqlHost) -> None:
    source.kill_agent()
    source.start()


@pytest.mark.parametrize(
    "kill",
    [
        pytest.param(kill_source, id="mysqld of the source", marks=pytest.mark.long),
        pytest.param(kill_target, id="mysqld of the target", marks=pytest.mark.long),
        pytest.param(kill_agent_of_target, id="agent of the target"),
        pytest.param(kill_agent_of_source, id="agent of the source", marks=pytest.mark.long),
    ],
)
def test_killed_in_the_middle_the_node_is_as_before(
    pair: tuple[MySqlHost, MySqlHost], kill: Callable[[MySqlHost, MySqlHost], None]
) -> None:
    primary, held = pair
    operation = begin_slow(held, primary)
    kill(primary, held)
    ended = wait_ended(held, operation).task
    assert ended is not None
    assert ended.phase is TaskPhase.FAILED, ended
    wait_ended(primary, operation)
    as_it_was(held, primary)


def test_only_the_ordered_certificate_is_let_in(pair: tuple[MySqlHost, MySqlHost]) -> None:
    primary, held = pair
    operation = begin_slow(held, primary)
    try:
        (found,) = primary.sql(
            "SELECT CONVERT(x509_subject USING utf8mb4) AS subject FROM mysql.user WHERE User = 'vha_copy'"
        )
        assert found["subject"] == held.subject
        for certificate in (None, primary.config.pki_dir):  # none; a node's, but another one's
            options = {"ssl": {n: str(certificate / f"{n}.pem") for n in ("ca", "cert", "key")}} if certificate else {}
            with pytest.raises(MySQLdb.OperationalError) as refused:
                MySQLdb.connect(
                    host=primary.ip, port=limits.DATABASE_PORT, user="vha_copy", connect_timeout=2, **options
                )
            assert refused.value.args[0] == 1045
        grants = [next(iter(row.values())) for row in primary.sql("SHOW GRANTS FOR 'vha_copy'@'%%'")]
        assert sorted(grants) == ["GRANT BACKUP_ADMIN ON *.* TO `vha_copy`@`%`", "GRANT USAGE ON *.* TO `vha_copy`@`%`"]
    finally:
        cancel(held, operation)
        wait_ended(held, operation)
        wait_ended(primary, operation)


def test_what_a_node_on_mysql_cannot_do_is_refused_in_words(pair: tuple[MySqlHost, MySqlHost]) -> None:
    _, held = pair
    for kind in (TaskKind.BACKUP,):
        body = f'{{"kind": "{kind.value}", "operation": "{secrets.token_hex(8)}", "args": {{}}}}'
        status, text = held.request("POST", "/task", body.encode())
        assert status == 422, text
        assert "a node on MySQL cannot" in text


def test_what_only_it_has_is_exported_and_listed_without_a_secret(pair: tuple[MySqlHost, MySqlHost]) -> None:
    primary, held = pair
    status, text = primary.request("GET", "/transactions")
    assert status == 200, text
    operation = secrets.token_hex(8)
    order_ = {"kind": "export", "operation": operation, "args": {"have": json.loads(text), "primary": primary.hostname}}
    status, text = held.request("POST", "/task", json.dumps(order_).encode())
    assert status == 200, text
    ended = wait_ended(held, operation).task
    assert ended is not None
    assert ended.phase is TaskPhase.DONE, ended
    status, text = held.request("GET", f"/task/{operation}/result")
    assert status == 200, text
    result = json.loads(text)
    uuid = held.sql("SELECT @@GLOBAL.server_uuid AS uuid")[0]["uuid"]
    assert (result["count"], result["ranges"]) == (4, f"{uuid}:1-4")
    assert [entry["gtid"] for entry in result["transactions"]] == [f"{uuid}:{n}" for n in range(1, 5)]
    changes = [(c["table"], c["verb"]) for entry in result["transactions"] for c in entry["changes"]]
    assert changes == [
        ("vault.rows_", "insert"), ("vault.passwords", "ddl"), ("vault.passwords", "insert"),
        ("vault.passwords", "insert"), ("vault.passwords", "update"),
    ], "and not the row that a client only talked of"  # fmt: skip
    assert {str(r["key"]["id"]) for r in result["rotate"]} >= {"1"}
    assert "not-to-be-shown" not in text
    assert "newer" not in text
    directory = Path(result["directory"])
    sql = (directory / "transactions.sql").read_bytes()
    assert b"GTID_NEXT= '" not in sql.replace(b"GTID_NEXT= 'AUTOMATIC'", b""), "or its numbers would come along"
    assert directory.stat().st_mode & 0o077 == 0
    assert sorted(path.name for path in directory.iterdir()) == [
        "manifest.json",
        "transactions.sql",
        "transactions.txt",
    ]


def test_a_held_node_is_rebuilt_and_its_old_data_can_be_put_back(pair: tuple[MySqlHost, MySqlHost]) -> None:
    primary, held = pair
    uuid = held.sql("SELECT @@GLOBAL.server_uuid AS uuid")[0]["uuid"]
    server_id = database(held).server_id
    executed = database(primary).gtid_binlog_pos
    report = copy(primary, held)
    task, sent = report.task, wait_ended(primary, report.task.operation).task  # type: ignore[union-attr]
    assert task is not None
    assert sent is not None
    assert (task.phase, task.replaced, sent.phase) == (TaskPhase.DONE, True, TaskPhase.DONE), (task, sent)
    assert task.done == sent.done > 10_000_000
    assert task.position == executed, "of the source, when it began"
    assert (report.quarantine, report.tainted, report.needs_rebuild) == ("", False, "")
    assert nothing_left(held, primary)
    row = write(primary)
    follow(held, primary)
    wait_for(lambda: has(held, row), PATIENCE, "it follows")
    assert not has(held, MINE)
    assert held.sql("SELECT @@GLOBAL.server_uuid AS uuid")[0]["uuid"] != uuid, "or it could issue a lost GTID again"
    assert database(held).server_id != server_id
    assert database(held).drift == ()
    order(held, Verb.ACKER)
    order(primary, Verb.LOSSLESS)
    write(primary)
    order(primary, Verb.SOLO)
    assert report.kept is not None
    operation = report.kept.operation
    status, answer = command(held, Verb.UNDO, operation + "1", {"operation": operation})
    assert status == 200, answer
    ended = wait_ended(held, operation + "1")
    assert ended.task is not None
    assert ended.task.phase is TaskPhase.DONE, ended.task
    held.wait_up()
    assert has(held, MINE)
    assert database(held).read_only


def test_a_node_whose_logs_are_gone_is_rebuilt(pair: tuple[MySqlHost, MySqlHost]) -> None:
    primary, fresh = pair
    primary.sql("FLUSH BINARY LOGS")
    primary.sql(f"PURGE BINARY LOGS TO '{primary.sql('SHOW BINARY LOG STATUS')[0]['File']}'")
    copy(primary, fresh)
    follow(fresh, primary)
    row = write(primary)
    wait_for(lambda: has(fresh, row), PATIENCE, "it follows")
    order(primary, Verb.ACCOUNTS, {"accounts": [account(fresh)]})
