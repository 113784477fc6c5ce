"""The lease of a real primary: who renews it, who keeps it open, how it closes, and what restarts and frozen agents do to it.

Proves: only a controller's hello with a recent challenge of this agent and a term that is not outdated renews; cut off from its
controller a lossless primary stays open as long as every other agent grants, and closes itself within its lease otherwise:
read-only when nothing hangs, killed when a commit does, acknowledging nothing; a node that has revoked refuses, and a grant
holds up no revocation; solo, and without a first challenge, nobody closes; a restart of the agent interrupts no write, goes on
with the old deadline, and closes first when that is over; a frozen agent's queued hellos revive nothing.
"""

import concurrent.futures
import contextlib
import itertools
import json
import signal
import time
from collections.abc import Callable, Iterator

import MySQLdb
import pytest

from replication.agent.lease import boot_clock
from replication.core import limits
from replication.core.commands import Verb
from replication.core.report import NodeReport
from replication.core.roles import OrderKind, ProcessState
from tests.agent.confirming import Confirmed, confirm, cut_off, hello
from tests.agent.orders import HangingWrite, follow, frozen, has, open_primary, order, write
from tests.vault_host import VaultHost
from tests.waiting import wait_for
from tests.writers import Writers, create_table, missing

PRIMARY, ACKER = "127.0.62.1", "127.0.62.2"
LEASE = limits.PRIMARY_LEASE.total_seconds()
GRANT = limits.GRANT.total_seconds()
PATIENCE = 20
CLOSING = limits.GRANT_DEADLINE.total_seconds() + limits.FENCE_READ_ONLY.total_seconds() + 0.5
"""From the end of a lease to a closed primary, on a busy machine."""
WRITERS = 4
QUICK = 0.5
"""Seconds; a gap in the writes that no restart or round of asking may make longer."""

Pair = tuple[VaultHost, VaultHost]
_first_ids = itertools.count(0, 10**9)


@pytest.fixture(scope="module")
def hosts(make: Callable[..., VaultHost]) -> Pair:
    # Only the primary uses nftables: on one machine the acker's cut would reach everybody's packets.
    primary, acker = make(PRIMARY, "lease-1"), make(ACKER, "lease-2", cut="none")
    acker.client_password = primary.client_password
    for host in (primary, acker):
        host.init().start()
    open_primary(primary, [acker], jump=False)
    primary.sql("CREATE TABLE vault.rows_ (id BIGINT PRIMARY KEY)")
    create_table(primary)
    return primary, acker


@pytest.fixture
def pair(hosts: Pair) -> Pair:
    """A lossless primary, its lease not armed yet, and its acker. Whatever an earlier test left is put right."""
    primary, acker = hosts
    for host in hosts:
        if host.agent is None:
            host.start(ready=False)
    order(primary, Verb.FENCE)  # ends the lease of the test before
    wait_for(lambda: hello(primary).lease_left is None, PATIENCE, "no lease")
    open_primary(primary, [acker], jump=False)
    follow(acker, primary)
    order(acker, Verb.ACKER)
    order(primary, Verb.LOSSLESS, {"peers": [f"{acker.ip}:{limits.AGENT_PORT}"]})
    return primary, acker


@contextlib.contextmanager
def stopped(host: VaultHost) -> Iterator[None]:
    """The agent is frozen; its database goes on."""
    assert host.agent is not None
    host.agent.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        host.agent.send_signal(signal.SIGCONT)


def writing(host: VaultHost) -> Writers:
    return Writers([host], WRITERS, password=host.client_password, first_id=next(_first_ids))


def wait_closed(host: VaultHost, since: float, within: float = LEASE + CLOSING) -> NodeReport:
    report = host.wait_report(lambda report: report.closed_by_lease, within + PATIENCE)
    assert time.monotonic() - since < within
    return report


