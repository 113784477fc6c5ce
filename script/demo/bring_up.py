"""The start, in order, each part when the ones before it answer; then the watch; then the stop."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

from replication.agent.config import AgentConfig

from . import credentials, readiness
from .plan import FREE_BYTES_NEEDED, CannotRun, Plan
from .processes import MARK, Signals, reap, stop_remains
from .supervisor import Supervisor, last_line

PART_SECONDS: Final = 60.0
"""For one part to answer. Initialising two data directories at once takes 10 to 20 s on two busy cores."""
LOSSLESS_SECONDS: Final = 90.0
TOOL_SECONDS: Final = 120.0
LOOK_SECONDS: Final = 5.0
"""Between two looks at supervisord while all is well; the end of an orphan wakes us at once."""


class BringUp:
    """One run of the pair. `start` and `watch` raise CannotRun or StopRequested; `stop` is for every way out."""

    def __init__(self, plan: Plan, signals: Signals, *, say: Callable[[str], None]) -> None:
        self._plan, self._signals, self._say = plan, signals, say
        self._supervisor: Supervisor | None = None
        self._began = time.monotonic()
        self._environment = environment(plan)

    def start(self) -> None:
        plan = self._plan
        plan.run_file.unlink(missing_ok=True)
        if count := stop_remains(plan.var):
            self._say(f"Stopped {count} processes that an earlier run in {plan.var} had left behind.")
        self._refuse_what_cannot_work()
        credentials.make_secrets(plan)
        credentials.make_certificates(plan)
        hosts = [credentials.make_host(plan, host) for host in plan.hosts]
        _write_redis(plan)
        self._supervisor = Supervisor(plan, self._environment, self._signals)
        self._supervisor.start("redis")
        self._supervisor.start("vault")  # the slowest part, so it works while the metadata DB is made
        self._say("Starting the databases of vault-1 and vault-2 …")
        self._manage("migrate", "--no-input")
        self._manage("collectstatic", "--no-input")
        self._wait("Redis", lambda: readiness.redis_answers(plan))
        prepared = json.loads(self._manage("prepare_demo", *_demo_arguments(plan, hosts)))
        for host in plan.hosts:
            self._wait(f"the agent of {host.hostname}", partial(readiness.agent_answers, plan, host))
        self._supervisor.start("web")
        self._supervisor.start("worker")
        workers_began = time.monotonic()
        self._say("Starting the console and the workers …")
        self._wait("the console", lambda: readiness.web_answers(plan))
        self._wait("a service worker", lambda: readiness.service_answers(plan))
        status = self._wait_for_the_vault(prepared["expect_lossless"], workers_began)
        credentials.write_private(plan.run_file, json.dumps(self._run_json(hosts), indent=2) + "\n")
        self._announce(status)

    def watch(self) -> None:
        """Stay until a stop signal; name a program that gave up, once. Raises CannotRun when supervisord is gone."""
        assert self._supervisor is not None
        named: set[str] = set()
        look_at = 0.0
        while True:
            reap(except_for=self._supervisor.pid)
            if time.monotonic() >= look_at or not self._supervisor.alive:
                for name in set(self._supervisor.given_up()) - named:
                    named.add(name)
                    self._say(f"{name} has stopped and does not come up again: see {self._plan.logs / name}.log")
                look_at = time.monotonic() + LOOK_SECONDS
            self._signals.wait(look_at - time.monotonic())

    def stop(self) -> None:
        self._plan.run_file.unlink(missing_ok=True)
        if self._supervisor is not None:
            self._supervisor.stop()

    def _refuse_what_cannot_work(self) -> None:
        plan = self._plan
        free = shutil.disk_usage(plan.var).free
        if free < FREE_BYTES_NEEDED:
            raise CannotRun(
                f"the disk of {plan.var} has {free // 1024**2} MiB free, and two databases need"
                f" {FREE_BYTES_NEEDED // 1024**2} MiB: make room, or set VAULT_HA_VAR to another disk."
            )
        for program in ("mariadbd", "mariadb-install-db", "setpriv"):
            if not shutil.which(program):
                raise CannotRun(
                    f"{program} is missing and could not be installed: install mariadb-server-core and util-linux."
                )
        for address, port, remedy in plan.ports:
            if readiness.port_taken(address, port):
                raise CannotRun(f"port {port} on {address} is taken by another program: stop that, or {remedy}.")

    def _manage(self, *arguments: str) -> str:
        """Run a management command and return what it printed. Raises CannotRun with its last line."""
        log = self._plan.logs / f"{arguments[0]}.log"
        command = [str(self._plan.root / ".venv" / "bin" / "python"), str(self._plan.root / "manage.py"), *arguments]
        with log.open("wb") as err:
            done = subprocess.run(
                command,
                env=self._environment,
                cwd=self._plan.root,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=err,
                timeout=TOOL_SECONDS,
                start_new_session=True,
            )
        if done.returncode:
            raise CannotRun(
                f"manage.py {arguments[0]} failed: {last_line(log) or 'it said nothing'} (all of it: {log})"
            )
        return done.stdout.decode()

    def _wait(self, what: str, answers: Callable[[], bool]) -> None:
        assert self._supervisor is not None
        deadline = time.monotonic() + PART_SECONDS
        while not answers():
            reap(except_for=self._supervisor.pid)
            self._supervisor.check()
            if time.monotonic() > deadline:
                raise CannotRun(f"{what} did not answer within {PART_SECONDS:g} s: see {self._plan.logs}.")
            self._signals.wait(0.1)

    def _wait_for_the_vault(self, expect_lossless: bool, workers_began: float) -> dict[str, Any] | None:
        """Until the vault is lossless; not when an administrator's own wishes keep it from that, or a node waits for a person.

        The published row outlives a run: right after a restart it still says lossless while both databases start. So
        first the nodes themselves must do their work, and then what is recorded must come from this run's workers.
        """
        assert self._supervisor is not None
        deadline = time.monotonic() + LOSSLESS_SECONDS
        while True:
            reap(except_for=self._supervisor.pid)
            self._supervisor.check()
            at_work = readiness.pair_at_work(self._plan)
            status = readiness.vault_status(self._plan, self._environment)
            seen = status is not None and readiness.seen_within(status, time.monotonic() - workers_began)
            if not expect_lossless or (at_work and seen and status and status["state"] == "lossless"):
                return status
            if seen and status and (held := readiness.diverged(status)):
                self._say(f"The vault is not lossless: {held} has diverged. The console says what can be done.")
                return status
            if time.monotonic() > deadline:
                self._say(f"The vault is not lossless after {LOSSLESS_SECONDS:g} s; the console says why.")
                return status
            self._signals.wait(0.3)

    def _run_json(self, hosts: list[AgentConfig]) -> dict[str, Any]:
        return {
            "console": {"url": self._plan.url, "username": "admin", "password": self._secret("admin_password")},
            "nodes": [
                {
                    "hostname": host.hostname,
                    "ip": host.ip,
                    "agent_port": host.port,
                    "db_port": host.database_port,
                    "data_dir": str(host.data_dir),
                    "pid_file": str(host.pid_file),
                }
                for host in hosts
            ],
            "client": {
                "user": credentials.CLIENT_USER,
                "password": self._secret("client_password"),
                "database": credentials.CLIENT_DATABASE,
            },
        }

    def _announce(self, status: dict[str, Any] | None) -> None:
        state = f"{status['state']}{': ' + status['reason'] if status['reason'] else ''}" if status else "not known yet"
        self._say(
            f"\nReady after {time.monotonic() - self._began:.0f} s.\n"
            f"  Console   {self._plan.url}\n"
            f"  User      admin\n"
            f"  Password  {self._secret('admin_password')}   (the first one; a change in the console stays)\n"
            f"  Vault     {state}\n"
            f"  Logs      {self._plan.logs}\n"
            "Ctrl-C stops all of it."
        )

    def _secret(self, name: str) -> str:
        return (self._plan.secrets / name).read_text()


def environment(plan: Plan) -> dict[str, str]:
    """What every program gets. What the caller has set stays, but for what this run makes itself: its Redis, its
    certificates, its console without TLS. Secrets travel as file names, never as values.
    """
    given = {name: value for name, value in os.environ.items() if name != "VAULT_HA_REDIS_PASSWORD"}
    defaults = {"VAULT_HA_HOST_NAME": "demo-controller"}
    if "VAULT_HA_SECRET_KEY" not in given:
        defaults["VAULT_HA_SECRET_KEY_FILE"] = str(plan.secrets / "secret_key")
    return {
        **defaults,
        **given,
        "VAULT_HA_VAR": str(plan.var),
        "VAULT_HA_REDIS_URL": f"unix://{plan.sockets / 'redis.sock'}",
        "VAULT_HA_REDIS_PASSWORD_FILE": str(plan.secrets / "redis_password"),
        "VAULT_HA_PKI_DIR": str(plan.pki),
        "VAULT_HA_INSECURE_HTTP": "true",  # the console listens on loopback only
        "DJANGO_SETTINGS_MODULE": "sectona_ha.settings",
        "PYTHONUNBUFFERED": "1",
        MARK: str(plan.var),
    }


def _demo_arguments(plan: Plan, hosts: list[AgentConfig]) -> list[str]:
    arguments = ["--password-file", str(plan.secrets / "admin_password")]
    for host in hosts:
        arguments += ["--node", f"{host.hostname},{host.ip},{host.port},{host.database_port},{host.agent_id}"]
    return arguments


def _write_redis(plan: Plan) -> None:
    """Redis on a unix socket with a password, no TCP port, and under its own name: redis-tools holds the same binary."""
    programs = plan.var / "bin"
    programs.mkdir(mode=0o700, exist_ok=True)
    (plan.var / "redis").mkdir(mode=0o700, exist_ok=True)
    binary = shutil.which("redis-server") or shutil.which("redis-check-rdb")
    if binary is None:
        raise CannotRun("redis-server is missing and could not be installed: install redis-tools.")
    link = programs / "redis-server"
    link.unlink(missing_ok=True)
    link.symlink_to(Path(binary).resolve())
    lines = [
        "port 0",
        f"unixsocket {_quoted(plan.sockets / 'redis.sock')}",
        "unixsocketperm 700",
        f"requirepass {(plan.secrets / 'redis_password').read_text()}",
        f"dir {_quoted(plan.var / 'redis')}",
        "appendonly yes",
        'save ""',
        # A title of its own would overwrite the environment in which stop_remains finds this run's mark.
        "set-proc-title no",
        "maxmemory-policy noeviction",
        "daemonize no",
    ]
    credentials.write_private(plan.var / "redis.conf", "\n".join(lines) + "\n")


def _quoted(path: Path) -> str:
    escaped = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
