"""The kernel lease: a lossless primary's port that the kernel shuts when the agent does not renew it, in a network of its own.

Proves, with real clients from another host: while a controller confirms it, or the other nodes grant, no write is late; with a
frozen or killed agent the port is shut within the lease, for connections that stand and for the acker's stream too, while
mariadbd lives on; it opens with the next confirmation; a solo primary's port stays open whatever becomes of its agent. Without
the right to use nftables it is refused by `init`, and said by `serve`. Needs root; without it these tests are skipped.
"""

import contextlib
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import MySQLdb
import pytest

from replication.agent.firewall import Gate, table_of, why_no_nftables
from replication.core import limits
from replication.core.commands import Verb
from replication.core.roles import ProcessState
from tests.agent.confirming import Confirmed, confirm, cut_off, hello
from tests.agent.orders import follow, open_primary, order
from tests.rig.network import Network, network
from tests.vault_host import PROGRAM, VaultHost, vault_hosts
from tests.waiting import wait_for
from tests.writers import Writers, create_table

LEASE = limits.PRIMARY_LEASE.total_seconds()
GRANT = limits.GRANT.total_seconds()
SHUT = 0.5
"""Seconds from the end of the lease to a shut port: the kernel's own, no program of ours is asked."""
PATIENCE = 20
QUICK = 0.5
SECONDS = 2

WITHOUT_NFTABLES = ["setpriv", "--bounding-set=-net_admin"]
"""What an agent is started with that runs as root and may not use nftables."""


@pytest.fixture(scope="module")
def net() -> Iterator[Network]:
    with network("n1", "n2", "clients") as net:
        yield net


@pytest.fixture(scope="module")
def hosts(net: Network) -> Iterator[tuple[VaultHost, VaultHost]]:
    directory = Path(tempfile.mkdtemp(prefix="vhk-"))
    try:
        with net.inside("clients"), vault_hosts(directory) as make:
            primary, acker = (make(net.address(name), name) for name in ("n1", "n2"))
            acker.client_password = primary.client_password
            for host in (primary, acker):
                with net.inside(host.hostname):
                    host.init("--kernel-lease")
                start(net, host)
            open_primary(primary, [acker], jump=False)
            create_table(primary)
            yield primary, acker
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def start(net: Network, host: VaultHost) -> None:
    with net.inside(host.hostname):
        host.start()


@pytest.fixture
def pair(net: Network, hosts: tuple[VaultHost, VaultHost]) -> Iterator[tuple[VaultHost, VaultHost]]:
    """A lossless primary with a kernel lease, and its acker; the test is on a third host."""
    primary, acker = hosts
    with net.inside("clients"):
        if primary.agent is None:
            start(net, primary)
        order(primary, Verb.FENCE)  # ends the lease of the test before
        wait_for(lambda: hello(primary).lease_left is None, PATIENCE, "no lease")
        open_primary(primary, [acker], jump=False)
        follow(acker, primary)
        order(acker, Verb.ACKER)
        order(primary, Verb.LOSSLESS, {"peers": [f"{acker.ip}:{limits.AGENT_PORT}"]})
        yield primary, acker


def can_connect(host: VaultHost) -> bool:
    try:
        host.connect_client(read_timeout=SECONDS).close()
    except MySQLdb.Error:
        return False
    return True


def engaged(net: Network, host: VaultHost) -> bool:
    """Whether the kernel counts; the agent tells it a moment after the challenge, or the order."""
    with net.inside(host.hostname):
        return "!= @leased" in _rules(table_of(host.config.agent_id))


def confirm_and_engage(net: Network, host: VaultHost) -> None:
    confirm(host)
    wait_for(lambda: engaged(net, host), SECONDS, "the kernel counts")


@contextlib.contextmanager
def frozen_agent(host: VaultHost) -> Iterator[float]:
    """The moment from which it does nothing."""
    assert host.agent is not None
    host.agent.send_signal(signal.SIGSTOP)
    try:
        yield time.monotonic()
    finally:
        host.agent.send_signal(signal.SIGCONT)


def writing(net: Network, host: VaultHost) -> Writers:
    first = time.monotonic_ns() // 1000
    return Writers([host], 2, password=host.client_password, first_id=first, inside=net.on("clients"))


def test_the_agents_say_that_it_is_armed(pair: tuple[VaultHost, VaultHost]) -> None:
    for host in pair:
        assert "kernel-lease" in host.report().fences


def test_confirmed_or_granted_no_write_is_late(net: Network, pair: tuple[VaultHost, VaultHost]) -> None:
    primary, _ = pair
    with writing(net, primary) as writers:
        with Confirmed(primary):
            since = time.monotonic()
            writers.wait_acknowledged(since + 1.5 * LEASE, 1.5 * LEASE + PATIENCE)
        cut = cut_off(primary)
        writers.wait_acknowledged(cut + LEASE + GRANT, LEASE + GRANT + PATIENCE)
        gap = writers.longest_gap(since)
    assert gap < QUICK