def can_write(host: VaultHost) -> bool:
    try:
        with contextlib.closing(host.connect_client(read_timeout=2)) as connection, connection.cursor() as cursor:
            cursor.execute("UPDATE rows_ SET id = id WHERE id < 0")
            cursor.execute("INSERT INTO rows_ VALUES (%s)", (time.time_ns(),))
    except MySQLdb.Error:
        return False
    return True


# --- who renews -----------------------------------------------------------------------------------------------------


def test_a_challenge_that_comes_back_arms_the_lease_and_renews_it(pair: Pair) -> None:
    primary, _ = pair
    first = primary.report()
    assert (first.lease_left, first.closed_by_lease) == (None, False)
    assert "lease" not in first.fences
    assert len(first.challenge) == 32
    armed = hello(primary, first.challenge)
    assert "lease" in armed.fences
    assert armed.version > first.version, "a long poll tells it at once"
    assert armed.lease_left is not None
    assert LEASE - 1 < armed.lease_left < LEASE
    assert armed.challenge != first.challenge


def test_a_lease_counts_from_the_issue_of_the_challenge_and_not_from_its_return(pair: Pair) -> None:
    primary, _ = pair
    challenge, issued = hello(primary).challenge, boot_clock()
    wait_for(lambda: boot_clock() > issued + 1.5, PATIENCE, "the challenge grows old")
    left = hello(primary, challenge).lease_left
    assert left is not None
    assert left < LEASE - 1.5, "from receipt it would be a whole lease"


@pytest.mark.parametrize(
    "changed", [pytest.param({"echo": "0" * 32}, id="a guess"), pytest.param({"term": 0}, id="an outdated term")]
)
def test_what_renews_nothing(pair: Pair, changed: dict[str, str | int]) -> None:
    primary, _ = pair
    challenge = hello(primary).challenge
    assert hello(primary, **{"echo": challenge, **changed}).lease_left is None  # type: ignore[arg-type]
    assert hello(primary, challenge).lease_left is not None, "as it is, it would"


def test_a_node_cannot_renew(pair: Pair) -> None:
    primary, _ = pair
    challenge = hello(primary).challenge
    status, _ = primary.request("GET", f"/hello?since=-1&wait=0&echo={challenge}&term=1", who="node")
    assert status == 403
    assert hello(primary).lease_left is None


def test_a_term_that_is_no_number_is_a_bad_request(pair: Pair) -> None:
    assert pair[0].request("GET", "/hello?echo=a&term=x")[0] == 400


def test_a_replica_has_no_lease(pair: Pair) -> None:
    _, acker = pair
    assert confirm(acker).lease_left is None


# --- grants ---------------------------------------------------------------------------------------------------------


def test_grants_are_for_nodes_of_the_same_vault_that_know_no_less(pair: Pair) -> None:
    primary, acker = pair
    wish = {"vault": "a" * 32, "node": primary.node, "epoch": primary.report().epoch}

    def ask(**changes: object) -> tuple[int, str]:
        return acker.request("POST", "/grant", json.dumps({**wish, **changes}).encode(), who="node")

    assert ask() == (200, '{"granted": true}')
    for changes, says in (({"vault": "b" * 32}, "another vault"), ({"epoch": 0}, "promised epoch")):
        status, text = ask(**changes)
        assert status == 409
        assert says in text
    assert ask(epoch="1")[0] == 400
    for who in ("controller", "nobody"):
        assert acker.request("POST", "/grant", json.dumps(wish).encode(), who=who)[0] == 403  # type: ignore[arg-type]


@pytest.mark.parametrize("peers", ["127.0.0.1:1", ["127.0.0.1"], ["http://a/b:1"], [1]])
def test_peers_that_make_no_sense_are_a_bad_request(pair: Pair, peers: object) -> None:
    primary, _ = pair
    command = {"vault": "a" * 32, "node": primary.node, "term": 1, "epoch": 10**6, "operation": "o", "deadline": 1.0}
    status, answer = primary.send(Verb.SOLO, {**command, "args": {"peers": peers}})
    assert status == 400
    assert "peers" in answer["text"]
    assert primary.report().epoch < 10**6


