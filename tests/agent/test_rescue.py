"""A replica whose mariadbd was killed has, when it is back, everything that it had acknowledged: although its source is gone.

Proves: where a rescue begins and ends, and when it refuses (tables); on a real pair under eight writers, kill after kill of
both nodes, not one acknowledged row is missing and the survivor can be promoted; a torn tail is left out and fetched
again; several files, tables that are changed, a rescue that was interrupted, and threads that were stopped by hand are no
obstacle; a damaged relay log and a stranger's transaction are, and are named.
"""

import contextlib
import dataclasses
import random
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import MySQLdb
import pytest

from replication.agent import relaylog, state
from replication.core import limits
from replication.core.commands import Verb
from replication.core.errors import StepFailed
from replication.core.positions import Gtid, GtidPosition
from replication.core.report import NodeReport
from replication.core.vault_ports import ProcessError, RelayPlace, RelayTransaction
from replication.procedures.vault.rescue import CannotRescue, Rest, unapplied
from tests import evidence
from tests.agent.orders import HangingWrite, database, follow, has, open_primary, order, write
from tests.vault_host import VaultHost
from tests.waiting import wait_for
from tests.writers import Writers, create_table, missing

ADDRESSES = ("127.0.61.31", "127.0.61.32")
STRAY = "127.0.61.33"
TAIL = ("127.0.61.34", "127.0.61.35")
PATIENCE = limits.STEP_DEADLINE.total_seconds()
RESCUED_SECONDS = 30

# --- where to begin and to end --------------------------------------------------------------------------------------


def transaction(sequence: int, *, whole: bool = True, server: int = 1, domain: int = 0) -> RelayTransaction:
    place = RelayPlace("relay.000001", sequence * 100)
    return RelayTransaction(
        Gtid(domain, server, sequence), place, RelayPlace("relay.000001", sequence * 100 + 100) if whole else None
    )


def rest(first: int, last: int) -> Rest:
    end = transaction(last).ends
    assert end is not None
    return Rest(last - first + 1, transaction(first).begins, end, Gtid(0, 1, last))


ALL = [transaction(n) for n in range(1, 6)]


@pytest.mark.parametrize(
    ("log", "applied", "expected"),
    [
        pytest.param(ALL, "0-1-3", rest(4, 5), id="from the first that was not applied to the last"),
        pytest.param(ALL, "", rest(1, 5), id="nothing was applied"),
        pytest.param(ALL, "0-1-5", None, id="all was applied"),
        pytest.param([], "0-1-5", None, id="the relay log is empty"),
        pytest.param([*ALL, transaction(6, whole=False)], "0-1-3", rest(4, 5), id="a torn tail is left out"),
        pytest.param([*ALL, transaction(6, whole=False)], "0-1-5", None, id="there is nothing but a torn tail"),
        pytest.param([transaction(9)], "0-2-7", rest(9, 9), id="behind the gap of a promotion"),
    ],
)
def test_a_rescue_begins_behind_what_was_applied(
    log: list[RelayTransaction], applied: str, expected: Rest | None
) -> None:
    assert unapplied(log, GtidPosition.parse(applied), must_hold=()) == expected


@pytest.mark.parametrize(
    ("log", "must_hold", "says"),
    [
        pytest.param([*ALL, transaction(2)], (), "0-1-2 was applied, and stands behind", id="an applied one behind"),
        pytest.param([*ALL, transaction(4)], (), "0-1-4 follows 0-1-5", id="twice the same"),
        pytest.param([transaction(4, whole=False), transaction(5)], (), "0-1-4 does not end", id="torn in the middle"),
        pytest.param(ALL, (Gtid(0, 9, 4),), "0-9-4, which did not come from its source", id="a stranger's transaction"),
    ],
)
def test_a_rescue_that_would_skip_or_repeat_something_is_refused(
    log: list[RelayTransaction], must_hold: Sequence[Gtid], says: str
) -> None:
    with pytest.raises(CannotRescue, match=says):
        unapplied(log, GtidPosition.parse("0-1-3"), must_hold=must_hold)


