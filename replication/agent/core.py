"""The vault agent: wires the verbs to the real mariadbd, keeps it running in its role, and says how it is.

Threads: the loop watches and answers; one thread looks at the database; one carries out verbs; a fence has its own, so that
it never waits behind a statement that hangs; so has a primary's lease; one tries the disk.
"""

import asyncio
import contextlib
import logging
import secrets
import shutil
import ssl
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from replication import certificates
from replication.agent.address import address_kind
from replication.agent.admin import AdminDoor, AdminProbe
from replication.agent.backup import Backups
from replication.agent.binlogs import read_inventory
from replication.agent.compare import Comparer, Wish
from replication.agent.config import AgentConfig
from replication.agent.database import LocalSession
from replication.agent.disk import DiskProbe
from replication.agent.engines import WHAT_IS_MISSING, local_database, receiving, refusing, sending, server_process
from replication.agent.errors import CannotStart
from replication.agent.export import Exports
from replication.agent.fence import FenceLane
from replication.agent.firewall import NftCut, why_no_nftables
from replication.agent.intake import Intake
from replication.agent.lease import PrimaryLease
from replication.agent.mysql_export import MySqlExports
from replication.agent.observer import Observer
from replication.agent.peers import peers_of
from replication.agent.places import Places, remove
from replication.agent.probe import Probes
from replication.agent.sizes import Sizes
from replication.agent.state import StateDamaged, StateFile, load
from replication.agent.swap import Swap
from replication.agent.tasks import TaskRunner
from replication.agent.undo import Undo
from replication.core import limits
from replication.core.commands import Answer, Command, Verb
from replication.core.errors import StepFailed
from replication.core.gtid_ranges import GtidRanges, Inventory
from replication.core.probe import ProbeAnswer, Target
from replication.core.report import PROTOCOL, DatabaseReport, NodeReport
from replication.core.roles import OrderKind, ProcessState
from replication.core.tasks import REPLACES_DATA, TaskKind, TaskOrder, TaskReport
from replication.core.vault_ports import SERVER_ID_MAX, AgentState, Ports, ProcessError, StateError, TaskRefused
from replication.core.version import VERSION
from replication.dialects.base import LocalDatabase
from replication.procedures.vault.lease import GrantRequest, grant_refusal
from replication.procedures.vault.revival import Revival, remembered
from replication.procedures.vault.verbs import perform

log = logging.getLogger(__name__)

VERB_READ_SECONDS: Final = 90
SWITCHING: Final = frozenset({Verb.OPEN, Verb.LOSSLESS, Verb.SOLO, Verb.FOLLOW, Verb.ACKER, Verb.DETACH})
"""Verbs that change what a report tells. The others are left out: a failover counts milliseconds."""
BREAK_OFF_AFTER_SECONDS: Final = 0.3
"""After the deadline, and before the sender stops listening: a verb that keeps its time says better why it failed."""
STOP_PATIENCE: Final = timedelta(seconds=20)
DATA_GONE: Final = "its data directory is gone"


class SystemClock:
    """Implements core.vault_ports.Clock."""

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, duration: timedelta) -> None:
        time.sleep(duration.total_seconds())


def fresh_server_id(used: Sequence[int]) -> int:
    """A random server_id that is none of `used`."""
    while True:
        candidate = 1 + secrets.randbelow(SERVER_ID_MAX)
        if candidate not in used:
            return candidate


