"""The local mariadbd as a process: make its data directory, start it closed, watch it die, kill it.

It runs in a session of its own and outlives the agent; a restarted agent finds it by the option file on its command line.
"""

import contextlib
import errno
import logging
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import BinaryIO, Final

from replication.agent import mycnf, relaylog, salvage
from replication.agent.admin import AdminDoor
from replication.agent.config import AgentConfig
from replication.agent.database import LocalSession, local_user
from replication.agent.errors import CannotStart
from replication.agent.proc import ProcessHandle, find_mariadbd, still_dying
from replication.core.roles import ProcessState
from replication.core.vault_ports import BootRole, DatabaseError, ProcessError, RelayTransaction, State

log = logging.getLogger(__name__)

START_POLL_S: Final = 0.02
GONE_S: Final = 30
"""How long a killed mariadbd may take to give its memory, files and port back."""
LOG_BYTES_MAX: Final = 16 * 1024 * 1024
FREE_BYTES_MIN: Final = 256 * 1024 * 1024
"""A new data directory takes about 130 MB."""


class Mariadbd:
    """Implements core.vault_ports.Process. `changed` is called after each change of `phase`, on any thread."""

    def __init__(self, config: AgentConfig, state: State, changed: Callable[[], None]) -> None:
        self.config, self.state, self.changed = config, state, changed
        self.phase = ProcessState.DOWN
        self.handle: ProcessHandle | None = None
        self.started_at = 0.0
        self.expected_death = False
        """We killed it ourselves; not a crash."""
        self.died_in_service = False
        """It had answered before it died; one that does not even start says nothing new by dying again."""
        self.held = ""
        """Why it must not be started now, as a sentence: its data directory is being put in the place of another."""
        self._ending = threading.Event()
        self._child: subprocess.Popen[bytes] | None = None
        self._lock = threading.RLock()

    # --- the port's side (verbs' thread; kill also from the fence's thread) -------------------------------------------

    def running(self) -> bool:
        handle = self.handle
        return handle is not None and not handle.dying()

    def start(self, role: BootRole, deadline: timedelta) -> None:
        until = time.monotonic() + deadline.total_seconds()
        self._wait_for_the_old_one(until)
        with self._lock:
            if not self.running():
                # Under the lock that kill() takes: a fence comes either before this look or finds the new process.
                if self.state.read().fenced:
                    raise ProcessError("mariadbd is fenced: it stays down until an order with a higher epoch")
                if self.held:
                    raise ProcessError(self.held)
                self._spawn(role)
        self._wait_until_it_answers(until)
        if role is BootRole.REPLICA:
            with contextlib.suppress(OSError):  # the copies stay then
                salvage.judge(self.config.data_dir, self.config.salvage_dir)

    def kill(self) -> None:
        with self._lock:
            handle = self.handle
            self.expected_death = True
            if handle is not None:
                handle.signal(signal.SIGKILL)
        if handle is not None and not handle.wait(GONE_S):
            raise ProcessError(f"mariadbd (process {handle.pid}) was killed but is not gone after {GONE_S} s")
        self.look()

    def save_binary_logs(self) -> str:
        if self.running():
            raise ProcessError("the binary logs are copied only while mariadbd is down")
        return salvage.save_binary_logs(self.config.data_dir, self.config.salvage_dir)

    def relay_log(self) -> Iterator[RelayTransaction]:
        return relaylog.transactions(self.config.data_dir)

    # --- the agent's side ---------------------------------------------------------------------------------------------

    def attach(self) -> bool:
        """Find a mariadbd that an earlier agent started. Returns whether there is one."""
        pid = find_mariadbd(self.config.my_cnf)
        if pid is None:
            return False
        try:
            handle = ProcessHandle(pid)
        except ProcessLookupError:
            return False
        self._hold(handle)
        return self.running()

    def stop(self, patience: timedelta) -> None:
        """A clean shutdown: SIGTERM, then SIGKILL when it takes longer than `patience`. Raises ProcessError."""
        with self._lock:
            handle = self.handle
            self.expected_death = True
        if handle is None:
            return
        handle.signal(signal.SIGTERM)
        if not handle.wait(patience.total_seconds()):
            log.warning("mariadbd did not stop within %s: killing it", patience)
            self.kill()
        self.look()

    def look(self) -> bool:
        """Notice a death. Cheap: called every few milliseconds. Returns whether it has died since the last look."""
        handle = self.handle
        if handle is None or self.phase in (ProcessState.DEAD, ProcessState.DOWN):
            if handle is not None and handle.exited():
                self._reap()
            return False
        if not handle.dying():
            return False
        self.died_in_service = self.phase is not ProcessState.STARTING
        self._set(ProcessState.DEAD)
        return True

    def end(self) -> None:
        """The agent ends: whoever waits for a start gives up. mariadbd itself is left alone."""
        self._ending.set()

    def answered(self) -> None:
        """SQL has answered."""
        if self.phase in (ProcessState.STARTING, ProcessState.HUNG) and self.running():
            self._set(ProcessState.UP)

    def late(self) -> None:
        """SQL has not answered within the deadline."""
        if self.phase is ProcessState.UP:
            self._set(ProcessState.HUNG)

    def check_installed(self) -> None:
        """Raises CannotStart when a program is missing."""
        for program in (self.config.mariadbd, self.config.install_db):
            if not os.access(program, os.X_OK):
                raise CannotStart(
                    f"{program} is missing: install the MariaDB server (on Debian: apt install mariadb-server-core)"
                )

    def check_port(self) -> None:
        """Raises CannotStart when the database's address cannot be used."""
        ip, port = self.config.ip, self.config.database_port
        family = socket.AF_INET6 if ":" in ip else socket.AF_INET
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((ip, port))
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    raise CannotStart(
                        f"port {port} on {ip} is taken by another program: stop that, or choose another database port"
                    ) from error
                raise CannotStart(f"{ip}:{port} cannot be used for the database: {error.strerror}") from error

    def install(self) -> None:
        """Make an empty data directory. Raises CannotStart.

        Without a binary log, so that every fresh node starts with an empty GTID state, and at once complete: a directory
        under its final name is a finished one.
        """
        config, scratch = self.config, self.config.home / "data.new"
        free = shutil.disk_usage(config.home).free
        if free < FREE_BYTES_MIN:
            raise CannotStart(
                f"the disk of {config.home} has {free // 2**20} MiB free, a new database needs {FREE_BYTES_MIN // 2**20}: "
                "make room, then start again"
            )
        shutil.rmtree(scratch, ignore_errors=True)
        done = subprocess.run(
            [
                config.install_db,
                "--no-defaults",
                "--force",
                "--skip-test-db",
                "--auth-root-authentication-method=socket",
                f"--auth-root-socket-user={local_user()}",
                f"--datadir={scratch}",
                f"--user={local_user()}",
                "--skip-log-bin",
            ],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            env={**os.environ, "TMPDIR": str(config.tmp_dir)},
        )
        if done.returncode:
            text = (done.stderr + done.stdout).decode(errors="replace")
            shutil.rmtree(scratch, ignore_errors=True)
            said = last_error(text) or " ".join(text.split()[-40:])
            raise CannotStart(f"the database could not be initialised (exit code {done.returncode}): {said}")
        scratch.rename(config.data_dir)

    # --- inside -------------------------------------------------------------------------------------------------------

    def _spawn(self, role: BootRole) -> None:
        config = self.config
        if not config.data_dir.is_dir():
            raise ProcessError(f"the data directory {config.data_dir} is gone: restore it, or purge this node")
        try:
            mycnf.write(config, self.state.read().server_id)
            output = self._open_log()
        except OSError as error:
            raise ProcessError(f"mariadbd cannot be started: {error.strerror} ({error.filename})") from error
        arguments = self._arguments(role)
        with output:
            try:
                child = subprocess.Popen(
                    arguments,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    cwd=config.data_dir,
                    start_new_session=True,
                )
            except OSError as error:
                raise ProcessError(f"{config.mariadbd} cannot be started: {error.strerror}") from error
        self._child = child
        self.expected_death = False
        self._hold(ProcessHandle(child.pid))
        log.info("%s started as %s, process %s", Path(config.mariadbd).name, role.value, child.pid)

    def _arguments(self, role: BootRole) -> list[str]:
        return [self.config.mariadbd, f"--defaults-file={self.config.my_cnf}", f"--init-rpl-role={role.value}"]

    def _hold(self, handle: ProcessHandle) -> None:
        with self._lock:
            self.handle = handle
            self.started_at = time.monotonic()
            self._set(ProcessState.STARTING)

    def _wait_for_the_old_one(self, until: float) -> None:
        old = self.handle
        if old is not None and old.dying() and not old.wait(until - time.monotonic()):
            raise ProcessError(f"the former mariadbd (process {old.pid}) is not gone yet")
        if old is None and (stranger := still_dying(self.config.pid_file)) is not None:
            stranger.wait(until - time.monotonic())
        self._reap()

    def _wait_until_it_answers(self, until: float) -> None:
        session = LocalSession(self.config.socket, read_seconds=1, spare=AdminDoor(self.config).connect)
        try:
            while True:
                handle = self.handle
                if handle is None or handle.dying():
                    self.look()
                    raise ProcessError(f"mariadbd ended while starting: {self._reason()}")
                with contextlib.suppress(DatabaseError):
                    session.rows("SELECT 1")
                    self.answered()
                    return
                if time.monotonic() >= until:
                    raise ProcessError("mariadbd is still starting; it may be recovering from a crash")
                if self._ending.wait(START_POLL_S):
                    raise ProcessError("mariadbd is still starting while the agent ends")
        finally:
            session.close()

    def _reap(self) -> None:
        child = self._child
        if child is not None and child.poll() is not None:
            self._child = None

    def _set(self, phase: ProcessState) -> None:
        if phase is not self.phase:
            self.phase = phase
            self.changed()

    @property
    def error_log(self) -> str:
        return str(self._log_file)

    @property
    def _log_file(self) -> Path:
        return self.config.log_dir / "mariadbd.log"

    def _open_log(self) -> BinaryIO:
        path = self._log_file
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_size > LOG_BYTES_MAX:
                path.replace(path.with_name("mariadbd.log.1"))
        return path.open("ab")

    def _reason(self) -> str:
        """The last error that mariadbd wrote, for the sentence that the operator reads."""
        try:
            with self._log_file.open("rb") as text:
                text.seek(max(0, self._log_file.stat().st_size - 16384))
                return last_error(text.read().decode(errors="replace")) or f"see {self.error_log}"
        except OSError:
            return f"see {self.error_log}"


def last_error(text: str) -> str:
    """The first error of the last start in a log of mariadbd: what follows it is mostly its consequence."""
    lines = text.splitlines()
    errors = [line for line in lines if "[ERROR]" in line and "Aborting" not in line]
    full = [line for line in lines if "No space left" in line or "Errcode: 28" in line]
    chosen = full[-1] if full else (errors[-1] if errors else "")
    return chosen.partition("[ERROR]")[2].strip() or chosen.strip()
