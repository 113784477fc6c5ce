"""Be the target of a full copy: wait for it, unpack it beside the data, prepare it, put it in their place.

Until the swap nothing of the node changes: it goes on as it was, and whatever goes wrong leaves it so, and nothing on its disk.
"""

import errno
import fcntl
import logging
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final

from replication.agent.config import AgentConfig
from replication.agent.database import local_user
from replication.agent.durable import flush, write_json
from replication.agent.intake import BYTES, MBSTREAM_ENDED, STATE, STOPPED, USER, VERSION, Incoming, Intake, Refused
from replication.agent.places import move, read_note, remove
from replication.agent.swap import Fence, Journal, Stage, Swap
from replication.agent.tasks import Body, Recipe, Task, TaskFailed
from replication.core import limits
from replication.core.positions import GtidPosition, parse_list
from replication.core.tasks import NO_WAY_BACK, RebuildArgs, TaskKind, TaskOrder, TaskPhase, TaskReport
from replication.core.vault_ports import AgentState, TaskRefused

log = logging.getLogger(__name__)

MARGIN_BYTES: Final = 256 * 1024 * 1024
"""Beside the copy itself: redo log that comes with it, and room for the primary's next transactions."""
MEMORY_MIN: Final = 32 * 1024 * 1024
PIPE_BYTES: Final = 1024 * 1024
POLL_SECONDS: Final = 0.2
END_SECONDS: Final = 60
"""For mbstream to end after its last byte."""
DIES_WITH_US: Final = ("setpriv", "--pdeathsig", "KILL", "--") if shutil.which("setpriv") else ()
"""An agent that is killed must not leave a program behind that goes on writing where the next one tidies up."""
COMPLETED: Final = "completed OK!"
INFO_FILES: Final = ("xtrabackup_binlog_info", "mariadb_backup_binlog_info")
"""10.11 writes the first one, 11 the second."""
NOTE: Final = "vault-copy.json"
"""In a copy that is ready: whose it is and where it stands."""
FULL_DISK: Final = "is full"
FULL: Final = re.compile(r"No space left on device|Errcode: 28\b|errno: 28\b|error 28\b", re.IGNORECASE)


