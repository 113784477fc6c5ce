"""Three nodes and their agents, ordered about as a controller would: following, acknowledging, failing over, coming back.

Proves, on real servers: rows arrive over TLS with the node's certificate as the only proof; commits wait for the acker, SOLO
releases them, and a report says at once that they hang; every acknowledged row survives revoke, drain, open; the old
primary comes back without its unacknowledged tail; extra transactions are named and held closed, also over a restart; a
replica that was restarted has what it acknowledged (more in test_rescue.py); a locked-out node does not come back.
"""

import contextlib
import time
from collections.abc import Callable

import MySQLdb
import pytest

from replication.core import limits
from replication.core.commands import FollowArgs, Verb, account_name
from replication.core.errors import StepFailed
from replication.core.roles import OrderKind, ProcessState
from tests.agent.orders import (
    HangingWrite,
    account,
    database,
    epochs,
    follow,
    follow_args,
    frozen,
    has,
    open_primary,
    order,
    write,
)
from tests.vault_host import VaultHost
from tests.waiting import wait_for

ADDRESSES = ("127.0.21.11", "127.0.21.12", "127.0.21.13")
LATE_SECONDS = 2.0
PATIENCE = limits.STEP_DEADLINE.total_seconds()


@pytest.fixture(scope="module")
def hosts(make: Callable[..., VaultHost]) -> list[VaultHost]:
    # All of them are on one machine, where a cut would reach the others' packets too: test_firewall.py has it.
    made = [make(address, f"repl-{n}", cut="none") for n, address in enumerate(ADDRESSES, 1)]
    for host in made:
        host.client_password = made[0].client_password  # the account moves with the data
        host.init().start()
    return made


@pytest.fixture(scope="module")
def trio(hosts: list[VaultHost]) -> list[VaultHost]:
    """Primary, replica, spare; tests that change who is what reorder this list."""
    primary, *others = hosts
    open_primary(primary, others, jump=False)
    primary.sql("CREATE TABLE vault.rows_ (id BIGINT PRIMARY KEY)")
    for other in others:
        follow(other, primary)
    return hosts


@pytest.fixture
def pair(trio: list[VaultHost]) -> tuple[VaultHost, VaultHost]:
    """A lossless primary and its acker; the third node follows."""
    primary, acker, spare = trio
    for other in (acker, spare):
        follow(other, primary)
    order(acker, Verb.ACKER)
    order(primary, Verb.LOSSLESS)
    return primary, acker


def test_rows_arrive_over_tls_with_no_password(trio: list[VaultHost]) -> None:
    primary, replica, spare = trio
    row = write(primary)
    for other in (replica, spare):
        wait_for(lambda other=other: has(other, row), PATIENCE, "the row arrives")  # type: ignore[misc]  # bound per loop
        status = other.sql("SHOW SLAVE STATUS")[0]
        assert (status["Master_SSL_Allowed"], status["Master_SSL_Verify_Server_Cert"]) == ("Yes", "Yes")
        assert status["Using_Gtid"] == "Slave_Pos"
    for row_ in primary.sql("SELECT Priv AS priv FROM mysql.global_priv WHERE User LIKE 'vha%%'"):
        assert "x509_subject" in row_["priv"]


def test_a_stranger_to_the_account_is_turned_away(trio: list[VaultHost]) -> None:
    primary, replica, _ = trio
    certificate = replica.config.pki_dir
    with pytest.raises(MySQLdb.OperationalError):
        MySQLdb.connect(host=primary.ip, port=limits.DATABASE_PORT, user=account_name(primary.node), connect_timeout=2)
    with pytest.raises(MySQLdb.OperationalError):
        MySQLdb.connect(host=primary.ip, port=limits.DATABASE_PORT, user=account_name(replica.node), connect_timeout=2)
    with contextlib.closing(
        MySQLdb.connect(
            host=primary.ip, port=limits.DATABASE_PORT, user=account_name(replica.node), connect_timeout=2,
            ssl={name: str(certificate / f"{name}.pem") for name in ("ca", "cert", "key")},
        )
    ):  # fmt: skip
        pass


