"""One vault host: the real verbs on greenlets, the agent's own watching and telling around them, and a disk that remembers.

It does what replication/agent/core.py, observer.py and process.py do with threads. Looks at the database are made every
100 ms there; here when something has changed, up to 100 ms later, and that is the same seen from outside.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, Protocol

from replication.core import limits
from replication.core.commands import Answer, Command, Verb
from replication.core.errors import ReplicationError, StaleEpoch, StepFailed
from replication.core.report import PROTOCOL, DatabaseReport, NodeReport
from replication.core.roles import ProcessState
from replication.core.vault_ports import (
    AgentState,
    BootRole,
    Database,
    DatabaseError,
    Ports,
    Process,
    ProcessError,
    RelayTransaction,
    StateError,
)
from replication.core.version import VERSION
from replication.dialects.mariadb import Observation
from replication.procedures.vault.lease import grant_refusal
from replication.procedures.vault.revival import Revival
from replication.procedures.vault.verbs import perform
from tests.simulation.copies import DATA_BYTES, SimTasks
from tests.simulation.disk import SimState
from tests.simulation.kernel import Kernel, Program
from tests.simulation.lease import SimLease

if TYPE_CHECKING:
    from tests.simulation.host import VaultHost

LOOK: Final = limits.PING_INTERVAL.total_seconds()
BREAK_OFF_AFTER: Final = 0.3
SWITCHING: Final = frozenset({Verb.OPEN, Verb.LOSSLESS, Verb.SOLO, Verb.FOLLOW, Verb.ACKER, Verb.DETACH})
REVIVE_EVERY: Final = 0.05
STUCK: Final = 0.5


class Session(Database, Protocol):
    """A connection of the agent's."""

    def abort(self) -> None:
        """From elsewhere: the call that blocks now raises DatabaseError(0, …) at once, and so does every later one."""
        ...

    def ready(self) -> None:
        """Take back an abort."""
        ...


class Server(Protocol):
    """What an agent needs of the simulated mariadbd (tests/simulation/mariadbd.py)."""

    process: Process
    address: str
    firewall: Any

    @property
    def alive(self) -> bool:
        """The process exists, frozen or not."""
        ...

    @property
    def ready(self) -> bool:
        """SQL answers now: neither starting nor frozen."""
        ...

    frozen: bool

    def connect_session(self) -> Session: ...

    def observe(self) -> Observation:
        """At once; only while it is ready."""
        ...

    def heard_at(self) -> float | None:
        """When the receiver last heard its source, to the heartbeat; None when it never did since it was started."""
        ...

    def watch(self, changed: Callable[[], None]) -> None:
        """`changed` is called, by the kernel, when it starts, dies, freezes or thaws, and when one of the switches, the
        streams or the waiting commits change. Replaces the last watcher."""
        ...


@dataclass(frozen=True)
class Ages:
    streaming_since: float | None = None
    stuck_since: float | None = None


