"""Settings and switches that somebody changed by hand: what the agent sets right, what it only tells, and what it tells at once.

Proves, on a lossless pair: what can be set right without a restart is, also while commits hang, and the report says what it
was; what only a restart can set right is drift, and no such primary becomes lossless; a primary that has stopped waiting,
by a time-out or for want of a replica, does not count as waiting; a replica that was opened is closed within
seconds; a primary that was set read-only is left alone.
"""

import contextlib
from collections.abc import Callable

import pytest

from replication.core import limits
from replication.core.commands import Verb
from replication.core.errors import StepFailed
from replication.core.report import DatabaseReport, NodeReport
from replication.core.roles import OrderKind, ProcessState
from replication.dialects.mariadb_settings import REQUIRED
from tests.agent.orders import HangingWrite, database, follow, frozen, has, open_primary, order, write
from tests.vault_host import VaultHost
from tests.waiting import wait_for

ADDRESSES = ("127.0.61.41", "127.0.61.42")
ODD = "127.0.61.43"
PATIENCE = limits.STEP_DEADLINE.total_seconds()
REPAIRED_SECONDS = limits.SETTINGS_CHECK.total_seconds() + 5
CLOSED_SECONDS = 3
"""What the faults' catalogue asks for (O09)."""


@pytest.fixture(scope="module")
def hosts(make: Callable[..., VaultHost]) -> list[VaultHost]:
    made = [make(address, f"drift-{n}", cut="none") for n, address in enumerate(ADDRESSES, 1)]
    for host in made:
        host.client_password = made[0].client_password
        host.init().start()
    open_primary(made[0], made[1:], jump=False)
    made[0].sql("CREATE TABLE vault.rows_ (id BIGINT PRIMARY KEY)")
    return made


@pytest.fixture
def pair(hosts: list[VaultHost]) -> tuple[VaultHost, VaultHost]:
    """A lossless primary and its acker."""
    primary, acker = hosts
    open_primary(primary, [acker], jump=False)
    follow(acker, primary)
    order(acker, Verb.ACKER)
    order(primary, Verb.LOSSLESS)
    return primary, acker


def wait_database(
    host: VaultHost, holds: Callable[[DatabaseReport], bool], seconds: float = REPAIRED_SECONDS
) -> NodeReport:
    return host.wait_report(lambda report: report.database is not None and holds(report.database), seconds)


UNSAFE = {
    "sync_binlog": 0,
    "innodb_flush_log_at_trx_commit": 2,
    "binlog_format": "STATEMENT",
    "gtid_strict_mode": 0,
    "event_scheduler": "ON",
    "relay_log_recovery": 1,
    "rpl_semi_sync_master_wait_point": "AFTER_COMMIT",
    "rpl_semi_sync_master_wait_no_slave": 0,
    "slave_net_timeout": 60,
}


def value(host: VaultHost, name: str) -> str:
    return str(host.sql(f"SELECT @@GLOBAL.{name} AS it")[0]["it"])


def test_what_can_be_set_right_is_and_the_report_says_what_it_was(pair: tuple[VaultHost, VaultHost]) -> None:
    primary, acker = pair
    with frozen(acker):  # a hanging commit must not keep it from being set right
        hanging = HangingWrite(primary)
        wait_for(lambda: database(primary).waiting_sessions, PATIENCE, hanging.says)
        for name, unsafe in UNSAFE.items():
            primary.sql(f"SET GLOBAL {name} = %s", unsafe)
        wait_for(
            lambda: all(value(primary, name) == str(REQUIRED[name]) for name in UNSAFE),
            REPAIRED_SECONDS,
            "all are right",
        )
        assert not hanging.acknowledged
    hanging.join(PATIENCE)
    report = wait_database(primary, lambda db: bool(db.repaired))
    assert report.database is not None
    assert report.database.drift == ()
    assert len(report.database.repaired) == 5, "the last five are told, all are in the log"
    for name, unsafe in UNSAFE.items():
        assert f"{name} was {unsafe}" in primary.log()
    assert report.database.semisync_primary


def test_what_a_running_replica_does_not_take_stays_drift(pair: tuple[VaultHost, VaultHost]) -> None:
    primary, acker = pair
    order(primary, Verb.SOLO)
    acker.sql("STOP SLAVE")
    acker.sql("SET GLOBAL slave_parallel_threads = 0")
    acker.sql("START SLAVE")
    wait_database(acker, lambda db: db.drift == ("slave_parallel_threads is 0, must be 4",))
    acker.sql("STOP SLAVE")
    acker.sql("SET GLOBAL slave_parallel_threads = 4")
    acker.sql("START SLAVE")


def test_a_primary_with_drift_that_needs_a_restart_does_not_become_lossless(make: Callable[..., VaultHost]) -> None:
    odd = make(ODD, "drift-odd", cut="none")
    program = odd.directory / "mariadbd-with-name-servers"
    program.write_text('#!/bin/sh\nexec /usr/sbin/mariadbd "$@" --skip-name-resolve=0\n')
    program.chmod(0o755)
    odd.init("--mariadbd", str(program)).start()
    order(odd, Verb.OPEN)
    assert wait_database(odd, lambda db: bool(db.drift)).database.drift == ("skip_name_resolve is 0, must be 1",)  # type: ignore[union-attr]  # waited for
    with pytest.raises(StepFailed) as refused:
        order(odd, Verb.LOSSLESS)
    assert refused.value.reason == "settings"
    assert "skip_name_resolve is 0, must be 1" in refused.value.text
    assert odd.report().order_kind is OrderKind.SOLO


