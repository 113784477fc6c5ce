"""The agent's second way into a database whose connections are used up.

Proves: on a lossless primary whose acker is frozen, with every connection taken by a commit that hangs, the administrator's
included, an agent that was restarted meanwhile takes it up, and SOLO, LOCK-OUT and FENCE work; the account stays out of the
binary log and needs this host's certificate and address; with nftables nobody else reaches the port; a port that is
taken keeps no database from starting; an account that came with another node's data is removed.
"""

import contextlib
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import MySQLdb
import pytest

from replication.agent import state
from replication.agent.admin import source_address
from replication.agent.config import AgentConfig
from replication.core import limits
from replication.core.commands import Verb, account_name
from replication.core.roles import OrderKind, ProcessState
from replication.dialects.mariadb_accounts import ADMIN
from tests.agent.orders import HangingWrite, database, follow, frozen, has, open_primary, order, write
from tests.vault_host import VaultHost
from tests.waiting import wait_for

ADDRESSES = ("127.0.61.51", "127.0.61.52")
SHIELDED, TAKEN, STRANGER = "127.0.61.53", "127.0.61.54", "127.0.61.55"
PATIENCE = limits.STEP_DEADLINE.total_seconds()
FULL = 1040
CONNECTIONS = 30
DENIED = frozenset({1045, 1130, 1698})


@pytest.fixture(scope="module")
def hosts(make: Callable[..., VaultHost]) -> list[VaultHost]:
    made = [make(address, f"admin-{n}", cut="none") for n, address in enumerate(ADDRESSES, 1)]
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
    if primary.agent is None:
        primary.start(ready=False)
    open_primary(primary, [acker], jump=False)
    follow(acker, primary)
    order(acker, Verb.ACKER)
    order(primary, Verb.LOSSLESS)
    return primary, acker


def connect(host: VaultHost, user: str, *, certificate_of: VaultHost | None = None, password: str = "") -> None:
    """One connection to the second port. Raises MySQLdb.Error."""
    options = {}
    if certificate_of is not None:
        pki = certificate_of.config.pki_dir
        options["ssl"] = {name: str(pki / f"{name}.pem") for name in ("ca", "cert", "key")}
    MySQLdb.connect(
        host=host.ip, port=host.config.admin_port, user=user, password=password, connect_timeout=2, **options
    ).close()


@contextlib.contextmanager
def used_up(primary: VaultHost) -> Iterator[list[HangingWrite]]:
    """Every connection is taken by a commit that hangs, and the one that is left for the administrator by him; the agent
    is gone. The acker must be frozen."""
    primary.sql("SET GLOBAL max_connections = %s", CONNECTIONS)
    primary.kill_agent()
    writers: list[HangingWrite] = []
    held, turned_away = [], []

    def full() -> bool:
        """Until neither a client nor the administrator gets in for a while: a connection that was closed is given back later."""
        for who in ("client", "administrator"):
            try:
                connection = primary.connect_client() if who == "client" else primary.connect()
            except MySQLdb.Error as error:
                if error.args[0] != FULL:
                    raise
                continue
            if who == "client":
                connection.close()
                writers.append(HangingWrite(primary))
            else:
                held.append(connection)
            turned_away.clear()
            return False
        turned_away.append(True)
        return len(turned_away) == 10

    try:
        wait_for(full, PATIENCE * 4, "no connection is left")
        yield writers
    finally:
        for connection in held:
            with contextlib.suppress(MySQLdb.Error):
                connection.close()


def test_solo_works_although_every_connection_is_taken_by_a_hanging_commit(pair: tuple[VaultHost, VaultHost]) -> None:
    primary, acker = pair
    with frozen(acker), used_up(primary) as writers:
        with pytest.raises(MySQLdb.Error):
            primary.connect()
        former = primary.database_pid
        primary.start()
        report = primary.report()
        assert report.database is not None
        assert report.database.connections >= report.database.connections_max, "the table is full, and it is told"
        assert report.database.commits_stuck_for > 0
        wait_for(lambda: "admin-port" in primary.report().fences, PATIENCE, "the second port is known to work")
        assert order(primary, Verb.LOCK_OUT, {"account": account_name("f" * 32)})["streams"] == 0
        order(primary, Verb.SOLO)
        for writer in writers:
            writer.join(PATIENCE)
        assert sum(writer.acknowledged for writer in writers) > CONNECTIONS / 2
        assert primary.database_pid == former
    primary.sql("SET GLOBAL max_connections = 300")