class Worker:
    """A thread that does one thing after the other."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._waiting: deque[Job] = deque()
        self._runs = False

    def submit(self, work: Callable[[], Any]) -> "Job":
        job = Job(work, self._program.kernel.create_future())
        self._waiting.append(job)
        if not self._runs:
            self._runs = True
            self._program.run(self._go)
        return job

    def _go(self) -> None:
        while self._waiting:
            job = self._waiting.popleft()
            if job.cancelled:
                continue
            job.begun = True
            try:
                result = job.work()
            except Exception as error:  # belongs to who waits for it, if anybody still does
                if not job.done.done():
                    job.done.set_exception(error)
                    job.done.exception()
            else:
                if not job.done.done():
                    job.done.set_result(result)
        self._runs = False


@dataclass(eq=False)
class Job:
    work: Callable[[], Any]
    done: "asyncio.Future[Any]"
    begun: bool = False
    cancelled: bool = False

    def cancel(self) -> bool:
        """False when it has begun."""
        self.cancelled = not self.begun
        return self.cancelled


class VaultAgent:
    """One run of the agent."""

    def __init__(self, host: "VaultHost") -> None:
        self.host, self.kernel, self.server = host, host.kernel, host.server
        self.program = host.kernel.program(f"agent of {host.name}")
        self.state = SimState(host.disk, self.program, self._state_changed)
        self.session = host.server.connect_session()
        self.process = WatchedProcess(self)
        self.tasks = SimTasks(self)
        self.run = next(host.runs)
        clock = VaultClock(self.kernel)
        self.revival = Revival(clock, self.state, self.process, self.session, host.said)
        self.open_requests: list[tuple[str, asyncio.Future[Any]]] = []
        self._version = int(host.kernel.now * 1000)
        self._changed = asyncio.Event()
        self._verbs, self._fences = Worker(self.program), Worker(self.program)
        self._fence: Job | None = None
        self.lease = SimLease(self, self._verbs.submit)
        self._verb = ""
        self._running: Command | None = None
        self._seen: Observation | None = None
        self._seen_at = -1.0
        self._ages = Ages()
        self._look_is_due = False
        self._told_stuck = False

    def start(self) -> None:
        self.server.watch(self._server_changed)
        self.program.spawn(self._live())

    async def _live(self) -> None:
        await _result(self._verbs.submit(self._prepare))
        self.program.run(self.lease.run)
        self._server_changed()
        while True:
            fenced = self._fence is not None and not self._fence.done.done()
            read_only = self._seen.switches.read_only if self._seen is not None else None
            due = not fenced and self.revival.due(verb_runs=bool(self._verb), read_only=read_only)
            if due and self.lease.may_be_open():
                await _result(self._verbs.submit(self.revival.act))
            await asyncio.sleep(REVIVE_EVERY)

    def _prepare(self) -> None:
        """Find a mariadbd that an earlier agent started, with the data that it is to have."""
        self.tasks.resume()
        if self.process.attach():
            self.revival.take_up()

    # --- watching -------------------------------------------------------------------------------------------------

    def _server_changed(self) -> None:
        """Something happened to mariadbd: it is noticed at the next look."""
        if not self.server.alive:
            self.kernel.later(0.01 * self.host.rng.random(), self.program, self._notice_death)
        if not self._look_is_due:
            self._look_is_due = True
            self.kernel.later(LOOK * self.host.rng.random(), self.program, self._look)

    def _notice_death(self) -> None:
        if self.process.look():
            self.revival.died(expected=self.process.expected_death)

    def _look(self) -> None:
        self._look_is_due = False
        if self.server.frozen:
            self.kernel.later(limits.PING_DEADLINE.total_seconds(), self.program, self._late)
        if not self.server.ready:
            return
        before = self._seen
        self._observe()
        seen, now = self._seen, self.kernel.now
        assert seen is not None
        self.process.answered()
        stuck = self._ages.stuck_since is not None and now - self._ages.stuck_since > STUCK
        if before is None or _striking(before) != _striking(seen) or stuck != self._told_stuck:
            self._told_stuck = stuck
            self._bump()
        if seen.switches.waiting_sessions and not self._look_is_due:
            self._look_is_due = True
            self.kernel.later(LOOK, self.program, self._look)

    def _late(self) -> None:
        if self.server.frozen:
            self.process.late()

    def _observe(self) -> None:
        now, before = self.kernel.now, self._seen
        seen = self._seen = self.server.observe()
        self._seen_at = now
        closed_by, epoch = self.host.closed_by
        if closed_by and not seen.switches.read_only and self.state.read().order_epoch <= epoch:
            self.host.violated(f"{self.host.name} is open after {closed_by} and before any later order")
        streaming = seen.replica is not None and seen.replica.streaming
        waits = seen.switches.waiting_sessions > 0
        moved = before is None or before.acknowledged != seen.acknowledged
        ages = self._ages
        self._ages = Ages(
            streaming_since=(ages.streaming_since or now) if streaming else None,
            stuck_since=None if not waits else now if moved or ages.stuck_since is None else ages.stuck_since,
        )

    def forget_what_was_seen(self) -> None:
        """Another run of mariadbd: what was seen of the last one is never told of it."""
        self._seen, self._ages = None, Ages()

    # --- requests -------------------------------------------------------------------------------------------------

    async def serve(self, sender: str, what: tuple[Any, ...], answer: "asyncio.Future[Any]") -> None:
        request = sender, answer
        self.open_requests.append(request)
        try:
            if what[0] == "hello":
                _, since, seconds, echo, term, sent = what
                self.lease.hello(echo, term, sent)
                report = await self._wait_change(since, seconds)
                result: Any = replace(report, challenge=self.lease.challenge())
            elif what[0] == "cancel":
                result = self.tasks.cancel(what[1])
            elif what[0] == "grant":
                result = grant_refusal(self.state.read(), what[1])
            else:
                result = await self.execute(what[1], what[2])
        except ReplicationError as error:
            result = error
        changes = what[0] == "command" and what[1] is not Verb.PROMISE
        if changes and not isinstance(result, StaleEpoch) and self.state.read().epoch == what[2].epoch:
            self.host.obeyed(what[3], what[2].epoch)
        self.open_requests.remove(request)
        self.host.reply(sender, answer, result)

    async def execute(self, verb: Verb, command: Command) -> Answer:
        if verb is Verb.FENCE:
            self._fence = self._fences.submit(lambda: perform(self._ports(), self.host.name, verb, command))
            answer: Answer = await _result(self._fence)
            self.host.closed_by = verb.name, command.epoch
            return answer
        received = self.kernel.now
        job = self._verbs.submit(lambda: self._perform(verb, command, received))
        await asyncio.wait({job.done}, timeout=command.deadline + BREAK_OFF_AFTER)
        if not job.done.done():
            if job.cancel():
                raise StepFailed(self.host.name, verb.value, "busy", "it was busy until the time was over")
            if self._running is command:
                self.session.abort()
        answer = await job.done
        if verb is Verb.CLOSE:
            self.host.closed_by = verb.name, command.epoch
        return answer

    def _perform(self, verb: Verb, command: Command, received: float) -> Answer:
        self._running = command
        self.session.ready()
        self._verb = verb.value
        self._bump()
        left = max(0.0, command.deadline - (self.kernel.now - received))
        try:
            answer = perform(self._ports(), self.host.name, verb, replace(command, deadline=left))
            if verb in SWITCHING:
                self.revival.directed()
            return answer
        finally:
            self._running = None
            self.session.ready()
            if "peers" in command.args:
                self._note_peers(command)
            if self.server.ready:
                with contextlib.suppress(DatabaseError):  # it died this moment: the next look says so
                    self._observe()
            self._verb = ""
            self._bump()

    def _note_peers(self, command: Command) -> None:
        state = self.state.read()
        if (state.vault, state.term, state.epoch) == (command.vault, command.term, command.epoch):
            try:
                self.state.write(peers=tuple(command.args["peers"]))
            except StateError as error:
                raise StepFailed(self.host.name, "peers", "state", str(error)) from error

    def _ports(self) -> Ports:
        ports = Ports(
            clock=VaultClock(self.kernel),
            state=self.state,
            process=self.process,
            database=self.session,
            firewall=self.server.firewall,
            tasks=self.tasks,
            server_ids=self._fresh_server_id,
        )
        return self.host.fused(ports)

    def _fresh_server_id(self, used: Sequence[int]) -> int:
        while True:
            candidate = 1 + self.host.rng.randrange(2**32 - 1)
            if candidate not in used:
                return candidate

    # --- telling --------------------------------------------------------------------------------------------------

    def _state_changed(self, before: AgentState, after: AgentState) -> None:
        self.host.state_changed(before, after)
        self.lease.woken.fire()
        self._bump()

    def bump(self) -> None:
        self._bump()

    def _bump(self) -> None:
        self._version += 1
        self._changed.set()
        self._changed = asyncio.Event()

    async def _wait_change(self, since: int, seconds: float) -> NodeReport:
        changed = self._changed
        if since < 0 and self.process.phase is ProcessState.UP:
            if self.server.ready:
                self._observe()
            else:
                await asyncio.sleep(LOOK)
        elif since == self._version and seconds > 0:
            try:
                async with asyncio.timeout(seconds):
                    await changed.wait()
            except TimeoutError:
                pass
        return self.report()

    def report(self) -> NodeReport:
        state, phase = self.state.read(), self.process.phase
        if phase is ProcessState.UP and self.server.ready and self.kernel.now - self._seen_at > LOOK:
            self._observe()
        return NodeReport(
            protocol=PROTOCOL,
            agent_version=VERSION,
            version=self._version,
            agent_id=self.host.name,
            boot_id=self.host.boot_id,
            hostname=self.host.name,
            address=self.host.address,
            database_port=limits.DATABASE_PORT,
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
            verb=self._verb,
            address_kind="static",
            certificate_subject=f"/CN={self.host.name}",
            certificate_expires="2030-01-01T00:00:00+00:00",
            disk_free_bytes=10**10,
            disk_error="No space left on device" if self.host.disk.full else "",
            challenge="",
            lease_left=self.lease.left,
            closed_by_lease=self.lease.closed,
            purge_command="vault-agent purge",
            fences=("sigkill", "lease"),
            database=self._database_report() if phase in (ProcessState.UP, ProcessState.HUNG) else None,
            task=self.tasks.report(),
            data_bytes=DATA_BYTES,
            kept=self.tasks.kept(),
        )

    def _database_report(self) -> DatabaseReport | None:
        seen, now = self._seen, self.kernel.now
        if seen is None:
            return None
        replica, switches, positions = seen.replica, seen.switches, seen.positions
        heard = self.server.heard_at() if replica is not None else None
        ages = self._ages
        return DatabaseReport(
            version=seen.version,
            server_id=positions.server_id,
            read_only=switches.read_only,
            gtid_binlog_pos=positions.gtid_binlog_pos,
            gtid_binlog_state=positions.gtid_binlog_state,
            gtid_slave_pos=positions.gtid_slave_pos,
            binlog_oldest="binlog.000001",
            source_host=replica.source_host if replica else "",
            source_port=replica.source_port if replica else 0,
            gtid_io_pos=replica.gtid_io_pos if replica else "",
            receiver=replica.receiver if replica else "",
            applier=replica.applier if replica else False,
            receiver_errno=replica.receiver_errno if replica else 0,
            receiver_error=replica.receiver_error if replica else "",
            applier_errno=replica.applier_errno if replica else 0,
            applier_error=replica.applier_error if replica else "",
            seconds_behind=replica.seconds_behind if replica else None,
            heard_age=None if heard is None else now - heard,
            receiver_up_for=0.0 if ages.streaming_since is None else now - ages.streaming_since,
            semisync_primary=switches.waiting,
            semisync_replica=switches.acknowledging,
            ack_clients=switches.ack_clients,
            waiting_sessions=switches.waiting_sessions,
            commits_stuck_for=0.0 if ages.stuck_since is None else now - ages.stuck_since,
            acknowledged=seen.acknowledged,
            unacknowledged=seen.unacknowledged,
            connections=seen.connections,
            connections_max=seen.connections_max,
            oldest_transaction=0.0,
            drift=(),
        )


def _striking(seen: Observation) -> tuple[object, ...]:
    replica, switches = seen.replica, seen.switches
    stream = (replica.receiver, replica.applier, replica.receiver_errno, replica.applier_errno) if replica else ()
    return (switches.read_only, switches.waiting, switches.acknowledging, switches.ack_clients, stream)


async def _result(job: Job) -> Any:
    return await job.done


class VaultClock:
    """Implements core.vault_ports.Clock."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel

    def monotonic(self) -> float:
        return self.kernel.now

    def sleep(self, duration: timedelta) -> None:
        self.kernel.block(duration.total_seconds())


