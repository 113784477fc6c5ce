"""A vault on MySQL: real agents, real mysqld, ordered about as a controller would.

Proves: every acknowledged row survives kill -9 of the primary under writers, also when the acker is killed with it; the relay log of a
stopped or killed acker is neither thrown away nor forgotten; the unacknowledged tail that MySQL keeps is found at the follow, named, and
held; an errant transaction on a fallback is found although MySQL itself says nothing of it; a node of the other engine is refused.
"""

import contextlib
import itertools
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import MySQLdb
import pytest

from replication.core import limits
from replication.core.commands import Verb, account_name
from replication.core.errors import StepFailed
from replication.core.mysql_positions import GtidSet
from tests.agent.orders import (
    HangingWrite,
    account,
    database,
    follow,
    follow_args,
    frozen,
    has,
    open_primary,
    order,
    write,
)
from tests.mysql.host import MySqlHost
from tests.waiting import wait_for
from tests.writers import Writers, create_table, missing

PATIENCE = limits.STEP_DEADLINE.total_seconds()
BACKLOG = 50
STARTS_WITHIN = 60


@pytest.fixture(scope="module")
def hosts(make: Callable[..., MySqlHost]) -> list[MySqlHost]:
    """Primary and replica; tests that change who is what reorder this list."""
    # They are on one machine, where a cut would reach the other's packets too.
    primary, replica = (make(f"127.0.86.{n}", f"my-pair-{n}", cut="none") for n in (11, 12))
    replica.client_password = primary.client_password
    for host in (primary, replica):
        host.init().start()
    open_primary(primary, [replica], jump=False)
    primary.sql("CREATE TABLE vault.rows_ (id BIGINT PRIMARY KEY)")
    create_table(primary)
    return [primary, replica]


@pytest.fixture
def pair(hosts: list[MySqlHost]) -> tuple[MySqlHost, MySqlHost]:
    """A lossless primary and its acker."""
    primary, acker = hosts
    follow(acker, primary)
    order(acker, Verb.ACKER)
    order(primary, Verb.LOSSLESS)
    return primary, acker


def fail_over(old: MySqlHost, new: MySqlHost) -> None:
    order(new, Verb.REVOKE)
    order(old, Verb.FENCE)
    order(new, Verb.DRAIN)
    open_primary(new, [old], jump=True)


def wait_restarted(host: MySqlHost, former: int) -> None:
    host.wait_report(
        lambda report: report.database is not None and host.database_pid not in (0, former) and not report.tainted
    )


def answers(host: MySqlHost) -> bool:
    try:
        return bool(host.sql("SELECT 1"))
    except MySQLdb.Error:
        return False


def begin_again(host: MySqlHost, source: MySqlHost) -> None:
    """Throw the node away and make it anew: an empty server follows from the first transaction on."""
    order(source, Verb.SOLO)  # nobody acknowledges any more
    host.destroy()
    shutil.rmtree(host.home)
    host.init().start()
    order(source, Verb.ACCOUNTS, {"accounts": [account(host)]})
    follow(host, source)


def test_rows_arrive_over_tls_with_no_password(pair: tuple[MySqlHost, MySqlHost]) -> None:
    primary, replica = pair
    row = write(primary)
    wait_for(lambda: has(replica, row), PATIENCE, "the row arrives")
    status = replica.sql("SHOW REPLICA STATUS")[0]
    assert (status["Source_SSL_Allowed"], status["Source_SSL_Verify_Server_Cert"]) == ("Yes", "Yes")
    assert status["Auto_Position"] == 1
    seen = database(replica)
    assert (seen.receiver, seen.applier, seen.read_only, seen.drift) == ("Yes", True, True, ())
    assert seen.heard_age is not None
    with pytest.raises(MySQLdb.OperationalError):
        MySQLdb.connect(host=primary.ip, port=limits.DATABASE_PORT, user=account_name(replica.node), connect_timeout=2)


def test_a_replica_hears_its_source_by_heartbeats(pair: tuple[MySqlHost, MySqlHost]) -> None:
    primary, replica = pair
    quiet = limits.HEARTBEAT_PERIOD.total_seconds() * 4
    until = time.monotonic() + quiet
    while time.monotonic() < until:
        heard = database(replica).heard_age
        assert heard is not None
        assert heard < quiet
    with frozen(primary):
        replica.wait_report(
            lambda report: (
                report.database is not None
                and (report.database.heard_age or 0) > limits.ACKER_LOST_AFTER.total_seconds()
            )
        )