def test_fence_works_then_and_not_one_of_them_is_acknowledged(pair: tuple[VaultHost, VaultHost]) -> None:
    primary, acker = pair
    with frozen(acker), used_up(primary) as writers:
        primary.start()
        began = time.monotonic()
        order(primary, Verb.FENCE)
        assert time.monotonic() - began < PATIENCE
        for writer in writers:
            writer.join(PATIENCE)
        assert not any(writer.acknowledged for writer in writers)
    assert primary.report().process is ProcessState.DEAD


def test_a_new_agent_closes_what_must_not_be_open_although_it_is_full(pair: tuple[VaultHost, VaultHost]) -> None:
    primary, acker = pair
    row = write(primary)
    with frozen(acker), used_up(primary):
        kept = state.load(primary.config.state_file)
        assert kept is not None
        state.save(primary.config.state_file, replace(kept, order_kind=OrderKind.NONE))
        former = primary.database_pid
        primary.start(ready=False)
        assert primary.database_pid != former, "without the second port it would not have learned that it is open"
    wait_for(lambda: has(acker, row), PATIENCE, "the acknowledged row is applied")


def test_the_account_is_of_this_node_only_and_in_no_binary_log(pair: tuple[VaultHost, VaultHost]) -> None:
    for host in pair:
        rows = host.sql("SELECT Host, Priv FROM mysql.global_priv WHERE User = %s", ADMIN)
        assert [row["Host"] for row in rows] == [source_address(host.ip)]
        assert f"/CN={host.hostname}/" in rows[0]["Priv"].replace("\\/", "/")
        logs = [file for file in host.config.data_dir.glob("binlog.0*") if file.is_file()]
        assert logs
        assert not any(ADMIN.encode() in file.read_bytes() for file in logs)


def test_it_needs_this_hosts_certificate(pair: tuple[VaultHost, VaultHost]) -> None:
    primary, acker = pair
    connect(primary, ADMIN, certificate_of=primary)
    for certificate_of in (None, acker):
        with pytest.raises(MySQLdb.Error) as denied:
            connect(primary, ADMIN, certificate_of=certificate_of)
        assert denied.value.args[0] in DENIED, denied.value


def test_an_account_that_came_with_another_nodes_data_is_removed(pair: tuple[VaultHost, VaultHost]) -> None:
    _, acker = pair
    acker.sql("SET STATEMENT sql_log_bin = 0 FOR CREATE USER %s@'192.0.2.7' REQUIRE SUBJECT '/CN=other'", ADMIN)
    former = acker.database_pid
    acker.kill_database()
    acker.wait_report(lambda report: report.database is not None and acker.database_pid not in (0, former))
    hosts = "SELECT Host AS h FROM mysql.global_priv WHERE User = %s"
    own = [source_address(acker.ip)]
    wait_for(lambda: [row["h"] for row in acker.sql(hosts, ADMIN)] == own, PATIENCE * 3, "there is only its own")


@pytest.mark.parametrize(
    ("port", "database_port", "admin_port"),
    [(5389, 3307, 3308), (3308, 3307, 3306), (5389, 65535, 65534), (65534, 65535, 65533)],
)
def test_the_second_port_is_next_to_the_first_and_not_the_agents(
    port: int, database_port: int, admin_port: int, tmp_path: Path
) -> None:
    config = AgentConfig(
        home=tmp_path, agent_id="a" * 32, hostname="host-1", ip=TAKEN, port=port, database_port=database_port
    )
    assert config.admin_port == admin_port


def test_nobody_but_the_host_itself_reaches_the_port_where_nftables_may_be_used(make: Callable[..., VaultHost]) -> None:
    shielded = make(SHIELDED, "admin-shielded").init().start()
    wait_for(lambda: {"nftables-cut", "admin-port"} <= set(shielded.report().fences), PATIENCE, "both are told")
    with socket.socket() as stranger:
        stranger.settimeout(PATIENCE)
        stranger.bind((STRANGER, 0))
        with pytest.raises(ConnectionRefusedError):
            stranger.connect((shielded.ip, shielded.config.admin_port))
    with socket.socket() as stranger:
        stranger.settimeout(PATIENCE)
        stranger.bind((STRANGER, 0))
        stranger.connect((shielded.ip, limits.DATABASE_PORT))
    connect(shielded, ADMIN, certificate_of=shielded)


def test_a_port_that_is_taken_keeps_no_database_from_starting(make: Callable[..., VaultHost]) -> None:
    taken = make(TAKEN, "admin-taken", cut="none").init()
    with socket.create_server((TAKEN, taken.config.admin_port)):
        taken.start()
        order(taken, Verb.OPEN)
        assert not database(taken).read_only
        assert "admin-port" not in taken.report().fences
    assert "is taken" in taken.log()
