"""A vault host for tests: a real agent, started as a program, with its real mariadbd, in a directory of its own.

    with vault_hosts(directory) as make:
        primary = make("127.0.22.1", "primary-1").init().start()

The `with` guarantees that no agent and no mariadbd is left running, however the test ends.
"""

import contextlib
import functools
import http.client
import json
import os
import secrets
import shutil
import signal
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import MySQLdb
from MySQLdb.cursors import DictCursor

from replication import certificates
from replication.agent import config as agent_config
from replication.agent.config import AgentConfig
from replication.agent.firewall import NftCut
from replication.core import limits
from replication.core.commands import Answer, Command, Verb
from replication.core.errors import StaleEpoch, StepFailed
from replication.core.report import NodeReport
from replication.core.roles import ProcessState
from tests.waiting import wait_for

PROGRAM = Path(__file__).resolve().parent.parent / "script" / "vault-agent"
READY_SECONDS = 60
"""A first start initialises a database; with other tests beside it on two cores that takes its time."""
GONE_SECONDS = 30
REQUEST_SECONDS = 30
CLIENT_DATABASE, CLIENT_USER = "vault", "vault_client"

Identity = Literal["controller", "node", "stranger", "nobody"]


@functools.cache
def authority() -> Path:
    """The certificate authority of this test session; goes with the session's directory."""
    directory = Path(os.environ["VAULT_HA_VAR"]) / "authority"
    certificates.create_authority(directory)
    return directory


@functools.cache
def identity(who: Identity) -> Path | None:
    """A directory with ca.pem, cert.pem and key.pem; None for nobody. The controller's is where settings.PKI_DIR points."""
    var = Path(os.environ["VAULT_HA_VAR"])
    if who == "nobody":
        return None
    directory = var / "pki" if who == "controller" else var / f"pki-{who}"
    issuer = authority()
    if who == "stranger":
        issuer = var / "authority-of-strangers"
        certificates.create_authority(issuer)
    role: certificates.Role = "node" if who == "node" else "controller"
    certificates.issue(issuer, directory, common_name=f"test-{who}", role=role, addresses=["127.0.0.1"])
    return directory


@functools.cache
def client_context(who: Identity) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(authority() / "ca.pem"))
    directory = identity(who)
    if directory is not None:
        context.load_cert_chain(directory / "cert.pem", directory / "key.pem")
    return context


@contextlib.contextmanager
def vault_hosts(directory: Path) -> Iterator[Callable[..., "VaultHost"]]:
    """Make any number of hosts below `directory` (a short path: it holds sockets); all are gone at the end."""
    made: list[VaultHost] = []

    def make(ip: str, hostname: str, **settings: Any) -> VaultHost:
        made.append(VaultHost(directory, ip, hostname, **settings))
        return made[-1]

    try:
        yield make
    finally:
        for host in made:
            host.destroy()