def test_commits_wait_for_the_acker_and_solo_releases_them(pair: tuple[MySqlHost, MySqlHost]) -> None:
    primary, acker = pair
    with frozen(acker):
        hanging = HangingWrite(primary)
        wait_for(lambda: database(primary).commits_stuck_for > 0, PATIENCE, hanging.says)
        assert not hanging.acknowledged
        order(primary, Verb.LOCK_OUT, {"account": account_name(acker.node)})
        assert not hanging.acknowledged, "locking out works while commits hang, and releases nobody"
        order(primary, Verb.SOLO)
        hanging.join(PATIENCE)
        assert hanging.acknowledged
    order(primary, Verb.ACCOUNTS, {"accounts": [account(acker)]})


def test_a_planned_switchover_and_back_loses_and_holds_nothing(
    pair: tuple[MySqlHost, MySqlHost], hosts: list[MySqlHost]
) -> None:
    primary, acker = pair
    rows = [write(primary) for _ in range(5)]
    position = order(primary, Verb.CLOSE)["gtid_binlog_pos"]
    order(acker, Verb.RECEIVED, {"position": position})
    order(acker, Verb.REVOKE)
    order(acker, Verb.DRAIN)
    open_primary(acker, [primary], jump=True)
    follow(primary, acker)
    rows.append(write(acker))
    wait_for(lambda: all(has(primary, row) for row in rows), PATIENCE, "the former primary follows")
    assert primary.report().quarantine == ""
    hosts[:] = [acker, primary]


def test_an_acker_whose_threads_were_stopped_keeps_what_it_acknowledged(pair: tuple[MySqlHost, MySqlHost]) -> None:
    """MariaDB would throw it away when one of them is started. MySQL does not: the applier alone brings everything."""
    primary, acker = pair
    acker.sql("STOP REPLICA SQL_THREAD")
    rows = [write(primary) for _ in range(BACKLOG)]
    acker.sql("STOP REPLICA")
    assert not has(acker, rows[0])
    with frozen(primary):
        acker.sql("START REPLICA SQL_THREAD")
        wait_for(lambda: has(acker, rows[-1]), PATIENCE, "the applier applies what is there")
        assert all(has(acker, row) for row in rows)


def test_a_killed_acker_has_what_it_acknowledged_when_its_source_is_gone(pair: tuple[MySqlHost, MySqlHost]) -> None:
    primary, acker = pair
    acker.sql("STOP REPLICA SQL_THREAD")
    rows = [write(primary) for _ in range(BACKLOG)]
    former = acker.database_pid
    with frozen(primary):
        acker.kill_database()
        wait_restarted(acker, former)
        assert all(has(acker, row) for row in rows)
        seen = database(acker)
        assert (seen.receiver, seen.read_only) == ("No", True)
        assert order(acker, Verb.REVOKE)["tainted"] is False


