"""A whole controller for tests: Redis, metadata database, web, two service workers, an ops worker, all as programs.

    with controller(directory) as stack:
        stack.web(), stack.service("a"), stack.service("b"), stack.ops()

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
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.vault_host import identity
from tests.waiting import wait_for

ROOT = Path(__file__).resolve().parent.parent
READY_SECONDS = 40
END_SECONDS = 20
ADMINISTRATOR = "admin"


@contextlib.contextmanager
def controller(directory: Path) -> Iterator["Controller"]:
    """A migrated, empty controller with its Redis running and one administrator."""
    stack = Controller(directory)
    try:
        stack.redis()
        stack.manage("migrate", "-v0")
        stack.manage("collectstatic", "--noinput", "-v0")
        stack.manage(
            "createsuperuser", "--noinput", "--username", ADMINISTRATOR, "--email", "", password=stack.password
        )
        yield stack
    finally:
        stack.end()


class Controller:
    def __init__(self, directory: Path) -> None:
        self.var = directory / "controller"
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
            "VAULT_HA_HOST_NAME": "controller-1",
            "VAULT_HA_REDIS_PASSWORD": secrets.token_hex(16),
            "DJANGO_SETTINGS_MODULE": "sectona_ha.settings",
        }
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    # --- programs

    def _start(self, name: str, *arguments: str) -> "subprocess.Popen[bytes]":
        with (self.var / f"{name}.log").open("ab") as log:
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

    def web(self) -> str:
        """Start gunicorn; returns the address of the console."""
        self._start(
            "web", sys.executable, "-m", "gunicorn", "sectona_ha.wsgi", "-k", "gthread", "-w", "1", "--threads", "8",
            "--no-control-socket", "-b", f"127.0.0.1:{self.port}",
        )  # fmt: skip
        wait_for(self._answers, READY_SECONDS, lambda: f"the console answers\n{self.log('web')}")
        return f"http://127.0.0.1:{self.port}"

    def _answers(self) -> bool:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/healthz", timeout=2) as response:
            return bool(response.status == 200)

    def service(self, slot: str) -> "subprocess.Popen[bytes]":
        return self._start(f"service-{slot}", sys.executable, "manage.py", "runservice", "--slot", slot)

    def ops(self) -> None:
        serializer = "rq.serializers.JSONSerializer"
        self._start("ops", sys.executable, "manage.py", "rqworker", "ops", "--serializer", serializer)

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        process = self.processes.pop(name)
        process.send_signal(number)
        process.wait(END_SECONDS)

    def manage(self, *arguments: str, password: str = "") -> str:
        """Run a management command to its end and return what it printed."""
        environment = {**self.environment, "DJANGO_SUPERUSER_PASSWORD": password}
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True,
            timeout=READY_SECONDS,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    def log(self, name: str) -> str:
        file = self.var / f"{name}.log"
        return file.read_text(errors="replace")[-6000:] if file.exists() else ""

    def end(self) -> None:
        """Stop everything, workers first; kill what does not end. Children of a killed worker are looked for as well."""
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
        """Read the metadata database directly: quick enough to poll."""
        with contextlib.closing(sqlite3.connect(f"file:{self.var / 'metadata.sqlite3'}?mode=ro", uri=True)) as database:
            database.row_factory = sqlite3.Row
            return [dict(row) for row in database.execute(query, values)]

    def execute(self, statement: str, *values: Any) -> None:
        with contextlib.closing(sqlite3.connect(self.var / "metadata.sqlite3", timeout=5)) as database, database:
            database.execute(statement, values)

    def vault(self) -> dict[str, Any]:
        """The published row, with hostnames in place of ids."""
        return self.rows(
            "SELECT v.epoch, v.intent, v.reason, p.hostname AS 'primary', a.hostname AS acker FROM nodes_vault v"
            " LEFT JOIN nodes_vaultnode p ON p.id = v.primary_id LEFT JOIN nodes_vaultnode a ON a.id = v.promotable_id"
        )[0]

    def leader(self) -> dict[str, Any]:
        """The lease: holder, term, process."""
        found = self.rows("SELECT holder, term, process FROM nodes_servicelease")
        return found[0] if found else {}

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
            "start_service(AppService.objects.get(), None)\n"
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
