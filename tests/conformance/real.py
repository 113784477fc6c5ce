"""The conformance script's world of real servers: mariadbd as the agent starts it, each on a host of its own.

A host is a network namespace with one interface on a common switch, so that packets can vanish in one direction. Data
directories are copies of one. Not in memory: there InnoDB maps its log, and a kill loses nothing that a disk would.
"""

import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import MySQLdb

from replication import certificates
from replication.agent.config import AgentConfig, ClientAccount
from replication.agent.database import LocalSession
from replication.agent.process import Mariadbd
from replication.agent.state import StateFile
from replication.core import limits
from replication.core.commands import ReplicationAccount
from replication.core.vault_ports import AgentState, BootRole, Database, DatabaseError
from replication.dialects.mariadb import Client as ClientOfVault
from replication.dialects.mariadb import MariaDb, Observation, PkiFiles
from tests.conformance.world import HANGS, OK, PATIENCE, SETTLED, failure
from tests.vault_host import authority
from tests.waiting import wait_for

ENVIRONMENT = {**os.environ, "PATH": "/usr/sbin:/sbin:/usr/bin:/bin"}
CLIENT = ClientAccount(database="vault", user="vault_client", password="only-for-tests")
READ_SECONDS = 60
START = limits.START_DEADLINE


def run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=30)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"


class RealCall:
    """An action on a thread of its own."""

    def __init__(self, action: Callable[[], Any]) -> None:
        self._action = action
        self._outcome = HANGS
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._action()
        except DatabaseError as error:
            self._outcome = failure(error.code)
        except MySQLdb.Error as error:
            self._outcome = failure(error.args[0] if isinstance(error.args[0], int) else 0)
        else:
            self._outcome = OK

    def outcome(self, within: float = SETTLED) -> str:
        self._thread.join(within)
        return self._outcome


class RealClient:
    def __init__(self, socket: Path, account: ClientAccount | None = CLIENT) -> None:
        self._connection: Any = MySQLdb.connect(
            unix_socket=str(socket),
            user=account.user if account else "root",
            password=account.password if account else "",
            autocommit=True,
            connect_timeout=2,
        )

    def begin(self) -> RealCall:
        return self._call("BEGIN")

    def insert(self, row: int) -> RealCall:
        return self._call("INSERT INTO vault.rows_ VALUES (%s)", row)

    def commit(self) -> RealCall:
        return self._call("COMMIT")

    def update_slowly(self, row: int, seconds: float) -> RealCall:
        return self._call("INSERT INTO vault.rows_ SELECT %s + 0 * SLEEP(%s)", row, seconds)

    def _call(self, statement: str, *values: Any) -> RealCall:
        return RealCall(lambda: self.run(statement, *values))

    def run(self, statement: str, *values: Any) -> None:
        with self._connection.cursor() as cursor:
            cursor.execute(statement, values)

    def close(self) -> None:
        with contextlib.suppress(MySQLdb.Error):
            self._connection.close()


