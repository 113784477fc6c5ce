"""A node that has what the primary does not have: held, exported, listed, and what was exported can be played again.

Every row of the table in docs/design/rejoin.md, on real servers: each writes its own binary log, one asks the other to follow it,
and the inventories are read from the files. Transactions are written under chosen numbers (`written`), so that both sides share a
history without having replicated it.
"""

import contextlib
import hashlib
import json
import secrets
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from replication.agent.extract import MANIFEST
from replication.core.commands import Verb
from replication.core.errors import StepFailed
from replication.core.gtid_ranges import GtidRanges, Inventory
from replication.core.limits import GTID_GAP
from replication.core.positions import Gtid
from replication.core.tasks import TaskPhase
from tests.agent.orders import follow, open_primary, order
from tests.vault_host import VaultHost
from tests.waiting import wait_for

ADDRESSES = {"old": "127.0.83.11", "new": "127.0.83.12", "scratch": "127.0.83.13"}
PATIENCE = 30
SECRET = "Tr0ub4dor"
TABLE = "CREATE TABLE vault.accounts (id INT PRIMARY KEY, account VARCHAR(50), password VARCHAR(99), note TEXT)"
COMMON = 5
"""Transactions that both have: 0-1-1 is the table, the others a row each."""


@pytest.fixture(scope="module")
def hosts(make: Callable[..., VaultHost]) -> dict[str, VaultHost]:
    made = {name: make(address, f"div-{name}", cut="none") for name, address in ADDRESSES.items()}
    for host in made.values():
        host.init().start()
    old, new = made["old"], made["new"]
    open_primary(old, [old, new], jump=False)
    follow(new, old)
    follow(old, new)  # it is no primary any more, and its account is on the other one
    order(made["scratch"], Verb.OPEN)
    return made


@pytest.fixture
def pair(hosts: dict[str, VaultHost]) -> tuple[VaultHost, VaultHost]:
    """The old primary and the new one, with a common history and nothing else; nobody follows."""
    for host in hosts.values():
        host.sql("STOP SLAVE")
        host.sql("RESET SLAVE ALL")
        statements = (
            "SET SESSION sql_log_bin = 0", "DROP DATABASE vault", "CREATE DATABASE vault", "RESET MASTER",
            "SET GLOBAL gtid_slave_pos = ''",
        )  # fmt: skip
        _run(host, *statements)
    old, new = hosts["old"], hosts["new"]
    for host in hosts.values():
        written(host, "0-1-1", TABLE)
        for number in range(2, COMMON + 1):
            written(host, f"0-1-{number}", f"INSERT INTO vault.accounts VALUES ({number}, 'common', 'x', NULL)")
    return old, new


def _run(host: VaultHost, *statements: str) -> None:
    """In one session."""
    with contextlib.closing(host.connect()) as connection, connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def written(host: VaultHost, gtid: str, *statements: str) -> str:
    """One transaction under this number, of however many statements; DDL is one by itself."""
    chosen = Gtid.parse(gtid)
    _run(
        host, f"SET SESSION gtid_domain_id = {chosen.domain}", f"SET SESSION server_id = {chosen.server}",
        f"SET SESSION gtid_seq_no = {chosen.sequence}", "SET SESSION foreign_key_checks = 1",
        *(("BEGIN", *statements, "COMMIT") if len(statements) > 1 else statements),
    )  # fmt: skip
    return gtid


def insert(host: VaultHost, gtid: str, key: int, account_: str = "root@db", password: str = SECRET) -> str:
    return written(host, gtid, f"INSERT INTO vault.accounts VALUES ({key}, '{account_}', '{password}', 'n')")


def held(old: VaultHost, new: VaultHost) -> str:
    """Why the old primary may not follow the new one; "" when it does."""
    try:
        follow(old, new, rejudge=True)
    except StepFailed as error:
        if error.reason != "diverged":
            raise
        return old.report().quarantine
    return ""