class VaultAgent:
    def __init__(self, config: AgentConfig) -> None:
        self.config = config
        self._version = time.time_ns() // 1_000_000  # an earlier agent's number must not look like ours
        self._version_lock = threading.Lock()
        self._verb = ""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._changed = asyncio.Event()
        self.state = StateFile(config.state_file, AgentState())
        self.process = server_process(config, self.state, self._bump)
        self.firewall = NftCut(config.agent_id, config.database_port, wanted=config.cut == "auto")
        self.admin = AdminDoor(config)
        self.admin_probe = AdminProbe(self.admin, self._bump)
        self._probes = Probes(config)
        self._comparer = Comparer(config.socket, self._side)
        self.tasks = TaskRunner(config.home, self._bump)
        Exports(config, self.tasks, lambda: self.process.phase is ProcessState.UP)
        self._reading_logs = asyncio.Lock()
        self.backups = Backups(config, lambda: self.state, self.process.running)
        self.tasks.register(TaskKind.BACKUP, self.backups.recipe(self._database_version))
        self.intake = Intake()
        self.swap = Swap(
            Places(config.home),
            self.process,
            lambda: self.state,
            self._database,
            self._on_the_verbs_thread,
            self._count_again,
        )
        receive = receiving(config)(config, self.intake, self.swap, self._memory, fresh_server_id)
        self.tasks.register(TaskKind.RECEIVE, receive.recipe)
        self.tasks.register(TaskKind.UNDO, Undo(self.swap, self._memory, fresh_server_id).recipe)
        self.sizes = Sizes(config.data_dir, self.swap.places.kept, self.swap.measured)

        def server() -> object:
            return self.process.handle

        sends = sending(config)(config, lambda: self.state, lambda: self.process.phase, server, self._seen)
        self.tasks.register(TaskKind.SEND, sends.recipe)
        if config.engine != "mariadb":
            for kind in WHAT_IS_MISSING:
                self.tasks.register(kind, refusing(kind, config.engine))
            self.tasks.register(TaskKind.EXPORT, MySqlExports(config, self.tasks).recipe)
        self.observer = Observer(
            config, self.process.answered, self._bump, server, self.admin, self.admin_probe.look_again
        )
        self._session = LocalSession(
            config.socket, read_seconds=VERB_READ_SECONDS, server=server, spare=self.admin.connect
        )
        self._verbs = ThreadPoolExecutor(1, thread_name_prefix="verbs")
        self._fence = FenceLane(self.process, config.hostname)
        self._busy = threading.Lock()
        self._running: Command | None = None
        self._to_end: list[Callable[[], None]] = []
        self._tasks: list[asyncio.Task[None]] = []

    # --- life -----------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Read the state, find or start mariadbd, begin to watch. Raises CannotStart."""
        self._loop = asyncio.get_running_loop()
        self._read_certificate()
        self._remember()
        self.revival = Revival(SystemClock(), self.state, self.process, self._database(), log.warning)
        await self._loop.run_in_executor(self._verbs, self.tasks.resume)
        await self._loop.run_in_executor(self._verbs, self._tidy_up)
        await self._loop.run_in_executor(self._verbs, self._prepare_database)
        self.firewall.arm()
        if self.firewall.armed:
            self.admin.shield()
        self._begin_fences()
        self.observer.start()
        self._tasks = [asyncio.ensure_future(self._watch()), asyncio.ensure_future(self._revive())]

    def _remember(self) -> None:
        """Take up the state, or say what became of it."""
        config = self.config
        kept, lost = None, ""
        try:
            kept = load(config.state_file)
            if kept is None and (config.data_dir.exists() or self.swap.pending):
                lost = f"the agent's memory {config.state_file} is lost"
        except StateDamaged as error:
            lost = f"the agent's memory is damaged: {error}"
        state = remembered(kept, lost, server_id=fresh_server_id([]))
        self.state = self.process.state = StateFile(config.state_file, state, self._bump)
        try:
            self.state.write()
        except StateError as error:
            raise CannotStart(str(error)) from error

    def _begin_fences(self) -> None:
        """Before anybody can ask: a primary whose lease ended while no agent ran is closed first."""
        config = self.config
        try:
            self.lease = PrimaryLease(config, self._boot_id, self.state, self.process, self._bump, self._verbs.submit)
        except (OSError, ssl.SSLError) as error:
            raise CannotStart(f"the certificates in {config.pki_dir} cannot be used: {error}") from error
        self.disk = DiskProbe(config.home, self._bump)
        self._to_end = [self.lease.end, self.disk.end, self.sizes.end, self.admin_probe.end]
        self.lease.begin()
        self.disk.start()
        self.sizes.start()
        self.admin_probe.start()
        if config.kernel_lease and not self.lease.gate.timed:
            log.error("there is no kernel lease, though this node was made with one: %s", why_no_nftables())

    async def _end_fences(self) -> None:
        for end in self._to_end:
            await asyncio.get_running_loop().run_in_executor(None, end)
        self._to_end = []

    def _prepare_database(self) -> None:
        self.process.check_installed()
        if self.process.attach():
            self.revival.take_up()
            return
        self.process.check_port()
        self._without_data(gone=not self.config.data_dir.is_dir() and not self.swap.pending)

    def _without_data(self, *, gone: bool) -> None:
        """A new node gets an empty database. A member of a vault does not: it would be opened by the order that the old data had,
        empty, while others hold everything. It stays down, so that its fallback takes over or it is rebuilt."""
        state = self.state.read()
        if gone and not state.vault:
            self.process.install()
        elif gone:
            log.error("%s %s", self.config.data_dir, DATA_GONE)
            if state.order_kind is OrderKind.NONE:
                self.state.hold(lambda now: replace(now, needs_rebuild=DATA_GONE))
        elif state.needs_rebuild == DATA_GONE:  # somebody has put it back
            self.state.hold(lambda now: replace(now, needs_rebuild=""))

    def _tidy_up(self) -> None:
        """What was under way when the last agent ended is taken up again, or nobody would."""
        task, places = self.tasks.report(), self.swap.places
        if task is None or not task.active or task.kind not in REPLACES_DATA:
            if self.swap.pending:
                self.swap.abandon()
            for left in (places.incoming, places.ready):
                if left.exists():
                    with contextlib.suppress(OSError):  # the next copy tries again
                        places.discard(left)
        places.tidy()

    def _read_certificate(self) -> None:
        certificate = certificates.load(self.config.pki_dir / "cert.pem")
        self._subject = certificates.subject_oneline(certificate)
        self._expires = certificates.expires(certificate).isoformat()
        self._address_kind = address_kind(self.config.ip)
        self._boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()

    async def close(self, *, stop_database: bool) -> None:
        """End the agent; mariadbd goes on unless it is to stop as well. Safe to call after a start that failed."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        # First: what has no way back needs its database for a moment.
        await asyncio.get_running_loop().run_in_executor(None, self.tasks.end)
        self.observer.end()
        self.process.end()
        await self._end_fences()
        self._session.abort()
        loop = asyncio.get_running_loop()
        for end in (self._comparer.end, self._verbs.shutdown, self._fence.end):
            await loop.run_in_executor(None, end)
        if stop_database:
            await loop.run_in_executor(None, self.process.stop, STOP_PATIENCE)
            self.firewall.remove()
        self._session.close()

    async def remove_data(self) -> None:
        """Stop mariadbd and remove data, memory, logs and copies."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        await asyncio.get_running_loop().run_in_executor(None, self.tasks.end)
        await self._end_fences()
        loop = asyncio.get_running_loop()
        if not self.process.running():
            self.process.attach()
        self.process.end()
        # A start may be under way on the verbs' thread: it ends with the process, or is seen by the second kill.
        await loop.run_in_executor(None, self.process.kill)
        await loop.run_in_executor(self._verbs, self.process.kill)
        self.firewall.remove()
        for directory in (self.config.data_dir, self.config.salvage_dir, self.config.log_dir, self.config.tmp_dir):
            shutil.rmtree(directory, ignore_errors=True)
        for left_of_copies in self.swap.places.everything():
            remove(left_of_copies)
        for file in (self.config.state_file, self.config.my_cnf, self.config.pid_file):
            file.unlink(missing_ok=True)

    # --- watching -------------------------------------------------------------------------------------------------

    async def _watch(self) -> None:
        """Every 10 ms: is it dying? Is an answer overdue?"""
        while True:
            if self.process.look():
                log.warning("mariadbd has died")
                self.revival.died(expected=self.process.expected_death)
            elif self.observer.late_for() > limits.PING_DEADLINE.total_seconds():
                self.process.late()
            self.disk.look()
            await asyncio.sleep(limits.PROCESS_TICK.total_seconds())

    async def _revive(self) -> None:
        """Bring mariadbd back in its role when that is due; on the verbs' thread, so that no verb is under way."""
        assert self._loop is not None
        while True:
            free = self.lease.may_be_open() and not self._fence.pending and not self.process.held
            if free and self.revival.due(verb_runs=bool(self._verb), read_only=self.observer.read_only):
                try:
                    await self._loop.run_in_executor(self._verbs, self.revival.act)
                except Exception:  # whatever it was: the next try may succeed, a task that has ended never does
                    log.exception("bringing mariadbd back failed")
            await asyncio.sleep(0.05)

    # --- verbs ----------------------------------------------------------------------------------------------------

    def _database(self) -> LocalDatabase:
        return local_database(self.config, self._session)

    def _ports(self) -> Ports:
        return Ports(
            clock=SystemClock(),
            state=self.state,
            process=self.process,
            database=self._database(),
            firewall=self.firewall,
            tasks=self.tasks,
            server_ids=fresh_server_id,
        )

    async def execute(self, verb: Verb, command: Command) -> Answer:
        """Carry out one command. Raises StaleEpoch, StepFailed, or ValueError for bad arguments."""
        if "peers" in command.args:
            peers_of(command.args["peers"])
        if verb is Verb.FENCE:
            return await self._fence.carry_out(self._ports(), command)
        waiting = self._verbs.submit(self._perform, verb, command, time.monotonic())
        answer = asyncio.wrap_future(waiting)
        await asyncio.wait({answer}, timeout=command.deadline + BREAK_OFF_AFTER_SECONDS)
        if not answer.done():
            if waiting.cancel():
                text = (
                    f"it was busy with {self._verb or 'starting its database'} until the time for this command was over"
                )
                raise StepFailed(self.config.hostname, verb.value, "busy", text)
            self._break_off(command)
        return await answer

    async def begin_task(self, order: TaskOrder) -> TaskReport:
        """Raises TaskRefused, or ValueError for arguments that make no sense."""
        return await asyncio.get_running_loop().run_in_executor(None, self.tasks.begin, order)

    async def cancel_task(self, operation: str) -> bool:
        """Whether it ends, or has ended; False when there is no way back, or it is not known here."""
        return self.tasks.cancel(operation)

    def _database_version(self) -> str:
        database = self.observer.report()
        return database.version if database is not None else ""

    async def remove_kept(self, operation: str) -> None:
        """Remove the data of before the full copy of this operation; done already is well. Raises TaskRefused."""
        await asyncio.get_running_loop().run_in_executor(None, self._remove_kept, operation)

    def _remove_kept(self, operation: str) -> None:
        kept, task = self.swap.kept(), self.tasks.report()
        if task is not None and task.active and task.kind in REPLACES_DATA:
            raise TaskRefused("the data of this host are being replaced: try again when that has ended")
        if kept is not None and kept.operation != operation:
            raise TaskRefused(f"what is kept here is of operation {kept.operation}, not of {operation}")
        try:
            self.swap.forget_kept(operation)
        except OSError as error:
            raise TaskRefused(f"the kept data cannot be removed: {error.strerror}") from error
        self._bump()

    # Not yet, or not for ever, what these name when they are handed out.

    def _count_again(self) -> None:
        self.sizes.look_again()

    def _memory(self) -> AgentState:
        return self.state.read()

    def _seen(self) -> DatabaseReport | None:
        return self.observer.report()

    def _on_the_verbs_thread(self, act: Callable[[], None]) -> None:
        """Run it while no verb does, and wait. What it raises passes through."""
        self._verbs.submit(act).result()

    async def task_result(self, operation: str) -> Mapping[str, Any] | None:
        return await asyncio.get_running_loop().run_in_executor(None, self.tasks.result, operation)

    async def transactions(self) -> Inventory:
        """What stands in the binary logs here. Raises ProcessError."""
        if self.config.engine == "mysql":
            seen = self.observer.report()
            if seen is None:
                raise ProcessError("its database has not said yet what it has executed")
            return Inventory((), GtidRanges(), executed=seen.gtid_binlog_pos)
        async with self._reading_logs:  # one at a time: it takes a processor
            return await asyncio.get_running_loop().run_in_executor(None, read_inventory, self.config.data_dir)

    async def compare(self, what: str, wish: Wish) -> Mapping[str, Any]:
        """A part of a comparison. Raises CannotCompare, or ValueError for what makes no sense."""
        return await self._comparer.answer(what, wish)

    def _side(self) -> tuple[bool, str]:
        """Whether it is the primary, and why it can be compared with nothing, or ""."""
        if self.config.engine != "mariadb":
            return False, f"comparisons are made between MariaDB servers, and this one is {self.config.engine}"
        state, seen = self.state.read(), self.observer.report()
        if self.process.phase is not ProcessState.UP or seen is None:
            return False, f"its database is {self.process.phase.value}"
        if state.order_kind is not OrderKind.NONE:
            return True, "it is closed to writes" if seen.read_only else ""
        return False, "" if seen.applier else "it does not follow now"

    def _note_peers(self, command: Command) -> None:
        """Whom to ask when the lease ends; only from a command that was accepted, even if it then failed."""
        peers = peers_of(command.args["peers"])
        state = self.state.read()
        if (state.vault, state.term, state.epoch) == (command.vault, command.term, command.epoch):
            try:
                self.state.write(peers=peers)
            except StateError as error:
                raise StepFailed(self.config.hostname, "peers", "state", str(error)) from error

    def _break_off(self, command: Command) -> None:
        """End the statement of this command, and of no other, if it still runs."""
        with self._busy:
            if self._running is command:
                self._session.abort()

    def _perform(self, verb: Verb, command: Command, received: float) -> Answer:
        with self._busy:
            self._running = command
            self._session.ready()
        self._verb = verb.value
        self._bump()
        left = max(0.0, command.deadline - (time.monotonic() - received))
        try:
            answer = perform(self._ports(), self.config.hostname, verb, replace(command, deadline=left))
            if verb in SWITCHING:
                self.revival.directed()
            return answer
        finally:
            with self._busy:
                self._running = None
                self._session.ready()
            if "peers" in command.args:
                self._note_peers(command)
            if verb in SWITCHING and self.process.phase is ProcessState.UP:
                self.observer.catch_up()  # no report after the answer may say how it was before
            self._verb = ""
            self._bump()

    # --- telling --------------------------------------------------------------------------------------------------

    def _bump(self) -> None:
        """Something changed that a long poll should report at once. From any thread."""
        with self._version_lock:
            self._version += 1
        loop = self._loop
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is gone when the agent ends
                loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def hello(self, since: int, seconds: float, echo: str, term: int) -> NodeReport:
        """As `wait_change`, for a controller: echo is the challenge of an earlier answer, or "". Answers with a fresh one."""
        self.lease.hello(echo, term)
        report = await self.wait_change(since, seconds)
        return replace(report, challenge=self.lease.challenge())

    def grant(self, request: GrantRequest) -> str:
        """Why this node does not grant; "" when it does."""
        return grant_refusal(self.state.read(), request)

    async def probe(self, targets: tuple[Target, ...], asker: str) -> ProbeAnswer:
        """What a controller wants to know of this host before another one joins. Raises AskedTooOften."""
        reached, data_bytes = await self._probes.look(targets, asker)
        database = self.observer.report() if self.process.phase is ProcessState.UP else None
        server_id = database.server_id if database is not None else None
        return ProbeAnswer(clock=time.time(), server_id=server_id, data_bytes=data_bytes, reached=reached)

    async def wait_change(self, since: int, seconds: float) -> NodeReport:
        """The report as soon as its version is not `since`, or after `seconds`."""
        changed = self._changed
        if since < 0 and self.process.phase is ProcessState.UP:
            # Who does not wait for a change wants to know how it is now, not at the last look.
            await asyncio.get_running_loop().run_in_executor(None, self.observer.catch_up)
        elif since == self._version and seconds > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await changed.wait()
        return self.report()

    def report(self) -> NodeReport:
        state, config = self.state.read(), self.config
        phase = self.process.phase
        database = self.observer.report() if phase in (ProcessState.UP, ProcessState.HUNG) else None
        return NodeReport(
            protocol=PROTOCOL,
            agent_version=VERSION,
            version=self._version,
            agent_id=config.agent_id,
            boot_id=self._boot_id,
            hostname=config.hostname,
            address=config.ip,
            database_port=config.database_port,
            vault=state.vault,
            node=state.node,
            term=state.term,
            epoch=state.epoch,
            order_kind=state.order_kind,
            order_epoch=state.order_epoch,
            primary_order_kind=state.primary_order_kind,
            primary_order_epoch=state.primary_order_epoch,
            process=phase,
            tainted=state.tainted,
            quarantine=state.quarantine or ("" if self.process.running() else self.revival.gave_up),
            needs_rebuild=state.needs_rebuild,
            restored=state.restored,
            verb=self._verb,
            address_kind=self._address_kind,
            certificate_subject=self._subject,
            certificate_expires=self._expires,
            disk_free_bytes=self.disk.free_bytes,
            disk_error=self.disk.error,
            challenge="",
            lease_left=self.lease.left,
            closed_by_lease=self.lease.closed,
            purge_command=config.purge_command,
            fences=(
                "sigkill",
                *(("nftables-cut",) if self.firewall.armed else ()),
                *(("admin-port",) if self.admin_probe.works else ()),
                *self.lease.fences,
            ),
            database=database,
            task=self.tasks.report(),
            data_bytes=self.sizes.data_bytes,
            kept=self.swap.kept(),
        )