def test_following_well_is_left_alone(trio: list[VaultHost]) -> None:
    primary, replica, _ = trio
    follow(replica, primary)
    streams = "SELECT ID AS id FROM information_schema.processlist WHERE COMMAND LIKE 'Binlog Dump%%' ORDER BY ID"
    before = primary.sql(streams)
    assert follow(replica, primary)["already"] is True
    assert primary.sql(streams) == before


def test_only_the_acker_flushes_its_relay_log(pair: tuple[VaultHost, VaultHost], trio: list[VaultHost]) -> None:
    flushes = "SELECT @@GLOBAL.sync_relay_log AS every, @@GLOBAL.rpl_semi_sync_slave_enabled AS flag"
    assert pair[1].sql(flushes)[0] == {"every": 1, "flag": 1}
    spare = trio[2].sql(flushes)[0]
    assert spare["flag"] == 0
    assert spare["every"] > 1
    assert database(pair[1]).drift == ()


def test_commits_wait_for_the_acker_and_a_report_says_so_at_once(pair: tuple[VaultHost, VaultHost]) -> None:
    primary, acker = pair
    write(primary)
    with frozen(acker):
        hanging = HangingWrite(primary)
        wait_for(lambda: database(primary).waiting_sessions, PATIENCE, hanging.says)
        before = primary.report()
        long_poll = limits.ACKER_LOST_AFTER.total_seconds() * 4
        began = time.monotonic()
        report = primary.report(since=before.version, wait=long_poll)
        assert time.monotonic() - began < limits.ACKER_LOST_AFTER.total_seconds(), "it was told, not asked"
        assert report.database is not None
        assert report.database.commits_stuck_for > 0
        assert not hanging.acknowledged
        order(primary, Verb.SOLO)
        hanging.join(PATIENCE)
        assert hanging.acknowledged
    assert database(primary).commits_stuck_for == 0


def test_lossless_without_an_acker_is_refused(trio: list[VaultHost]) -> None:
    primary, replica, spare = trio
    order(primary, Verb.SOLO)
    for other in (replica, spare):
        follow(other, primary)
    with pytest.raises(StepFailed) as refused:
        order(primary, Verb.LOSSLESS, deadline=1)
    assert refused.value.reason == "no-acker"
    assert primary.report().order_kind is OrderKind.SOLO
    write(primary)


def test_received_waits_for_a_position(pair: tuple[VaultHost, VaultHost]) -> None:
    primary, acker = pair
    write(primary)
    position = database(primary).gtid_binlog_pos
    assert order(acker, Verb.RECEIVED, {"position": position})["gtid_io_pos"]
    domain, server, sequence = position.split("-")
    with pytest.raises(StepFailed) as refused:
        order(acker, Verb.RECEIVED, {"position": f"{domain}-{server}-{int(sequence) + 1}"}, deadline=0.3)
    assert refused.value.reason == "behind"
    status, answer = acker.send(
        Verb.RECEIVED,
        {"vault": "a" * 32, "node": acker.node, "term": 1, "epoch": next(epochs), "operation": "x", "deadline": 1,
         "args": {"position": "nonsense"}},
    )  # fmt: skip
    assert status == 400, answer


