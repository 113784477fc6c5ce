"""A fallback is compared with its primary while clients write. docs/design/comparison.md has the argument that this checks.

Proves, on real servers: eight clients that insert, delete, change the same rows all the time and change tables cause no false
alarm, and would without the hold (the check can fail); every kind of drift is found under writers and named by its key; GTIDs
that were issued twice with other content are found although replication is silent; a large table goes in several ranges; rows
that a client keeps locked are left out and said so; held rows are let go by the agent, and by the server when the agent stands
still; a comparison is in the way of no failover; the ends that it meets are words.
"""

import contextlib
import itertools
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import Any

import pytest

from replication.core import limits
from replication.core.commands import Verb
from replication.core.comparison import Comparison, Key, Rows, TableFacts
from replication.procedures.controller import both_sides, comparing
from replication.procedures.controller.comparing import Comparing, NotCompared
from tests.agent.comparing import Clients, compare, lay_out_for_clients
from tests.agent.orders import database, follow, open_primary, order
from tests.vault_host import VaultHost
from tests.waiting import wait_for
from tests.writers import Writers, missing

ADDRESSES = ("127.0.84.11", "127.0.84.12")
_first_ids = itertools.count(10**9, 10**9)
Pair = tuple[VaultHost, VaultHost]
ROUNDS, MANY_ROUNDS = 6, 200
PATIENCE = 20.0


@pytest.fixture(scope="module")
def hosts(make: Callable[..., VaultHost]) -> list[VaultHost]:
    primary, acker = made = [make(address, f"compare-{n}", cut="none") for n, address in enumerate(ADDRESSES, 1)]
    acker.client_password = primary.client_password
    for host in made:
        host.init().start()
    open_primary(primary, [acker], jump=False)
    lay_out_for_clients(primary)
    return made


@pytest.fixture
def pair(hosts: list[VaultHost]) -> Pair:
    """A lossless primary and its acker, equal."""
    primary, acker = hosts
    follow(acker, primary)
    order(acker, Verb.ACKER)
    order(primary, Verb.LOSSLESS)
    return primary, acker


@contextlib.contextmanager
def by_hand(host: VaultHost) -> Iterator[Callable[[str], None]]:
    """What somebody does on one host that goes to no other one."""
    with contextlib.closing(host.connect()) as connection, connection.cursor() as cursor:
        cursor.execute("SET SESSION sql_log_bin = 0")
        yield cursor.execute


@pytest.mark.parametrize("rounds", [ROUNDS, pytest.param(MANY_ROUNDS, marks=pytest.mark.long)])
def test_no_false_alarm_while_eight_clients_write(pair: Pair, rounds: int) -> None:
    primary, acker = pair
    ended: list[Comparison] = []
    with Clients(primary) as clients:
        for _ in range(rounds):
            before = sum(clients.done)
            ended.append(compare(primary, acker))
            assert ended[-1].differences == ()
            assert sum(clients.done) > before, "they wrote meanwhile"
    assert sum(found.figures["looked_again"] for found in ended) > rounds, "what clients are at differs at first"
    assert sum(found.figures["holds"] for found in ended) > 0, "some of it until it is held"
    assert max(found.figures["longest_hold"] for found in ended) < 2 * limits.COMPARE_HOLD.total_seconds()
    left_out = {says for found in ended for says in found.not_compared}
    assert left_out <= {"vault.passing: it was changed while it was compared"}


