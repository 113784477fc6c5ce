"""One node without a partner: what its agent and its mariadbd outlive, and in which role mariadbd comes back.

Proves: a first start is closed and empty; mariadbd outlives its agent, and a new agent takes it up without a gap in the
writes; a solo primary that is killed reopens by itself; promises survive the agent; a fence survives everything; what is
open without an order is closed; agent and database stop together when told to.
"""

import contextlib
import itertools
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import MySQLdb
import pytest

from replication.agent import state
from replication.core import limits
from replication.core.commands import Verb
from replication.core.errors import StaleEpoch, StepFailed
from replication.core.roles import OrderKind, ProcessState
from replication.dialects.mariadb_accounts import ADMIN
from tests.vault_host import VaultHost
from tests.waiting import wait_for

ADDRESS = "127.0.21.1"
PATIENCE = limits.STEP_DEADLINE.total_seconds()


@pytest.fixture(scope="module")
def host(make: Callable[..., VaultHost]) -> VaultHost:
    return make(ADDRESS, "life-1").init().start()


@pytest.fixture
def solo(host: VaultHost) -> VaultHost:
    """The host, running, as the writable primary of a vault."""
    if host.agent is None:
        host.start()
    host.order(Verb.OPEN)
    host.sql("CREATE TABLE IF NOT EXISTS vault.life (id BIGINT PRIMARY KEY)")
    return host


@contextlib.contextmanager
def steady_writes(host: VaultHost) -> Iterator[list[float]]:
    """One client that writes all the time on one connection; yields the moments of its acknowledgements."""
    moments: list[float] = []
    stop = threading.Event()

    def write() -> None:
        with contextlib.closing(host.connect_client()) as connection, connection.cursor() as cursor:
            while not stop.is_set():
                cursor.execute("INSERT INTO life VALUES (%s)", (time.time_ns(),))
                moments.append(time.monotonic())

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    try:
        yield moments
    finally:
        stop.set()
        writer.join(PATIENCE)
    assert not writer.is_alive()


def test_a_first_start_is_closed_empty_and_as_it_must_be(host: VaultHost) -> None:
    report = host.report()
    assert (report.process, report.order_kind, report.vault) == (ProcessState.UP, OrderKind.NONE, "")
    assert report.database is not None
    assert report.database.read_only
    assert report.database.gtid_binlog_state == ""
    assert report.database.drift == ()
    assert (report.address, report.address_kind) == (ADDRESS, "loopback")
    assert report.hostname == "life-1"


def test_nobody_but_the_administrator_can_write_before_an_order(host: VaultHost) -> None:
    accounts = {row["User"] for row in host.sql("SELECT User FROM mysql.global_priv")}
    assert accounts <= {"root", "mariadb.sys", "PUBLIC", "", ADMIN}, (
        "the agent's own needs its certificate: test_admin.py"
    )


def test_the_primary_goes_on_while_its_agent_is_killed_and_taken_up_again(solo: VaultHost) -> None:
    pid = solo.database_pid
    with steady_writes(solo) as moments:
        wait_for(lambda: moments, PATIENCE, "a first write")
        solo.kill_agent()
        solo.start()
        taken_up = time.monotonic()
        wait_for(lambda: moments[-1] > taken_up, PATIENCE, "a write after that")
    gaps = [later - earlier for earlier, later in itertools.pairwise(moments)]
    assert max(gaps) < limits.SILENCE_LIMIT.total_seconds()
    assert solo.database_pid == pid
    assert solo.report().order_kind is OrderKind.SOLO


def test_a_stopped_agent_leaves_mariadbd_running(solo: VaultHost) -> None:
    pid = solo.database_pid
    assert solo.stop() == 0
    assert solo.database_pid == pid
    assert solo.sql("SELECT @@GLOBAL.read_only AS closed")[0]["closed"] == 0
    solo.start()
    assert solo.database_pid == pid


def test_a_killed_solo_primary_reopens_by_itself(solo: VaultHost) -> None:
    solo.sql("INSERT INTO vault.life VALUES (1)")
    moment, former = time.monotonic(), solo.database_pid
    solo.kill_database()
    report = solo.wait_report(
        lambda report: (
            report.database is not None and not report.database.read_only and solo.database_pid not in (0, former)
        )
    )
    assert report.order_kind is OrderKind.SOLO
    assert time.monotonic() - moment < limits.RESTART_GRACE.total_seconds(), "it did not wait for anybody"
    assert solo.sql("SELECT id FROM vault.life WHERE id = 1")


def test_open_again_does_nothing_and_is_quick(solo: VaultHost) -> None:
    before = solo.report()
    answer = solo.order(Verb.OPEN)
    after = solo.report()
    assert before.database is not None
    assert after.database is not None
    assert after.database.gtid_binlog_pos == before.database.gtid_binlog_pos
    assert "start" not in answer.steps