# --- cut off --------------------------------------------------------------------------------------------------------


def test_without_a_controller_the_other_nodes_keep_it_open_and_no_write_is_late(pair: Pair) -> None:
    primary, _ = pair
    with writing(primary) as writers:
        since = cut_off(primary)
        writers.wait_acknowledged(since + LEASE + 2 * GRANT, LEASE + 2 * GRANT + PATIENCE)
        report = hello(primary)
        gap = writers.longest_gap(since)
    assert not report.closed_by_lease
    assert report.lease_left is not None
    assert report.lease_left > 0
    assert gap < QUICK


def test_without_a_controller_and_without_the_others_it_closes_and_opens_when_confirmed(pair: Pair) -> None:
    primary, acker = pair
    pid, version = primary.database_pid, primary.report().version
    with contextlib.closing(primary.connect_client(read_timeout=2)) as connection:
        with stopped(acker):
            since = cut_off(primary)
            assert can_write(primary)
            report = wait_closed(primary, since)
        assert report.version > version
        assert report.process is ProcessState.UP, "nothing hung, so read-only was enough"
        # What it has done is told at once; what it looks like, with the next look.
        primary.wait_report(lambda r: r.database is not None and r.database.read_only, PATIENCE)
        assert report.order_kind is OrderKind.LOSSLESS
        assert not can_write(primary)
        with pytest.raises(MySQLdb.Error):  # shut out by the kernel: not even a read
            connection.cursor().execute("SELECT 1")
        status, text = primary.request("GET", "/primary", who="nobody")
        assert (status, text) == (503, "not a writable primary: its lease is over\n")
    assert hello(primary).closed_by_lease, "the others are back; that opens nothing"
    with Confirmed(primary):
        wait_for(lambda: can_write(primary), PATIENCE, "open again")
        assert not primary.report().closed_by_lease
    assert primary.database_pid == pid


def test_under_load_it_closes_by_read_only_and_every_acknowledged_row_is_on_both(pair: Pair) -> None:
    primary, acker = pair
    with writing(primary) as writers:
        with stopped(acker):
            since = cut_off(primary)
            report = wait_closed(primary, since)
        closed = time.monotonic()
        assert report.process is ProcessState.UP, "commits that wait for a moment do not hang"
        with Confirmed(primary):
            opened = writers.wait_acknowledged(closed, PATIENCE)
    assert opened < limits.RESTART_GRACE.total_seconds(), "nobody waits for a database that lives"
    acknowledged = [ack.at - since for ack in writers.acknowledged if ack.at < closed]
    assert LEASE - 0.5 < max(acknowledged) < LEASE + CLOSING
    wait_for(lambda: not missing(writers, acker), PATIENCE, "the acker has them all")
    assert not missing(writers, primary)


def test_with_a_commit_that_hangs_it_is_killed_and_acknowledges_nothing(pair: Pair) -> None:
    primary, acker = pair
    kept = write(primary)
    with frozen(acker), stopped(acker):
        since = cut_off(primary)
        hanging = HangingWrite(primary)
        report = wait_closed(primary, since)
        wait_for(lambda: hanging.error, PATIENCE, hanging.says)
    assert not hanging.acknowledged
    assert report.process is ProcessState.DEAD
    assert primary.database_pid == 0
    # Not before a controller confirms it, and even then that one decides first: so it stays down for longer than the pauses
    # in which the agent brings a database back.
    down_since = time.monotonic()
    wait_for(lambda: time.monotonic() > down_since + 1.5 * limits.RESTART_GRACE.total_seconds(), PATIENCE)
    assert primary.database_pid == 0
    with Confirmed(primary):
        confirmed = time.monotonic()
        wait_for(lambda: primary.database_pid, PATIENCE, "it comes back by its order")
        assert time.monotonic() - confirmed > limits.RESTART_GRACE.total_seconds() - 1
        primary.wait_report(lambda report: report.database is not None and not report.database.read_only)
        assert not primary.report().closed_by_lease
    assert has(primary, kept)


