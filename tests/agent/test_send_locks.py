"""The end of a copy on a lossless primary, when commits wait: it holds up nobody for long, whatever its acker and its target do."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from replication.agent import mariabackup
from replication.agent.conveyor import BUFFERS, Conveyor
from replication.core import throttle
from replication.core.commands import Verb
from replication.core.tasks import TaskPhase
from tests.agent import orders
from tests.agent.copy_receiver import CopyReceiver, receiving
from tests.agent.test_send import begin, ended, made, outcome, send_args, sender
from tests.vault_host import VaultHost
from tests.waiting import wait_for

SECONDS = 20
WAITS = "SELECT ID FROM information_schema.PROCESSLIST WHERE INFO = 'BACKUP STAGE BLOCK_COMMIT' AND STATE = 'Waiting for backup lock'"


@pytest.fixture(scope="module")
def pair(make: Callable[..., VaultHost]) -> tuple[VaultHost, VaultHost]:
    """A lossless primary and its acker."""
    primary, acker = make("127.0.81.31", "primary"), make("127.0.81.32", "acker")
    acker.client_password = primary.client_password
    for host in (primary, acker):
        host.init().start()
    orders.open_primary(primary, [acker], jump=False)
    primary.sql("CREATE TABLE vault.rows_ (id BIGINT PRIMARY KEY)")
    orders.follow(acker, primary)
    orders.order(acker, Verb.ACKER)
    orders.order(primary, Verb.LOSSLESS)
    return primary, acker


@pytest.fixture(scope="module")
def target(make: Callable[..., VaultHost]) -> VaultHost:
    return make("127.0.81.33", "target").init()


@pytest.fixture
def receiver(target: VaultHost, tmp_path: Path) -> Iterator[CopyReceiver]:
    with receiving(target, tmp_path / "copy") as server:
        yield server


def test_a_copy_that_waits_behind_a_hanging_commit_is_broken_off(
    pair: tuple[VaultHost, VaultHost], target: VaultHost, receiver: CopyReceiver
) -> None:
    """The vault blocks when its acker is lost, by its owner's choice: the copy must not make it worse."""
    primary, acker = pair
    with orders.frozen(acker):
        hanging = orders.HangingWrite(primary)
        wait_for(lambda: _waiting(primary), SECONDS, hanging.says)
        with sender(replace(made(primary, target), commits_may_wait=1)) as program:
            last = outcome(program)
        assert last["failed"].startswith("the end of the copy held up the commits of its source for 1 s")
        assert receiver.told == [last["failed"]]
        wait_for(lambda: not primary.sql(WAITS), SECONDS, "the database gives up what nobody waits for any more")
        assert not hanging.acknowledged
    wait_for(lambda: hanging.acknowledged, SECONDS, hanging.says)
    orders.write(primary)


def test_a_copy_and_a_vault_that_goes_solo_do_not_wait_for_each_other(
    pair: tuple[VaultHost, VaultHost], target: VaultHost, receiver: CopyReceiver
) -> None:
    primary, acker = pair
    with orders.frozen(acker):
        hanging = orders.HangingWrite(primary)
        wait_for(lambda: _waiting(primary), SECONDS, hanging.says)
        operation = begin(primary, send_args(target))
        wait_for(lambda: primary.sql(WAITS), SECONDS, "the copy waits for the commit")
        behind = orders.HangingWrite(primary)
        orders.order(primary, Verb.SOLO, deadline=5)
        for write in (hanging, behind):
            wait_for(lambda write=write: write.acknowledged, SECONDS, write.says)
        assert ended(primary, operation).phase is TaskPhase.DONE
    assert receiver.whole
    orders.order(primary, Verb.LOSSLESS)


