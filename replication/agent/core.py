"""The vault agent: wires the verbs to the real mariadbd, keeps it running in its role, and says how it is.

Threads: the loop watches and answers; one thread looks at the database; one carries out verbs; a fence has its own, so that
it never waits behind a statement that hangs; so has a primary's lease; one tries the disk.
"""

import asyncio
import contextlib
import logging
import shutil
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Final

from replication.agent.admin import AdminDoor, AdminProbe
from replication.agent.config import AgentConfig
from replication.agent.database import LocalSession
from replication.agent.disk import DiskProbe
from replication.agent.engines import local_database, server_process
from replication.agent.errors import CannotStart
from replication.agent.fence import FenceLane
from replication.agent.firewall import NftCut, why_no_nftables
from replication.agent.lease import PrimaryLease
from replication.agent.long_work import LongWork
from replication.agent.observer import Observer
from replication.agent.peers import peers_of
from replication.agent.places import remove
from replication.agent.probe import Probes
from replication.agent.startup import identity, memory, settle_data
from replication.agent.state import StateFile
from replication.agent.system import SystemClock, fresh_server_id
from replication.agent.verb_lane import VerbLane
from replication.core import limits
from replication.core.commands import Answer, Command, Verb
from replication.core.probe import ProbeAnswer, Target
from replication.core.report import PROTOCOL, DatabaseReport, NodeReport
from replication.core.roles import ProcessState
from replication.core.vault_ports import AgentState, Ports, StateError
from replication.core.version import VERSION
from replication.dialects.base import LocalDatabase
from replication.procedures.vault.lease import GrantRequest, grant_refusal
from replication.procedures.vault.revival import Revival

log = logging.getLogger(__name__)

VERB_READ_SECONDS: Final = 90
SWITCHING: Final = frozenset({Verb.OPEN, Verb.LOSSLESS, Verb.SOLO, Verb.FOLLOW, Verb.ACKER, Verb.DETACH})
"""Verbs that change what a report tells. The others are left out: a failover counts milliseconds."""
STOP_PATIENCE: Final = timedelta(seconds=20)