# --- on real servers ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hosts(make: Callable[..., VaultHost]) -> list[VaultHost]:
    """The primary first; tests that exchange the roles reorder this list."""
    made = [make(address, f"rescue-{n}", cut="none") for n, address in enumerate(ADDRESSES, 1)]
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
    return lossless(hosts)


def lossless(hosts: list[VaultHost]) -> tuple[VaultHost, VaultHost]:
    primary, acker = hosts
    for host in hosts:
        if host.agent is None:
            host.start(ready=False)
    open_primary(primary, [acker], jump=False)
    follow(acker, primary)
    order(acker, Verb.ACKER)
    order(primary, Verb.LOSSLESS)
    return primary, acker


def back(host: VaultHost, former: int) -> NodeReport:
    """Its report when mariadbd is up again and nothing is left to be done by itself."""

    def settled(report: NodeReport) -> bool:
        if report.database is None or host.database_pid in (0, former) or report.database.applier:
            return False
        kept = state.load(host.config.state_file)
        return kept is not None and not kept.relay_log_kept

    host.wait_report(settled, RESCUED_SECONDS)
    return host.report()


def promote(host: VaultHost, others: list[VaultHost]) -> None:
    assert order(host, Verb.REVOKE)["tainted"] is False
    order(host, Verb.DRAIN)
    open_primary(host, others, jump=True)


@contextlib.contextmanager
def changing_tables(host: VaultHost) -> Iterator[None]:
    """Statements that change tables: each is one transaction in the binary log and another for the replica's position."""
    stop = threading.Event()

    def run() -> None:
        with contextlib.suppress(MySQLdb.Error), contextlib.closing(host.connect_client()) as client:
            cursor = client.cursor()
            while not stop.is_set():
                cursor.execute("CREATE OR REPLACE TABLE changing (id INT PRIMARY KEY)")
                cursor.execute("ALTER TABLE changing ADD COLUMN more INT")
                cursor.execute("INSERT INTO changing VALUES (1, 1)")

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(PATIENCE)


def kill_both(hosts: list[VaultHost], number: int, rng: random.Random) -> tuple[int, int, float]:
    """Kill the acker, then its primary for good; promote what is left. Returns acknowledged, missing, seconds to rescue.

    Every second time the applier is far behind, every third time tables change, every fourth time the relay log goes on in
    another file.
    """
    primary, acker = lossless(hosts)
    with Writers([primary], 8, password=primary.client_password, first_id=number * 1_000_000_000) as writers:
        writers.wait_acknowledged(time.monotonic(), PATIENCE, count=50)
        if number % 2:
            acker.sql("STOP SLAVE SQL_THREAD")
        with changing_tables(primary) if number % 3 == 0 else contextlib.nullcontext():
            writers.wait_acknowledged(time.monotonic(), PATIENCE, count=rng.randint(50, 300))
        if number % 4 == 0:
            acker.sql("FLUSH RELAY LOGS")
        # A node that is killed in the middle of a change of a table writes a transaction of its own when it recovers.
        writers.wait_acknowledged(time.monotonic(), PATIENCE, count=50)
        former, moment = acker.database_pid, acker.kill_database()
        primary.kill_agent()
        primary.kill_database()
    report = back(acker, former)
    took = time.monotonic() - moment
    assert not report.tainted, acker.log()
    promote(acker, [primary])
    lost = missing(writers, acker)
    hosts[:] = [acker, primary]
    primary.start(ready=False)
    follow(primary, acker, truncate_tail=True)
    return len(writers.acknowledged), len(lost), took


def test_nothing_acknowledged_is_missing_after_both_nodes_were_killed(hosts: list[VaultHost]) -> None:
    rng = random.Random(3)
    for number in range(1, 7):
        acknowledged, lost, _ = kill_both(hosts, number, rng)
        assert acknowledged
        assert lost == 0