def test_without_holding_rows_there_would_be_false_alarms(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    async def not_held(self: Comparing, table: TableFacts, keys: list[Key]) -> Rows:
        return await self._again(table, keys)

    monkeypatch.setattr(Comparing, "_held", not_held)
    primary, acker = pair
    with Clients(primary):
        wait_for(lambda: compare(primary, acker).differences, PATIENCE, "a false alarm")


def test_a_fallback_that_is_late_would_seem_to_differ(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the wait for the primary's position is for."""
    monkeypatch.setattr(both_sides, "ANSWER_PATIENCE", timedelta())
    primary, acker = pair
    acker.sql("STOP SLAVE SQL_THREAD")  # the receiver goes on: nothing is thrown away
    try:
        primary.sql("UPDATE vault.accounts SET note = 'late' WHERE name = 'account-1'")
        row = "SELECT note FROM vault.accounts WHERE name = 'account-1'"
        assert primary.sql(row) != acker.sql(row)
        acker.wait_report(lambda report: report.database is not None and not report.database.applier)
        with pytest.raises(NotCompared, match="it does not follow now"):
            compare(primary, acker)
    finally:
        acker.sql("START SLAVE SQL_THREAD")
    acker.wait_report(lambda report: report.database is not None and report.database.applier)
    assert compare(primary, acker).differences == ()


DIFFERENT = "vault.steady: the table is defined otherwise on compare-2"
DRIFTS = [
    pytest.param(
        ["UPDATE vault.steady SET secret = 'stale' WHERE name = 'account-5'", "DELETE FROM vault.steady WHERE name = 'account-6'",
         "INSERT INTO vault.steady VALUES ('zz', '', '')", "UPDATE vault.steady_keyless SET b = 'other' WHERE a = 9",
         "CREATE TABLE vault.more (a INT)", "CREATE VIEW vault.v AS SELECT 1", "CREATE USER somebody@localhost"],
        {"vault.steady: 3 rows differ (other content: name=account-5; missing: name=account-6; extra: name=zz)",
         "vault.steady_keyless: its rows differ (100 and 100 rows; it has no key that would tell which ones differ)",
         "vault.more: only compare-2 has this table", "vault.v: only compare-2 has this view",
         "somebody@localhost: only compare-2 has this account"},
        id="a row changed, missing and extra; a table, a view and an account"),
    pytest.param(["UPDATE vault.steady SET note = '' WHERE name = 'account-7'"],
                 {"vault.steady: 1 row differs (other content: name=account-7)"}, id="NULL and nothing"),
    pytest.param(["ALTER TABLE vault.steady MODIFY note VARCHAR(70)", "RENAME TABLE vault.steady_keyless TO vault.other"],
                 {DIFFERENT, "vault.steady_keyless: the table is missing on compare-2", "vault.other: only compare-2 has this table"},
                 id="a column, and a name"),
    pytest.param(["ALTER TABLE vault.steady MODIFY note VARCHAR(60) COLLATE utf8mb4_bin",
                  "DELETE FROM vault.steady WHERE name = 'account-9'"],
                 {DIFFERENT, "vault.steady: 1 row differs (missing: name=account-9)"}, id="a collation, and a row"),
    pytest.param(["DELETE FROM vault.steady"], {"vault.steady: at least 500 rows differ"}, id="everything"),
]  # fmt: skip


def lay_out(primary: VaultHost) -> None:
    """Two tables that nobody changes, on both, whatever was there: the acker is sent all of it."""
    for statement in (
        "CREATE OR REPLACE TABLE vault.steady (name VARCHAR(60) PRIMARY KEY, secret VARBINARY(60), note VARCHAR(60))"
        " CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci",
        "INSERT INTO vault.steady SELECT CONCAT('account-', seq), MD5(seq), IF(seq = 7, NULL, '') FROM vault.seq_1_to_3000",
        "CREATE OR REPLACE TABLE vault.steady_keyless (a INT, b VARCHAR(20))",
        "INSERT INTO vault.steady_keyless SELECT seq, 'x' FROM vault.seq_1_to_100",
        "DROP TABLE IF EXISTS vault.other, vault.more",
        "DROP VIEW IF EXISTS vault.v",
        "DROP USER IF EXISTS somebody@localhost",
    ):
        primary.sql(statement)


@pytest.mark.parametrize(("drift", "says"), DRIFTS)
def test_every_drift_is_found_and_named_while_clients_write(pair: Pair, drift: list[str], says: set[str]) -> None:
    primary, acker = pair
    lay_out(primary)
    with Writers([primary], 8, password=primary.client_password, first_id=next(_first_ids)) as writers:
        writers.wait_acknowledged(0, PATIENCE, count=8)
        assert compare(primary, acker).differences == ()
        try:
            with by_hand(acker) as run:
                for statement in drift:
                    run(statement)
            found = compare(primary, acker).differences
        finally:
            with by_hand(acker) as run:  # what the primary does not know of
                for statement in ("TABLE vault.more", "TABLE vault.other", "VIEW vault.v", "USER somebody@localhost"):
                    run("DROP {} IF EXISTS {}".format(*statement.split()))
            lay_out(primary)
        assert {one.split(" (missing: name=account-1,")[0] for one in found} == says
    assert compare(primary, acker).differences == (), "and it is gone when it was put right"


def test_a_gtid_that_was_issued_twice_is_found_although_replication_is_silent(pair: Pair) -> None:
    """The same GTID with other content on either side: neither strict mode nor the state check says anything."""
    primary, acker = pair
    order(primary, Verb.SOLO)
    position = database(primary).gtid_binlog_pos
    wait_for(lambda: database(acker).gtid_slave_pos == position, PATIENCE, "the acker has everything")
    order(acker, Verb.DETACH)
    _, server, sequence = position.split("-")
    with contextlib.closing(acker.connect()) as connection, connection.cursor() as cursor:
        cursor.execute(f"SET SESSION server_id = {server}, gtid_seq_no = {int(sequence) + 1}")
        cursor.execute("INSERT INTO vault.accounts VALUES ('zz-here', '', '')")
    primary.sql("INSERT INTO vault.accounts VALUES ('zz-there', '', '')")
    assert database(primary).gtid_binlog_pos == database(acker).gtid_binlog_pos
    follow(acker, primary)
    assert acker.report().quarantine == ""
    found = compare(primary, acker)
    with by_hand(acker) as run:
        run("DELETE FROM vault.accounts WHERE name = 'zz-here'")
        run("INSERT INTO vault.accounts VALUES ('zz-there', '', '')")
    assert found.differences == ("vault.accounts: 2 rows differ (missing: name=zz-there; extra: name=zz-here)",)


def test_a_table_that_cannot_be_read_is_a_difference_and_the_others_are_compared(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(both_sides, "ANSWER_PATIENCE", timedelta())
    primary, acker = pair
    lay_out(primary)
    assert compare(primary, acker).differences == ()
    with by_hand(acker) as run:
        run("ALTER TABLE vault.steady DISCARD TABLESPACE")
    found = compare(primary, acker)
    lay_out(primary)
    assert len(found.differences) == 1
    assert found.differences[0].startswith("vault.steady: it cannot be read on compare-2: ")
    assert found.rows > 100
    assert compare(primary, acker).differences == ()


def test_a_large_table_goes_in_ranges(pair: Pair) -> None:
    primary, acker = pair
    primary.sql("CREATE OR REPLACE TABLE vault.large (id BIGINT PRIMARY KEY, filler CHAR(100))")
    primary.sql("INSERT INTO vault.large SELECT seq * 10, MD5(seq) FROM vault.seq_1_to_30000")
    with by_hand(acker) as run:
        run("UPDATE vault.large SET filler = 'x' WHERE id IN (10, 153210, 300000)")
        run("INSERT INTO vault.large VALUES (777, 'x'), (300001, 'x')")
        run("DELETE FROM vault.large WHERE id BETWEEN 200000 AND 202000")
    seen: list[int] = []

    async def progress(table: str, rows: int, total: int) -> None:
        if table == "vault.large":
            seen.append(rows)
            assert rows <= total

    found = compare(primary, acker, progress=progress)
    with by_hand(acker) as run:
        run("DROP TABLE vault.large")
    primary.sql("DROP TABLE IF EXISTS vault.large")
    assert found.differences == (
        "vault.large: 206 rows differ (other content: id=10, id=153210, id=300000; missing: "
        + ", ".join(f"id={id}" for id in range(200000, 200170, 10))
        + " and 184 more; extra: 2)",
    )
    assert seen == sorted(seen)
    assert len(set(seen)) > 3, "several ranges"


def test_rows_that_a_client_keeps_locked_are_left_out_and_said_so(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparing, "TRIES", 2)
    primary, acker = pair
    with by_hand(acker) as run:
        run("UPDATE vault.hot SET filler = 'drift' WHERE id = 1")
    with contextlib.closing(primary.connect_client()) as connection, connection.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute("UPDATE hot SET n = n + 1 WHERE id = 1")
        found = compare(primary, acker)
        connection.rollback()
    assert found.differences == (), "it may be what the client has not committed"
    assert found.not_compared == ("vault.hot: 1 rows, clients hold them or the fallback is too late for them",)
    assert compare(primary, acker).differences == ("vault.hot: 1 row differs (other content: id=1)",)
    primary.sql("UPDATE vault.hot SET filler = 'again' WHERE id = 1")
    assert compare(primary, acker).differences == (), "what the primary sends overwrites it"


def ask(host: VaultHost, what: str, who: Any = "controller", **body: Any) -> tuple[int, dict[str, Any]]:
    status, text = host.request("POST", f"/compare/{what}", json.dumps({"operation": "x", **body}).encode(), who=who)
    return status, json.loads(text)


HOT: Mapping[str, Any] = {"primary": True, "schema": "vault", "table": "hot", "keys": [["1"]], "hold": True}


def time_of_update(primary: VaultHost) -> float:
    began = time.monotonic()
    with contextlib.closing(primary.connect_client()) as connection, connection.cursor() as cursor:
        cursor.execute("UPDATE hot SET n = n + 1 WHERE id = 1")
    return time.monotonic() - began


def test_held_rows_are_let_go_when_nobody_says_so(pair: Pair) -> None:
    primary, _ = pair
    assert ask(primary, "rows", **HOT)[0] == 200
    waited = time_of_update(primary)
    assert 0.2 < waited < limits.COMPARE_HOLD.total_seconds() + 3
    assert ask(primary, "release", primary=True) == (200, {"held": False}), "and what was read meanwhile says nothing"
    assert ask(primary, "rows", **HOT)[0] == 200
    assert ask(primary, "release", primary=True) == (200, {"held": True})
    assert time_of_update(primary) < limits.COMPARE_HOLD.total_seconds() / 2
    assert ask(primary, "end", primary=True)[0] == 200


def test_held_rows_are_let_go_when_the_agent_stands_still(pair: Pair) -> None:
    primary, _ = pair
    order(primary, Verb.SOLO)  # a lease that nobody renews is another story
    assert ask(primary, "rows", **HOT)[0] == 200
    assert primary.agent is not None
    os.kill(primary.agent.pid, signal.SIGSTOP)
    try:
        assert time_of_update(primary) < limits.COMPARE_HOLD.total_seconds() + 4, "the server does it"
    finally:
        os.kill(primary.agent.pid, signal.SIGCONT)
    ask(primary, "end", primary=True)


def test_what_is_asked_for_is_checked(pair: Pair) -> None:
    primary, acker = pair
    assert ask(primary, "tables", who="node", primary=True)[0] == 403
    for body in (
        {"primary": "yes"}, {"primary": True, "operation": ""}, {"primary": True, "keys": "all"}, {"wait": 1e9},
        {"primary": True, "rows": -1}, {"primary": False, "hold": True, "schema": "vault", "table": "hot", "keys": []},
        {"primary": True, "after": [1]},
    ):  # fmt: skip
        assert ask(primary, "rows", **body)[0] == 400, body
    assert ask(primary, "nothing", primary=True)[0] == 400
    sql = {"primary": True, "schema": "vault", "table": "hot` WHERE 1; DROP TABLE vault.hot; -- ", "rows": 9}
    assert ask(primary, "rows", **sql)[1]["reason"] == "table"
    assert ask(primary, "rows", **{**HOT, "keys": [["1 OR 1=1"]]})[1]["reason"] == "table"
    assert ask(primary, "tables", primary=False)[1]["reason"] == "side"
    assert ask(acker, "tables", primary=True)[1]["text"] == "it is not the primary"
    assert ask(acker, "tables", reached="0-1-1000000000", wait=0.1)[1]["reason"] == "behind"
    assert ask(primary, "tables", operation="another", primary=True)[1]["reason"] == "busy"
    for host in (primary, acker):
        ask(host, "end", primary=host is primary)


def test_one_that_is_cancelled_makes_room_at_once(pair: Pair) -> None:
    primary, acker = pair

    class Cancelled(Exception):
        pass

    async def progress(table: str, rows: int, total: int) -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        compare(primary, acker, progress=progress)
    for host in (primary, acker):
        assert ask(host, "tables", operation="another", primary=host is primary)[0] == 200
        assert ask(host, "end", operation="another", primary=host is primary)[0] == 200


def test_an_agent_that_is_started_again_meanwhile_does_not_end_it(pair: Pair) -> None:
    primary, acker = pair
    killed: list[int] = []

    async def progress(table: str, rows: int, total: int) -> None:
        if not killed and acker.agent is not None:
            killed.append(acker.agent.pid)
            acker.kill_agent()
            threading.Thread(target=acker.start).start()

    assert compare(primary, acker, progress=progress).differences == ()
    assert killed
    acker.wait_up()


def _until_it_fails(primary: VaultHost, acker: VaultHost, progress: Any) -> None:
    while True:
        compare(primary, acker, progress=progress)


def test_a_failover_in_the_middle_loses_nothing_and_ends_the_comparison(pair: Pair, hosts: list[VaultHost]) -> None:
    """Last: it changes who is primary. Nothing of a comparison is in the way of the revocation."""
    primary, acker = pair
    moments: dict[str, float] = {}

    def fail_over() -> None:
        moments["killed"] = primary.kill_database()
        order(primary, Verb.FENCE)
        assert order(acker, Verb.REVOKE)["tainted"] is False
        order(acker, Verb.DRAIN)
        open_primary(acker, [primary], jump=True)
        moments["open"] = time.monotonic()

    thread = threading.Thread(target=fail_over)

    async def progress(table: str, rows: int, total: int) -> None:
        if not thread.ident:
            thread.start()

    with Writers([primary, acker], 8, password=primary.client_password, first_id=next(_first_ids)) as writers:
        writers.wait_acknowledged(0, PATIENCE, count=50)
        with pytest.raises(NotCompared) as ended:
            _until_it_fails(primary, acker, progress)
        thread.join(PATIENCE)
        writers.wait_acknowledged(moments["open"], PATIENCE, host=acker, count=20)
    assert missing(writers, acker) == set()
    assert primary.hostname in str(ended.value) or acker.hostname in str(ended.value)
    assert moments["open"] - moments["killed"] < PATIENCE