class VaultHost:
    """One host. Methods that change something return it, so that they can be chained."""

    def __init__(self, directory: Path, ip: str, hostname: str, *, cut: str = "auto", client: bool = True) -> None:
        self.directory, self.ip, self.hostname, self.cut = directory, ip, hostname, cut
        self.home = directory / hostname
        self.pki = directory / f"{hostname}-pki"
        self.log_file = directory / f"{hostname}.log"
        self.client_password = secrets.token_urlsafe(16) if client else ""
        self.agent: subprocess.Popen[bytes] | None = None
        self.epoch = 0
        """The last epoch used by `order`."""

    # --- the agent as a program -----------------------------------------------------------------------------------

    def init(self, *extra: str) -> "VaultHost":
        certificates.issue(authority(), self.pki, common_name=self.hostname, role="node", addresses=[self.ip])
        done = self.run(*self.init_arguments(), *extra)
        assert done.returncode == 0, done.stderr
        return self

    def init_arguments(self) -> list[str]:
        arguments = ["init", "--hostname", self.hostname, "--ip", self.ip, "--pki", str(self.pki), "--cut", self.cut]
        arguments += ["--buffer-pool", "32M"]
        if self.client_password:
            file = self.directory / f"{self.hostname}.password"
            file.write_text(self.client_password + "\n")
            arguments += ["--client-database", CLIENT_DATABASE, "--client-user", CLIENT_USER]
            arguments += ["--client-password-file", str(file)]
        return arguments

    def run(self, *arguments: str, typed: str | None = None) -> "subprocess.CompletedProcess[str]":
        """Run `vault-agent` with this home to its end. typed: what a person types, a line."""
        return subprocess.run(
            [PROGRAM, arguments[0], "--home", self.home, *arguments[1:]],
            input=typed if typed is not None else "",
            capture_output=True,
            text=True,
            timeout=READY_SECONDS,
        )

    def start(self, *extra: str, ready: bool = True) -> "VaultHost":
        """Start the agent and wait until it answers; with `ready` also until its database is up."""
        assert self.agent is None, "the agent runs already"
        with self.log_file.open("ab") as log:
            self.agent = subprocess.Popen(
                [PROGRAM, "serve", "--home", self.home, *extra], stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        wait_for(self._answers, READY_SECONDS, lambda: f"{self.hostname} answers\n{self.log()}")
        if ready:
            self.wait_up()
        return self

    def _answers(self) -> bool:
        assert self.agent is not None
        if self.agent.poll() is not None:
            code, self.agent = self.agent.returncode, None
            raise RuntimeError(f"the agent of {self.hostname} ended with {code}:\n{self.log()}")
        return self.request("GET", "/healthz", who="nobody")[0] == 200

    def wait_up(self) -> NodeReport:
        """Wait until the agent says that its database is up and has told what it looks like."""
        return self.wait_report(lambda report: report.process is ProcessState.UP and report.database is not None)

    def stop(self) -> int:
        """SIGTERM to the agent; returns its exit code."""
        return self._end(signal.SIGTERM)

    def kill_agent(self) -> None:
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> int:
        agent, self.agent = self.agent, None
        assert agent is not None, "the agent does not run"
        agent.send_signal(number)
        try:
            return agent.wait(GONE_SECONDS)
        except subprocess.TimeoutExpired:
            agent.kill()
            agent.wait()
            raise AssertionError(f"the agent of {self.hostname} did not end:\n{self.log()}") from None

    def wait_agent_ended(self) -> None:
        """It was told to end by itself, for instance by a purge."""
        agent, self.agent = self.agent, None
        assert agent is not None, "the agent does not run"
        assert agent.wait(GONE_SECONDS) == 0, self.log()

    def config_exists(self) -> bool:
        return (self.home / "agent.json").exists()

    def destroy(self) -> None:
        """Whatever still runs for this home is killed."""
        if self.agent is not None:
            self.agent.kill()
            self.agent.wait()
            self.agent = None
        wait_for(self._nothing_runs, GONE_SECONDS, lambda: f"processes of {self.home} end: {self.processes()}")
        with contextlib.suppress(agent_config.ConfigError):  # purged, or never made
            config = self.config
            shutil.rmtree(config.run_dir, ignore_errors=True)
            NftCut(config.agent_id, config.database_port, wanted=config.cut == "auto").remove()

    def _nothing_runs(self) -> bool:
        found = self.processes()
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not found

    def processes(self) -> list[int]:
        """Process ids of everything that was started for this home and still runs."""
        marks = [os.fsencode(f"{self.home}{end}") for end in ("/", "\0")]
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == os.getpid():
                continue
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_bytes() + b"\0"
                if any(mark in words for mark in marks):
                    found.append(int(entry.name))
        return found

    def log(self) -> str:
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    @property
    def config(self) -> AgentConfig:
        return agent_config.load(self.home)

    # --- the database ---------------------------------------------------------------------------------------------

    @property
    def database_pid(self) -> int:
        """Process id of mariadbd; 0 when it does not run."""
        try:
            pid = int(self.config.pid_file.read_text())
            # An ended process whose parent has not collected it yet has no command line any more.
            return pid if b"mariadbd" in Path(f"/proc/{pid}/cmdline").read_bytes() else 0
        except (OSError, ValueError):
            return 0

    def kill_database(self, number: signal.Signals = signal.SIGKILL) -> float:
        """Send a signal to mariadbd; returns the monotonic moment of sending."""
        pid = self.database_pid
        assert pid, f"mariadbd of {self.hostname} does not run"
        moment = time.monotonic()
        os.kill(pid, number)
        return moment

    def connect(self, **options: Any) -> Any:
        """A connection as the administrator, over the unix socket."""
        return MySQLdb.connect(
            unix_socket=str(self.config.socket),
            user="root",
            autocommit=True,
            charset="utf8mb4",
            cursorclass=DictCursor,
            connect_timeout=2,
            **options,
        )

    def connect_client(self, **options: Any) -> Any:
        """A connection as the vault's own clients make it, over TCP."""
        return MySQLdb.connect(
            host=self.ip,
            port=limits.DATABASE_PORT,
            user=CLIENT_USER,
            password=self.client_password,
            database=CLIENT_DATABASE,
            autocommit=True,
            charset="utf8mb4",
            connect_timeout=2,
            **options,
        )

    def sql(self, statement: str, *values: Any) -> list[dict[str, Any]]:
        """Run one statement as the administrator and return its rows."""
        with contextlib.closing(self.connect()) as connection, connection.cursor() as cursor:
            cursor.execute(statement, values)
            return list(cursor.fetchall())

    # --- the agent's protocol -------------------------------------------------------------------------------------

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        who: Identity = "controller",
        timeout: float = REQUEST_SECONDS,
    ) -> tuple[int, str]:
        """One request on a connection of its own: status and text. Raises OSError (ssl.SSLError is one)."""
        connection = http.client.HTTPSConnection(
            self.ip, limits.AGENT_PORT, timeout=timeout, context=client_context(who)
        )
        try:
            connection.request(method, path, body)
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def report(self, since: int = -1, wait: float = 0) -> NodeReport:
        status, text = self.request("GET", f"/hello?since={since}&wait={wait}", timeout=wait + REQUEST_SECONDS)
        assert status == 200, text
        return NodeReport.from_json(json.loads(text))

    def wait_report(self, holds: Callable[[NodeReport], bool], timeout: float = READY_SECONDS) -> NodeReport:
        """Wait for a report of which `holds` is true."""
        seen: list[NodeReport] = []

        def look() -> NodeReport | None:
            seen[:] = [self.report()]
            return seen[0] if holds(seen[0]) else None

        return (
            wait_for(look, timeout, lambda: f"a report of {self.hostname}; the last: {seen}\n{self.log()}") or seen[0]
        )

    def send(self, verb: Verb | str, command: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
        """POST a command as it is: status and answer."""
        status, text = self.request("POST", f"/command/{verb}", json.dumps(command).encode())
        return status, json.loads(text)

    def order(
        self,
        verb: Verb,
        args: Mapping[str, Any] | None = None,
        *,
        vault: str = "a" * 32,
        node: str = "",
        term: int = 1,
        epoch: int | None = None,
        deadline: float = 20,
    ) -> Answer:
        """Command the agent as a controller would. epoch: None takes the next one. Raises StaleEpoch or StepFailed."""
        self.epoch = epoch if epoch is not None else self.epoch + 1
        command = Command(
            vault=vault,
            node=node or self.node,
            term=term,
            epoch=self.epoch,
            operation=secrets.token_hex(8),
            deadline=deadline,
            args=args or {},
        )
        status, answer = self.send(verb, command.to_json())
        if status == 409:
            raise StaleEpoch(self.hostname, answer["term"], answer["epoch"])
        if status == 422:
            raise StepFailed(self.hostname, answer.get("step", ""), answer["reason"], answer["text"])
        assert status == 200, f"{verb}: {status} {answer}\n{self.log()}"
        return Answer(facts=answer["facts"], steps=answer["steps"])

    @property
    def node(self) -> str:
        """A node id that is the same whenever it is asked for: made of the agent's."""
        return self.config.agent_id

    @property
    def subject(self) -> str:
        return certificates.subject_oneline(certificates.load(self.config.pki_dir / "cert.pem"))