def test_a_jump_is_taken_once_per_epoch(solo: VaultHost) -> None:
    def sequence() -> int:
        return int(solo.sql("SELECT @@GLOBAL.gtid_binlog_pos AS at")[0]["at"].split("-")[2])

    before = sequence()
    solo.order(Verb.OPEN, {"jump": True})
    jumped = sequence()
    assert jumped > before + limits.GTID_GAP
    solo.order(Verb.OPEN, {"jump": True}, epoch=solo.epoch)
    assert sequence() == jumped


def test_promises_survive_the_agent(solo: VaultHost) -> None:
    promised = solo.epoch
    solo.kill_agent()
    solo.start()
    for verb in (Verb.SOLO, Verb.FENCE, Verb.OPEN):
        with pytest.raises(StaleEpoch) as refused:
            solo.order(verb, epoch=promised - 1)
        assert refused.value.promised_epoch == promised
    solo.order(Verb.SOLO, epoch=promised)
    with pytest.raises(StaleEpoch):
        solo.order(Verb.SOLO, epoch=promised + 1, term=0)
    solo.epoch = promised


def test_commands_for_another_vault_are_refused(solo: VaultHost) -> None:
    before = solo.report()
    for verb in (Verb.SOLO, Verb.OPEN, Verb.FENCE):
        with pytest.raises(StepFailed) as refused:
            solo.order(verb, vault="b" * 32)
        assert refused.value.reason == "other-vault"
    after = solo.report()
    assert (after.vault, after.epoch) == (before.vault, before.epoch)


def test_a_fence_survives_agent_and_restart_until_open(solo: VaultHost) -> None:
    solo.order(Verb.FENCE)
    fenced = solo.epoch
    report = solo.report()
    assert (report.process, report.order_kind) == (ProcessState.DEAD, OrderKind.NONE)
    assert report.primary_order_kind is OrderKind.SOLO, "kept: it says who was primary last"
    solo.kill_agent()
    solo.start(ready=False)
    assert solo.report().process is ProcessState.DOWN
    with pytest.raises(StepFailed) as refused:
        solo.order(Verb.SOLO)
    assert refused.value.reason == "not-primary"
    solo.order(Verb.OPEN, epoch=fenced + 2)
    assert not solo.sql("SELECT @@GLOBAL.read_only AS closed")[0]["closed"]


@pytest.mark.parametrize("fenced", [pytest.param(True, id="fenced"), pytest.param(False, id="ordered to close")])
def test_an_agent_that_ended_between_order_and_deed_closes_on_its_return(solo: VaultHost, fenced: bool) -> None:
    solo.kill_agent()
    kept = state.load(solo.config.state_file)
    assert kept is not None
    state.save(solo.config.state_file, replace(kept, order_kind=OrderKind.NONE, fenced=fenced))
    former = solo.database_pid
    solo.start(ready=False)
    assert solo.database_pid != former
    assert solo.report().process is not ProcessState.UP, "as a former primary it waits for FOLLOW or OPEN"
    solo.order(Verb.OPEN)


def test_the_client_account_can_use_its_database_and_nothing_else(solo: VaultHost) -> None:
    with contextlib.closing(solo.connect_client()) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE IF NOT EXISTS mine (id INT PRIMARY KEY)")
        for statement in ("SELECT * FROM mysql.user", "SET GLOBAL read_only = 0", "SELECT * FROM vault_ha.epoch"):
            with pytest.raises(MySQLdb.Error):
                cursor.execute(statement)


def test_with_stop_database_both_end_and_the_next_start_reopens(solo: VaultHost) -> None:
    solo.stop()
    solo.start("--stop-database")
    assert solo.stop() == 0
    assert solo.database_pid == 0
    assert solo.processes() == []
    solo.start()
    solo.wait_report(lambda report: report.database is not None and not report.database.read_only)


def test_a_frozen_database_is_called_hung_and_forgiven_when_it_answers(solo: VaultHost) -> None:
    version = solo.report().version
    solo.kill_database(signal.SIGSTOP)
    try:
        report = solo.wait_report(lambda report: report.process is ProcessState.HUNG)
        assert report.version > version
        assert solo.request("GET", "/primary", who="nobody")[0] == 503
    finally:
        os.kill(solo.database_pid, signal.SIGCONT)
    solo.wait_up()


def test_a_fence_kills_a_frozen_database(solo: VaultHost) -> None:
    solo.kill_database(signal.SIGSTOP)
    solo.order(Verb.FENCE)
    assert solo.database_pid == 0
    solo.order(Verb.OPEN)


