"""A whole controller for tests: Redis, metadata database, web, two service workers, an ops worker, all as programs.

    with controller(directory) as stack:
        stack.web(), stack.service("a"), stack.service("b"), stack.ops()

Several controller hosts share one metadata server (tests/rig/metadata.py): the second one is made `like` the first.

    with metadata_server(directory, ip) as server, controller(directory, metadata=server) as one, \
         controller(directory, name="controller-2", like=one) as two:

Everything lives below one directory with a short path and is gone at the end, however the test ends.
"""

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from tests.rig.metadata import MetadataServer
from tests.vault_host import identity
from tests.waiting import wait_for

ROOT = Path(__file__).resolve().parent.parent
READY_SECONDS = 40
END_SECONDS = 20
ADMINISTRATOR = "admin"
DATABASE = "console"
"""Name of the metadata database on a MariaDB server."""


@contextlib.contextmanager
def controller(
    directory: Path,
    *,
    name: str = "controller-1",
    metadata: MetadataServer | None = None,
    like: "Controller | None" = None,
    inside: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Iterator["Controller"]:
    """A controller host with its Redis running: the first one migrated, empty, with one administrator.

    metadata: None for SQLite. like: another host of the same installation: same metadata, secret key and certificates.
    inside: makes the context in which its programs start, a host of tests/rig/network.py for instance.
    """
    stack = Controller(directory, name, like.metadata if like else metadata, inside)
    try:
        if like is not None:
            for shared in ("VAULT_HA_SECRET_KEY", "VAULT_HA_DATABASE"):
                stack.environment[shared] = like.environment[shared]
        stack.redis()
        if like is None:
            stack.manage("migrate", "-v0")
            stack.manage("collectstatic", "--noinput", "-v0")
            stack.manage(
                "createsuperuser", "--noinput", "--username", ADMINISTRATOR, "--email", "", password=stack.password
            )
        yield stack
    finally:
        stack.end()


class Controller:
    def __init__(
        self,
        directory: Path,
        name: str = "controller-1",
        metadata: MetadataServer | None = None,
        inside: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self.name, self.metadata, self._inside = name, metadata, inside
        self.var = directory / name
        self.var.mkdir()
        self.password = secrets.token_urlsafe(12)
        self.port = free_port()
        pki = identity("controller")
        assert pki is not None
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("VAULT_HA_")},
            "VAULT_HA_VAR": str(self.var),
            "VAULT_HA_PKI_DIR": str(pki),
            "VAULT_HA_SECRET_KEY": secrets.token_hex(32),
            "VAULT_HA_INSECURE_HTTP": "true",
            "VAULT_HA_HOST_NAME": name,
            "VAULT_HA_REDIS_PASSWORD": secrets.token_hex(16),
            "VAULT_HA_DATABASE": metadata.create(DATABASE)
            if metadata
            else f"sqlite:///{self.var / 'metadata.sqlite3'}",
            "DJANGO_SETTINGS_MODULE": "sectona_ha.settings",
        }
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    # --- programs

    def start(self, name: str, *arguments: str) -> "subprocess.Popen[bytes]":
        """Start a program of this controller, its output in a log of this name."""
        with (self.var / f"{name}.log").open("ab") as log, self._inside():
            process = subprocess.Popen(
                arguments, cwd=ROOT, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self.processes[name] = process
        return process

    def redis(self) -> None:
        """Start Redis on its unix socket, and wait until it answers there."""
        program = shutil.which("redis-server") or shutil.which("redis-check-rdb")
        assert program, "redis-server is missing: run script/test"
        path = self.var / "redis.sock"
        process = subprocess.Popen(
            ["redis-server", "--port", "0", "--unixsocket", str(path), "--unixsocketperm", "600", "--save", "",
             "--appendonly", "no", "--dir", str(self.var), "--requirepass", self.environment["VAULT_HA_REDIS_PASSWORD"]],
            executable=program, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self.processes["redis"] = process
        wait_for(lambda: _accepts(path), READY_SECONDS, "Redis accepts connections")

    def web(self, workers: int = 1) -> str:
        """Start gunicorn; returns the address of the console."""
        self.start(
            "web", sys.executable, "-m", "gunicorn", "sectona_ha.wsgi", "-k", "gthread", "-w", str(workers), "--threads", "8",
            "--no-control-socket", "-b", f"127.0.0.1:{self.port}",
        )  # fmt: skip
        wait_for(self._answers, READY_SECONDS, lambda: f"the console answers\n{self.log('web')}")
        return f"http://127.0.0.1:{self.port}"

    def _answers(self) -> bool:
        with self._inside(), urllib.request.urlopen(f"http://127.0.0.1:{self.port}/healthz", timeout=2) as response:
            return bool(response.status == 200)

    def service(self, slot: str) -> "subprocess.Popen[bytes]":
        return self.start(f"service-{slot}", sys.executable, "manage.py", "runservice", "--slot", slot)

    def housekeeping(self, slot: str = "a") -> "subprocess.Popen[bytes]":
        arguments = ("runservice", "--service", "housekeeping", "--slot", slot)
        return self.start(f"housekeeping-{slot}", sys.executable, "manage.py", *arguments)

    def ops(self) -> None:
        serializer = "rq.serializers.JSONSerializer"
        self.start("ops", sys.executable, "manage.py", "rqworker", "ops", "routine", "--serializer", serializer)

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        process = self.processes.pop(name)
        process.send_signal(number)
        process.wait(END_SECONDS)

    def signal_process(self, pid: int, number: signal.Signals) -> None:
        """To a process of this controller that is no child of ours: the job below a worker, for instance."""
        assert pid in self._children(), f"process {pid} is not of {self.name}"
        os.kill(pid, number)

    def manage(self, *arguments: str, password: str = "") -> str:
        """Run a management command to its end and return what it printed."""
        environment = {**self.environment, "DJANGO_SUPERUSER_PASSWORD": password}
        with self._inside():
            done = subprocess.run(
                [sys.executable, "manage.py", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True,
                timeout=READY_SECONDS,
            )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    def log(self, name: str) -> str:
        return self.full_log(name)[-6000:]

    def full_log(self, name: str) -> str:
        file = self.var / f"{name}.log"
        return file.read_text(errors="replace") if file.exists() else ""

    def end(self) -> None:
        """Stop everything, workers first; kill what does not end. Children of a killed worker are looked for as well."""
        for pid in self._children():  # one that a test has frozen cannot end
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        for name in sorted(self.processes, key=lambda name: name == "redis"):
            process = self.processes.pop(name)
            process.terminate()
            try:
                process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        wait_for(self._nothing_runs, END_SECONDS, lambda: f"the controller's processes end: {self._children()}")

    def _nothing_runs(self) -> bool:
        found = self._children()
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not found

    def _children(self) -> list[int]:
        """Every process that has this controller's directory in its environment."""
        mark = f"VAULT_HA_VAR={self.var}".encode()
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    if mark in (entry / "environ").read_bytes().split(b"\0"):
                        found.append(int(entry.name))
        return found

    # --- what it knows

    def status(self) -> dict[str, Any]:
        """The only vault, as `manage.py vault_status --json` tells it."""
        vault: dict[str, Any] = json.loads(self.manage("vault_status", "--json"))["vaults"][0]
        return vault

    def rows(self, query: str, *values: Any) -> list[dict[str, Any]]:
        """Read the metadata database directly: quick enough to poll. `?` stands for a value."""
        if self.metadata is not None:
            return self.metadata.sql(query.replace("?", "%s"), *values, database=DATABASE)
        with contextlib.closing(sqlite3.connect(f"file:{self.var / 'metadata.sqlite3'}?mode=ro", uri=True)) as database:
            database.row_factory = sqlite3.Row
            return [dict(row) for row in database.execute(query, values)]

    def execute(self, statement: str, *values: Any) -> None:
        if self.metadata is not None:
            self.metadata.sql(statement.replace("?", "%s"), *values, database=DATABASE)
            return
        with contextlib.closing(sqlite3.connect(self.var / "metadata.sqlite3", timeout=5)) as database, database:
            database.execute(statement, values)

    def vault(self) -> dict[str, Any]:
        """The published row, with hostnames in place of ids."""
        return self.rows(
            "SELECT v.epoch, v.intent, v.reason, p.hostname AS 'primary', a.hostname AS acker FROM nodes_vault v"
            " LEFT JOIN nodes_vaultnode p ON p.id = v.primary_id LEFT JOIN nodes_vaultnode a ON a.id = v.promotable_id"
        )[0]

    def leader(self, service: str = "SystemHighAvailabilityService") -> dict[str, Any]:
        """The lease: holder, term, host, process."""
        found = self.rows("SELECT holder, term, host, process FROM nodes_servicelease WHERE name = ?", service)
        return found[0] if found else {}

    def leader_pid(self) -> int:
        return int(self.leader()["process"].split("pid ")[1].rstrip(")"))

    def status_of(self, hostname: str) -> tuple[str, str]:
        """The published status word of a node and its detail."""
        row = self.rows("SELECT status, status_detail FROM nodes_vaultnode WHERE hostname = ?", hostname)[0]
        return row["status"], row["status_detail"]

    def events(self, *rules: str) -> list[dict[str, Any]]:
        """Events with one of these rule ids, oldest first; `evidence` as a structure."""
        marks = ", ".join("?" for _ in rules)
        found = self.rows(f"SELECT * FROM nodes_event WHERE rule IN ({marks}) ORDER BY id", *rules)
        return [{**row, "evidence": json.loads(row["evidence"])} for row in found]

    def wait_vault(self, timeout: float = READY_SECONDS, **wanted: Any) -> dict[str, Any]:
        """Wait until the published row has these values, for instance primary="vault-a", acker="vault-b"."""

        def look() -> dict[str, Any] | None:
            row = self.vault()
            return row if all(row[name] == value for name, value in wanted.items()) else None

        def seen() -> str:
            return f"{wanted}; the row is {self.vault()}\n{self.log('service-a')}\n{self.log('service-b')}"

        return wait_for(look, timeout, seen) or {}

    def add_pair(self, *hosts: Any) -> None:
        """Put hosts into the inventory as the form does, the first as Primary, and start the service."""
        pairs = [(host.hostname, host.ip) for host in hosts]
        script = (
            "from nodes.models import AppService; from replication.stores.wishes import *; v = default_vault()\n"
            f"for n, (name, ip) in enumerate({pairs!r}):\n"
            "    role = 'fallback' if n else 'primary'\n"
            "    new = NewNode(hostname=name, ip_address=ip, port=5389, database_port=3307, system_role=role)\n"
            "    assert not isinstance(add_node(v, new, None), list)\n"
            "start_service(AppService.objects.get(name='SystemHighAvailabilityService'), None)\n"
        )
        self.manage("shell", "-v0", "-c", script)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _accepts(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.connect(str(path))
        return True
