"""The SQL that we send to MySQL, against a real mysqld.

Proves: a server that our option file started has every setting that safety rests on, each drift is named and set right; nobody comes in
without a password or a certificate; accounts may do nothing but replicate; locks stay on this node; what has to be written on a closed
node can be, and leaves it closed; a long statement is not waited for; passwords stand in no binary log.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta

import MySQLdb
import pytest

from replication.agent.database import LocalSession
from replication.core import limits
from replication.core.commands import ReplicationAccount, Verb
from replication.core.mysql_positions import GtidSet
from replication.core.vault_ports import DatabaseError, RelayPlace, Source
from replication.dialects.base import Client, PkiFiles
from replication.dialects.mysql import MySql
from replication.dialects.mysql_settings import AT_BOOT, REQUIRED
from tests.mysql.host import MySqlHost
from tests.waiting import wait_for

SHORT = timedelta(seconds=0.2)
ACCOUNT = ReplicationAccount(name="vha_0123456789ab", subject='/CN=it\'s "100%" `mine`/OU=node')


@pytest.fixture(scope="module")
def host(make: Callable[..., MySqlHost]) -> MySqlHost:
    """A writable primary that acknowledges alone."""
    host = make("127.0.86.41", "my-dialect", cut="none").init().start()
    host.order(Verb.OPEN)
    return host


@pytest.fixture
def session(host: MySqlHost) -> Iterator[LocalSession]:
    session = LocalSession(host.config.socket, read_seconds=20)
    yield session
    session.close()


@pytest.fixture
def database(host: MySqlHost, session: LocalSession) -> MySql:
    pki = host.config.pki_dir
    return MySql(session, PkiFiles(ca=str(pki / "ca.pem"), cert=str(pki / "cert.pem"), key=str(pki / "key.pem")))


@pytest.fixture
def closed(database: MySql) -> Iterator[MySql]:
    database.set_read_only(True)
    yield database
    database.set_read_only(False)


def executed(database: MySql) -> GtidSet:
    return GtidSet.parse(database.positions().gtid_binlog_pos)


def named(database: MySql, name: str) -> tuple[str, bool] | None:
    found = [account for account in database.accounts() if account.name == name]
    return (found[0].subject, found[0].locked) if found else None


# --- settings -------------------------------------------------------------------------------------------------------


def test_init_has_found_the_engine(host: MySqlHost) -> None:
    assert host.config.engine == "mysql"
    assert host.config.install_db == ""


def test_a_server_of_ours_has_every_setting(database: MySql) -> None:
    assert database.drift() == ()


CHANGEABLE = {
    "sync_binlog": 0,
    "innodb_flush_log_at_trx_commit": 2,
    "rpl_semi_sync_source_timeout": 10000,
    "rpl_semi_sync_source_wait_point": "AFTER_COMMIT",
    "rpl_semi_sync_source_wait_no_replica": 0,
    "replica_net_timeout": 60,
    "replica_parallel_workers": 1,
    "event_scheduler": "ON",
}


@pytest.mark.parametrize("name", CHANGEABLE)
def test_each_drift_is_named_and_set_right(database: MySql, session: LocalSession, name: str) -> None:
    session.run(f"SET GLOBAL {name} = %s", CHANGEABLE[name])
    assert database.drift() == (f"{name} is {CHANGEABLE[name]}, must be {REQUIRED[name]}",)
    assert database.repair() == (f"{name} was {CHANGEABLE[name]}",)
    assert database.drift() == ()


def test_an_acker_that_does_not_flush_has_drifted(database: MySql, session: LocalSession) -> None:
    database.set_acknowledging(True)
    assert database.drift() == ()
    session.run("SET GLOBAL sync_relay_log = 10000")
    assert database.drift() == ("sync_relay_log is 10000, must be 1",)
    database.set_acknowledging(False)
    assert database.drift() == ()
    assert session.rows("SELECT @@GLOBAL.sync_relay_log AS every")[0]["every"] == AT_BOOT["sync_relay_log"]


def test_what_was_persisted_by_hand_does_not_open_a_node(host: MySqlHost) -> None:
    """SET PERSIST would be stronger than the option file."""
    host.sql("SET PERSIST_ONLY super_read_only = 0")
    host.sql("SET PERSIST_ONLY relay_log_recovery = 1")
    assert (host.config.data_dir / "mysqld-auto.cnf").exists()
    assert host.sql("SELECT @@GLOBAL.persisted_globals_load AS load_")[0]["load_"] == 0


# --- looking --------------------------------------------------------------------------------------------------------


def test_an_observation_says_what_the_single_questions_say(database: MySql) -> None:
    seen = database.observe()
    assert int(seen.version.split(".")[0]) in (8, 9)
    assert seen.positions == database.positions()
    assert seen.switches == database.switches()
    assert (seen.replica, seen.heard) == (None, ())


def test_switches_are_read_as_they_were_set(database: MySql) -> None:
    for on in (True, False):
        database.set_waiting(on)
        database.set_acknowledging(on)
        seen = database.switches()
        assert (seen.waiting, seen.acknowledging) == (on, on)
    assert (seen.ack_clients, seen.waiting_sessions, seen.stream_acknowledges) == (0, 0, False)


def test_the_age_of_the_oldest_transaction_is_told(host: MySqlHost) -> None:
    host.sql("CREATE TABLE IF NOT EXISTS vault.old (id INT PRIMARY KEY)")
    host.wait_report(lambda report: report.database is not None and report.database.oldest_transaction == 0)
    with contextlib.closing(host.connect()) as client:
        client.autocommit(False)
        client.cursor().execute("INSERT INTO vault.old VALUES (1)")
        # By the agent's report: the server answers who asks ten times a second from memory.
        host.wait_report(lambda report: report.database is not None and report.database.oldest_transaction >= 1)
        client.rollback()


# --- open and closed ------------------------------------------------------------------------------------------------


def test_closed_binds_administrators_too(host: MySqlHost, closed: MySql) -> None:
    assert closed.switches().read_only
    with pytest.raises(MySQLdb.Error) as refused:
        host.sql("CREATE DATABASE not_now")
    assert refused.value.args[0] == 1290


def test_what_has_to_be_written_on_a_closed_node_is_and_leaves_it_closed(closed: MySql) -> None:
    closed.record_epoch(901, 0)
    assert closed.epoch_recorded(901)
    closed.create_account(ACCOUNT)
    assert named(closed, ACCOUNT.name) == (ACCOUNT.subject, False)
    closed.drop_account(ACCOUNT.name)
    assert closed.switches().read_only


def test_a_write_that_fails_leaves_a_closed_node_closed(closed: MySql) -> None:
    with pytest.raises(DatabaseError):
        closed.lock_account("vha_not_there", True)
    assert closed.switches().read_only


def test_closing_does_not_wait_for_a_long_statement_nor_end_it(host: MySqlHost, database: MySql) -> None:
    host.sql("CREATE TABLE IF NOT EXISTS vault.slow (id INT PRIMARY KEY)")
    done = threading.Event()

    def write() -> None:
        host.sql("INSERT INTO vault.slow SELECT 1 + SLEEP(2)")
        done.set()

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    running = "SELECT 1 FROM information_schema.processlist WHERE INFO LIKE 'INSERT INTO vault.slow%%' AND TIME >= 1"
    wait_for(lambda: host.sql(running), 10, "the statement runs")
    began = time.monotonic()
    assert database.close_writes(SHORT) is False
    assert time.monotonic() - began < 1
    assert database.end_writers(SHORT, SHORT) is False
    assert not database.switches().read_only
    writer.join(10)
    assert done.is_set(), "it was not ended"
    assert database.close_writes(SHORT) is True
    assert database.switches().read_only
    database.set_read_only(False)
    host.sql("DROP TABLE vault.slow")


# --- replication ----------------------------------------------------------------------------------------------------


def test_a_source_is_remembered_with_tls_and_forgotten(database: MySql, session: LocalSession) -> None:
    database.change_source(Source(host="127.0.86.42", port=3307, account=ACCOUNT.name, demote=True))
    try:
        replica = database.replica()
        assert replica is not None
        assert (replica.source_host, replica.source_port, replica.account) == ("127.0.86.42", 3307, ACCOUNT.name)
        assert replica.receiver_stopped
        assert not replica.applier
        assert (replica.seconds_behind, replica.by_gtid) == (None, True)
        assert replica.gtid_io_pos == database.positions().gtid_slave_pos, "what it has executed, it has"
        row = session.rows("SHOW REPLICA STATUS")[0]
        assert (row["Source_SSL_Allowed"], row["Source_SSL_Verify_Server_Cert"]) == ("Yes", "Yes")
        assert (row["Auto_Position"], row["Connect_Retry"]) == (1, 1)
        assert row["Source_Retry_Count"] > 1_000_000, "it never gives up"
    finally:
        database.forget_source()
    assert database.replica() is None


def test_waiting_for_a_position_ends_when_it_is_there_or_the_time_is_over(database: MySql) -> None:
    assert database.wait_applied("", SHORT)
    reached = database.positions().gtid_slave_pos
    assert database.wait_applied(reached, SHORT)
    began = time.monotonic()
    assert not database.wait_applied(f"{'a' * 8}-1111-2222-3333-{'a' * 12}:7", SHORT)
    assert not database.wait_applied(f"{'a' * 8}-1111-2222-3333-{'a' * 12}:7", timedelta()), "and not for ever"
    assert time.monotonic() - began < 5


def test_the_relay_log_is_not_applied_by_place(database: MySql) -> None:
    with pytest.raises(DatabaseError, match="by GTID"):
        database.apply_relay_log(RelayPlace("relay.000001", 4), RelayPlace("relay.000001", 99))


# --- accounts -------------------------------------------------------------------------------------------------------


def test_nobody_comes_in_over_tcp_without_a_password_or_a_certificate(host: MySqlHost) -> None:
    for port in (limits.DATABASE_PORT, host.config.admin_port):
        for user in ("root", "vha_admin"):
            with pytest.raises(MySQLdb.OperationalError) as refused:
                MySQLdb.connect(host=host.ip, port=port, user=user, connect_timeout=2)
            assert refused.value.args[0] in (1045, 1698), refused.value  # not: nobody listens there
    (root,) = host.sql("SELECT plugin FROM mysql.user WHERE User = 'root'")
    assert root["plugin"] == "auth_socket"


def test_the_agent_has_its_own_way_in(host: MySqlHost) -> None:
    host.wait_report(lambda report: "admin-port" in report.fences)


def test_an_account_needs_its_subject_and_may_only_replicate(database: MySql, session: LocalSession) -> None:
    database.create_account(ACCOUNT)
    database.create_account(ACCOUNT)
    assert named(database, ACCOUNT.name) == (ACCOUNT.subject, False)
    grants = [next(iter(row.values())) for row in session.rows("SHOW GRANTS FOR %s@'%%'", ACCOUNT.name)]
    assert len(grants) == 1
    assert grants[0].startswith("GRANT REPLICATION SLAVE ON *.*")
    database.drop_account(ACCOUNT.name)
    database.drop_account(ACCOUNT.name)
    assert named(database, ACCOUNT.name) is None


def test_an_account_without_its_grant_does_not_count(database: MySql, session: LocalSession) -> None:
    session.run("CREATE USER %s@'%%' REQUIRE SUBJECT %s", ACCOUNT.name, ACCOUNT.subject)
    assert named(database, ACCOUNT.name) == ("", False), "so that it is made again"
    database.create_account(ACCOUNT)
    assert named(database, ACCOUNT.name) == (ACCOUNT.subject, False)
    database.drop_account(ACCOUNT.name)


def test_a_lock_stays_out_of_the_binary_log(database: MySql) -> None:
    database.create_account(ACCOUNT)
    before = executed(database)
    for locked in (True, False):
        database.lock_account(ACCOUNT.name, locked)
        assert named(database, ACCOUNT.name) == (ACCOUNT.subject, locked)
    with pytest.raises(DatabaseError):
        database.lock_account("vha_not_there", True)
    assert executed(database) == before
    database.drop_account(ACCOUNT.name)
    assert executed(database).missing_from(before) == 0
    assert executed(database) != before, "other statements are written again"


def test_streams_of_nobody_end_as_none(database: MySql) -> None:
    assert database.end_streams("vha_not_there") == 0


# --- the vault's clients --------------------------------------------------------------------------------------------


def test_the_client_account_is_made_once_and_its_password_can_change(host: MySqlHost, session: LocalSession) -> None:
    def database(password: str) -> MySql:
        return MySql(
            session, PkiFiles(ca="", cert="", key=""), Client(database="odd_name", user="odd_user", password=password)
        )

    def login(password: str, name: str = "odd_name") -> None:
        with contextlib.closing(
            MySQLdb.connect(host=host.ip, port=3307, user="odd_user", password=password, database=name)
        ) as connection:
            connection.cursor().execute("SELECT 1")

    password = 'it\'s "100%" of `them`'
    database(password).ensure_client()
    login(password)
    before = executed(database(password))
    database(password).ensure_client()
    assert executed(database(password)) == before
    database("another").ensure_client()
    login("another")
    with pytest.raises(MySQLdb.Error):
        login(password)
    session.run("CREATE DATABASE oddXname")
    with pytest.raises(MySQLdb.Error):
        login("another", "oddXname")


def test_a_password_never_stands_in_the_binary_log(host: MySqlHost, session: LocalSession) -> None:
    secret = b"not-to-be-written-anywhere"
    MySql(
        session, PkiFiles(ca="", cert="", key=""), Client(database="hidden", user="hidden", password=secret.decode())
    ).ensure_client()
    session.run("FLUSH BINARY LOGS")
    logs = [file for file in host.config.data_dir.glob("binlog.0*") if file.is_file()]
    assert logs
    assert any(b"hidden" in file.read_bytes() for file in logs)
    assert not any(secret in file.read_bytes() for file in logs)
