"""The processes of the pair under supervisord: its configuration, and starting them one after the other over its socket."""

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from supervisor.xmlrpc import SupervisorTransport

from .credentials import write_private
from .plan import WEB_ADDRESS, CannotRun, Plan
from .processes import Signals, reap

START_SECONDS: Final = 15.0
STOP_SECONDS: Final = 90.0
"""More than the programs' own stop times one after the other; then supervisord itself is killed."""
GIVEN_UP: Final = ("FATAL", "EXITED", "UNKNOWN")


@dataclass(frozen=True, kw_only=True)
class Program:
    name: str
    """`group:program`."""
    command: tuple[str, ...]
    priority: int
    """Started in this order, stopped in the opposite one, a group at a time."""
    stop_seconds: int

    @property
    def log_name(self) -> str:
        return self.name.rpartition(":")[2]


def programs(plan: Plan) -> list[Program]:
    """Order of priorities: Redis, vault hosts, web, workers. So workers stop first, and hand over in peace."""
    python = str(plan.root / ".venv" / "bin" / "python")
    manage = (python, str(plan.root / "manage.py"))
    agent = str(plan.root / "script" / "vault-agent")
    gunicorn = (python, "-m", "gunicorn", "sectona_ha.wsgi", "--bind", f"{WEB_ADDRESS}:{plan.web_port}")
    threads = ("--worker-class", "gthread", "--workers", "2", "--threads", "8", "--no-control-socket")
    rq = ("--serializer", "rq.serializers.JSONSerializer")
    return [
        Program(
            name="redis:redis",
            command=(str(plan.var / "bin" / "redis-server"), str(plan.var / "redis.conf")),
            priority=10,
            stop_seconds=5,
        ),
        *(
            Program(
                name=f"vault:{host.hostname}",
                command=(agent, "serve", "--home", str(host.home), "--stop-database"),
                priority=20,
                stop_seconds=40,
            )
            for host in plan.hosts
        ),
        Program(name="web:web", command=(*gunicorn, *threads, "--access-logfile", "-"), priority=30, stop_seconds=10),
        *(
            Program(
                name=f"worker:service-{slot}",
                command=(*manage, "runservice", "--slot", slot),
                priority=40,
                stop_seconds=15,
            )
            for slot in ("a", "b")
        ),
        Program(
            name="worker:housekeeping",
            command=(*manage, "runservice", "--service", "housekeeping"),
            priority=40,
            stop_seconds=15,
        ),
        # Two: a form that waits for the check of a new node finds one, also while a node is rebuilt for an hour.
        *(
            # What such a worker is at goes on after the next start, wherever it is killed: no reason to wait for its end.
            Program(name=f"worker:{name}", command=(*manage, "rqworker", queue, *rq), priority=40, stop_seconds=3)
            for name, queue in (("ops", "ops"), ("ops-2", "ops"), ("routine", "routine"))
        ),
    ]


def configuration(plan: Plan, chosen: list[Program]) -> str:
    """supervisord.conf. Nothing starts by itself: script/demo does, in order, each when the ones before are ready."""
    socket = plan.sockets / "supervisor.sock"
    lines = [
        "[supervisord]",
        f"logfile={_value(plan.logs / 'supervisord.log')}",
        f"pidfile={_value(plan.var / 'supervisord.pid')}",
        f"directory={_value(plan.root)}",
        "nodaemon=true",
        "silent=true",
        "umask=077",
        *(["user=root"] if os.getuid() == 0 else []),
        "[unix_http_server]",
        f"file={_value(socket)}",
        "chmod=0600",
        "[rpcinterface:supervisor]",
        "supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface",
        "[supervisorctl]",  # for who wants to stop one part alone: docs/reference/commands.md
        f"serverurl=unix://{_value(socket)}",
    ]
    for program in chosen:
        lines += [
            f"[program:{program.log_name}]",
            f"command={_value(shlex.join(program.command))}",
            f"stdout_logfile={_value(plan.logs / program.log_name)}.log",
            "stdout_logfile_maxbytes=10MB",
            "stdout_logfile_backups=2",
            "redirect_stderr=true",
            "autostart=false",
            "autorestart=true",
            "startsecs=1",
            "startretries=3",
            f"stopwaitsecs={program.stop_seconds}",
            "killasgroup=true",
        ]
    groups = {program.name.partition(":")[0]: program.priority for program in chosen}
    for group, priority in groups.items():
        members = [program.log_name for program in chosen if program.name.startswith(f"{group}:")]
        lines += [f"[group:{group}]", f"programs={','.join(members)}", f"priority={priority}"]
    return "\n".join(lines) + "\n"