def test_a_lossless_primary_is_copied_while_it_writes(
    pair: tuple[VaultHost, VaultHost], target: VaultHost, receiver: CopyReceiver
) -> None:
    primary, acker = pair
    rows = [orders.write(primary)]
    operation = begin(primary, send_args(target))
    while primary.wait_report(
        lambda report: report.task is not None and report.task.operation == operation
    ).task.active:  # type: ignore[union-attr]
        rows.append(orders.write(primary))
    assert ended(primary, operation).phase is TaskPhase.DONE
    wait_for(lambda: orders.has(acker, rows[-1]), SECONDS, "its acker has everything")


def test_a_replica_tells_the_position_of_what_it_has_applied(
    pair: tuple[VaultHost, VaultHost], target: VaultHost, receiver: CopyReceiver
) -> None:
    """Also one whose own binary log holds nothing yet, as after a full copy."""
    primary, acker = pair
    row = orders.write(primary)
    wait_for(lambda: orders.has(acker, row), SECONDS, "applied")
    acker.sql("STOP SLAVE")
    position = acker.sql("SELECT @@gtid_slave_pos AS p")[0]["p"]
    acker.sql("RESET MASTER")
    assert acker.sql("SELECT @@gtid_binlog_pos AS p")[0]["p"] == ""
    acker.sql("START SLAVE")
    task = ended(acker, begin(acker, send_args(target)))
    assert (task.phase, task.position) == (TaskPhase.DONE, position)


def _waiting(host: VaultHost) -> bool:
    database = host.report().database
    return database is not None and database.waiting_sessions > 0


# --- in a hurry -------------------------------------------------------------------------------------------------------

BEFORE = b"[00] 2026-11-25 19:15:37 Finished BACKUP STAGE FLUSH\n"
HURRY = b"[00] 2026-11-25 19:15:37 Started BACKUP STAGE BLOCK_DDL\n"
LOCKING = b"[00] 2026-11-25 19:15:37 Starting BACKUP STAGE BLOCK_COMMIT\n"
UNLOCKED = b"[00] 2026-11-25 19:15:37 All tables unlocked\n"


def test_what_mariadb_backup_says_of_its_locks() -> None:
    now = [100.0]
    read, write = os.pipe()
    with open(read, "rb") as stderr:
        words = mariabackup.Words(stderr, lambda: now[0])

        def says(line: bytes) -> None:
            seen = line.decode().strip()
            os.write(write, line)
            wait_for(lambda: words.lines and words.lines[-1] == seen, SECONDS, "it is read")

        says(BEFORE)
        assert (words.hurry, words.commits_wait_for()) == (False, 0)
        says(HURRY)
        assert (words.hurry, words.commits_wait_for()) == (True, 0)
        says(LOCKING)
        now[0] = 103.0
        wait_for(lambda: words.commits_wait_for() == 3, SECONDS, "commits wait")
        says(UNLOCKED)
        wait_for(lambda: words.commits_wait_for() == 0, SECONDS, "they do not wait any more")
        os.close(write)
        words.end(SECONDS)


@pytest.mark.parametrize("hurry", [pytest.param(True, id="hurry"), pytest.param(False, id="slowed")])
def test_a_copy_in_a_hurry_is_neither_slowed_down_nor_waits_for_its_target(hurry: bool) -> None:
    """Nobody takes anything: so much is taken in all the same."""
    read, write = os.pipe()
    taken = threading.Event()
    size = throttle.LARGEST_PIECE
    with open(read, "rb", buffering=0) as pipe:
        conveyor = Conveyor(pipe, rate=throttle.SMALLEST_RATE, hurry=lambda: hurry, head=8, tail=2)

        def produce() -> None:
            os.write(write, bytes((BUFFERS + 8) * size))
            taken.set()
            os.close(write)

        producer = threading.Thread(target=produce, daemon=True)
        producer.start()
        assert taken.wait(SECONDS if hurry else 0.5) == hurry
        conveyor.end()
        began = time.monotonic()
        while not conveyor.over:
            conveyor.next(0.1)
            assert time.monotonic() < began + SECONDS
    producer.join(SECONDS)