def test_a_locked_out_node_loses_its_stream_even_while_commits_hang(
    pair: tuple[VaultHost, VaultHost], trio: list[VaultHost]
) -> None:
    primary, acker = pair
    spare = trio[2]
    with frozen(acker):
        hanging = HangingWrite(primary)
        wait_for(lambda: database(primary).waiting_sessions, PATIENCE, hanging.says)
        streams = order(primary, Verb.LOCK_OUT, {"account": account_name(spare.node)})["streams"]
        assert streams == 1
        assert order(primary, Verb.LOCK_OUT, {"account": "vha_nobody"})["streams"] == 0
        assert not hanging.acknowledged
        order(primary, Verb.SOLO)
        hanging.join(PATIENCE)
    spare.wait_report(lambda report: report.database is not None and report.database.receiver == "Connecting")
    order(primary, Verb.ACCOUNTS, {"accounts": [account(spare)]})
    spare.wait_report(lambda report: report.database is not None and report.database.receiver == "Yes")


def test_failover_keeps_every_acknowledged_row_and_the_old_primary_returns_without_its_tail(
    pair: tuple[VaultHost, VaultHost], trio: list[VaultHost]
) -> None:
    primary, acker = pair
    spare = trio[2]
    acknowledged = [write(primary) for _ in range(20)]
    with frozen(acker):
        tail = HangingWrite(primary)
        wait_for(lambda: database(primary).waiting_sessions, PATIENCE, tail.says)
        primary.kill_database()
        tail.join(PATIENCE)
    assert not tail.acknowledged
    order(primary, Verb.FENCE)
    assert order(acker, Verb.REVOKE)["tainted"] is False
    order(acker, Verb.REVOKE)  # again: a second leader may repeat it
    order(acker, Verb.DRAIN)
    order(acker, Verb.DRAIN)
    assert database(acker).read_only
    open_primary(acker, [primary, spare], jump=True)
    assert all(has(acker, row) for row in acknowledged)
    may_be_there = has(acker, tail.row)  # sent before the kill or not: either is right, if both agree in the end
    fresh = write(acker)

    follow(primary, acker, truncate_tail=True)
    follow(spare, acker)
    for other in (primary, spare):
        wait_for(lambda other=other: has(other, fresh), PATIENCE, "the new row arrives")  # type: ignore[misc]  # bound per loop
        assert has(other, tail.row) is may_be_there
        assert all(has(other, row) for row in acknowledged)
    report = primary.report()
    assert (report.quarantine, report.primary_order_kind, report.tainted) == ("", OrderKind.NONE, False)
    assert list(primary.config.salvage_dir.iterdir()), "the binary logs were copied before the cut"
    trio[:] = [acker, primary, spare]


def test_a_lossless_primary_that_nobody_replaced_reopens_waiting_after_the_grace(
    pair: tuple[VaultHost, VaultHost],
) -> None:
    primary, acker = pair
    row = write(primary)
    moment, former = primary.kill_database(), primary.database_pid
    primary.wait_report(lambda report: report.process is ProcessState.DEAD)
    with frozen(acker):
        primary.wait_report(
            lambda report: (
                report.database is not None
                and not report.database.read_only
                and primary.database_pid not in (0, former)
            )
        )
        assert time.monotonic() - moment >= limits.RESTART_GRACE.total_seconds()
        hanging = HangingWrite(primary)
        wait_for(lambda: database(primary).waiting_sessions, PATIENCE, hanging.says)
        assert not hanging.acknowledged, "it opened waiting"
    hanging.join(PATIENCE)
    assert hanging.acknowledged
    assert has(primary, row)
    order(primary, Verb.SOLO)


def test_a_restarted_replica_follows_only_when_told_and_has_what_it_acknowledged(
    pair: tuple[VaultHost, VaultHost],
) -> None:
    primary, acker = pair
    acker.sql("STOP SLAVE SQL_THREAD")
    row = write(primary)  # acknowledged, and in its relay log only
    former = acker.database_pid
    acker.kill_database()
    acker.wait_report(
        lambda report: report.database is not None and acker.database_pid not in (0, former) and not report.tainted
    )
    order(primary, Verb.SOLO)
    assert has(acker, row), "applied from the relay log: its source was not asked"
    assert database(acker).receiver == "No", "it does not start by itself: nobody knows whether its source still is one"
    with pytest.raises(StepFailed) as refused:
        order(acker, Verb.ACKER)
    assert refused.value.reason == "not-following"
    follow(acker, primary)
    fresh = write(primary)
    wait_for(lambda: has(acker, fresh), PATIENCE, "it follows again")