class RealServer:
    def __init__(self, network: "Network", number: int, directory: Path, template: Path) -> None:
        self.name, self.address = f"m{number}", network.address(number)
        home = directory / self.name
        home.mkdir(parents=True)
        self.config = AgentConfig(
            home=home,
            agent_id=f"{number:032x}",
            hostname=self.name,
            ip=self.address,
            client=CLIENT,
            buffer_pool="16M",
            mariadbd=str(network.inside(number, "/usr/sbin/mariadbd")),
        )
        self.config.prepare_directories()
        shutil.copytree(template, self.config.data_dir)
        self.config.pki_dir.symlink_to(network.pki(number))
        self.state = StateFile(self.config.state_file, AgentState(server_id=number))
        self.process = Mariadbd(self.config, self.state, lambda: None)
        self.firewall = network.firewall(number)
        self.database = self._database()
        self._session: LocalSession = self.database.session  # type: ignore[assignment]

    @property
    def account(self) -> str:
        return f"vha_{self.name}"

    @property
    def subject(self) -> str:
        return certificates.subject_oneline(certificates.load(self.config.pki_dir / "cert.pem"))

    def _database(self) -> MariaDb:
        pki = self.config.pki_dir
        session = LocalSession(self.config.socket, read_seconds=READ_SECONDS, server=lambda: self.process.handle)
        files = PkiFiles(ca=str(pki / "ca.pem"), cert=str(pki / "cert.pem"), key=str(pki / "key.pem"))
        client = ClientOfVault(database=CLIENT.database, user=CLIENT.user, password=CLIENT.password)
        return MariaDb(session, files, client)

    def sql(self, statement: str, *values: Any) -> list[Any]:
        return self._session.rows(statement, *values)

    def observe(self) -> Observation:
        return self.database.observe()

    def call(self, action: Callable[[Database], Any]) -> RealCall:
        def act() -> None:
            database = self._database()
            try:
                action(database)
            finally:
                database.session.close()  # type: ignore[attr-defined]  # it is a LocalSession

        return RealCall(act)

    def client(self) -> RealClient:
        return RealClient(self.config.socket)

    def write(self, row: int) -> RealCall:
        return RealCall(lambda: RealClient(self.config.socket).run("INSERT INTO vault.rows_ VALUES (%s)", row))

    def administrator_writes(self, row: int) -> RealCall:
        return RealCall(lambda: RealClient(self.config.socket, None).run("INSERT INTO vault.rows_ VALUES (%s)", row))

    def administrator_writes_unlogged(self, row: int) -> RealCall:
        def write() -> None:
            client = RealClient(self.config.socket, None)
            client.run("SET SESSION sql_log_bin = 0")
            client.run("INSERT INTO vault.rows_ VALUES (%s)", row)

        return RealCall(write)

    def create_account_unlogged(self, account: ReplicationAccount) -> None:
        session = self._session
        session.run("SET SESSION sql_log_bin = 0")
        self.database.create_account(account)
        session.run("SET SESSION sql_log_bin = 1")

    def stop_applier(self) -> None:
        self._session.run("STOP SLAVE SQL_THREAD")

    def define(self, table: str) -> RealCall:
        statement = f"CREATE TABLE vault.{table} (id BIGINT PRIMARY KEY) ENGINE=InnoDB"
        return RealCall(lambda: RealClient(self.config.socket, None).run(statement))

    def rows(self) -> list[int]:
        return [row["id"] for row in self.sql("SELECT id FROM vault.rows_ ORDER BY id")]

    def kill_writers(self, *, query_only: bool) -> None:
        kind = "QUERY" if query_only else "CONNECTION"
        sessions = self.sql("SELECT ID AS id FROM information_schema.processlist WHERE USER = %s", CLIENT.user)
        for session in sessions:
            self.sql(f"KILL {kind} %s", session["id"])

    def set_semisync_wait_no_slave(self, on: bool) -> None:
        self._session.run("SET GLOBAL rpl_semi_sync_master_wait_no_slave = %s", int(on))

    def set_flush_interval(self, seconds: int) -> None:
        self._session.run("SET GLOBAL innodb_flush_log_at_timeout = %s", seconds)

    def set_max_connections(self, most: int) -> None:
        self._session.run("SET GLOBAL max_connections = %s", most)

    def purge_binary_logs(self) -> None:
        self._session.run("FLUSH BINARY LOGS")
        newest = self.sql("SHOW BINARY LOGS")[-1]["Log_name"]

        def purged() -> bool:  # a stream that still reads an old one keeps it
            self._session.run("PURGE BINARY LOGS TO %s", newest)
            return len(self.sql("SHOW BINARY LOGS")) == 1

        wait_for(purged, PATIENCE, "old binary logs are purged")

    def crash(self) -> None:
        self.process.kill()

    def terminate(self) -> None:
        self.process.stop(START)

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)
        wait_for(self._stopped, PATIENCE, "every thread of it has stopped")

    def _stopped(self) -> bool:
        assert self.process.handle is not None
        tasks = Path(f"/proc/{self.process.handle.pid}/task").iterdir()
        return all((task / "stat").read_text().rpartition(")")[2].split()[0] == "T" for task in tasks)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        handle = self.process.handle
        assert handle is not None
        handle.signal(number)

    def destroy(self) -> None:
        if self.process.handle is not None:
            self.process.kill()
            self.process.look()  # collects it
        self._session.close()
        self.firewall.lift()
        shutil.rmtree(self.config.run_dir, ignore_errors=True)


class Firewall:
    """As replication.agent.firewall has it, on a host of this network."""

    armed = True

    def __init__(self, nft: Callable[[str], None]) -> None:
        self._nft = nft

    def cut(self, address: str) -> None:
        self._nft(f"add element inet cuts revoked {{ {address} }}")

    def lift(self) -> None:
        self._nft("flush set inet cuts revoked")