class Receive:
    """intake: where the server lets the source in. fresh_server_id: one that is none of the given."""

    def __init__(
        self,
        config: AgentConfig,
        intake: Intake,
        swap: Swap,
        state: Callable[[], AgentState],
        fresh_server_id: Callable[[list[int]], int],
        silence: float = limits.COPY_BEGIN.total_seconds(),
    ) -> None:
        self._config, self._intake, self._swap, self._state = config, intake, swap, state
        self._places, self._fresh_server_id, self._silence = swap.places, fresh_server_id, silence

    @property
    def recipe(self) -> Recipe:
        return Recipe(self.prepare, self.resume)

    def prepare(self, order: TaskOrder) -> Body:
        args = _arguments(order)
        self._check(args)
        fence = Fence.of(self._state())
        return lambda task: self._carry_out(task, args, fence)

    def resume(self, report: TaskReport) -> Body | None:
        swap, operation = self._swap, report.operation
        try:
            position = swap.position()
            stage = swap.take_up(operation)
            if stage is Stage.FORWARD:
                return swap.finish
            kept = swap.kept()
            if stage is Stage.COMPLETE or (kept is not None and kept.operation == operation):
                return lambda task: task.tell(position=report.position or position, replaced=True)
            journal = self._noted(operation) if report.phase in NO_WAY_BACK else None
        except (OSError, ValueError) as error:
            raise TaskFailed(f"what is left of it cannot be read: {error}") from error
        if journal is not None:
            return lambda task: swap.carry_out(task, journal)
        self._clean_up()
        if report.phase in NO_WAY_BACK:
            raise TaskFailed("the agent ended while the copy was put in its place; the data of before are there")
        return None

    @property
    def _programs(self) -> tuple[str, ...]:
        return self._config.mariadb_backup, self._config.mbstream

    # --- before it begins ---------------------------------------------------------------------------------------------

    def _check(self, args: RebuildArgs) -> None:
        """Raises TaskRefused."""
        places = self._places
        for program in self._programs:
            if not os.access(program, os.X_OK):
                raise TaskRefused(
                    f"{program} is missing on this host: install MariaDB's backup program (on Debian: apt install mariadb-backup)"
                )
        if places.data.is_symlink() or os.path.ismount(places.data):
            what = "a symbolic link" if places.data.is_symlink() else "a mount point of its own"
            raise TaskRefused(
                f"{places.data} is {what}, so a copy cannot take its place: stop the agent, mount the volume at {places.home}"
                " and move the data there"
            )
        if places.kept.exists() and self._swap.kept() is None:
            raise TaskRefused(
                f"{places.kept} holds data that no full copy has left there (a restore from a backup keeps there what was before it),"
                " and would be removed: move it away"
            )
        if places.journal.exists() and not places.data.exists():
            raise TaskRefused("an earlier copy has not been put in its place or back: restart this agent")
        try:
            remove(places.incoming)
            remove(places.ready)
            places.incoming.mkdir(mode=0o700)
            if places.data.exists() and places.data.stat().st_dev != places.incoming.stat().st_dev:
                raise TaskRefused(
                    f"{places.data} and {places.home} are on two file systems: a copy cannot take its place"
                )
            free = shutil.disk_usage(places.home).free
            places.incoming.rmdir()
        except OSError as error:
            raise TaskRefused(
                f"this agent cannot write to {error.filename or places.home} ({error.strerror}): "
                f"make {places.home} and what is in it the property of {local_user()}"
            ) from error
        against = self._no_room(args.source_bytes, free)
        if against:
            raise TaskRefused(against)

    def _no_room(self, size: int, free: int) -> str:
        lacks = size + MARGIN_BYTES - free
        if lacks <= 0:
            return ""
        return (
            f"the disk of {self._places.home} has {_mib(free)} free and the copy needs {_mib(size + MARGIN_BYTES)}, "
            f"beside the data that are there: make {_mib(lacks)} of room"
        )

    # --- the copy -----------------------------------------------------------------------------------------------------

    def _carry_out(self, task: Task, args: RebuildArgs, fence: Fence) -> None:
        operation = task.report.operation
        try:
            self._intake.open(operation, args.source_subject)
            task.tell(total=args.source_bytes)
            try:
                binlog_state = self._receive(task, args)
            finally:
                self._intake.close(Refused(410, "the target does not take this copy any more"))
            task.phase(TaskPhase.PREPARING)
            self._make_ready(task, binlog_state)
            journal = self._noted(operation, fence)
            if journal is None:
                raise TaskFailed("the copy that was just made ready is gone; nothing was changed")
            task.phase(TaskPhase.SWAPPING)
        except BaseException:
            self._clean_up()
            raise
        try:
            self._swap.carry_out(task, journal)
        except TaskFailed:
            if not self._swap.pending:
                self._clean_up()
            raise

    def _clean_up(self) -> None:
        for left in (self._places.incoming, self._places.ready):
            with suppress(OSError):
                remove(left)

    def _receive(self, task: Task, args: RebuildArgs) -> str:
        """Until all of it lies in `incoming`. Returns the gtid_binlog_state that the source had when it began."""
        incoming = self._wait_for(task, args)
        against = self._reason_against(incoming)
        if against:
            incoming.answer(Refused(409, against))
            raise TaskFailed(f"{against}; nothing was changed")
        task.phase(TaskPhase.TRANSFERRING, total=_number(incoming.headers.get(BYTES)) or args.source_bytes)
        self._places.incoming.mkdir(mode=0o700)
        arguments = [*DIES_WITH_US, self._config.mbstream, "-x", "-C", str(self._places.incoming)]
        with (
            self._words() as words,
            task.child(arguments, stdin=subprocess.PIPE, stdout=words, stderr=words) as mbstream,
        ):
            assert mbstream.stdin is not None
            with suppress(OSError):  # its default size will do
                fcntl.fcntl(mbstream.stdin, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
            incoming.begin(os.dup(mbstream.stdin.fileno()))
            mbstream.stdin.close()
            broke = self._follow(task, incoming)
            why = self._outcome(mbstream, broke, args.source_name)
        task.check()
        if why:
            incoming.answer(Refused(507 if FULL_DISK in why else 500, why))
            raise TaskFailed(f"{why}; nothing was changed")
        incoming.answer(None)
        return incoming.headers.get(STATE, "")

    def _wait_for(self, task: Task, args: RebuildArgs) -> Incoming:
        until = time.monotonic() + self._silence
        while time.monotonic() < until:
            task.check()
            incoming = self._intake.wait(POLL_SECONDS)
            if self._intake.failed:
                raise TaskFailed(f"the source {args.source_name} says: {self._intake.failed}; nothing was changed")
            if incoming is not None:
                return incoming
        raise TaskFailed(
            f"the source {args.source_name} has not begun within {self._silence:g} s: see what its agent says; nothing was changed"
        )

    def _reason_against(self, incoming: Incoming) -> str:
        mine, theirs = local_user(), incoming.headers.get(USER, "")
        if theirs != mine:
            return (
                f"the agents run as different users: the copy lets in {theirs or 'nobody'} over the socket, and this agent is {mine}:"
                " run both agents as the same user"
            )
        version = incoming.headers.get(VERSION, "")
        here = self._version()
        if _series(version) != _series(here) or _numbers(version) > _numbers(here):
            return (
                f"the source's database is version {version or 'unknown'} and this host's is {here}: a copy goes to the same"
                " series, and not to an older version; upgrade this host first"
            )
        # The source may have grown since it was ordered.
        return self._no_room(_number(incoming.headers.get(BYTES)), shutil.disk_usage(self._places.home).free)

    def _version(self) -> str:
        try:
            done = subprocess.run([self._config.mariadbd, "--version"], capture_output=True, check=False, timeout=10)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise TaskFailed(
                f"{self._config.mariadbd} does not tell its version: {error}; nothing was changed"
            ) from error
        found = re.search(r"Ver ([0-9][^ ]*)", done.stdout.decode(errors="replace"))
        return found[1] if found else ""

    def _follow(self, task: Task, incoming: Incoming) -> str:
        """Count until the stream has ended. Returns why it broke off, as a clause; "" when it is whole."""
        while True:
            broke = incoming.ended(POLL_SECONDS)
            task.count(incoming.received, max(task.report.total, incoming.received))
            if broke is not None:
                return broke
            if self._intake.failed:
                return "the source broke it off"
            if time.monotonic() - incoming.moved_at > self._silence:
                return f"nothing has moved for {self._silence:g} s after {incoming.received} bytes"

    def _outcome(self, mbstream: "subprocess.Popen[bytes]", broke: str, source: str) -> str:
        """Why it has failed, as a clause; "" when everything is unpacked."""
        if broke in ("", MBSTREAM_ENDED):
            try:
                code = mbstream.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                return f"mbstream has not ended {END_SECONDS} s after the last byte"
            if code or broke:
                return self._reason("the copy cannot be unpacked", code)
            return ""
        if FULL.search(self._said()):  # the source may hang up before mbstream has ended
            return self._reason("the copy cannot be unpacked", 1)
        return broke if broke == STOPPED else self._intake.why_it_broke(broke, source)

    # --- ready --------------------------------------------------------------------------------------------------------

    def _make_ready(self, task: Task, binlog_state: str) -> None:
        places = self._places
        self._prepare(task)
        try:
            position, binlog_state = self._stands_at(binlog_state)
            note = {"operation": task.report.operation, "position": position, "binlog_state": binlog_state}
            write_json(places.incoming / NOTE, note)
            self._flush(task, places.incoming)
            move(places.incoming, places.ready)
        except OSError as error:
            why = "the disk is full" if error.errno == errno.ENOSPC else f"{error.filename}: {error.strerror}"
            raise TaskFailed(f"the copy cannot be made ready: {why}; nothing was changed") from error
        except ValueError as error:
            raise TaskFailed(f"{error}; nothing was changed") from error

    def _stands_at(self, binlog_state: str) -> tuple[str, str]:
        """Position and gtid_binlog_state of the copy. Raises OSError or ValueError."""
        position = read_position(self._places.incoming)
        return position, state_at(binlog_state, position)

    def _prepare(self, task: Task) -> None:
        config, places = self._config, self._places
        arguments = [
            *DIES_WITH_US, config.mariadb_backup, "--no-defaults", "--prepare", f"--use-memory={memory_for(config.buffer_pool)}",
            f"--target-dir={places.incoming}",
        ]  # fmt: skip
        with (
            self._words() as words,
            task.child(arguments, stdin=subprocess.DEVNULL, stdout=words, stderr=words) as child,
        ):
            while child.poll() is None:
                task.check()
                with suppress(subprocess.TimeoutExpired):
                    child.wait(POLL_SECONDS)
            code = child.returncode
        task.check()
        if code or not self._said().rstrip().endswith(COMPLETED):
            raise TaskFailed(f"{self._reason('the copy cannot be prepared', code)}; nothing was changed")

    @staticmethod
    def _flush(task: Task, tree: Path) -> None:
        """Nothing of it may be in memory only when it takes the place of the data. Raises OSError."""
        for directory, _directories, files in os.walk(tree):
            for name in files:
                task.check()
                descriptor = os.open(os.path.join(directory, name), os.O_RDONLY)
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)
            flush(Path(directory))

    def _noted(self, operation: str, fence: Fence | None = None) -> Journal | None:
        """What is to be put in its place, when it is of this operation. Raises OSError or ValueError."""
        note = read_note(self._places.ready / NOTE)
        if note is None or note.get("operation") != operation:
            return None
        state, binlog_state = self._state(), str(note["binlog_state"])
        used = [state.server_id, *(gtid.server for gtid in parse_list(binlog_state))]
        return Journal(
            operation=operation,
            kind=TaskKind.RECEIVE,
            position=str(note["position"]),
            binlog_state=binlog_state,
            server_id=self._fresh_server_id(used),
            fence=fence or Fence.of(state),
        )

    # --- what the programs say ----------------------------------------------------------------------------------------

    @contextmanager
    def _words(self) -> Iterator[BinaryIO]:
        """Raises TaskFailed."""
        try:
            file = self._log_file.open("wb")
        except OSError as error:
            raise TaskFailed(f"{self._log_file} cannot be written: {error.strerror}; nothing was changed") from error
        with file:
            yield file

    @property
    def _log_file(self) -> Path:
        return self._config.log_dir / "copy.log"

    def _said(self) -> str:
        try:
            with self._log_file.open("rb") as text:
                text.seek(max(0, self._log_file.stat().st_size - 16384))
                return text.read().decode(errors="replace")
        except OSError:
            return ""

    def _reason(self, what: str, code: int) -> str:
        said = self._said()
        if FULL.search(said) or shutil.disk_usage(self._places.home).free < PIPE_BYTES:
            return f"{what}: the disk of {self._places.home} {FULL_DISK}"
        lines = [line for line in said.splitlines() if line.strip()]
        last = next(
            (line for line in reversed(lines) if re.search("error|fail|wrong|corrupt", line, re.IGNORECASE)), ""
        )
        how = f"ended by signal {-code}" if code < 0 else f"exit code {code}"
        return f"{what}: {last.strip() or f'see {self._log_file}'} ({how})"