def inventory(host: VaultHost) -> Inventory:
    status, text = host.request("GET", "/transactions")
    assert status == 200, text
    return Inventory.from_json(json.loads(text))


def begin(host: VaultHost, have: Any, operation: str) -> tuple[int, dict[str, Any]]:
    body = {"kind": "export", "operation": operation, "args": {"have": have, "primary": "div-new"}}
    status, text = host.request("POST", "/task", json.dumps(body).encode())
    return status, json.loads(text)


def export(host: VaultHost, primary: VaultHost) -> dict[str, Any]:
    operation = secrets.token_hex(16)
    status, answer = begin(host, inventory(primary).to_json(), operation)
    assert status == 200, answer
    report = wait_for(lambda: _ended(host, operation), PATIENCE, "the export ends")
    assert report.phase is TaskPhase.DONE, report
    status, text = host.request("GET", f"/task/{operation}/result")
    assert status == 200, text
    assert SECRET not in text
    return dict(json.loads(text))


def _ended(host: VaultHost, operation: str) -> Any:
    task = host.report().task
    return task if task is not None and task.operation == operation and not task.active else None


def listed(result: Mapping[str, Any]) -> list[str]:
    return [entry["gtid"] for entry in result["transactions"]]


def changes(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [change for entry in result["transactions"] for change in entry["changes"]]


def replayed(result: Mapping[str, Any], scratch: VaultHost, name: str = "transactions.sql") -> list[dict[str, Any]]:
    """The rows of the table after the file was played on a server that has the common history only."""
    with (Path(result["directory"]) / name).open("rb") as sql:
        done = subprocess.run(
            ["mariadb", "--no-defaults", "--binary-mode", f"--socket={scratch.config.socket}"],
            stdin=sql,
            capture_output=True,
            text=True,
        )
    assert done.returncode == 0, done.stderr
    return scratch.sql(f"SELECT * FROM vault.accounts WHERE id > {COMMON} ORDER BY id")


# --- the table


def test_clean(pair: tuple[VaultHost, VaultHost]) -> None:
    old, new = pair
    insert(new, "0-2-6", 6)
    assert held(old, new) == ""
    result = export(old, new)
    assert (result["count"], result["directory"], result["transactions"]) == (0, "", [])
    assert not list(old.config.lost_dir.glob("*.part"))


def _old_ahead(old: VaultHost, new: VaultHost) -> list[str]:
    return [insert(old, "0-1-6", 6)]


def _same_number(old: VaultHost, new: VaultHost) -> list[str]:
    insert(new, "0-2-6", 16)
    return [insert(old, "0-1-6", 6)]


def _new_far_ahead(old: VaultHost, new: VaultHost) -> list[str]:
    for number in range(6, 30):
        insert(new, f"0-2-{number}", 10 + number)
    return [insert(old, "0-1-6", 6), insert(old, "0-1-7", 7)]


def _higher_number_of_the_same_server(old: VaultHost, new: VaultHost) -> list[str]:
    insert(new, "0-2-6", 16)
    insert(new, "0-1-8", 18)
    return [insert(old, "0-1-6", 6)]


def _after_a_gap(old: VaultHost, new: VaultHost) -> list[str]:
    insert(new, f"0-2-{COMMON + GTID_GAP}", 16)
    insert(new, f"0-1-{COMMON + GTID_GAP + 1}", 17)
    return [insert(old, "0-1-6", 6)]


def _in_another_domain(old: VaultHost, new: VaultHost) -> list[str]:
    return [insert(old, "3-1-1", 6)]


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(_old_ahead, id="old ahead, new idle"),
        pytest.param(_same_number, id="same number, another server"),
        pytest.param(_new_far_ahead, id="new far ahead"),
        pytest.param(_higher_number_of_the_same_server, id="new has a higher number of the old one's server_id"),
        pytest.param(_after_a_gap, id="the same after the gap of a promotion"),
        pytest.param(_in_another_domain, id="a domain that the new one does not know"),
    ],
)
def test_what_only_the_old_one_has_is_held_exported_listed_and_can_be_played(
    pair: tuple[VaultHost, VaultHost], hosts: dict[str, VaultHost], case: Callable[[VaultHost, VaultHost], list[str]]
) -> None:
    old, new = pair
    lost = case(old, new)
    assert held(old, new)
    result = export(old, new)
    assert listed(result) == lost
    assert result["count"] == len(lost)
    assert result["position"] == lost[-1]
    assert (result["not_known"], result["never_acknowledged"], result["more"]) == (0, 0, 0)
    first = changes(result)[0]
    assert (first["table"], first["verb"], first["key"]) == ("vault.accounts", "insert", {"id": "6"})
    assert first["shown"] == {"account": "root@db"}
    assert result["rotate"][0]["name"] == "root@db"
    assert result["rotate"][0]["columns"] == ["password"]
    rows = replayed(result, hosts["scratch"])
    assert [(row["id"], row["password"]) for row in rows] == [(6 + n, SECRET) for n in range(len(lost))]