def late_follow(host: VaultHost, source: VaultHost) -> None:
    """FOLLOW while the source is frozen: it runs out of time, and the stream stands by itself when the source is back."""
    found = database(source)
    args = follow_args(host, source, found)
    with frozen(source), pytest.raises(StepFailed) as refused:
        order(host, Verb.FOLLOW, args, deadline=LATE_SECONDS)
    assert refused.value.reason == "not-streaming"
    wait_for(lambda: database(host).receiver == "Yes", PATIENCE, "it reaches its source late")


def test_a_replica_that_reached_its_source_late_is_not_taken_for_diverged(pair: tuple[VaultHost, VaultHost]) -> None:
    primary, replica = pair
    order(primary, Verb.SOLO)
    former = replica.database_pid
    replica.kill_database()
    replica.wait_report(lambda report: report.database is not None and replica.database_pid not in (0, former))
    late_follow(replica, primary)
    assert replica.report().tainted
    found = database(primary)  # what a controller read a moment before: the replica is beyond it when it judges
    row = write(primary)
    wait_for(lambda: has(replica, row), PATIENCE, "the row arrives")
    args = follow_args(replica, primary, found)
    assert order(replica, Verb.FOLLOW, args)["already"] is True
    report = replica.report()
    assert (report.quarantine, report.tainted) == ("", False)


def test_a_follow_that_fails_leaves_a_replica_that_may_not_be_promoted(pair: tuple[VaultHost, VaultHost]) -> None:
    primary, acker = pair
    order(primary, Verb.SOLO)
    found = database(primary)
    args = FollowArgs(
        source_host=acker.ip,  # nothing that it could follow: it throws away what it received and gets nothing instead
        source_port=1,
        account=account_name(acker.node),
        source_binlog_state=found.gtid_binlog_state,
        source_oldest_binlog=found.binlog_oldest,
        truncate_tail=False,
    )
    with pytest.raises(StepFailed) as refused:
        order(acker, Verb.FOLLOW, args, deadline=LATE_SECONDS)
    assert refused.value.reason == "not-streaming"
    with pytest.raises(StepFailed) as refused:
        order(acker, Verb.REVOKE)
    assert refused.value.reason == "tainted"
    follow(acker, primary)
    assert not acker.report().tainted


def test_a_former_primary_that_reached_its_source_late_is_none_any_more(
    pair: tuple[VaultHost, VaultHost], trio: list[VaultHost]
) -> None:
    primary, acker = pair
    spare = trio[2]
    order(primary, Verb.SOLO)
    order(primary, Verb.FENCE)
    order(acker, Verb.REVOKE)
    order(acker, Verb.DRAIN)
    open_primary(acker, [primary, spare], jump=True)
    late_follow(primary, acker)
    assert primary.report().primary_order_kind is OrderKind.SOLO
    assert follow(primary, acker)["already"] is True
    assert primary.report().primary_order_kind is OrderKind.NONE
    follow(spare, acker)
    trio[:] = [acker, primary, spare]


def test_a_replica_is_not_opened_while_it_still_receives(pair: tuple[VaultHost, VaultHost]) -> None:
    _, acker = pair
    with pytest.raises(StepFailed) as refused:
        order(acker, Verb.OPEN)
    assert refused.value.reason == "not-drained"
    with pytest.raises(StepFailed) as refused:
        order(acker, Verb.DRAIN)
    assert refused.value.reason == "not-revoked"
    assert database(acker).read_only