def test_a_frozen_agents_primary_is_shut_by_the_kernel_and_opens_when_confirmed(
    net: Network, pair: tuple[VaultHost, VaultHost]
) -> None:
    primary, acker = pair
    with contextlib.closing(primary.connect_client(read_timeout=SECONDS)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        confirm_and_engage(net, primary)
        with frozen_agent(primary) as since:
            wait_for(lambda: not can_connect(primary), PATIENCE, "the port is shut")
            took = time.monotonic() - since
            assert LEASE - 1 < took < LEASE + SHUT
            with pytest.raises(MySQLdb.OperationalError):
                cursor.execute("SELECT 1")
            acker.wait_report(lambda report: report.database is not None and report.database.receiver != "Yes")
            assert primary.database_pid, "mariadbd lives on"
            assert primary.sql("SELECT @@GLOBAL.read_only AS closed")[0]["closed"] == 0, "only the kernel closed it"
    with Confirmed(primary):
        wait_for(lambda: can_connect(primary), PATIENCE, "the port is open again")


def test_a_killed_agents_primary_too_and_the_next_agent_opens_it(
    net: Network, pair: tuple[VaultHost, VaultHost]
) -> None:
    primary, _ = pair
    pid = primary.database_pid
    confirm_and_engage(net, primary)
    primary.kill_agent()
    since = time.monotonic()
    wait_for(lambda: not can_connect(primary), PATIENCE, "the port is shut")
    assert time.monotonic() - since < LEASE + SHUT
    start(net, primary)
    with Confirmed(primary):
        wait_for(lambda: can_connect(primary), PATIENCE, "the port is open again")
    assert primary.database_pid == pid


def test_a_restart_of_the_agent_within_the_lease_is_not_noticed(
    net: Network, pair: tuple[VaultHost, VaultHost]
) -> None:
    primary, _ = pair
    with Confirmed(primary), writing(net, primary) as writers:
        since = time.monotonic()
        writers.wait_acknowledged(since, PATIENCE)
        primary.kill_agent()
        start(net, primary)
        writers.wait_acknowledged(time.monotonic() + LEASE, LEASE + PATIENCE)
        gap = writers.longest_gap(since)
    assert gap < QUICK


def test_a_solo_primary_stays_open_without_its_agent(net: Network, pair: tuple[VaultHost, VaultHost]) -> None:
    primary, _ = pair
    confirm_and_engage(net, primary)
    order(primary, Verb.SOLO)
    wait_for(lambda: not engaged(net, primary), SECONDS, "the kernel counts no more")
    with frozen_agent(primary) as since:
        wait_for(lambda: time.monotonic() > since + LEASE + 1, PATIENCE)
        assert can_connect(primary)


# --- where nftables may not be used ---------------------------------------------------------------------------------


def test_it_is_refused_where_it_cannot_be(net: Network, clean_directory: Path) -> None:
    with vault_hosts(clean_directory) as make:
        host = make("127.0.62.31", "nowhere-1")
        for extra, says in ((["--cut", "none"], "cut none"), ([], "may not use nftables")):
            host.init()
            shutil.rmtree(host.home)
            arguments = [*host.init_arguments(), "--kernel-lease", *extra]
            command = [PROGRAM, arguments[0], "--home", host.home, *arguments[1:]]
            prefix = [] if extra else WITHOUT_NFTABLES
            done = subprocess.run([*prefix, *command], capture_output=True, text=True)
            assert done.returncode == 1
            assert says in done.stderr
            assert not host.home.exists()


def test_an_agent_that_lost_the_right_says_so_and_serves(net: Network, clean_directory: Path) -> None:
    with vault_hosts(clean_directory) as make:
        host = make("127.0.62.32", "degraded-1").init("--kernel-lease")
        with host.log_file.open("ab") as log:
            host.agent = subprocess.Popen([*WITHOUT_NFTABLES, PROGRAM, "serve", "--home", host.home], stderr=log)
        report = host.wait_report(lambda report: report.process is ProcessState.UP)
        assert "sigkill" in report.fences
        assert not {"kernel-lease", "nftables-cut"} & set(report.fences)
        assert "there is no kernel lease" in host.log()


# --- the gate by itself ---------------------------------------------------------------------------------------------


def test_what_stands_in_the_kernel_is_found_by_the_next_agent(net: Network) -> None:
    address = net.address("n1")
    with net.inside("n1"):
        assert why_no_nftables() == ""
        gates = [Gate("f" * 32, address, limits.DATABASE_PORT, wanted=True, timed=True) for _ in range(2)]
        for gate in gates:
            gate.arm()
            assert gate.timed
        listed = [_rules(gates[0].table)]
        for change in (lambda: gates[0].lease(100), gates[0].shut, gates[0].open):
            assert change()
            gates[1].arm()
            listed.append(_rules(gates[0].table))
        plain, leased, shut, open_ = listed
        assert "expires" in leased
        assert "!= @leased" in leased
        assert f"elements = {{ {limits.DATABASE_PORT} }}" in shut
        assert "!= @leased" not in open_
        assert "!= @leased" not in plain
        subprocess.run(["/usr/sbin/nft", "delete", "table", *gates[0].table.split()], check=True)


def _rules(table: str) -> str:
    done = subprocess.run(["/usr/sbin/nft", "list", "table", *table.split()], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout
