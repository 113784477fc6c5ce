"""What a list of lost transactions shows, and what it asks to be rotated: no secret is ever shown, every changed one is named."""

import json

import pytest

from replication.core import losses
from replication.core.losses import DELETE, INSERT, UPDATE, Change, Rotations, Row, change_by_statement, change_of

SECRET = "Tr0ub4dor&3"
COLUMNS = ("id", "account", "password", "note")


def row(verb: str, **more: object) -> Row:
    before, after = {1: "7", 2: "root@db1", 3: "old " + SECRET, 4: "x"}, {1: "7", 2: "root@db1", 3: SECRET, 4: "x"}
    given = {
        "table": "vault.accounts",
        "verb": verb,
        "columns": COLUMNS,
        "key": frozenset({"id"}),
        "before": {} if verb == INSERT else before,
        "after": {} if verb == DELETE else after,
    }
    return Row(**{**given, **more})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "name",
    ["password", "passwd", "user_password", "userPassword", "UserPasswd", "pwd", "db_pass", "secret", "client_secret", "shared_secrets", "token", "accessToken", "api_key", "apiKey", "APIKey", "ssh_key", "private_key", "privateKeyPem", "pin", "pin_hash", "hash", "password_hash", "hashed", "salt", "credential", "credentials", "creds", "otp_seed", "totp", "ciphertext", "encrypted_value", "kek", "passphrase", "password_name", "token_user", "secret_title", "key"],
)  # fmt: skip
def test_looks_secret(name: str) -> None:
    assert losses.looks_secret(name)
    assert not losses.names_something(name)


@pytest.mark.parametrize(
    "name",
    [
        "id",
        "created_at",
        "note",
        "compass",
        "spinner",
        "opinion",
        "hosting",
        "monkey",
        "amount",
        "keyboard_layout",
        "passenger",
    ],
)
def test_looks_harmless(name: str) -> None:
    assert not losses.looks_secret(name)


@pytest.mark.parametrize(
    "name",
    [
        "name",
        "username",
        "userName",
        "user_name",
        "user",
        "login",
        "account",
        "account_name",
        "host",
        "hostname",
        "host_name",
        "title",
        "url",
        "base_url",
        "displayname",
    ],
)
def test_names_something(name: str) -> None:
    assert losses.names_something(name)


@pytest.mark.parametrize("verb", [INSERT, UPDATE, DELETE])
def test_a_row_is_told_without_its_secret(verb: str) -> None:
    told = change_of(row(verb))
    assert (told.table, told.verb) == ("vault.accounts", verb)
    assert told.key == {"id": "7"}
    assert told.shown == {"account": "root@db1"}
    assert told.changed == (("password",) if verb == UPDATE else COLUMNS)
    assert told.secrets == (() if verb == DELETE else ("password",))
    assert SECRET not in json.dumps(told.to_json())


@pytest.mark.parametrize(
    ("given", "absent", "present"),
    [
        pytest.param({"columns": ("id", "secret_name", "password", "note")}, "root@db1", "7", id="a name that looks secret"),
        pytest.param(
            {"columns": ("id", "url", "password", "note"), "after": {1: "7", 2: f"https://joe:{SECRET}@h/p", 3: SECRET, 4: None}},
            SECRET, "https://•••@h/p", id="a password inside of a URL",
        ),
        pytest.param(
            {"columns": ("id", "url", "password", "note"), "after": {1: "7", 2: f"https://h/p?t={SECRET}", 3: SECRET, 4: None}},
            SECRET, "https://h/p?•••", id="a token behind a URL",
        ),
        pytest.param(
            {"columns": ("id", "host", "password", "note"), "after": {1: "7", 2: f"Server=x;Pwd={SECRET};A=b", 3: SECRET, 4: None}},
            SECRET, "Server=x;Pwd=•••", id="a connection string",
        ),
        pytest.param(
            {"columns": ("token", "account", "password", "note"), "key": frozenset({"token"}), "after": {1: SECRET, 2: "a", 3: "b", 4: None}, "before": {}},
            SECRET, "•••", id="a key that is a secret",
        ),
        pytest.param(
            {"table": "vault.secrets", "columns": ("text", "a", "b", "c"), "key": frozenset({"text"}), "after": {1: SECRET, 2: "a", 3: "b", 4: None}, "before": {}},
            SECRET, "•••", id="a text as key of a table of secrets",
        ),
        pytest.param(
            {"columns": (), "after": {1: "7", 2: SECRET, 3: "name", 4: None}, "before": {}}, SECRET, "@2", id="columns without names",
        ),
        pytest.param(
            {"columns": (), "after": {1: SECRET, 2: "a"}, "before": {}}, SECRET, "@1", id="columns without names, a text first",
        ),
    ],
)  # fmt: skip
def test_what_is_never_shown(given: dict[str, object], absent: str, present: str) -> None:
    told = json.dumps(change_of(row(INSERT, **given)).to_json(), ensure_ascii=False)
    assert absent not in told
    assert present in told


def test_in_a_table_of_secrets_every_value_is_one() -> None:
    told = change_of(row(UPDATE, table="vault.secrets", columns=("id", "account", "value", "note")))
    assert told.secrets == ("value",)
    harmless = change_of(row(UPDATE, table="vault.things", columns=("id", "account", "value", "note")))
    assert harmless.secrets == ()


def test_of_an_inserted_row_only_what_it_holds_is_to_be_rotated() -> None:
    told = change_of(row(INSERT, after={1: "7", 2: "root", 3: None, 4: "x"}))
    assert told.secrets == ()