def test_a_revoked_acker_whose_applier_was_stopped_keeps_what_it_acknowledged(
    pair: tuple[VaultHost, VaultHost],
) -> None:
    primary, acker = pair
    acker.sql("STOP SLAVE SQL_THREAD")
    row = write(primary)
    order(acker, Verb.REVOKE)
    order(acker, Verb.DRAIN)
    assert has(acker, row)
    hanging = HangingWrite(primary)
    wait_for(lambda: database(primary).waiting_sessions, PATIENCE, hanging.says)
    order(primary, Verb.SOLO)
    hanging.join(PATIENCE)


def test_a_primary_of_its_own_mind_is_killed_and_made_to_follow(
    pair: tuple[VaultHost, VaultHost], trio: list[VaultHost]
) -> None:
    """A primary that is open, with a commit that hangs: read_only would hang as well."""
    primary, acker = pair
    order(trio[2], Verb.DETACH)  # or it receives what is never acknowledged, and has diverged
    write(primary)
    order(acker, Verb.REVOKE)
    hanging = HangingWrite(primary)
    wait_for(lambda: database(primary).waiting_sessions, PATIENCE, hanging.says)
    order(acker, Verb.DRAIN)
    open_primary(acker, [primary], jump=True)
    former, server_id = primary.database_pid, database(primary).server_id
    follow(primary, acker, truncate_tail=True)
    hanging.join(PATIENCE)
    assert not hanging.acknowledged
    assert primary.database_pid != former
    assert not has(primary, hanging.row)
    assert database(primary).server_id != server_id, "or it would skip events of its own former life"
    order(acker, Verb.ACCOUNTS, {"accounts": [account(primary)]})
    # Back again, so that the fixtures' order of hosts holds.
    follow(primary, acker)
    order(primary, Verb.ACKER)
    order(acker, Verb.LOSSLESS)
    row = write(acker)
    order(acker, Verb.FENCE)
    order(primary, Verb.REVOKE)
    order(primary, Verb.DRAIN)
    open_primary(primary, [acker], jump=True)
    assert has(primary, row)


def test_detach_stops_following_and_leave_forgets_the_vault(trio: list[VaultHost]) -> None:
    primary, _, spare = trio
    open_primary(primary, [spare], jump=False)
    follow(spare, primary)
    with pytest.raises(StepFailed) as refused:
        order(primary, Verb.DETACH)
    assert refused.value.reason == "is-primary"
    order(spare, Verb.DETACH)
    found = database(spare)
    assert (found.source_host, found.read_only) == ("", True)
    order(spare, Verb.DETACH, {"leave": True})
    report = spare.report()
    assert (report.vault, report.node, report.epoch, report.term) == ("", "", 0, 0)
    follow(spare, primary)
    assert spare.report().vault


def test_extra_transactions_are_named_and_held_closed(trio: list[VaultHost]) -> None:
    primary, _, spare = trio
    open_primary(primary, [spare], jump=False)
    follow(spare, primary)
    order(spare, Verb.DETACH)
    spare.sql("INSERT INTO vault.rows_ VALUES (-1)")  # an administrator may, even while it is read-only
    extra = spare.sql("SELECT @@GLOBAL.gtid_binlog_pos AS at")[0]["at"]
    with pytest.raises(StepFailed) as refused:
        follow(spare, primary)
    assert refused.value.reason == "diverged"
    assert extra in refused.value.text
    assert extra in spare.report().quarantine
    former = spare.database_pid
    spare.kill_database()
    report = spare.wait_report(lambda report: report.database is not None and spare.database_pid not in (0, former))
    assert report.database is not None
    assert report.database.read_only
    assert extra in report.quarantine
    for verb in (Verb.OPEN, Verb.FOLLOW, Verb.ACKER):
        with pytest.raises(StepFailed):
            follow(spare, primary) if verb is Verb.FOLLOW else order(spare, verb)
    with pytest.raises(StepFailed) as refused:
        follow(spare, primary, rejudge=True)
    assert refused.value.reason == "diverged", "judged anew, with the same result"