def test_the_state_check_alone_misses_a_higher_number_of_the_same_server(pair: tuple[VaultHost, VaultHost]) -> None:
    """Strict mode finds it a moment later; whoever takes that away is silently wrong."""
    old, new = pair
    _higher_number_of_the_same_server(old, new)
    assert held(old, new).startswith("the primary refuses its position"), "it is not the state check that found it"


def test_a_number_that_was_given_twice_is_seen_by_no_inventory(pair: tuple[VaultHost, VaultHost]) -> None:
    """Forced by hand. A promotion leaves a gap, so it cannot come to it; should it, only a comparison of the rows tells."""
    old, new = pair
    insert(old, "0-1-6", 6, "mine")
    insert(new, "0-1-6", 6, "theirs")
    insert(new, "0-1-7", 7)
    assert held(old, new) == ""
    assert export(old, new)["count"] == 0
    wait_for(lambda: old.sql("SELECT 1 FROM vault.accounts WHERE id = 7"), PATIENCE, "it follows")
    both = [host.sql("SELECT account FROM vault.accounts WHERE id = 6")[0]["account"] for host in (old, new)]
    assert both == ["mine", "theirs"]


def test_a_change_of_a_table_is_told_by_kind_and_can_be_played(
    pair: tuple[VaultHost, VaultHost], hosts: dict[str, VaultHost]
) -> None:
    old, new = pair
    written(old, "0-1-6", f"ALTER TABLE vault.accounts ADD COLUMN pin INT DEFAULT 4711 COMMENT '{SECRET}'")
    written(old, "0-1-7", f"UPDATE vault.accounts SET pin = 815, password = '{SECRET}' WHERE id = 2")
    written(old, "0-1-8", f"CREATE USER IF NOT EXISTS 'div-bob'@'%' IDENTIFIED BY '{SECRET}'")
    written(old, "0-1-9", "CREATE TABLE vault.other (a INT)")
    assert held(old, new)
    result = export(old, new)
    assert listed(result) == ["0-1-6", "0-1-7", "0-1-8", "0-1-9"]
    told = changes(result)
    assert [(change["says"], change["table"]) for change in told if "says" in change] == [
        ("ALTER TABLE", "vault.accounts"), ("CREATE USER", "database accounts"), ("CREATE TABLE", "vault.other"),
    ]  # fmt: skip
    row = next(change for change in told if change["verb"] == "update")
    assert (row["key"], row["changed"]) == ({"id": "2"}, ["password", "pin"])
    assert {rotation["name"] for rotation in result["rotate"]} == {"common", "div-bob@%"}
    assert "4711" not in json.dumps(result)
    scratch = hosts["scratch"]
    replayed(result, scratch)
    assert scratch.sql("SELECT pin FROM vault.accounts WHERE id = 2") == [{"pin": 815}]
    assert scratch.sql("SELECT 1 AS one FROM mysql.global_priv WHERE user = 'div-bob'") == [{"one": 1}]


