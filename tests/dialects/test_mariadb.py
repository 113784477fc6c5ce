"""The SQL that we send, against a real MariaDB.

Proves: a server that our option file started has every setting that safety rests on, and each drift is named; accounts need
their certificate, may do nothing but replicate, and are mended when half made; locks stay on this node; names with quotes
or percent signs are data; epochs are written once, after the jump; hashes are those that MariaDB makes itself.
"""

import contextlib
import time
from collections.abc import Iterator
from datetime import timedelta

import pytest

from replication.agent.database import LocalSession
from replication.core.commands import ReplicationAccount
from replication.core.positions import Gtid, parse_list
from replication.core.vault_ports import DatabaseError, Source
from replication.dialects.mariadb import MariaDb, PkiFiles
from replication.dialects.mariadb_accounts import Client
from replication.dialects.mariadb_settings import AT_BOOT, REQUIRED, differences
from tests.vault_host import VaultHost

SHORT = timedelta(seconds=0.2)
ACCOUNT = ReplicationAccount(name="vha_0123456789ab", subject='/CN=it\'s "100%" `mine`/OU=node')


@pytest.fixture
def session(host: VaultHost) -> Iterator[LocalSession]:
    session = LocalSession(host.config.socket, read_seconds=20)
    yield session
    session.close()


@pytest.fixture
def database(host: VaultHost, session: LocalSession) -> MariaDb:
    pki = host.config.pki_dir
    return MariaDb(session, PkiFiles(ca=str(pki / "ca.pem"), cert=str(pki / "cert.pem"), key=str(pki / "key.pem")))


def position(database: MariaDb) -> str:
    return database.positions().gtid_binlog_pos


# --- settings -------------------------------------------------------------------------------------------------------


def test_a_server_of_ours_has_every_setting(database: MariaDb) -> None:
    assert database.drift() == ()


CHANGEABLE = {
    "sync_binlog": 0,
    "innodb_flush_log_at_trx_commit": 2,
    "rpl_semi_sync_master_timeout": 10000,
    "rpl_semi_sync_master_wait_point": "AFTER_COMMIT",
    "slave_net_timeout": 60,
    "gtid_strict_mode": 0,
}


@pytest.mark.parametrize("name", CHANGEABLE)
def test_each_drift_is_named(database: MariaDb, session: LocalSession, name: str) -> None:
    session.run(f"SET GLOBAL {name} = %s", CHANGEABLE[name])
    try:
        assert database.drift() == (f"{name} is {CHANGEABLE[name]}, must be {REQUIRED[name]}",)
    finally:
        session.run(f"SET GLOBAL {name} = %s", REQUIRED[name])
    assert database.drift() == ()


def test_an_acker_that_does_not_flush_has_drifted(database: MariaDb, session: LocalSession) -> None:
    database.set_acknowledging(True)
    assert database.drift() == ()
    session.run("SET GLOBAL sync_relay_log = 10000")
    assert database.drift() == ("sync_relay_log is 10000, must be 1",)
    database.set_acknowledging(False)
    assert database.drift() == ()
    assert session.rows("SELECT @@GLOBAL.sync_relay_log AS every")[0]["every"] == AT_BOOT["sync_relay_log"]


def test_a_setting_that_a_server_does_not_tell_has_drifted() -> None:
    assert str(differences({}, acknowledging=False)[0]) == f"log_bin is unknown, must be {REQUIRED['log_bin']}"


# --- looking --------------------------------------------------------------------------------------------------------


def test_an_observation_says_what_the_single_questions_say(database: MariaDb) -> None:
    seen = database.observe()
    assert seen.version.startswith("10.11.")
    assert seen.positions == database.positions()
    assert seen.switches == database.switches()
    assert seen.replica is None
    assert seen.heard == ()


def test_switches_are_read_as_they_were_set(database: MariaDb) -> None:
    for on in (True, False):
        database.set_waiting(on)
        database.set_acknowledging(on)
        seen = database.switches()
        assert (seen.waiting, seen.acknowledging) == (on, on)
    assert (seen.ack_clients, seen.waiting_sessions, seen.stream_acknowledges) == (0, 0, False)


def test_an_error_carries_its_number_and_text(session: LocalSession) -> None:
    with pytest.raises(DatabaseError) as failed:
        session.rows("SELECT 1 FROM nowhere.at_all")
    assert failed.value.code == 1146
    assert "nowhere" in failed.value.text


def test_a_statement_that_was_broken_off_fails_at_once_and_the_next_one_works(session: LocalSession) -> None:
    import threading

    breaker = threading.Timer(SHORT.total_seconds(), session.abort)
    began = time.monotonic()
    breaker.start()
    with pytest.raises(DatabaseError, match="time for this command is over"):
        session.rows("SELECT SLEEP(15)")
    assert time.monotonic() - began < 5
    breaker.join()
    with pytest.raises(DatabaseError, match="time for this command is over"):
        session.rows("SELECT 1")
    session.ready()
    assert session.rows("SELECT 1 AS one")[0]["one"] == 1


# --- replication ----------------------------------------------------------------------------------------------------


def test_a_source_is_remembered_with_tls_and_forgotten(database: MariaDb, session: LocalSession) -> None:
    database.change_source(Source(host="127.0.21.42", port=3307, account=ACCOUNT.name, demote=False))
    try:
        replica = database.replica()
        assert replica is not None
        assert (replica.source_host, replica.source_port, replica.account) == ("127.0.21.42", 3307, ACCOUNT.name)
        assert replica.receiver_stopped
        assert not replica.applier
        assert replica.seconds_behind is None
        row = session.rows("SHOW SLAVE STATUS")[0]
        assert (row["Master_SSL_Allowed"], row["Master_SSL_Verify_Server_Cert"]) == ("Yes", "Yes")
        assert row["Using_Gtid"] == "Slave_Pos"
        assert row["Connect_Retry"] == 1
    finally:
        database.forget_source()
    assert database.replica() is None