def _value(text: object) -> str:
    """Supervisor expands %(name)s and cuts at " ;"."""
    escaped = str(text).replace("%", "%%")
    if "\n" in escaped or " ;" in escaped:
        raise CannotRun(f"the path {text!r} holds a line break or a semicolon: move the tree, or set VAULT_HA_VAR.")
    return escaped


class Supervisor:
    """One supervisord, our child. It gets SIGTERM from the kernel when we die, even by SIGKILL."""

    def __init__(self, plan: Plan, environment: Mapping[str, str], signals: Signals) -> None:
        """Start it and wait until it answers. Raises CannotRun."""
        self._plan, self._signals = plan, signals
        self._socket = plan.sockets / "supervisor.sock"
        self._socket.unlink(missing_ok=True)
        file = plan.var / "supervisord.conf"
        write_private(file, configuration(plan, programs(plan)))
        command = ["setpriv", "--pdeathsig", "TERM", sys.executable, "-m", "supervisor.supervisord", "-c", str(file)]
        with (plan.logs / "supervisord.out").open("wb") as out:
            # A session of its own: Ctrl-C in the terminal reaches only us, and we stop things in order.
            self._process = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise CannotRun(f"supervisord did not start: {last_line(plan.logs / 'supervisord.out')}.")
            signals.wait(0.05)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def start(self, group: str) -> None:
        """Start the programs of a group, without waiting for them."""
        self._rpc().supervisor.startProcessGroup(group, False)

    def check(self) -> None:
        """Raises CannotRun when a program has given up, with the last thing it said."""
        for name in self.given_up():
            log = self._plan.logs / f"{name}.log"
            raise CannotRun(f"{name} does not stay up: {last_line(log) or 'it said nothing'} (all of it: {log})")

    def given_up(self) -> list[str]:
        if not self.alive:
            raise CannotRun(f"supervisord ended: {last_line(self._plan.logs / 'supervisord.log')}.")
        try:
            found: Any = self._rpc().supervisor.getAllProcessInfo()
        except (OSError, xmlrpc.client.Error):
            return []  # busy or ending; the next look tells
        return [info["name"] for info in found if info["statename"] in GIVEN_UP]

    def stop(self) -> None:
        """Stop all programs in the opposite order of their start, and supervisord itself."""
        deadline = time.monotonic() + STOP_SECONDS
        if self.alive:
            self._process.send_signal(signal.SIGTERM)
        while self.alive:
            reap(except_for=self.pid)
            if time.monotonic() > deadline:
                self._process.kill()
            self._signals.wait(0.1)
        self._socket.unlink(missing_ok=True)

    def _answers(self) -> bool:
        try:
            return bool(self._rpc().supervisor.getState()["statename"] == "RUNNING")
        except (OSError, xmlrpc.client.Error):
            return False

    def _rpc(self) -> Any:
        transport = SupervisorTransport(None, None, serverurl=f"unix://{self._socket}")
        return xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport)


def last_line(log: Path) -> str:
    """The last line that is not blank, without the prefix that a Python traceback or a logger gives it."""
    with contextlib.suppress(OSError):
        lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
        return lines[-1].rstrip(".") if lines else ""
    return ""