def test_a_large_tail_is_listed_up_to_a_limit_and_counted(
    pair: tuple[VaultHost, VaultHost], hosts: dict[str, VaultHost]
) -> None:
    old, new = pair
    many = 20_000
    written(
        old, "0-1-6", f"INSERT INTO vault.accounts SELECT 100 + seq, CONCAT('a', seq), '{SECRET}', 'n' FROM vault.seq_1_to_{many}"
    )  # fmt: skip
    assert held(old, new)
    result = export(old, new)
    assert listed(result) == ["0-1-6"]
    assert len(changes(result)) == 5000
    assert result["more"] == many - 5000
    assert (len(result["rotate"]), result["rotate_more"]) == (5000, many - 5000)
    replayed(result, hosts["scratch"])
    count = hosts["scratch"].sql("SELECT COUNT(*) AS n FROM vault.accounts WHERE id > 100")
    assert count == [{"n": many}]


@pytest.mark.long
def test_the_list_of_a_table_with_hundreds_of_columns_stays_within_what_a_controller_takes(
    pair: tuple[VaultHost, VaultHost],
) -> None:
    old, new = pair
    columns = ", ".join(f"the_secret_of_an_application_with_a_very_long_name_{number:04} INT" for number in range(700))
    _run(old, "SET SESSION sql_log_bin = 0", f"CREATE TABLE vault.wide (id INT PRIMARY KEY, {columns})")
    written(old, "0-1-6", "INSERT INTO vault.wide (id) SELECT seq FROM vault.seq_1_to_300")
    result = export(old, new)
    assert 0 < len(changes(result)) < 300
    assert len(changes(result)) + result["more"] == 300
    assert len(json.dumps(result)) < 16 * 2**20


# --- what the files are