def test_a_demoted_node_counts_its_own_events_as_received(database: MariaDb) -> None:
    database.change_source(Source(host="127.0.21.42", port=3307, account=ACCOUNT.name, demote=True))
    database.forget_source()
    now = database.positions()
    assert now.gtid_slave_pos == now.gtid_binlog_pos != ""


def test_waiting_for_a_position_ends_when_it_is_there_or_the_time_is_over(database: MariaDb) -> None:
    assert database.wait_applied("", SHORT)
    reached = database.positions().gtid_slave_pos
    assert database.wait_applied(reached, SHORT)
    last = Gtid.parse(reached)
    assert not database.wait_applied(str(Gtid(last.domain, last.server, last.sequence + 1_000_000)), SHORT)


# --- epochs ---------------------------------------------------------------------------------------------------------


def test_an_epoch_is_written_after_the_jump_and_once(database: MariaDb) -> None:
    last = parse_list(position(database))[0].sequence
    assert not database.epoch_recorded(901)
    database.record_epoch(901, last + 5000)
    assert database.epoch_recorded(901)
    first = parse_list(position(database))[0].sequence
    assert first >= last + 5000
    database.record_epoch(902, 0)
    assert parse_list(position(database))[0].sequence == first + 1
    assert database.epoch_recorded(902)


# --- accounts -------------------------------------------------------------------------------------------------------


def test_an_account_needs_its_subject_and_may_only_replicate(database: MariaDb, session: LocalSession) -> None:
    database.create_account(ACCOUNT)
    (found,) = [account for account in database.accounts() if account.name == ACCOUNT.name]
    assert (found.subject, found.locked) == (ACCOUNT.subject, False)
    grants = [next(iter(row.values())) for row in session.rows("SHOW GRANTS FOR %s@'%%'", ACCOUNT.name)]
    assert len(grants) == 1
    assert grants[0].startswith("GRANT REPLICATION SLAVE ON *.*")
    database.drop_account(ACCOUNT.name)
    database.drop_account(ACCOUNT.name)
    assert ACCOUNT.name not in {account.name for account in database.accounts()}


def test_an_account_without_its_grant_does_not_count(database: MariaDb, session: LocalSession) -> None:
    session.run("CREATE USER %s@'%%' REQUIRE SUBJECT %s", ACCOUNT.name, ACCOUNT.subject)
    (found,) = [account for account in database.accounts() if account.name == ACCOUNT.name]
    assert found.subject == "", "so that it is made again"
    database.create_account(ACCOUNT)
    (found,) = [account for account in database.accounts() if account.name == ACCOUNT.name]
    assert found.subject == ACCOUNT.subject
    database.drop_account(ACCOUNT.name)


def test_a_lock_stays_out_of_the_binary_log(database: MariaDb) -> None:
    database.create_account(ACCOUNT)
    before = position(database)
    for locked in (True, False):
        database.lock_account(ACCOUNT.name, locked)
        (found,) = [account for account in database.accounts() if account.name == ACCOUNT.name]
        assert found.locked is locked
    assert position(database) == before
    database.drop_account(ACCOUNT.name)
    assert position(database) != before, "other statements are written again"


def test_a_lock_that_fails_leaves_the_session_writing(database: MariaDb) -> None:
    with pytest.raises(DatabaseError):
        database.lock_account("vha_not_there", True)
    before = position(database)
    database.record_epoch(903, 0)
    assert position(database) != before


def test_streams_of_nobody_end_as_none(database: MariaDb) -> None:
    assert database.end_streams("vha_not_there") == 0


# --- the vault's clients --------------------------------------------------------------------------------------------


def test_the_client_account_is_made_once_and_its_password_can_change(host: VaultHost, session: LocalSession) -> None:
    import MySQLdb

    def database(password: str) -> MariaDb:
        return MariaDb(
            session, PkiFiles(ca="", cert="", key=""), Client(database="odd_name", user="odd_user", password=password)
        )

    def login(password: str) -> None:
        with contextlib.closing(
            MySQLdb.connect(host=host.ip, port=3307, user="odd_user", password=password, database="odd_name")
        ) as connection:
            connection.cursor().execute("CREATE TABLE IF NOT EXISTS t (id INT PRIMARY KEY)")

    password = 'it\'s "100%" of `them`'
    database(password).ensure_client()
    login(password)
    before = session.rows("SELECT @@GLOBAL.gtid_binlog_pos AS at")
    database(password).ensure_client()
    assert session.rows("SELECT @@GLOBAL.gtid_binlog_pos AS at") == before
    database("another").ensure_client()
    login("another")
    with pytest.raises(MySQLdb.Error):
        login(password)
    session.run("CREATE DATABASE oddXname")
    with (
        pytest.raises(MySQLdb.Error),
        contextlib.closing(
            MySQLdb.connect(host=host.ip, port=3307, user="odd_user", password="another", database="oddXname")
        ),
    ):
        pass


def test_a_password_never_stands_in_the_binary_log(host: VaultHost, session: LocalSession) -> None:
    secret = b"not-to-be-written-anywhere"
    MariaDb(
        session, PkiFiles(ca="", cert="", key=""), Client(database="hidden", user="hidden", password=secret.decode())
    ).ensure_client()
    session.run("FLUSH BINARY LOGS")
    logs = [file for file in host.config.data_dir.glob("binlog.0*") if file.is_file()]
    assert logs
    assert not any(secret in file.read_bytes() for file in logs)