class WatchedProcess:
    """Implements core.vault_ports.Process as replication/agent/process.py does: with a phase, and a fence that wins."""

    error_log = "the log"

    def __init__(self, agent: VaultAgent) -> None:
        self._agent, self._server = agent, agent.server
        self.phase = ProcessState.DOWN
        self.expected_death = False
        self.died_in_service = False
        self.held = ""
        """Why it may not be started now."""

    def running(self) -> bool:
        return self._server.alive

    def start(self, role: BootRole, deadline: timedelta) -> None:
        if not self._server.alive:
            if self._agent.state.read().fenced:
                raise ProcessError("mariadbd is fenced")
            if self.held:
                raise ProcessError(self.held)
            self.expected_death = False
            self._agent.forget_what_was_seen()
            self._set(ProcessState.STARTING)
        self._server.process.start(role, deadline)
        if self._agent.state.read().fenced:
            self.kill()
            raise ProcessError("mariadbd was fenced while it started")
        self.answered()

    def kill(self) -> None:
        self.expected_death = True
        self._server.process.kill()
        self.look()

    def save_binary_logs(self) -> str:
        return self._server.process.save_binary_logs()

    def relay_log(self) -> Iterator[RelayTransaction]:
        return self._server.process.relay_log()

    def attach(self) -> bool:
        if self._server.alive:
            self._set(ProcessState.STARTING)
        return self._server.alive

    def look(self) -> bool:
        """Notice a death; whether it has died since the last look."""
        if self.phase in (ProcessState.DEAD, ProcessState.DOWN) or self._server.alive:
            return False
        self.died_in_service = self.phase is not ProcessState.STARTING
        self._set(ProcessState.DEAD)
        return True

    def answered(self) -> None:
        if self.phase in (ProcessState.STARTING, ProcessState.HUNG) and self._server.alive:
            self._set(ProcessState.UP)

    def late(self) -> None:
        if self.phase is ProcessState.UP:
            self._set(ProcessState.HUNG)

    def _set(self, phase: ProcessState) -> None:
        if phase is not self.phase:
            self.phase = phase
            self._agent.bump()
