"""`script/run` as a program under test: started, waited for, stopped, and looked for in every corner afterwards."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import MySQLdb

from replication.core import limits
from tests.stack import free_port
from tests.waiting import wait_for

ROOT: Final = Path(__file__).resolve().parent.parent
SCRIPT: Final = ROOT / "script" / "run"
READY_SECONDS: Final = 90
"""What is promised to a newcomer, once everything is installed."""
STOP_SECONDS: Final = 60
REFUSE_SECONDS: Final = 60


@contextlib.contextmanager
def script_run(addresses: Sequence[str], **environment: str) -> Iterator["ScriptRun"]:
    """A state directory of its own for any number of runs, one after the other; nothing of it is left at the end."""
    run = ScriptRun(Path(tempfile.mkdtemp(prefix="vha-")) / "var", addresses, environment)
    try:
        yield run
    finally:
        run.end()
        shutil.rmtree(run.var.parent, ignore_errors=True)


class ScriptRun:
    def __init__(self, var: Path, addresses: Sequence[str], environment: Mapping[str, str]) -> None:
        self.var, self.addresses = var, list(addresses)
        self.web_port = int(environment.get("VAULT_HA_WEB_PORT") or free_port())
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("VAULT_HA_", "DJANGO_"))},
            "VAULT_HA_WEB_PORT": str(self.web_port),
            "VAULT_HA_DEMO_ADDRESSES": " ".join(addresses),
            "VAULT_HA_VAR": str(var),
            **environment,
        }
        self.output: list[str] = []
        """Both streams, line by line; standard error marked with "! "."""
        self._process: subprocess.Popen[str] | None = None
        self._readers: list[threading.Thread] = []

    # --- one run

    def start(self, command: Sequence[str] = (str(SCRIPT),)) -> "ScriptRun":
        self.output.clear()
        self._process = subprocess.Popen(
            command, cwd="/", env=self.environment, text=True, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        streams = (("", self._process.stdout), ("! ", self._process.stderr))
        self._readers = [
            threading.Thread(target=lambda m=mark, s=stream: self.output.extend(m + line for line in s), daemon=True)
            for mark, stream in streams
        ]
        for reader in self._readers:
            reader.start()
        return self

    @property
    def process(self) -> "subprocess.Popen[str]":
        assert self._process is not None
        return self._process

    def wait_ready(self) -> dict[str, Any]:
        """The content of run.json, as soon as it is there."""

        def look() -> dict[str, Any] | None:
            if self.process.poll() is not None:
                raise RuntimeError(f"script/run ended with {self.process.returncode}\n{self.said()}")
            with contextlib.suppress(FileNotFoundError):
                found: dict[str, Any] = json.loads(self.run_file.read_text())
                return found
            return None

        return wait_for(look, READY_SECONDS, lambda: f"script/run is ready\n{self.said()}") or {}

    def wait_said(self, pattern: str) -> None:
        wait_for(lambda: re.search(pattern, self.said()), READY_SECONDS, lambda: f"it says {pattern}\n{self.said()}")

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait_ended(self, timeout: float = STOP_SECONDS) -> int:
        """Exit status; everything that it said is then in `output`."""
        try:
            status = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            logs = "\n".join(f"{log}:\n{log.read_text()[-3000:]}" for log in sorted(self.var.glob("log/*.log")))
            raise AssertionError(f"script/run did not end within {timeout:g} s\n{self.said()}\n{logs}") from None
        for reader in self._readers:
            reader.join(5)
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()
        return status

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.send(number)
        return self.wait_ended()

    def refusal(self, command: Sequence[str] = (str(SCRIPT),)) -> str:
        """Start it, expecting that it refuses: non-zero, and one line on standard error, which is returned."""
        status = self.start(command).wait_ended(REFUSE_SECONDS)
        complaints = [line.removeprefix("! ").strip() for line in self.output if line.startswith("! ")]
        assert status == 1, self.said()
        assert len(complaints) == 1, self.said()
        assert complaints[0].startswith("script/run: "), self.said()
        return complaints[0]

    def said(self) -> str:
        return "".join(self.output)

    # --- what it left and what it holds

    @property
    def run_file(self) -> Path:
        return self.var / "run.json"

    def processes(self) -> dict[int, str]:
        """Process id → command line, of everything that has the state directory in its environment or command line."""
        needle = str(self.var).encode()
        found = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                with contextlib.suppress(OSError):
                    command = (entry / "cmdline").read_bytes()
                    # A zombie has neither any more: it holds nothing but its number.
                    if needle in command or needle in (entry / "environ").read_bytes():
                        found[int(entry.name)] = command.replace(b"\0", b" ").decode(errors="replace")
        return found

    def listening(self) -> list[str]:
        """Which of its ports somebody listens on."""
        wanted = [("127.0.0.1", self.web_port)]
        wanted += [(ip, port) for ip in self.addresses for port in (limits.AGENT_PORT, limits.DATABASE_PORT)]
        found = []
        for address, port in wanted:
            with socket.socket() as probe:
                probe.settimeout(2)
                if probe.connect_ex((address, port)) == 0:
                    found.append(f"{address}:{port}")
        return found

    def nothing_runs(self) -> bool:
        """Asserts it, naming what there is."""
        assert not (left := self.processes()), left
        assert not (open_ := self.listening()), open_
        assert not self.run_file.exists()
        return True

    def manage(self, *arguments: str) -> str:
        """`script/manage`, as an administrator types it. Returns what it printed."""
        done = subprocess.run(
            [ROOT / "script" / "manage", *arguments],
            cwd="/",
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def vault(self) -> dict[str, Any]:
        vault: dict[str, Any] = json.loads(self.manage("vault_status", "--json"))["vaults"][0]
        return vault

    def end(self) -> None:
        """For every way out of a test: ask it to stop, then kill whatever is left, by number."""
        if self._process is not None and self._process.poll() is None:
            with contextlib.suppress(AssertionError):
                self.stop()
        if self._process is not None and self._process.poll() is None:
            self._process.kill()

        def gone() -> bool:
            left = self.processes()
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            return not left

        wait_for(gone, STOP_SECONDS, lambda: f"the processes of {self.var} end: {self.processes()}")


def connect(run_json: Mapping[str, Any], ip: str) -> Any:
    """A client of the vault, with what run.json says and nothing else."""
    port = next(node["db_port"] for node in run_json["nodes"] if node["ip"] == ip)
    client = run_json["client"]
    return MySQLdb.connect(
        host=ip, port=port, user=client["user"], passwd=client["password"], db=client["database"],
        autocommit=True, connect_timeout=5, read_timeout=20,
    )  # fmt: skip