@pytest.mark.long
def test_forty_kills_of_both_nodes_lose_nothing(hosts: list[VaultHost]) -> None:
    rng = random.Random(40)
    rows = [(number, *kill_both(hosts, number, rng)) for number in range(1, 41)]
    evidence.write(
        "relay-log-rescue",
        "Kill -9 of the acker and then of its primary, under eight writers",
        database=hosts[0].sql("SELECT VERSION() AS v")[0]["v"],
        paragraphs=[
            f"{len(rows)} times: the acker's mariadbd is killed while eight clients write, then its primary, which stays "
            "away. The acker comes back, applies what its relay log holds, and is promoted. Every second time its applier had "
            "been stopped before, so that hundreds of acknowledged transactions stood in the relay log only; every third time "
            "tables were being changed; every fourth time the relay log went over into another file. Rescued without a "
            f"hand: **{len(rows)} of {len(rows)}**. Acknowledged rows missing: **{sum(row[2] for row in rows)}**. Median from "
            f"the kill to «has everything»: **{statistics.median(row[3] for row in rows):.2f} s**, "
            f"slowest {max(row[3] for row in rows):.2f} s.",
        ],
        table=[
            ("kill", "acknowledged", "missing", "rescued after, s"),
            *((n, acknowledged, lost, f"{took:.2f}") for n, acknowledged, lost, took in rows),
        ],
    )
    assert sum(row[2] for row in rows) == 0


def unapplied_rows(pair: tuple[VaultHost, VaultHost], count: int = 3) -> list[int]:
    """Acknowledged rows that stand in the acker's relay log only."""
    primary, acker = pair
    acker.sql("STOP SLAVE SQL_THREAD")
    return [write(primary) for _ in range(count)]


def test_threads_that_were_stopped_by_hand_are_no_obstacle_to_a_promotion(
    pair: tuple[VaultHost, VaultHost], hosts: list[VaultHost]
) -> None:
    primary, acker = pair
    rows = unapplied_rows(pair)
    acker.sql("STOP SLAVE IO_THREAD")  # from now on the start of either would throw the rows away
    primary.kill_database()
    promote(acker, [primary])
    assert all(has(acker, row) for row in rows)
    order(primary, Verb.FENCE)
    hosts[:] = [acker, primary]
    follow(primary, acker, truncate_tail=True)


def test_an_agent_that_was_killed_before_it_could_rescue_does_so_when_it_is_back(
    pair: tuple[VaultHost, VaultHost],
) -> None:
    _, acker = pair
    rows = unapplied_rows(pair)
    acker.sql("STOP SLAVE IO_THREAD")
    acker.kill_agent()
    kept = state.load(acker.config.state_file)
    assert kept is not None
    # As it is between the start of mariadbd and the rescue.
    state.save(acker.config.state_file, dataclasses.replace(kept, tainted=True, relay_log_kept=True))
    acker.start()
    acker.wait_report(lambda report: not report.tainted, RESCUED_SECONDS)
    assert all(has(acker, row) for row in rows)


def test_a_rescue_that_was_interrupted_is_finished(pair: tuple[VaultHost, VaultHost]) -> None:
    _, acker = pair
    rows = unapplied_rows(pair, 5)
    acker.sql("STOP SLAVE IO_THREAD")
    log = list(relaylog.transactions(acker.config.data_dir))
    position = acker.sql("SELECT @@GLOBAL.gtid_slave_pos AS at")[0]["at"]
    found = unapplied(log, GtidPosition.parse(position), must_hold=())
    assert found is not None
    acker.kill_agent()
    acker.sql(
        "CHANGE MASTER TO MASTER_USE_GTID = no, RELAY_LOG_FILE = %s, RELAY_LOG_POS = %s",
        found.begin.file,
        found.begin.offset,
    )
    acker.sql("START SLAVE SQL_THREAD")
    kept = state.load(acker.config.state_file)
    assert kept is not None
    state.save(acker.config.state_file, dataclasses.replace(kept, tainted=True, relay_log_kept=True))
    acker.start()
    acker.wait_report(lambda report: not report.tainted, RESCUED_SECONDS)
    assert all(has(acker, row) for row in rows)
    assert acker.sql("SHOW SLAVE STATUS")[0]["Using_Gtid"] == "Slave_Pos"