def test_the_files_are_private_complete_and_have_their_checksums(pair: tuple[VaultHost, VaultHost]) -> None:
    old, new = pair
    _old_ahead(old, new)
    result = export(old, new)
    directory = Path(result["directory"])
    manifest = json.loads((directory / MANIFEST).read_text())
    assert {file["name"] for file in manifest["files"]} == set(result["files"])
    for file in manifest["files"]:
        content = (directory / file["name"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == file["sha256"]
        assert stat.S_IMODE((directory / file["name"]).stat().st_mode) == 0o600
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert SECRET in (directory / "transactions.txt").read_text(), "what is masked elsewhere stands here"
    names = [name for name in result["files"] if name.startswith("binlogs/data/")]
    assert any((directory / name).read_bytes().count(SECRET.encode()) for name in names)
    assert manifest["transactions"] == {"0-1": [[6, 6]]}
    assert (manifest["node"], manifest["primary"]) == ("div-old", "div-new")


def test_no_secret_is_told_outside_of_the_files(pair: tuple[VaultHost, VaultHost]) -> None:
    old, new = pair
    _old_ahead(old, new)
    result = export(old, new)
    assert SECRET not in json.dumps(result)
    assert SECRET not in old.log()
    for name in ("task.json", "task-result.json", "state.json"):
        assert SECRET not in (old.home / name).read_text()


def test_only_a_controller_may_ask(pair: tuple[VaultHost, VaultHost]) -> None:
    old, _new = pair
    for who in ("node", "nobody"):
        assert old.request("GET", "/transactions", who=who)[0] == 403  # type: ignore[arg-type]  # two of its words
        assert old.request("POST", "/task", b"{}", who=who)[0] == 403  # type: ignore[arg-type]  # two of its words


def test_what_is_no_inventory_is_refused(pair: tuple[VaultHost, VaultHost]) -> None:
    status, answer = begin(pair[0], {"ranges": {"x": 1}}, secrets.token_hex(16))
    assert status == 422
    assert "inventory cannot be read" in answer["text"]


# --- what the logs do not say


def test_columns_without_names_in_the_log_are_taken_from_the_tables(pair: tuple[VaultHost, VaultHost]) -> None:
    old, new = pair
    _run(old, "SET GLOBAL binlog_row_metadata = MINIMAL")
    try:
        insert(old, "0-1-6", 6)
    finally:
        _run(old, "SET GLOBAL binlog_row_metadata = FULL")
    result = export(old, new)
    assert changes(result)[0]["shown"] == {"account": "root@db"}
    assert result["unnamed"] == []


def test_with_the_database_down_it_is_exported_all_the_same(
    pair: tuple[VaultHost, VaultHost], hosts: dict[str, VaultHost]
) -> None:
    old, new = pair
    _run(old, "SET GLOBAL binlog_row_metadata = MINIMAL")
    insert(old, "0-1-6", 6)
    _run(old, "SET GLOBAL binlog_row_metadata = FULL")
    insert(old, "0-1-7", 7)
    order(old, Verb.FENCE)
    try:
        assert old.database_pid == 0
        result = export(old, new)
    finally:
        assert held(old, new), "FOLLOW starts it again"
    assert listed(result) == ["0-1-6", "0-1-7"]
    numbered, named = changes(result)
    assert (numbered["key"], numbered["changed"]) == ({"@1": "6"}, ["@1", "@2", "@3", "@4"])
    assert "shown" not in numbered
    assert named["shown"] == {"account": "root@db"}
    assert result["unnamed"] == ["vault.accounts"]
    assert result["database_up"] is False
    assert len(replayed(result, hosts["scratch"])) == 2


def test_what_the_primary_has_purged_is_not_called_lost_and_not_called_there(
    pair: tuple[VaultHost, VaultHost],
) -> None:
    old, new = pair
    insert(old, "0-1-6", 6)
    insert(new, "0-2-6", 16)
    _run(new, "FLUSH BINARY LOGS")
    insert(new, "0-2-7", 17)
    newest = new.sql("SHOW BINARY LOGS")[-1]["Log_name"]
    _run(new, f"PURGE BINARY LOGS TO '{newest}'")
    result = export(old, new)
    assert listed(result) == ["0-1-6"], "server 1 had come to 5 when the primary's logs begin"
    assert (result["not_known"], result["not_known_ranges"]) == (5, "0-1-1…5")


def test_what_only_the_data_hold_and_what_an_emptied_primary_lacks_is_not_passed_over(
    pair: tuple[VaultHost, VaultHost],
) -> None:
    """As of a node that was made from a copy, or has purged its logs, when the primary went back to a backup."""
    old, new = pair
    insert(old, "0-77-6", 6)
    _run(old, "FLUSH BINARY LOGS")
    insert(old, "0-77-7", 7)
    newest = old.sql("SHOW BINARY LOGS")[-1]["Log_name"]
    wait_for(lambda: _run(old, f"PURGE BINARY LOGS TO '{newest}'") or _purged(old), PATIENCE, "a purge")
    result = export(old, new)
    assert listed(result) == ["0-77-7"]
    assert result["traceless"] == "0-77-6", "the primary has not come so far, and no log here holds the 6"

    empty = begun_with(old, Inventory((), GtidRanges()))
    assert (empty["count"], empty["traceless"]) == (0, "0-1-5, 0-77-6…7")
    jumped = begun_with(old, Inventory((), GtidRanges.of([Gtid(0, 9, 1_000_000)])))
    assert (jumped["count"], jumped["traceless"]) == (0, "0-1-5, 0-77-6…7")
    assert export(new, old)["traceless"] == "", "the primary has what it has, whatever it purged"


def _purged(host: VaultHost) -> bool:
    return len(host.sql("SHOW BINARY LOGS")) == 1


def begun_with(host: VaultHost, have: Inventory) -> dict[str, Any]:
    operation = secrets.token_hex(16)
    assert begin(host, have.to_json(), operation)[0] == 200
    assert wait_for(lambda: _ended(host, operation), PATIENCE, "the export ends").phase is TaskPhase.DONE
    return dict(json.loads(host.request("GET", f"/task/{operation}/result")[1]))


def test_compressed_logs_aria_and_xa_are_read_as_well(
    pair: tuple[VaultHost, VaultHost], hosts: dict[str, VaultHost]
) -> None:
    old, new = pair
    long = "x" * 300
    _run(old, "SET GLOBAL log_bin_compress_min_len = 10", "SET GLOBAL log_bin_compress = 1")
    try:
        written(
            old, "0-1-6", f"CREATE TABLE vault.tokens (id INT PRIMARY KEY, value TEXT) ENGINE=Aria COMMENT '{long}'"
        )
        written(old, "0-1-7", f"INSERT INTO vault.tokens VALUES (1, '{SECRET}')")
        written(old, "0-1-8", f"INSERT INTO vault.accounts VALUES (6, 'root@db', '{SECRET}', '{long}')")
        _run(
            old, "XA START 'a'", f"INSERT INTO vault.accounts VALUES (7, 'sa', '{SECRET}', 'n')", "XA END 'a'",
            "XA PREPARE 'a'", "XA COMMIT 'a'",
        )  # fmt: skip
    finally:
        _run(old, "SET GLOBAL log_bin_compress = 0")
    result = export(old, new)
    assert result["count"] == 5
    assert [(one["table"], one["name"]) for one in result["rotate"]] == [
        ("vault.tokens", ""), ("vault.accounts", "root@db"), ("vault.accounts", "sa"),
    ]  # fmt: skip
    assert [row["account"] for row in replayed(result, hosts["scratch"])] == ["root@db", "sa"]


def test_an_export_twice_says_the_same(pair: tuple[VaultHost, VaultHost]) -> None:
    old, new = pair
    lost = _old_ahead(old, new)
    assert listed(export(old, new)) == listed(export(old, new)) == lost


# --- an export that does not come to its end


@pytest.fixture
def hanging_decoder(pair: tuple[VaultHost, VaultHost]) -> Iterator[tuple[VaultHost, VaultHost]]:
    """The old primary's agent with a mariadb-binlog that never answers."""
    old, new = pair
    settings = old.home / "agent.json"
    before, program = settings.read_text(), old.home / "mariadb-binlog"
    program.write_text(f"#!{sys.executable}\nimport time\ntime.sleep(600)\n")
    program.chmod(0o700)
    old.stop()
    settings.write_text(json.dumps({**json.loads(before), "mariadb_binlog": str(program)}))
    old.start()
    yield old, new
    if old.agent is not None:
        old.stop()
    settings.write_text(before)
    old.start()


def _decoding(host: VaultHost) -> list[int]:
    return [pid for pid in host.processes() if "mariadb-binlog" in Path(f"/proc/{pid}/cmdline").read_text()]


def test_one_that_is_cancelled_or_killed_leaves_nothing(hanging_decoder: tuple[VaultHost, VaultHost]) -> None:
    old, new = hanging_decoder
    _old_ahead(old, new)
    have, before = inventory(new).to_json(), sorted(old.config.lost_dir.iterdir())
    for end in ("cancel", "kill"):
        operation = secrets.token_hex(16)
        assert begin(old, have, operation)[0] == 200
        wait_for(lambda: _decoding(old), PATIENCE, "it decodes")
        other = secrets.token_hex(16)
        assert "busy with another export" in begin(old, have, other)[1]["text"]
        if end == "cancel":
            assert json.loads(old.request("POST", f"/task/{operation}/cancel")[1]) == {"ends": True}
            wanted = TaskPhase.CANCELLED
        else:
            old.kill_agent()
            old.start()
            wanted = TaskPhase.FAILED
        report = wait_for(lambda id=operation: _ended(old, id), PATIENCE, "it has ended")  # type: ignore[misc]  # bound per loop
        assert report.phase is wanted
        assert "nothing was changed" in report.says
        wait_for(lambda: not _decoding(old), PATIENCE, "its programs have ended")
        assert sorted(old.config.lost_dir.iterdir()) == before
        assert old.request("GET", f"/task/{operation}/result")[0] == 404
