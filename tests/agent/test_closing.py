"""A primary that hands over, says what it was told, or is fenced while its disk is full.

Proves, on a lossless pair: CLOSE ends writes within milliseconds under load, and the position it answers is the last one; what
is closed stays closed over a restart of agent or database; commits that hang, and statements that go on, make it refuse
within its time, and the node is the open primary that it was; a long statement is ended and leaves nothing, neither a row
nor a false success; PROMISE works without a database; FENCE kills without a disk.
"""

import contextlib
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import MySQLdb
import pytest

from replication.agent.state import load
from replication.core import limits
from replication.core.commands import Verb
from replication.core.errors import StaleEpoch, StepFailed
from replication.core.roles import OrderKind, ProcessState
from tests.agent.orders import HangingWrite, database, epochs, follow, frozen, has, open_primary, order, write
from tests.vault_host import VaultHost
from tests.waiting import wait_for
from tests.writers import Writers, create_table, missing

ADDRESSES = ("127.0.61.21", "127.0.61.22")
PATIENCE = limits.STEP_DEADLINE.total_seconds()
READ_ONLY = 1290
REFUSED_WITHIN = 1.5
"""CLOSE tries for a second; the rest is a busy machine."""


@pytest.fixture(scope="module")
def hosts(make: Callable[..., VaultHost]) -> list[VaultHost]:
    made = [make(address, f"close-{n}", cut="none") for n, address in enumerate(ADDRESSES, 1)]
    for host in made:
        host.client_password = made[0].client_password
        host.init().start()
    open_primary(made[0], made[1:], jump=False)
    made[0].sql("CREATE TABLE vault.rows_ (id BIGINT PRIMARY KEY)")
    create_table(made[0])
    return made


@pytest.fixture
def pair(hosts: list[VaultHost]) -> tuple[VaultHost, VaultHost]:
    """A lossless primary and its acker."""
    primary, acker = hosts
    for host in hosts:
        if host.agent is None:
            host.start(ready=False)
    open_primary(primary, [acker], jump=False)
    follow(acker, primary)
    order(acker, Verb.ACKER)
    order(primary, Verb.LOSSLESS)
    return primary, acker


def test_close_ends_writes_and_answers_the_last_position(pair: tuple[VaultHost, VaultHost]) -> None:
    primary, acker = pair
    with Writers([primary], 8, password=primary.client_password) as writers:
        writers.wait_acknowledged(time.monotonic(), PATIENCE, count=40)
        moment = time.monotonic()
        answer = primary.order(Verb.CLOSE, epoch=next(epochs))
        closed = time.monotonic()
        position = answer.facts["gtid_binlog_pos"]
        order(acker, Verb.RECEIVED, {"position": position})
    assert primary.sql("SELECT @@GLOBAL.gtid_binlog_pos AS at")[0]["at"] == position
    assert not writers.since(closed), "nothing is acknowledged after the answer"
    assert answer.steps["close"] < 250, "writes do not stop for longer, also on a busy machine"
    assert closed - moment < 1
    report = primary.report()
    assert (report.order_kind, report.primary_order_kind) == (OrderKind.NONE, OrderKind.LOSSLESS)
    assert report.process is ProcessState.UP, "clients may go on reading"
    assert order(primary, Verb.CLOSE)["gtid_binlog_pos"] == position, "again: the same"
    wait_for(lambda: not missing(writers, acker), PATIENCE, "the acker has every acknowledged row")


def test_an_open_transaction_cannot_commit_any_more(pair: tuple[VaultHost, VaultHost]) -> None:
    primary, _ = pair
    with contextlib.closing(primary.connect_client()) as client, client.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute("INSERT INTO rows_ VALUES (-1)")
        order(primary, Verb.CLOSE)
        with pytest.raises(MySQLdb.Error) as refused:
            cursor.execute("COMMIT")
        assert refused.value.args[0] == READ_ONLY
    assert not has(primary, -1)