def test_an_order_opens_what_the_lease_has_closed(pair: Pair) -> None:
    primary, acker = pair
    with frozen(acker), stopped(acker):
        since = cut_off(primary)
        HangingWrite(primary)
        wait_closed(primary, since)
    open_primary(primary, [acker], jump=False)
    wait_for(lambda: can_write(primary), PATIENCE, "the gate opens with the order")
    report = primary.wait_report(lambda report: not report.closed_by_lease)
    assert report.order_kind is OrderKind.SOLO
    assert report.lease_left is None, "it counts anew from the first challenge"


def test_a_node_that_has_revoked_refuses_and_was_not_held_up_by_its_grants(pair: Pair) -> None:
    primary, acker = pair
    since = cut_off(primary)
    wait_for(lambda: time.monotonic() > since + LEASE + 0.5, PATIENCE, "it lives on grants")
    assert not hello(primary).closed_by_lease
    began = time.monotonic()
    order(acker, Verb.REVOKE)
    assert time.monotonic() - began < QUICK
    wait_closed(primary, time.monotonic(), GRANT + CLOSING)
    assert "promised epoch" in primary.log()


def test_an_isolated_solo_primary_stays_open(pair: Pair) -> None:
    primary, acker = pair
    order(primary, Verb.SOLO, {"peers": [f"{acker.ip}:{limits.AGENT_PORT}"]})
    with stopped(acker), writing(primary) as writers:
        since = cut_off(primary)
        writers.wait_acknowledged(since + LEASE + CLOSING + 1, LEASE + CLOSING + PATIENCE)
        gap = writers.longest_gap(since)
    report = hello(primary)
    assert report.lease_left is not None
    assert report.lease_left < 0
    assert not report.closed_by_lease
    assert gap < QUICK


def test_a_controller_that_never_gives_a_challenge_back_closes_nobody(pair: Pair) -> None:
    primary, acker = pair
    with stopped(acker):
        began = time.monotonic()
        wait_for(lambda: time.monotonic() > began + LEASE + CLOSING + 1, PATIENCE)
        assert hello(primary).lease_left is None
        assert can_write(primary)


# --- restarts and frozen agents -------------------------------------------------------------------------------------


def test_a_restart_of_the_agent_interrupts_no_write(pair: Pair) -> None:
    primary, _ = pair
    pid = primary.database_pid
    with Confirmed(primary) as controller, writing(primary) as writers:
        since = time.monotonic()
        writers.wait_acknowledged(since, PATIENCE)
        for end in (primary.stop, primary.kill_agent):
            end()
            primary.start()
            writers.wait_acknowledged(time.monotonic(), PATIENCE)
        wait_for(lambda: controller.last is not None and (controller.last.lease_left or 0) > 1, PATIENCE, "renewed")
        gap = writers.longest_gap(since)
        ended = time.monotonic()
    assert gap < QUICK, f"longest gap of {ended - since:.1f} s with two restarts"
    assert primary.database_pid == pid
    assert not primary.report().closed_by_lease
    assert missing(writers, primary) == set()


def test_a_restarted_agent_goes_on_with_the_old_deadline(pair: Pair) -> None:
    primary, acker = pair
    with stopped(acker):
        before = boot_clock() + (confirm(primary).lease_left or 0)
        since = time.monotonic()
        primary.kill_agent()
        primary.start()
        left = hello(primary).lease_left
        assert left is not None
        assert boot_clock() + left <= before + 0.1, "not a moment longer"
        wait_closed(primary, since)