def test_a_primary_whose_wait_timed_out_does_not_count_as_waiting(pair: tuple[VaultHost, VaultHost]) -> None:
    primary, acker = pair
    primary.sql("SET GLOBAL rpl_semi_sync_master_timeout = 100")
    with frozen(acker):
        alone = HangingWrite(primary)
        alone.join(PATIENCE)
        assert alone.acknowledged, "that is what the setting is dangerous for"
        wait_database(primary, lambda db: not db.semisync_primary, PATIENCE)
        must = str(REQUIRED["rpl_semi_sync_master_timeout"])
        wait_for(lambda: value(primary, "rpl_semi_sync_master_timeout") == must, REPAIRED_SECONDS, "it is set right")
        assert not database(primary).semisync_primary
    wait_database(primary, lambda db: db.semisync_primary, PATIENCE)
    assert wait_for(lambda: has(acker, alone.row), PATIENCE, "the acker has what was acknowledged alone")


def test_a_primary_that_did_not_wait_for_want_of_a_replica_does_not_count_as_waiting(
    pair: tuple[VaultHost, VaultHost],
) -> None:
    primary, acker = pair
    acker.sql("STOP SLAVE IO_THREAD")
    wait_database(primary, lambda db: db.ack_clients == 0)
    primary.sql("SET GLOBAL rpl_semi_sync_master_wait_no_slave = 0")
    alone = HangingWrite(primary)
    alone.join(PATIENCE)
    assert alone.acknowledged
    wait_database(primary, lambda db: not db.semisync_primary, PATIENCE)
    wait_for(lambda: value(primary, "rpl_semi_sync_master_wait_no_slave") == "1", REPAIRED_SECONDS, "it is set right")
    assert not database(primary).semisync_primary
    acker.sql("START SLAVE IO_THREAD")


def test_a_switch_to_waiting_under_load_is_no_false_alarm(pair: tuple[VaultHost, VaultHost]) -> None:
    primary, _ = pair
    for _ in range(5):
        order(primary, Verb.SOLO)
        hanging = [HangingWrite(primary) for _ in range(8)]
        order(primary, Verb.LOSSLESS)
        for one in hanging:
            one.join(PATIENCE)
        assert database(primary).semisync_primary


def test_a_replica_that_somebody_opened_is_closed_again(pair: tuple[VaultHost, VaultHost]) -> None:
    _, acker = pair
    pid = acker.database_pid
    acker.sql("SET GLOBAL read_only = 0")
    wait_for(lambda: value(acker, "read_only") == "1", CLOSED_SECONDS, "it is closed")
    assert acker.database_pid == pid
    assert "somebody opened this node" in acker.log()
    assert database(acker).receiver == "Yes", "it goes on as a replica"


def test_one_that_does_not_close_is_killed_and_comes_back_closed(pair: tuple[VaultHost, VaultHost]) -> None:
    primary, acker = pair
    acker.sql("STOP SLAVE SQL_THREAD")
    row = write(primary)
    pid = acker.database_pid
    with contextlib.closing(acker.connect()) as holder, holder.cursor() as cursor:
        cursor.execute("LOCK TABLES vault.rows_ WRITE")
        acker.sql("SET GLOBAL read_only = 0")
        wait_for(lambda: acker.database_pid not in (0, pid), CLOSED_SECONDS * 3, "it is killed and started")
    acker.wait_report(lambda report: report.process is ProcessState.UP and not report.tainted)
    assert value(acker, "read_only") == "1"
    assert has(acker, row), "what it had acknowledged is rescued"


def test_a_primary_that_was_set_read_only_is_left_alone_and_an_acker_flushes_again(
    pair: tuple[VaultHost, VaultHost],
) -> None:
    primary, acker = pair
    acker.sql("SET GLOBAL sync_relay_log = 10000")
    primary.sql("SET GLOBAL read_only = 1")
    primary.sql("SET GLOBAL sync_binlog = 0")  # when this is set right, the other was seen as well
    wait_for(lambda: value(primary, "sync_binlog") == "1", REPAIRED_SECONDS, "the settings are looked at")
    report = wait_database(primary, lambda db: db.read_only)
    assert report.order_kind is OrderKind.LOSSLESS
    assert value(primary, "read_only") == "1"
    primary.sql("SET GLOBAL read_only = 0")
    wait_for(lambda: value(acker, "sync_relay_log") == "1", REPAIRED_SECONDS, "it flushes every event")
    assert database(acker).semisync_replica


def test_a_report_tells_of_connections_and_the_oldest_transaction(pair: tuple[VaultHost, VaultHost]) -> None:
    primary, acker = pair
    before = database(primary)
    assert 0 < before.connections < before.connections_max
    assert before.oldest_transaction == 0
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(contextlib.closing(primary.connect_client())) for _ in range(10)]
        cursor = stack.enter_context(clients[0].cursor())
        cursor.execute("BEGIN")
        cursor.execute("INSERT INTO rows_ VALUES (-11)")
        wait_database(primary, lambda db: db.oldest_transaction >= 1)
        assert database(primary).connections >= before.connections + len(clients) - 2
        cursor.execute("ROLLBACK")
    wait_database(primary, lambda db: db.oldest_transaction == 0)
    assert database(acker).oldest_transaction == 0, "the applier's own do not count"