def test_closed_stays_closed_over_a_restart_of_agent_and_database(pair: tuple[VaultHost, VaultHost]) -> None:
    primary, _ = pair
    order(primary, Verb.CLOSE)
    pid = primary.database_pid
    primary.kill_agent()
    primary.start()
    assert primary.database_pid == pid, "it is closed, so it need not be killed"
    assert database(primary).read_only
    primary.kill_database()
    primary.wait_report(lambda report: report.process is ProcessState.DEAD)
    primary.kill_agent()
    primary.start(ready=False)
    assert primary.report().process is not ProcessState.UP, "as a former primary it waits for FOLLOW or OPEN"


def test_while_commits_hang_it_refuses_in_time_and_stays_as_it_was(pair: tuple[VaultHost, VaultHost]) -> None:
    primary, acker = pair
    before = primary.report()
    with frozen(acker):
        hanging = HangingWrite(primary)
        wait_for(lambda: database(primary).waiting_sessions, PATIENCE, hanging.says)
        began = time.monotonic()
        with pytest.raises(StepFailed) as refused:
            order(primary, Verb.CLOSE)
        assert time.monotonic() - began < REFUSED_WITHIN
        assert refused.value.reason == "commits-hang"
        assert not hanging.acknowledged
    hanging.join(PATIENCE)
    assert hanging.acknowledged
    write(primary)
    after = primary.report()
    assert (after.order_kind, after.order_epoch) == (before.order_kind, before.order_epoch)
    assert after.epoch > before.epoch, "the epoch is promised all the same"
    former = primary.database_pid
    primary.kill_agent()
    primary.start()
    assert primary.database_pid == former, "it has an order to be open, so a new agent lets it be"


def test_a_short_deadline_is_kept(pair: tuple[VaultHost, VaultHost]) -> None:
    primary, acker = pair
    with frozen(acker):
        hanging = HangingWrite(primary)
        wait_for(lambda: database(primary).waiting_sessions, PATIENCE, hanging.says)
        began = time.monotonic()
        with pytest.raises(StepFailed) as refused:
            order(primary, Verb.CLOSE, deadline=0.3)
        assert time.monotonic() - began < REFUSED_WITHIN / 2
        assert refused.value.reason == "commits-hang"
    hanging.join(PATIENCE)
    assert not database(primary).read_only


@contextlib.contextmanager
def long_insert(host: VaultHost, row: int) -> Iterator[list[MySQLdb.Error | None]]:
    """A client's statement of ten seconds; yields what became of it: nothing yet, an error, or None for success."""
    outcome: list[MySQLdb.Error | None] = []

    def run() -> None:
        try:
            with contextlib.closing(host.connect_client()) as client, client.cursor() as cursor:
                cursor.execute("INSERT INTO rows_ SELECT %s + SLEEP(10)", (row,))
            outcome.append(None)
        except MySQLdb.Error as error:
            outcome.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    wait_for(
        lambda: host.sql("SELECT ID FROM information_schema.processlist WHERE INFO LIKE 'INSERT INTO rows_ SELECT%%'"),
        PATIENCE,
        "the statement runs",
    )
    yield outcome
    thread.join(PATIENCE)


def test_a_long_statement_is_ended_and_leaves_nothing(pair: tuple[VaultHost, VaultHost]) -> None:
    primary, acker = pair
    with long_insert(primary, -2) as outcome:
        order(primary, Verb.CLOSE)
        wait_for(lambda: outcome, PATIENCE, "the client learns of it")
        assert outcome[0] is not None
    position = database(primary).gtid_binlog_pos
    order(acker, Verb.RECEIVED, {"position": position})
    assert not has(primary, -2)
    assert not has(acker, -2)


def test_a_long_select_is_left_alone(pair: tuple[VaultHost, VaultHost]) -> None:
    primary, _ = pair
    answer: list[object] = []

    def read() -> None:
        with contextlib.closing(primary.connect_client()) as client, client.cursor() as cursor:
            cursor.execute("SELECT SLEEP(2)")
            answer.extend(cursor.fetchall())

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    wait_for(
        lambda: primary.sql("SELECT ID FROM information_schema.processlist WHERE INFO = 'SELECT SLEEP(2)'"),
        PATIENCE,
        "the query runs",
    )
    with long_insert(primary, -3):
        order(primary, Verb.CLOSE)
    reader.join(PATIENCE)
    assert answer == [(0,)]