class VaultAgent:
    def __init__(self, config: AgentConfig) -> None:
        self.config = config
        self._version = time.time_ns() // 1_000_000  # an earlier agent's number must not look like ours
        self._version_lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._changed = asyncio.Event()
        self.state = StateFile(config.state_file, AgentState())
        self.process = server_process(config, self.state, self._bump)
        self.firewall = NftCut(config.agent_id, config.database_port, wanted=config.cut == "auto")
        self.admin = AdminDoor(config)
        self.admin_probe = AdminProbe(self.admin, self._bump)
        self._probes = Probes(config)
        self._session = LocalSession(
            config.socket, read_seconds=VERB_READ_SECONDS, server=self._server, spare=self.admin.connect
        )
        self._lane = VerbLane(
            config.hostname, self._session, self._ports, self._bump, self._carried_out, self._verb_ended
        )
        self.work = LongWork(
            config,
            self.process,
            state=lambda: self.state,
            seen=self._seen,
            database=self._database,
            between_verbs=self._lane.between,
            changed=self._bump,
        )
        self.observer = Observer(
            config, self.process.answered, self._bump, self._server, self.admin, self.admin_probe.look_again
        )
        self._fence = FenceLane(self.process, config.hostname)
        self._to_end: list[Callable[[], None]] = []
        self._tasks: list[asyncio.Task[None]] = []

    # --- life -----------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Read the state, find or start mariadbd, begin to watch. Raises CannotStart."""
        self._loop = asyncio.get_running_loop()
        self._identity = identity(self.config)
        self._remember()
        self.revival = Revival(SystemClock(), self.state, self.process, self._database(), log.warning)
        await self._loop.run_in_executor(self._lane.pool, self.work.tasks.resume)
        await self._loop.run_in_executor(self._lane.pool, self.work.tidy_up)
        await self._loop.run_in_executor(self._lane.pool, self._prepare_database)
        self.firewall.arm()
        if self.firewall.armed:
            self.admin.shield()
        self._begin_fences()
        self.observer.start()
        self._tasks = [asyncio.ensure_future(self._watch()), asyncio.ensure_future(self._revive())]

    def _remember(self) -> None:
        """Take up the state, or say what became of it."""
        state = memory(self.config, swapping=self.work.swap.pending)
        self.state = self.process.state = StateFile(self.config.state_file, state, self._bump)
        try:
            self.state.write()
        except StateError as error:
            raise CannotStart(str(error)) from error

    def _begin_fences(self) -> None:
        """Before anybody can ask: a primary whose lease ended while no agent ran is closed first."""
        config = self.config
        try:
            self.lease = PrimaryLease(
                config, self._identity.boot_id, self.state, self.process, self._bump, self._lane.pool.submit
            )
        except (OSError, ssl.SSLError) as error:
            raise CannotStart(f"the certificates in {config.pki_dir} cannot be used: {error}") from error
        self.disk = DiskProbe(config.home, self._bump)
        self._to_end = [self.lease.end, self.disk.end, self.work.sizes.end, self.admin_probe.end]
        self.lease.begin()
        self.disk.start()
        self.work.sizes.start()
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
        gone = not self.config.data_dir.is_dir() and not self.work.swap.pending
        settle_data(self.process, self.state, self.config.data_dir, gone=gone)

    async def close(self, *, stop_database: bool) -> None:
        """End the agent; mariadbd goes on unless it is to stop as well. Safe to call after a start that failed."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        # First: what has no way back needs its database for a moment.
        await asyncio.get_running_loop().run_in_executor(None, self.work.tasks.end)
        self.observer.end()
        self.process.end()
        await self._end_fences()
        self._session.abort()
        loop = asyncio.get_running_loop()
        for end in (self.work.comparer.end, self._lane.end, self._fence.end):
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
        await asyncio.get_running_loop().run_in_executor(None, self.work.tasks.end)
        await self._end_fences()
        loop = asyncio.get_running_loop()
        if not self.process.running():
            self.process.attach()
        self.process.end()
        # A start may be under way on the verbs' thread: it ends with the process, or is seen by the second kill.
        await loop.run_in_executor(None, self.process.kill)
        await loop.run_in_executor(self._lane.pool, self.process.kill)
        self.firewall.remove()
        for directory in (self.config.data_dir, self.config.salvage_dir, self.config.log_dir, self.config.tmp_dir):
            shutil.rmtree(directory, ignore_errors=True)
        for left_of_copies in self.work.swap.places.everything():
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
            if free and self.revival.due(verb_runs=bool(self._lane.verb), read_only=self.observer.read_only):
                try:
                    await self._loop.run_in_executor(self._lane.pool, self.revival.act)
                except Exception:  # whatever it was: the next try may succeed, a task that has ended never does
                    log.exception("bringing mariadbd back failed")
            await asyncio.sleep(0.05)

    # --- verbs ----------------------------------------------------------------------------------------------------

    def _server(self) -> object:
        return self.process.handle

    def _seen(self) -> DatabaseReport | None:
        return self.observer.report()

    def _database(self) -> LocalDatabase:
        return local_database(self.config, self._session)

    def _ports(self) -> Ports:
        return Ports(
            clock=SystemClock(),
            state=self.state,
            process=self.process,
            database=self._database(),
            firewall=self.firewall,
            tasks=self.work.tasks,
            server_ids=fresh_server_id,
        )

    async def execute(self, verb: Verb, command: Command) -> Answer:
        """Carry out one command. Raises StaleEpoch, StepFailed, or ValueError for bad arguments."""
        if "peers" in command.args:
            peers_of(command.args["peers"])
        if verb is Verb.FENCE:
            return await self._fence.carry_out(self._ports(), command)
        return await self._lane.carry_out(verb, command)

    def _carried_out(self, verb: Verb) -> None:
        if verb in SWITCHING:
            self.revival.directed()

    def _verb_ended(self, verb: Verb) -> None:
        if verb in SWITCHING and self.process.phase is ProcessState.UP:
            self.observer.catch_up()  # no report after the answer may say how it was before

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
            boot_id=self._identity.boot_id,
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
            verb=self._lane.verb,
            address_kind=self._identity.address_kind,
            certificate_subject=self._identity.certificate_subject,
            certificate_expires=self._identity.certificate_expires,
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
            task=self.work.tasks.report(),
            data_bytes=self.work.sizes.data_bytes,
            kept=self.work.swap.kept(),
        )