def stop_and_change_the_relay_log(acker: VaultHost, change: Callable[[Path, list[RelayTransaction]], None]) -> int:
    """Kill agent and mariadbd, let `change` have its way with the relay log, start again. Returns the former process id."""
    former = acker.database_pid
    acker.kill_agent()
    acker.kill_database()
    wait_for(lambda: not acker.database_pid, PATIENCE, "mariadbd has ended")
    change(acker.config.data_dir, list(relaylog.transactions(acker.config.data_dir)))
    acker.start(ready=False)
    return former


def test_a_torn_tail_is_left_out_and_fetched_again(pair: tuple[VaultHost, VaultHost]) -> None:
    primary, acker = pair
    *rows, last = unapplied_rows(pair, 4)

    def tear(data_dir: Path, log: list[RelayTransaction]) -> None:
        end = log[-1].ends
        assert end is not None
        with (data_dir / end.file).open("r+b") as file:
            file.truncate(end.offset - 3)

    report = back(acker, stop_and_change_the_relay_log(acker, tear))
    assert not report.tainted, "what does not end there was never acknowledged"
    assert all(has(acker, row) for row in rows)
    assert not has(acker, last)
    order(primary, Verb.SOLO)
    follow(acker, primary)
    wait_for(lambda: has(acker, last), PATIENCE, "it is fetched again")


def test_a_damaged_relay_log_leaves_it_tainted_and_is_named(pair: tuple[VaultHost, VaultHost]) -> None:
    primary, acker = pair
    rows = unapplied_rows(pair)
    acker.sql("FLUSH RELAY LOGS")
    rows.append(write(primary))

    def damage(data_dir: Path, log: list[RelayTransaction]) -> None:
        place = log[-3].begins
        with (data_dir / place.file).open("r+b") as file:
            file.seek(place.offset + 30)
            file.write(b"\xff" * 8)

    report = back(acker, stop_and_change_the_relay_log(acker, damage))
    assert report.tainted
    for verb in (Verb.REVOKE, Verb.OPEN, Verb.ACKER):
        with pytest.raises(StepFailed) as refused:
            order(acker, verb)
        assert refused.value.reason == "tainted"
        assert "damaged" in refused.value.text
    order(primary, Verb.SOLO)
    follow(acker, primary)
    assert not acker.report().tainted
    wait_for(lambda: all(has(acker, row) for row in rows), PATIENCE, "it has everything from its source again")


def test_a_transaction_of_its_own_is_named_and_not_passed_over(
    pair: tuple[VaultHost, VaultHost], make: Callable[..., VaultHost]
) -> None:
    primary, acker = pair
    stray = make(STRAY, "rescue-stray", cut="none")
    stray.client_password = primary.client_password
    stray.init().start()
    open_primary(primary, [acker, stray], jump=False)
    follow(stray, primary)
    stray.sql("STOP SLAVE SQL_THREAD")
    write(primary)
    stray.sql("INSERT INTO vault.rows_ VALUES (-7)")  # an administrator may, even while it is read-only
    former = stray.database_pid
    stray.kill_database()
    assert back(stray, former).tainted
    with pytest.raises(StepFailed, match="did not come from its source"):
        order(stray, Verb.REVOKE)
    with pytest.raises(StepFailed) as refused:
        follow(stray, primary)
    assert refused.value.reason == "diverged"


def test_a_position_that_lags_behind_the_binary_log_is_mended(pair: tuple[VaultHost, VaultHost]) -> None:
    """A crash between a statement that changes a table and the note of its position."""
    primary, acker = pair
    wait_for(lambda: database(acker).gtid_slave_pos == database(primary).gtid_binlog_pos, PATIENCE, "all is applied")
    before = database(acker).gtid_slave_pos
    primary.sql("CREATE OR REPLACE TABLE vault.lagging (id INT PRIMARY KEY)")
    after = database(primary).gtid_binlog_pos
    wait_for(lambda: database(acker).gtid_slave_pos == after, PATIENCE, "the table is made")
    acker.sql("STOP SLAVE SQL_THREAD")
    row = write(primary)
    acker.kill_agent()
    acker.sql("STOP SLAVE IO_THREAD")
    acker.sql("SET GLOBAL gtid_slave_pos = %s", before)
    acker.kill_database()
    wait_for(lambda: not acker.database_pid, PATIENCE, "mariadbd has ended")
    acker.start(ready=False)
    assert not back(acker, 0).tainted
    assert has(acker, row)
    assert database(acker).gtid_slave_pos == database(primary).gtid_binlog_pos