def test_a_lock_that_nobody_gives_up_makes_it_refuse(pair: tuple[VaultHost, VaultHost]) -> None:
    primary, _ = pair
    with contextlib.closing(primary.connect()) as holder, holder.cursor() as cursor:
        cursor.execute("LOCK TABLES vault.rows_ WRITE")
        with pytest.raises(StepFailed) as refused:
            order(primary, Verb.CLOSE)
        assert refused.value.reason == "long-statement"
    write(primary)
    assert primary.report().order_kind is OrderKind.LOSSLESS


def test_a_replica_cannot_be_closed(pair: tuple[VaultHost, VaultHost]) -> None:
    _, acker = pair
    with pytest.raises(StepFailed) as refused:
        order(acker, Verb.CLOSE)
    assert refused.value.reason == "not-primary"


def test_what_was_closed_is_opened_again_by_a_new_epoch_only(pair: tuple[VaultHost, VaultHost]) -> None:
    primary, acker = pair
    epoch = next(epochs)
    primary.order(Verb.CLOSE, epoch=epoch)
    open_primary(primary, [acker], jump=False)
    with pytest.raises(StaleEpoch):
        primary.order(Verb.CLOSE, epoch=epoch)
    write(primary)


def test_promise_tells_the_last_orders_also_while_the_database_is_down(pair: tuple[VaultHost, VaultHost]) -> None:
    primary, acker = pair
    promised = next(epochs)
    facts = acker.order(Verb.PROMISE, epoch=promised).facts
    assert (facts["order_kind"], facts["primary_order_kind"], facts["source_host"], facts["fenced"]) == (
        OrderKind.NONE, OrderKind.NONE, primary.ip, False,
    )  # fmt: skip
    with pytest.raises(StaleEpoch):
        acker.order(Verb.PROMISE, epoch=promised - 1)
    lossless = primary.report().order_epoch
    order(primary, Verb.FENCE)
    facts = order(primary, Verb.PROMISE)
    assert (facts["order_kind"], facts["primary_order_kind"], facts["primary_order_epoch"], facts["fenced"]) == (
        OrderKind.NONE, OrderKind.LOSSLESS, lossless, True,
    )  # fmt: skip
    assert primary.report().process is ProcessState.DEAD


@contextlib.contextmanager
def no_disk(host: VaultHost) -> Iterator[Path]:
    """A directory in the place of the scratch file: nobody, not even root, can write the agent's memory."""
    scratch = host.config.state_file.with_name("state.json.new")
    scratch.mkdir()
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def test_a_fence_kills_although_its_order_cannot_be_written(pair: tuple[VaultHost, VaultHost]) -> None:
    primary, _ = pair
    epoch = next(epochs)
    with no_disk(primary):
        with pytest.raises(StepFailed) as refused:
            primary.order(Verb.FENCE, epoch=epoch)
        assert refused.value.reason == "state"
        assert "killed" in refused.value.text
        report = primary.report()
        assert (report.process, report.order_kind, report.epoch) == (ProcessState.DEAD, OrderKind.NONE, epoch)
        kept = load(primary.config.state_file)
        assert kept is not None
        assert not kept.fenced
        with pytest.raises(StaleEpoch):
            primary.order(Verb.OPEN, epoch=epoch - 1)
        with pytest.raises(StepFailed):  # it cannot promise this one
            primary.order(Verb.OPEN, epoch=next(epochs))
        assert primary.database_pid == 0

    def written() -> bool:
        kept = load(primary.config.state_file)
        return kept is not None and kept.fenced

    wait_for(written, PATIENCE * 3, "it is written as soon as the disk takes it, unasked")
    primary.kill_agent()
    primary.start(ready=False)
    assert primary.report().process is ProcessState.DOWN