def test_long_values_are_cut() -> None:
    told = change_of(row(UPDATE, after={1: "7", 2: "x" * 500, 3: SECRET, 4: "x"}))
    assert len(told.shown["account"]) == losses.SHOWN_MAX


@pytest.mark.parametrize(
    ("text", "says", "table", "secret"),
    [
        ("CREATE TABLE x (a INT DEFAULT 'pw')", "CREATE TABLE", "vault.x", False),
        ("create or replace table if not exists `o t`.`x y` (a int)", "CREATE TABLE", "o t.x y", False),
        ("/* why */ ALTER ONLINE TABLE a.b ADD c VARCHAR(9) DEFAULT 'pw'", "ALTER TABLE", "a.b", False),
        ("-- pw\nDROP TABLE IF EXISTS x", "DROP TABLE", "vault.x", False),
        ("truncate x", "TRUNCATE TABLE", "vault.x", False),
        ("RENAME TABLE x TO y", "RENAME TABLE", "vault.x", False),
        ("CREATE UNIQUE INDEX i ON x (a)", "CREATE INDEX", "vault.x", False),
        ("DROP DATABASE other", "DROP DATABASE", "vault", False),
        (
            "CREATE DEFINER=`r`@`%` TRIGGER t BEFORE INSERT ON x FOR EACH ROW SET @a='pw'",
            "CREATE TRIGGER",
            "vault",
            False,
        ),
        ("CREATE USER 'bob'@'%' IDENTIFIED BY 'pw'", "CREATE USER", losses.ACCOUNTS, True),
        ("ALTER USER bob IDENTIFIED VIA mysql_native_password USING 'pw'", "ALTER USER", losses.ACCOUNTS, True),
        ("SET PASSWORD FOR 'bob'@'%' = PASSWORD('pw')", "SET PASSWORD", losses.ACCOUNTS, True),
        ("DROP USER 'bob'@'%'", "DROP USER", losses.ACCOUNTS, False),
        ("GRANT ALL ON *.* TO bob IDENTIFIED BY 'pw'", "GRANT", losses.ACCOUNTS, True),
        ("GRANT SELECT ON *.* TO bob", "GRANT", "vault", False),
        ("INSERT INTO x VALUES ('pw')", "INSERT as a statement", "vault.x", True),
        ("UPDATE o.x SET a='pw'", "UPDATE as a statement", "o.x", True),
        ("DELETE FROM x WHERE a='pw'", "DELETE as a statement", "vault.x", False),
        ("/*!50001 CREATE ALGORITHM=x VIEW pw */", "statement", "vault", False),
        ("'pw' is no statement", "statement", "vault", False),
        ("", "statement", "vault", False),
    ],
)
def test_a_statement_is_told_without_a_literal(text: str, says: str, table: str, secret: bool) -> None:
    told = change_by_statement("vault", text)
    assert (told.says, told.table, bool(told.secrets)) == (says, table, secret)
    assert "pw" not in json.dumps(told.to_json())


@pytest.mark.parametrize(
    ("text", "account"),
    [
        ("CREATE USER 'bob'@'%' IDENTIFIED BY 'pw'", "bob@%"),
        ("ALTER USER `bob`@`10.0.0.%` IDENTIFIED BY 'pw'", "bob@10.0.0.%"),
        ("CREATE USER bob IDENTIFIED BY 'pw'", "bob"),
        ("CREATE USER 'b o b; pw'@'%' IDENTIFIED BY 'pw'", losses.MASK),
    ],
)
def test_the_account_of_a_statement_is_told(text: str, account: str) -> None:
    assert change_by_statement("", text).key == {"account": account}


class TestRotations:
    def test_one_for_each_row_with_what_a_person_knows_it_by(self) -> None:
        found = Rotations()
        found.add(change_of(row(INSERT)), "t1")
        found.add(change_of(row(UPDATE)), "t2")
        found.add(change_of(row(UPDATE, before={1: "8", 2: "sa", 3: "a"}, after={1: "8", 2: "sa", 3: "b"})), "t3")
        first, second = found.found()
        assert (first.key, first.name, first.columns, first.last_at, first.times) == (
            {"id": "7"}, "root@db1", ("password",), "t2", 2,
        )  # fmt: skip
        assert (second.key, second.name, second.times) == ({"id": "8"}, "sa", 1)

    def test_what_changed_no_secret_is_not_in_it(self) -> None:
        found = Rotations()
        found.add(change_of(row(UPDATE, after={1: "7", 2: "root@db1", 3: "old " + SECRET, 4: "y"})), "t")
        found.add(change_of(row(DELETE)), "t")
        found.add(change_by_statement("vault", "ALTER TABLE x ADD y INT"), "t")
        assert found.found() == ()

    def test_rows_that_cannot_be_told_apart_all_count(self) -> None:
        found = Rotations()
        for _ in range(3):
            found.add(Change(table="vault.x", verb=INSERT, secrets=("password",)), "t")
        assert len(found.found()) == 3

    def test_beyond_the_limit_they_are_counted(self) -> None:
        found = Rotations(limit=2)
        for n in range(5):
            found.add(change_of(row(INSERT, after={1: str(n), 2: "a", 3: "b", 4: None})), "t")
        found.add(change_of(row(INSERT, after={1: "0", 2: "a", 3: "c", 4: None})), "t")
        assert (len(found.found()), found.more, found.found()[0].times) == (2, 3, 2)