def test_an_agent_that_comes_back_after_the_end_asks_the_others_first(pair: Pair) -> None:
    primary, _ = pair
    with writing(primary) as writers:
        since = cut_off(primary)
        primary.kill_agent()
        wait_for(lambda: time.monotonic() > since + LEASE + 0.5, PATIENCE)
        primary.start()
        writers.wait_acknowledged(time.monotonic() + CLOSING, CLOSING + PATIENCE)
        gap = writers.longest_gap(since)
    assert not hello(primary).closed_by_lease
    assert gap < QUICK


@pytest.mark.parametrize("damaged", [pytest.param(False, id="over"), pytest.param(True, id="not readable")])
def test_and_closes_first_when_they_do_not_grant(pair: Pair, damaged: bool) -> None:
    primary, acker = pair
    with stopped(acker):
        since = cut_off(primary)
        primary.kill_agent()
        if damaged:
            (primary.config.run_dir / "lease.json").write_text("{")
        else:
            wait_for(lambda: time.monotonic() > since + LEASE + 0.2, PATIENCE)
        primary.start(ready=False)
        wait_closed(primary, time.monotonic(), CLOSING + 1)
        assert not can_write(primary)
    with Confirmed(primary):
        wait_for(lambda: can_write(primary), PATIENCE, "open again")


def test_a_frozen_agent_is_not_revived_by_the_hellos_that_waited_for_it(pair: Pair) -> None:
    primary, acker = pair
    with stopped(acker):
        challenge = confirm(primary).challenge
        with stopped(primary):
            since = time.monotonic()
            queued = _queue(primary, challenge)
            wait_for(lambda: time.monotonic() > since + 2 * LEASE, PATIENCE)
            assert can_write(primary), (
                "a frozen agent closes nothing: the kernel lease does, and revocation in any case"
            )
        answer = json.loads(queued())
        assert answer["lease_left"] < 0, "from receipt it would have been renewed"
        wait_closed(primary, time.monotonic(), CLOSING + 1)
        assert not can_write(primary)


def _queue(host: VaultHost, challenge: str) -> Callable[[], str]:
    """Send a hello on a connection that stands; returns what reads its answer."""
    pool = concurrent.futures.ThreadPoolExecutor(1)
    path = f"/hello?since=-1&wait=0&echo={challenge}&term=1"
    future = pool.submit(host.request, "GET", path)
    return lambda: future.result(PATIENCE)[1]


# --- last: it changes who is primary --------------------------------------------------------------------------------


def test_a_closed_primary_that_was_replaced_follows_without_its_tail(pair: Pair) -> None:
    primary, acker = pair
    kept = write(primary)
    wait_for(lambda: has(acker, kept), PATIENCE, "the row arrives")
    acker.sql("STOP SLAVE IO_THREAD")  # what it does not receive is the primary's alone
    with stopped(acker):
        since = cut_off(primary)
        hanging = HangingWrite(primary)
        wait_closed(primary, since)
    order(acker, Verb.REVOKE)
    order(acker, Verb.DRAIN)
    open_primary(acker, [primary], jump=True)
    follow(primary, acker, truncate_tail=True)
    report = primary.wait_report(lambda report: not report.closed_by_lease and report.database is not None)
    assert (report.order_kind, report.lease_left) == (OrderKind.NONE, None)
    assert has(primary, kept)
    assert not has(primary, hanging.row)
    row = write(acker)
    wait_for(lambda: has(primary, row), PATIENCE, "it follows")


def test_without_nftables_it_is_killed_so_that_its_acker_no_longer_hears_it(hosts: Pair) -> None:
    acker, primary = hosts  # since the test before
    order(acker, Verb.ACKER)
    order(primary, Verb.LOSSLESS, {"peers": [f"{acker.ip}:{limits.AGENT_PORT}"]})
    with stopped(acker):
        since = cut_off(primary)
        report = wait_closed(primary, since)
    assert report.process is ProcessState.DEAD
    acker.wait_report(lambda report: report.database is not None and report.database.receiver != "Yes")