def memory_for(buffer_pool: str) -> int:
    """Bytes for preparing a copy: a buffer pool like the database's own, but that one is still there; half of what is free at most."""
    unit = {"K": 2**10, "M": 2**20, "G": 2**30}.get(buffer_pool[-1], 1)
    wanted = int(buffer_pool.rstrip("KMG")) * unit
    with suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
        wanted = min(wanted, free // 2)
    return max(MEMORY_MIN, wanted)


def read_position(copy: Path) -> str:
    """The GTID position of a copy, from what mariadb-backup noted in it. Raises OSError or ValueError."""
    for name in INFO_FILES:
        try:
            fields = (copy / name).read_text().rstrip("\n").split("\t")
        except FileNotFoundError:
            continue
        position = fields[2].strip() if len(fields) > 2 else ""
        return str(GtidPosition.parse(position))
    raise ValueError("the copy does not tell its GTID position: the source's database writes no binary log")


def state_at(before: str, position: str) -> str:
    """The gtid_binlog_state of a copy. before: what the source had when the copy began; it lacks what came during it.

    Without the server_ids of earlier primaries, a node that knows them would be taken for diverged when it follows this one.
    Raises ValueError.
    """
    last = GtidPosition.parse(position).last
    older = {
        (gtid.domain, gtid.server): gtid
        for gtid in parse_list(before)
        if gtid.domain in last
        and gtid.sequence <= last[gtid.domain].sequence
        and gtid.server != last[gtid.domain].server
    }
    # MariaDB takes the last one of each domain for its position.
    return ",".join(map(str, (*older.values(), *last.values())))


def _arguments(order: TaskOrder) -> RebuildArgs:
    """Raises TaskRefused."""
    name, subject, size = (order.args.get(key) for key in ("source_name", "source_subject", "source_bytes"))
    if not isinstance(name, str) or not isinstance(subject, str) or not subject:
        raise TaskRefused("it was not told whom the copy comes from")
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise TaskRefused("it was not told how large the copy is")
    return RebuildArgs(source_name=name, source_subject=subject, source_bytes=size)


def _series(version: str) -> tuple[int, ...]:
    return _numbers(version)[:2]


def _numbers(version: str) -> tuple[int, ...]:
    found = re.match(r"(\d+)\.(\d+)\.(\d+)", version)
    return tuple(map(int, found.groups())) if found else ()


def _number(text: str | None) -> int:
    return int(text) if text is not None and text.isdecimal() else 0


def _mib(size: int) -> str:
    return f"{-(-size // 2**20)} MiB"