def test_a_former_primary_whose_tail_cannot_be_cut_off_is_held_and_names_it(
    make: Callable[..., VaultHost],
) -> None:
    """A change of a table behind an unacknowledged row: MariaDB does not start at all when it is told to cut that off."""
    primary, acker = (make(address, f"tail-{n}", cut="none") for n, address in enumerate(TAIL, 1))
    acker.client_password = primary.client_password
    for host in (primary, acker):
        host.init().start()
    open_primary(primary, [acker], jump=False)
    primary.sql("CREATE TABLE vault.rows_ (id BIGINT PRIMARY KEY)")
    lossless([primary, acker])
    acker.kill_agent()
    acker.kill_database()
    before = written(primary)
    hanging = HangingWrite(primary)
    wait_for(lambda: database(primary).waiting_sessions, PATIENCE, hanging.says)
    change = threading.Thread(target=change_a_table, args=(primary,), daemon=True)
    change.start()
    wait_for(lambda: written(primary) == before + 2, PATIENCE, "both stand in the binary log")
    primary.kill_database()
    change.join(PATIENCE)
    hanging.join(PATIENCE)
    order(primary, Verb.FENCE)
    acker.start(ready=False)
    back(acker, 0)
    promote(acker, [primary])
    with pytest.raises(StepFailed) as refused:
        follow(primary, acker, truncate_tail=True)
    assert refused.value.reason == "diverged"
    assert database(primary).read_only
    assert "transactions that the primary does not have" in primary.report().quarantine
    assert list(primary.config.salvage_dir.iterdir())


def change_a_table(host: VaultHost) -> None:
    with contextlib.suppress(MySQLdb.Error), contextlib.closing(host.connect_client()) as client:
        client.cursor().execute("CREATE TABLE never_acknowledged (id INT PRIMARY KEY)")


def written(host: VaultHost) -> int:
    """The number of the last transaction in its binary log."""
    return int(host.sql("SELECT @@GLOBAL.gtid_binlog_pos AS at")[0]["at"].split("-")[2])


# --- reading the files ----------------------------------------------------------------------------------------------


def test_a_relay_log_that_is_cut_off_anywhere_is_read_up_to_there(
    pair: tuple[VaultHost, VaultHost], tmp_path: Path
) -> None:
    _, acker = pair
    unapplied_rows(pair, 5)
    whole = list(relaylog.transactions(acker.config.data_dir))
    names = [Path(line).name for line in (acker.config.data_dir / relaylog.INDEX).read_text().split()]
    last = next(name for name in reversed(names) if any(t.begins.file == name for t in whole))
    (tmp_path / relaylog.INDEX).write_text("".join(f"./{name}\n" for name in names[: names.index(last) + 1]))
    for name in names[: names.index(last)]:
        (tmp_path / name).write_bytes((acker.config.data_dir / name).read_bytes())
    content = (acker.config.data_dir / last).read_bytes()
    rng = random.Random(7)
    for length in [0, 3, 4, len(content), *(rng.randrange(len(content)) for _ in range(60))]:
        (tmp_path / last).write_bytes(content[:length])
        read = list(relaylog.transactions(tmp_path))
        expected = [t for t in whole if t.ends is not None and (t.ends.file != last or t.ends.offset <= length)]
        assert [t for t in read if t.ends is not None] == expected
        assert len(read) - len(expected) in (0, 1)


def test_what_is_no_relay_log_is_said(tmp_path: Path) -> None:
    with pytest.raises(ProcessError, match="no list of its files"):
        list(relaylog.transactions(tmp_path))
    (tmp_path / relaylog.INDEX).write_text("./relay.000001\n")
    with pytest.raises(ProcessError, match="cannot be read"):
        list(relaylog.transactions(tmp_path))
    (tmp_path / "relay.000001").write_bytes(b"something else")
    with pytest.raises(ProcessError, match="no log of MariaDB"):
        list(relaylog.transactions(tmp_path))
