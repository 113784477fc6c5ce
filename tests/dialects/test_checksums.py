"""Checksums of a comparison on a real server.

Proves: two values of a type that are not the same byte for byte never have the same checksum, whatever a collation, a character
set or a display width makes of them, and neither has NULL; what a column does not hold (virtual columns, the words of an ENUM) is
not looked at; ranges of keys of every type go through the index, leave no row out and take none twice; rows without a key do not
take each other away; definitions differ when they do, and not by the next auto-increment; secrets are not shown.
"""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from replication.agent.database import LocalSession
from replication.core.commands import Verb
from replication.core.comparison import Key
from replication.core.vault_ports import DatabaseError
from replication.dialects.base import Row
from replication.dialects.mariadb_checksums import Checksums, Layout
from tests.vault_host import VaultHost, vault_hosts

ADDRESS = "127.0.84.41"
LONG = timedelta(seconds=5)
FAR = "'" + "x" * 300 + "'"


class Recording(LocalSession):
    """Remembers what it asked."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.asked: list[tuple[str, tuple[Any, ...]]] = []

    def rows(self, statement: str, *values: Any) -> list[Row]:
        self.asked.append((statement, values))
        return super().rows(statement, *values)


@pytest.fixture(scope="module")
def host() -> Iterator[VaultHost]:
    directory = Path(tempfile.mkdtemp(prefix="vha-"))
    with vault_hosts(directory) as make:
        host = make(ADDRESS, "checksums-1").init().start()
        host.order(Verb.OPEN)
        yield host
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def session(host: VaultHost) -> Iterator[Recording]:
    session = Recording(host.config.socket, read_seconds=30)
    Checksums(session).prepare(LONG, LONG)
    session.run("CREATE OR REPLACE DATABASE `odd-%%-name`")
    session.run("USE `odd-%%-name`")
    yield session
    session.close()


def layout(session: LocalSession, columns: str, more: str = "") -> Layout:
    """Of a fresh table whose names need quoting."""
    session.run(f"CREATE OR REPLACE TABLE `t``%%` ({columns}) ENGINE=InnoDB {more}")
    return Checksums(session).layout("odd-%-name", "t`%")


VALUES = [
    ("tinyint", ["0", "1", "-1"]),
    ("bigint unsigned", ["18446744073709551615", "18446744073709551614", "9223372036854775807"]),
    ("decimal(30,10)", ["0", "0.0000000001", "-0.0000000001", "12345678901234567890.0000000001"]),
    ("float", ["0.1", "0.10000001", "0e0", "1e-45", "3.4028235e38"]),
    ("double", ["0.1", "0.10000000000000002", "1e308", "5e-324"]),
    ("double(10,2)", ["1.23", "1.24"]),
    ("bit(12)", ["b'0'", "b'101'", "b'111111111111'"]),
    ("enum('x', 'y', '')", ["'x'", "'y'", "''", "0"]),
    ("set('a', 'b')", ["''", "'a'", "'b'", "'a,b'"]),
    ("char(5) character set latin1", ["'a'", "'A'", "_latin1 X'E4'", "''", "'N'"]),
    ("varchar(20) character set utf8mb4 collate utf8mb4_general_ci", ["'a'", "'A'", "'a '", "'ä'", "'a\\0'", "'N'", "''"]),
    ("varchar(20) character set utf16", ["'a'", "'b'", "''"]),
    ("binary(4)", ["X''", "X'01'", "X'0100'", "X'010001'"][::3]),
    ("varbinary(20)", ["X''", "X'00'", "X'0000'", "'N'", "X'C3A4'", "X'E4'"]),
    ("tinytext", ["''", "'N'", "'n'"]),
    ("longtext", ["''", FAR, FAR[:-1] + " '"]),
    ("longblob", ["''", "X'00'", "REPEAT(X'00', 3000000)", "REPEAT(X'00', 3000001)"]),
    ("json", ["'{}'", "'{\"a\":1}'", "'{\"a\": 1}'"]),
    ("geometry", ["ST_GeomFromText('POINT(1 2)')", "ST_GeomFromText('POINT(1 2)', 4326)", "ST_GeomFromText('POINT(2 1)')"]),
    ("date", ["'0000-00-00'", "'2020-00-00'", "'2020-01-01'"]),
    ("datetime(6)", ["'0000-00-00'", "'2020-01-01'", "'2020-01-01 00:00:00.000001'"]),
    ("timestamp(6) null", ["'0000-00-00'", "'2020-01-01 10:00:00'", "'2020-01-01 10:00:00.000001'"]),
    ("time(3)", ["'0:0:0'", "'-0:0:0.001'", "'0:0:0.001'", "'838:59:59'"]),
    ("year", ["0", "2000", "1999"]),
    ("uuid", ["'123e4567-e89b-12d3-a456-426655440000'", "'123e4567-e89b-12d3-a456-426655440001'"]),
    ("inet6", ["'::'", "'::1'", "'::ffff:1.2.3.4'"]),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "values"), [pytest.param(*case, id=case[0]) for case in VALUES])
def test_no_two_values_have_the_same_checksum(session: Recording, kind: str, values: list[str]) -> None:
    table = layout(session, f"id INT PRIMARY KEY, v {kind}")
    db, seen, sums = Checksums(session), {}, set()
    for value in [*values, "NULL"]:
        session.run(f"REPLACE INTO `t``%%` VALUES (1, {value})")
        row = db.rows(table, None, None, 2)[0]
        assert db.rows(table, None, None, 2)[0].digest == row.digest
        seen.setdefault(row.digest, value)
        assert seen[row.digest] == value, f"{value} is taken for {seen[row.digest]}"
        sums.add(db.total(table, None, None))
    assert len(sums) == len(values) + 1, "nor have ranges"


def test_what_stands_in_one_column_is_not_taken_for_what_stands_in_the_next(session: Recording) -> None:
    table = layout(session, "id INT PRIMARY KEY, a VARCHAR(9), b VARCHAR(9), c INT, d INT")
    found = set()
    for values in ("'1|', '2', 1, NULL", "'1', '|2', 1, NULL", "'1', '|2', NULL, 1", "NULL, '1', NULL, 1"):
        session.run(f"REPLACE INTO `t``%%` VALUES (1, {values})")
        found.add(Checksums(session).rows(table, None, None, 1)[0].digest)
    assert len(found) == 4


def test_only_what_a_row_holds_is_looked_at(session: Recording) -> None:
    table = layout(session, "id INT PRIMARY KEY, v INT AS (id + 1) VIRTUAL, s INT AS (id + 2) STORED, i INT INVISIBLE")
    assert [column.name for column in table.columns] == ["id", "s", "i"]


def test_equal_rows_without_a_key_do_not_take_each_other_away(session: Recording) -> None:
    table = layout(session, "a INT, b INT")
    assert table.key == ()
    db, found = Checksums(session), set()
    for rows in ("(1, 1)", "(1, 1), (1, 1), (1, 1)", "(1, 1), (2, 2), (2, 2)", "(1, 1), (3, 3), (3, 3)"):
        session.run("TRUNCATE `t``%%`")
        session.run(f"INSERT INTO `t``%%` VALUES {rows}")
        found.add(db.total(table, None, None))
    assert len(found) == 4


KEYS = [
    ("bigint unsigned", ["0", "1", "18446744073709551614", "18446744073709551615"]),
    ("int", ["-5", "-1", "0", "7"]),
    ("decimal(20,4)", ["-1.5", "-1.4999", "0", "2"]),
    ("bit(40)", ["b'0'", "b'1'", "b'11111111111111111111111111111111111111'"]),
    ("varchar(30) character set utf8mb4 collate utf8mb4_unicode_ci", ["''", "'a'", "'B'", "'c'", "'ß'", "'%%'", "'\\''"]),
    ("varchar(30) character set latin1 collate latin1_german2_ci", ["'a'", "'ä'", "'z'"]),
    ("char(6) character set utf16 collate utf16_bin", ["'a'", "'B'", "'ä'"]),
    ("varbinary(30)", ["X''", "X'00'", "X'0000'", "X'2527'", "X'FF'"]),
    ("binary(16)", ["UNHEX(MD5(1))", "UNHEX(MD5(2))", "UNHEX(MD5(3))"]),
    ("date", ["'0000-00-00'", "'2020-01-01'", "'2020-01-02'"]),
    ("datetime(6)", ["'2020-01-01'", "'2020-01-01 00:00:00.000001'", "'2020-01-02'"]),
    ("timestamp(3)", ["'2020-03-29 00:30:00'", "'2020-03-29 01:30:00.001'", "'2020-10-25 00:30:00'"]),
    ("time", ["'-1:0:0'", "'0:0:0'", "'100:0:0'"]),
    ("year", ["1999", "2000", "2020"]),
    ("uuid", ["'123e4567-e89b-12d3-a456-426655440000'", "'223e4567-e89b-12d3-a456-426655440001'", "UUID()"]),
    ("inet6", ["'::1'", "'::2'", "'fe80::1'"]),
]  # fmt: skip


def walk(db: Checksums, table: Layout, size: int) -> list[tuple[int, str]]:
    """Totals of ranges of `size` rows, through the whole table."""
    after: Key | None = None
    found = []
    while True:
        upto = db.last_key(table, after, None, size)
        found.append(db.total(table, after, upto))
        if upto is None:
            return found
        after = upto


@pytest.mark.parametrize("shape", ["alone", "first of two", "second of two"])
@pytest.mark.parametrize(("kind", "values"), [pytest.param(*case, id=case[0]) for case in KEYS])
def test_ranges_of_keys_leave_no_row_out_and_go_through_the_index(
    session: Recording, kind: str, values: list[str], shape: str
) -> None:
    key = {"alone": "k", "first of two": "k, n", "second of two": "n, k"}[shape]
    table = layout(session, f"k {kind} NOT NULL, n INT NOT NULL, filler CHAR(200) DEFAULT '', PRIMARY KEY ({key})")
    copies = 1 if shape == "alone" else 3
    for copy in range(copies):
        session.run(f"INSERT INTO `t``%%` (k, n) VALUES {', '.join(f'({value}, {copy})' for value in values)}")
    db = Checksums(session)
    everything = db.rows(table, None, None, 100)
    assert len({row.key for row in everything}) == len(values) * copies
    session.asked.clear()
    for size in (1, 2):
        assert sum(rows for rows, _ in walk(db, table, size)) == len(everything)
    keys = [row.key for row in everything]
    assert db.rows_of(table, keys) == everything
    for position, one in enumerate(keys):
        assert db.rows_of(table, [one]) == [everything[position]]
        assert [row.key for row in db.rows(table, one, None, 100)] == keys[position + 1 :]
        assert [row.key for row in db.rows(table, None, one, 100)] == keys[: position + 1]
    for statement, arguments in list(session.asked):
        plans = session.rows(f"EXPLAIN {statement}", *arguments)
        of_it = [plan for plan in plans if plan["table"] == "t`%"]
        assert all(plan["key"] == "PRIMARY" for plan in of_it), (statement, plans)
        if "WHERE" in statement:
            assert not {"ALL", "index"} & {plan["type"] for plan in of_it}, (statement, plans)


def test_a_unique_key_stands_in_for_a_primary_one_unless_it_cannot(session: Recording) -> None:
    columns = "a INT NOT NULL, b INT, c VARCHAR(300) NOT NULL, e ENUM('x', 'y') NOT NULL"
    assert [
        c.name for c in layout(session, f"{columns}, UNIQUE (b), UNIQUE (c(10)), UNIQUE (e), UNIQUE u (a)").key
    ] == ["a"]
    assert layout(session, f"{columns}, UNIQUE (b), UNIQUE (c(10)), UNIQUE (e)").key == ()


def test_keys_from_elsewhere_never_become_sql(session: Recording) -> None:
    numbers, texts = (
        layout(session, "k INT PRIMARY KEY"),
        layout(session, "k DATE PRIMARY KEY, s VARCHAR(9) UNIQUE NOT NULL"),
    )
    db = Checksums(session)
    for piece in ("1 OR 1=1", "1)", "", "0x1", "1e5; --"):
        with pytest.raises(ValueError, match="not a number"):
            db.rows(numbers, (piece,), None, 1)
    with pytest.raises(ValueError, match="columns"):
        db.rows(numbers, ("1", "2"), None, 1)
    with contextlib.suppress(DatabaseError):  # it is no date, and nothing else
        assert db.rows_of(texts, [("' OR '1'='1",)]) == []


def test_names_that_look_secret_are_not_shown(session: Recording) -> None:
    table = layout(session, "account VARCHAR(20), api_token VARBINARY(20), PRIMARY KEY (account, api_token)")
    session.run("INSERT INTO `t``%%` VALUES ('root', 'hunter2')")
    assert Checksums(session).rows(table, None, None, 1)[0].shown == "account=root, api_token=(not shown)"


def definitions(session: Recording) -> dict[str, str]:
    db = Checksums(session)
    return {t.name: t.definition for t in db.tables()} | {f"{o.kind} {o.name}": o.definition for o in db.objects()}


@pytest.mark.parametrize(
    ("before", "after", "name"),
    [
        ("CREATE TABLE x (a INT PRIMARY KEY)", "ALTER TABLE x MODIFY a BIGINT", "odd-%-name.x"),
        ("CREATE TABLE x (a VARCHAR(9) COLLATE utf8mb4_bin)", "ALTER TABLE x CONVERT TO CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci",
         "odd-%-name.x"),
        ("CREATE TABLE x (a INT) ENGINE=InnoDB", "ALTER TABLE x ENGINE=Aria", "odd-%-name.x"),
        ("CREATE VIEW y AS SELECT 1", "CREATE OR REPLACE VIEW y AS SELECT 2", "view odd-%-name.y"),
        ("CREATE FUNCTION f() RETURNS INT DETERMINISTIC RETURN 1", "CREATE OR REPLACE FUNCTION f() RETURNS INT DETERMINISTIC RETURN 2",
         "routine odd-%-name.f"),
        ("CREATE EVENT e ON SCHEDULE EVERY 1 DAY DO SELECT 1", "ALTER EVENT e ON SCHEDULE EVERY 2 DAY", "event odd-%-name.e"),
        ("CREATE OR REPLACE USER somebody@localhost IDENTIFIED BY 'a'", "SET PASSWORD FOR somebody@localhost = PASSWORD('b')",
         "account somebody@localhost"),
        ("CREATE OR REPLACE USER somebody@localhost", "GRANT SELECT ON *.* TO somebody@localhost", "account somebody@localhost"),
    ],
)  # fmt: skip
def test_a_definition_that_was_changed_is_another_one(session: Recording, before: str, after: str, name: str) -> None:
    session.run(before)
    first = definitions(session)
    assert definitions(session) == first
    session.run(after)
    second = definitions(session)
    assert {changed for changed in first if first[changed] != second.get(changed)} == {name}


def test_what_says_nothing_of_a_definition_does_not_change_it(session: Recording) -> None:
    session.run("CREATE TABLE x (a INT PRIMARY KEY AUTO_INCREMENT)")
    session.run("CREATE EVENT e ON SCHEDULE EVERY 1 DAY DO SELECT 1")
    first = definitions(session)
    session.run("INSERT INTO x VALUES (NULL), (NULL)")
    session.run("ALTER EVENT e DISABLE ON SLAVE")
    assert definitions(session) == first


def test_accounts_of_ours_and_of_the_host_are_left_out(session: Recording) -> None:
    names = [found.name for found in Checksums(session).objects() if found.kind == "account"]
    assert "vault_client@%" in names
    assert not [name for name in names if name.startswith(("vha_", "root@localhost", "mariadb.sys"))]


def test_tables_that_cannot_be_compared_say_why(session: Recording) -> None:
    session.run("CREATE TABLE a (a INT PRIMARY KEY) ENGINE=Aria")
    session.run("CREATE TABLE b (a INT)")
    session.run("CREATE TABLE c (a INT) AS SELECT seq AS a FROM seq_1_to_50000")
    session.rows("ANALYZE TABLE c")
    why = {t.table: t.not_compared for t in Checksums(session).tables() if t.schema == "odd-%-name"}
    assert why["a"].startswith("engine Aria")
    assert why["b"] == ""
    assert why["c"].startswith("it has no key to go by")