def test_a_fence_does_not_wait_behind_a_command_and_is_not_undone_by_it(solo: VaultHost) -> None:
    solo.order(Verb.FENCE)
    solo.order(Verb.OPEN)
    with contextlib.closing(solo.connect()) as holder, holder.cursor() as cursor:
        cursor.execute("FLUSH TABLES WITH READ LOCK")  # OPEN's row of the epoch waits for it
        failures: list[StepFailed | StaleEpoch] = []

        def open_again() -> None:
            try:
                solo.order(Verb.OPEN, {"jump": True})
            except (StepFailed, StaleEpoch) as error:
                failures.append(error)

        slow = threading.Thread(target=open_again)
        slow.start()
        wait_for(lambda: solo.report().verb == "open", PATIENCE, "OPEN is under way")
        solo.order(Verb.FENCE, epoch=solo.epoch + 1)
        assert solo.database_pid == 0
        slow.join(PATIENCE)
    assert failures, "the command under way cannot have reached its goal"
    report = solo.report()
    assert (report.order_kind, report.process) == (OrderKind.NONE, ProcessState.DEAD)
    solo.order(Verb.OPEN)


def test_a_command_keeps_its_deadline_and_the_next_one_works(solo: VaultHost) -> None:
    with contextlib.closing(solo.connect()) as holder, holder.cursor() as cursor:
        cursor.execute("FLUSH TABLES WITH READ LOCK")  # OPEN's row of the epoch waits for it
        began = time.monotonic()
        with pytest.raises(StepFailed, match="time for this command is over"):
            solo.order(Verb.OPEN, {"jump": True}, deadline=1)
        assert time.monotonic() - began < PATIENCE
    solo.order(Verb.OPEN, {"jump": True})


def test_a_command_that_cannot_begin_in_time_says_what_it_waited_for(solo: VaultHost) -> None:
    first = solo.epoch + 1
    with contextlib.closing(solo.connect()) as holder, holder.cursor() as cursor:
        cursor.execute("FLUSH TABLES WITH READ LOCK")
        slow = threading.Thread(target=solo.order, args=(Verb.OPEN, {"jump": True}), kwargs={"epoch": first})
        slow.start()
        wait_for(lambda: solo.report().verb == "open", PATIENCE, "OPEN is under way")
        with pytest.raises(StepFailed, match="busy with open") as refused:
            solo.order(Verb.SOLO, epoch=first, deadline=0.2)
        assert refused.value.reason == "busy"
    slow.join(PATIENCE)
    assert solo.report().order_kind is OrderKind.SOLO


def test_a_frozen_database_does_not_keep_the_agent_from_ending(solo: VaultHost) -> None:
    solo.kill_database(signal.SIGSTOP)
    pid = solo.database_pid
    try:
        assert solo.stop() == 0
    finally:
        os.kill(pid, signal.SIGCONT)
    solo.start()
    assert solo.database_pid == pid


def test_a_primary_whose_data_are_gone_opens_no_empty_database_in_their_place(solo: VaultHost) -> None:
    """Its order is remembered, and would open it: writable and empty, while its fallbacks hold everything."""
    solo.sql("INSERT INTO vault.life VALUES (4711)")
    solo.stop()
    solo.kill_database()
    away = solo.config.data_dir.with_name("data.away")
    solo.config.data_dir.rename(away)
    solo.start(ready=False)
    wait_for(lambda: "is gone: restore it, or purge this node" in solo.log(), 20, "a try to start without data")
    report = solo.report()
    assert (report.process, report.database, report.order_kind) == (ProcessState.DOWN, None, OrderKind.SOLO)
    assert not solo.config.data_dir.exists()
    away.rename(solo.config.data_dir)
    solo.wait_report(lambda report: report.database is not None and not report.database.read_only)
    assert solo.sql("SELECT COUNT(*) AS n FROM vault.life WHERE id = 4711") == [{"n": 1}]


def test_a_fallback_whose_data_are_gone_says_that_it_needs_a_copy(solo: VaultHost) -> None:
    solo.stop()
    solo.kill_database()
    remembered = state.load(solo.config.state_file)
    assert remembered is not None
    nobody = {"order_kind": OrderKind.NONE, "primary_order_kind": OrderKind.NONE}
    state.save(solo.config.state_file, replace(remembered, **nobody))
    away = solo.config.data_dir.with_name("data.away")
    solo.config.data_dir.rename(away)
    solo.start(ready=False)
    assert solo.wait_report(lambda report: report.needs_rebuild == "its data directory is gone").database is None
    solo.stop()
    away.rename(solo.config.data_dir)
    solo.start()
    assert solo.report().needs_rebuild == ""
    solo.stop()
    state.save(solo.config.state_file, remembered)