@pytest.mark.long
def test_with_relay_log_recovery_it_would_not(pair: tuple[MySqlHost, MySqlHost]) -> None:
    """That the two tests above can fail: a server that is started with the other setting has thrown the rows away."""
    primary, acker = pair
    acker.sql("STOP REPLICA SQL_THREAD")
    rows = [write(primary) for _ in range(BACKLOG)]
    acker.kill_agent()
    with frozen(primary):
        acker.kill_database()
        wait_for(lambda: not acker.database_pid, PATIENCE, "it is gone")
        # As the agent does: whoever has been killed and not been collected yet still counts as using the socket.
        Path(f"{acker.config.socket}.lock").unlink(missing_ok=True)
        by_hand = subprocess.Popen(
            [acker.program, f"--defaults-file={acker.config.my_cnf}", "--relay-log-recovery=1"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            wait_for(lambda: answers(acker), STARTS_WITHIN, "it starts")
            acker.sql("START REPLICA SQL_THREAD")
            idle = "Replica has read all relay log; waiting for more updates"
            wait_for(
                lambda: acker.sql("SHOW REPLICA STATUS")[0]["Replica_SQL_Running_State"] == idle, PATIENCE, "it is idle"
            )
            assert not any(has(acker, row) for row in rows)
        finally:
            by_hand.kill()
            by_hand.wait()
    begin_again(acker, primary)
    wait_for(lambda: has(acker, rows[-1]), PATIENCE, "its living source sends them again")


def test_an_errant_transaction_is_found_although_mysql_says_nothing(pair: tuple[MySqlHost, MySqlHost]) -> None:
    primary, replica = pair
    order(primary, Verb.SOLO)
    order(replica, Verb.DETACH)
    replica.sql("SET GLOBAL super_read_only = 0")
    replica.sql("INSERT INTO vault.rows_ VALUES (-1)")
    with pytest.raises(StepFailed) as refused:
        follow(replica, primary)
    assert refused.value.reason == "diverged"
    uuid = replica.sql("SELECT @@GLOBAL.server_uuid AS uuid")[0]["uuid"]
    assert f"{uuid}:1" in refused.value.text
    assert f"{uuid}:1" in replica.report().quarantine
    former = replica.database_pid
    replica.kill_database()
    report = replica.wait_report(lambda report: report.database is not None and replica.database_pid not in (0, former))
    assert f"{uuid}:1" in report.quarantine, "held over a restart"
    assert report.database is not None
    assert report.database.read_only
    with pytest.raises(StepFailed):
        order(replica, Verb.OPEN)
    begin_again(replica, primary)


def test_a_node_opened_by_hand_is_closed_again(pair: tuple[MySqlHost, MySqlHost]) -> None:
    _, replica = pair
    replica.sql("SET GLOBAL read_only = 0")
    replica.wait_report(lambda report: report.database is not None and report.database.read_only)
    assert replica.sql("SELECT @@GLOBAL.super_read_only AS closed")[0]["closed"] == 1


def test_a_source_of_the_other_engine_is_refused(hosts: list[MySqlHost]) -> None:
    host = hosts[1]
    args = follow_args(host, host, database(host))
    with pytest.raises(StepFailed) as refused:
        order(host, Verb.FOLLOW, {**args, "source_host": "127.0.86.99", "source_binlog_state": "0-1-5,0-2-7"})
    assert refused.value.reason == "engine"


def kill_primary(old: MySqlHost, new: MySqlHost) -> None:
    old.kill_database()


def kill_both(old: MySqlHost, new: MySqlHost) -> None:
    """The acker in the middle of receiving, and the primary before it is back."""
    former = new.database_pid
    new.kill_database()
    old.kill_database()
    wait_restarted(new, former)


def freeze_primary(old: MySqlHost, new: MySqlHost) -> None:
    old.kill_database(signal.SIGSTOP)


TRIALS = [
    pytest.param(kill_primary, id="killed"),
    pytest.param(kill_both, id="killed with its acker"),
    pytest.param(freeze_primary, id="frozen", marks=pytest.mark.long),
    *(pytest.param(kill_primary, id=f"killed, trial {n}", marks=pytest.mark.long) for n in range(2, 5)),
    *(pytest.param(kill_both, id=f"both killed, trial {n}", marks=pytest.mark.long) for n in range(2, 5)),
]
_trials = itertools.count(1)


@pytest.mark.parametrize("kill", TRIALS)
def test_no_acknowledged_row_is_lost_and_the_tail_is_held(
    pair: tuple[MySqlHost, MySqlHost], hosts: list[MySqlHost], kill: Callable[[MySqlHost, MySqlHost], None]
) -> None:
    old, new = pair
    with Writers(hosts, 8, password=old.client_password, first_id=next(_trials) * 1_000_000_000) as writers:
        writers.wait_acknowledged(time.monotonic(), PATIENCE, count=200)
        kill(old, new)
        moment = time.monotonic()
        fail_over(old, new)
        writers.wait_acknowledged(moment, PATIENCE, host=new, count=50)
        gap = writers.longest_gap(moment)
    assert missing(writers, new) == set()
    print(f"{len(writers.acknowledged)} acknowledged, none lost; writable again after {gap * 1000:.0f} ms")
    assert not old.database_pid, "it stays down until it is told to follow"
    with contextlib.suppress(StepFailed):  # there need not be a tail
        follow(old, new, truncate_tail=True)
    tail = GtidSet.parse(database(old).gtid_binlog_pos).subtract(GtidSet.parse(database(new).gtid_binlog_pos))
    assert bool(tail) is bool(old.report().quarantine)
    if tail:
        # What stood in its binary log and nobody had acknowledged: MySQL keeps it.
        assert str(tail) in old.report().quarantine
        assert database(old).read_only
        begin_again(old, new)
    wait_for(lambda: missing(writers, old) == set(), PATIENCE, "the old primary has everything")
    hosts[:] = [new, old]


def test_purged_binary_logs_mean_a_full_copy(pair: tuple[MySqlHost, MySqlHost]) -> None:
    primary, replica = pair
    order(primary, Verb.SOLO)
    order(replica, Verb.DETACH)
    write(primary)
    primary.sql("FLUSH BINARY LOGS")
    newest = primary.sql("SHOW BINARY LOG STATUS")[0]["File"]
    primary.sql(f"PURGE BINARY LOGS TO '{newest}'")
    with pytest.raises(StepFailed) as refused:
        follow(replica, primary)
    assert refused.value.reason == "rebuild"
    assert "no longer has the binary logs" in replica.report().needs_rebuild