class Network:
    """Three hosts and a switch. Needs root."""

    HOSTS = 3
    _names = itertools.count(1)

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._stem = f"vhc-{os.getpid()}-{next(self._names)}"
        self._made: list[str] = []

    def name(self, number: int) -> str:
        return f"{self._stem}-{number}"

    def address(self, number: int) -> str:
        return f"10.213.63.{number}"

    def inside(self, number: int, program: str) -> Path:
        """A program that runs `program` on the host."""
        wrapper = self.directory / f"{Path(program).name}-{number}"
        wrapper.write_text(f'#!/bin/sh\nexec /usr/sbin/ip netns exec {self.name(number)} {program} "$@"\n')
        wrapper.chmod(0o700)
        return wrapper

    def pki(self, number: int) -> Path:
        return self.directory / f"pki-{number}"

    def make(self) -> None:
        switch = self.name(0)
        self._namespace(switch)
        run("ip", "-n", switch, "link", "add", "br0", "type", "bridge")
        run("ip", "-n", switch, "link", "set", "br0", "up")
        for number in range(1, self.HOSTS + 1):
            host, port = self.name(number), f"p{number}"
            certificates.issue(
                authority(), self.pki(number), common_name=f"m{number}", role="node", addresses=[self.address(number)]
            )
            self._namespace(host)
            run("ip", "-n", switch, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", host)
            run("ip", "-n", switch, "link", "set", port, "master", "br0", "up")
            run("ip", "-n", host, "addr", "add", f"{self.address(number)}/24", "dev", "eth0")
            run("ip", "-n", host, "link", "set", "eth0", "up")
            run("ip", "-n", host, "link", "set", "lo", "up")
            self._nft(number, "add table inet cuts; add set inet cuts from { type ipv4_addr; }; "
                "add chain inet cuts in { type filter hook input priority -10; }; "
                'add rule inet cuts in iifname "eth0" ip saddr @from drop; '  # a reset of our own firewall comes over lo
                "add set inet cuts revoked { type ipv4_addr; }; "
                "add chain inet cuts out { type filter hook output priority 0; }; "
                f"add rule inet cuts out ip daddr @revoked tcp dport {limits.DATABASE_PORT} reject with tcp reset"
            )  # fmt: skip

    def firewall(self, number: int) -> Firewall:
        return Firewall(lambda commands: self._nft(number, commands))

    def _namespace(self, name: str) -> None:
        run("ip", "netns", "add", name)
        self._made.append(name)

    def _nft(self, number: int, commands: str) -> None:
        run("ip", "netns", "exec", self.name(number), "nft", commands)

    def cut(self, sender: int, receiver: int) -> None:
        self._nft(receiver, f"add element inet cuts from {{ {self.address(sender)} }}")

    def heal(self) -> None:
        for number in range(1, self.HOSTS + 1):
            self._nft(number, "flush set inet cuts from")

    def remove(self) -> None:
        for name in self._made:
            run("ip", "netns", "del", name)


class RealWorld:
    def __init__(self, network: Network, directory: Path, template: Path, count: int) -> None:
        self.network = network
        self.servers = [RealServer(network, number, directory, template) for number in range(1, count + 1)]

    def wait(self, holds: Callable[[], object], seconds: float = PATIENCE) -> bool:
        def quietly() -> bool:
            try:
                return bool(holds())
            except DatabaseError:
                return False

        try:
            return wait_for(quietly, seconds)
        except AssertionError:
            return False

    def took(self, action: Callable[[], Any]) -> float:
        began = time.monotonic()
        action()
        return time.monotonic() - began

    def cut(self, sender: RealServer, receiver: RealServer) -> None:
        self.network.cut(self._number(sender), self._number(receiver))

    def _number(self, server: RealServer) -> int:
        return self.servers.index(server) + 1

    def heal(self) -> None:
        self.network.heal()


class RealWorlds:
    """Makes worlds, one after the other."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="vhc-"))
        self.network = Network(self.directory)
        self.template = self.directory / "template"
        self._count = itertools.count(1)

    def __enter__(self) -> "RealWorlds":
        self.network.make()
        home = self.directory / "installer"
        home.mkdir()
        config = AgentConfig(home=home, agent_id="0" * 32, hostname="installer", ip="127.0.63.1")
        config.prepare_directories()
        Mariadbd(config, StateFile(config.state_file, AgentState()), lambda: None).install()
        config.data_dir.rename(self.template)
        return self

    def __exit__(self, *_: object) -> None:
        self.network.remove()
        shutil.rmtree(self.directory, ignore_errors=True)

    @contextlib.contextmanager
    def world(self, servers: int = 2) -> Iterator[RealWorld]:
        """Servers that run as after a first start: empty and closed."""
        directory = self.directory / f"w{next(self._count)}"
        world = RealWorld(self.network, directory, self.template, servers)
        try:
            starts = [RealCall(lambda s=s: s.process.start(BootRole.PRIMARY, START)) for s in world.servers]  # type: ignore[misc]
            for start in starts:
                assert start.outcome(START.total_seconds()) == OK
            yield world
        finally:
            self.network.heal()
            for server in world.servers:
                server.destroy()
            shutil.rmtree(directory, ignore_errors=True)
