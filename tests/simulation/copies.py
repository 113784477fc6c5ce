"""The long work of a simulated host: full copies and their undoing, as replication/agent/receive.py, send.py and swap.py do them.

Bytes are time here: a copy takes a while, and at its end the target gets what the source's engine had committed by then. What
survives an agent is the host's `CopyDisk`; an agent that is started anew goes on where the product would, and ends as failed
what the product ends. The memory of the old data is set aside by the product's own function.
"""

import asyncio
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from replication.agent import swap
from replication.core.roles import OrderKind
from replication.core.tasks import NO_WAY_BACK, KeptData, TaskKind, TaskOrder, TaskPhase, TaskReport
from replication.core.vault_ports import BootRole, DatabaseError, ProcessError, StateError, TaskRefused
from tests.simulation.mariadbd_relay import ReplicaDisk
from tests.simulation.mariadbd_storage import Storage

if TYPE_CHECKING:
    from tests.simulation.agent import VaultAgent

COPY: Final = (0.3, 3.0)
"""Seconds that the data are on their way, from and to."""
PREPARE: Final = (0.05, 0.5)
CHUNK: Final = 0.15
"""Seconds between two signs of life of a copy."""
PATIENCE: Final = 4.0
"""Seconds for which a target waits for the next sign of life. A minute in the product: here nobody waits that long."""
ANSWER: Final = 3.0
START_TRIES: Final = 3
DATA_BYTES: Final = 1_000_000


@dataclass
class Kept:
    """A data directory that was set aside, with what the agent remembered of it."""

    operation: str
    storage: Storage
    replica: ReplicaDisk
    before: dict[str, Any]


@dataclass
class CopyDisk:
    """What of long work is on the disk of a host. seconds: for which a copy of it is on its way, from and to."""

    seconds: tuple[float, float] = COPY
    task: TaskReport | None = None
    subject: str = ""
    """Of the source that the target was told."""
    ready: Storage | None = None
    """A copy that is prepared."""
    journal: swap.Journal | None = None
    parted: Kept | None = None
    kept: Kept | None = None


def copy_of(source: Storage) -> Storage:
    """What a physical copy holds: what the engine has committed, and a binary log that begins after it."""
    new, end = Storage(), source.committed
    new.log, new._undo = source.log[:end], source._undo[:end]
    for index, transaction in enumerate(new.log):
        new.index[transaction.gtid] = index
        new._count(transaction.gtid)
    new.slave_pos = {**source.slave_pos, **new.last}
    for gtid in new.slave_pos.values():
        new.highest[gtid.domain] = max(gtid.sequence, new.highest.get(gtid.domain, 0))
    new.committed = new.durable = new.purged = end
    new.rows, new.written_rows = set(source.rows), set(source.rows)
    new.epochs, new.objects, new.accounts = set(source.epochs), set(source.objects), deepcopy(source.accounts)
    return new


class SimTasks:
    """Implements core.vault_ports.Tasks for one run of an agent."""

    def __init__(self, agent: "VaultAgent") -> None:
        self._agent, self._host, self._kernel = agent, agent.host, agent.kernel
        self._disk: CopyDisk = agent.host.copies
        self._alive_at = 0.0
        self._cancelled = False

    # --- Tasks ------------------------------------------------------------------------------------------------------

    def report(self) -> TaskReport | None:
        return self._disk.task

    def kept(self) -> KeptData | None:
        kept = self._disk.kept
        return KeptData(operation=kept.operation, since="", bytes=DATA_BYTES) if kept is not None else None

    def begin(self, order: TaskOrder) -> TaskReport:
        now = self._disk.task
        if now is not None and (now.operation, now.kind) == (order.operation, order.kind):
            return now
        if now is not None and now.active:
            raise TaskRefused("this host is busy")
        if self._host.disk.full:
            raise TaskRefused("its disk takes no writes")
        if order.kind is TaskKind.UNDO and self._disk.kept is None:
            raise TaskRefused("there is nothing to put back")
        report = TaskReport(operation=order.operation, kind=order.kind, phase=TaskPhase.WAITING)
        self._disk.task, self._cancelled = report, False
        spawn = self._agent.program.spawn
        if order.kind is TaskKind.RECEIVE:
            self._disk.subject, self._disk.ready = str(order.args["source_subject"]), None
            self._alive_at = self._kernel.now
            spawn(self._wait_for_the_source(order.operation))
        elif order.kind is TaskKind.SEND:
            spawn(self._send(order))
        else:
            spawn(self._replace(self._journal(report, self._disk.kept.before if self._disk.kept else {})))
        self._agent.bump()
        return report

    def cancel(self, operation: str) -> bool:
        task = self._disk.task
        if task is None or task.operation != operation:
            return False
        if not task.active:
            return True
        if task.phase in NO_WAY_BACK:
            return False
        self._cancelled = True
        if task.kind is not TaskKind.SEND:
            self._end(TaskPhase.CANCELLED)
        return True

    def resume(self) -> None:
        """At the start of the agent, on the verbs' thread, before its database is looked for."""
        task = self._disk.task
        if self._disk.journal is not None and task is not None:
            self._agent.process.held = swap.HELD
            try:
                self._settle()
            except (ProcessError, StateError):
                self._go_back()
                return
            self._agent.program.spawn(self._finish())
        elif task is not None and task.active:
            self._end(TaskPhase.FAILED)

    # --- the source -------------------------------------------------------------------------------------------------

    async def _send(self, order: TaskOrder) -> None:
        target, operation = str(order.args["target_host"]), order.operation
        run, server = self._agent.server.run, self._agent.server
        seconds = self._host.rng.uniform(*self._disk.seconds)
        if not await self._ask(target, "offer", operation, f"/CN={self._host.name}"):
            self._end_sending(TaskPhase.FAILED)
            return
        self._phase(TaskPhase.TRANSFERRING)
        until = self._kernel.now + seconds
        while self._kernel.now < until:
            await asyncio.sleep(CHUNK)
            self._tell(target, "chunk", operation)
            if self._cancelled or run is None or server.run is not run:  # mariadb-backup ends with its server
                self._tell(target, "broken", operation)
                self._end_sending(TaskPhase.CANCELLED if self._cancelled else TaskPhase.FAILED)
                return
        while run.program.frozen and server.run is run:  # it hangs in its last statements
            await asyncio.sleep(CHUNK)
        if server.run is not run or not run.up:
            self._tell(target, "broken", operation)
            self._end_sending(TaskPhase.FAILED)
            return
        took = await self._ask(target, "end", operation, copy_of(server.storage))
        self._end_sending(TaskPhase.DONE if took else TaskPhase.FAILED)

    def _end_sending(self, phase: TaskPhase) -> None:
        task = self._disk.task
        if task is not None and task.kind is TaskKind.SEND and task.active:
            self._end(phase)

    async def _ask(self, target: str, what: str, *args: Any) -> bool:
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._tell(target, what, *args, answer=answer)
        try:
            async with asyncio.timeout(ANSWER):
                return bool(await answer)
        except TimeoutError:
            return False

    def _tell(self, target: str, what: str, *args: Any, answer: "asyncio.Future[Any] | None" = None) -> None:
        peer, here = self._host.peers.get(target), self._host.address
        if peer is not None:
            self._host.network.send(here, target, _arrive, peer, here, what, args, answer)

    # --- the target -------------------------------------------------------------------------------------------------

    async def _wait_for_the_source(self, operation: str) -> None:
        while self._receiving(operation):
            if self._kernel.now - self._alive_at > PATIENCE:
                self._end(TaskPhase.FAILED)
                return
            await asyncio.sleep(PATIENCE / 4)

    def _receiving(self, operation: str) -> TaskReport | None:
        task = self._disk.task
        coming = (TaskPhase.WAITING, TaskPhase.TRANSFERRING)
        mine = (
            task is not None and task.kind is TaskKind.RECEIVE and task.operation == operation and task.phase in coming
        )
        return task if mine else None

    def hear(self, what: str, args: tuple[Any, ...]) -> bool:
        """Something of a copy has arrived. Whether it is wanted."""
        task = self._receiving(str(args[0]))
        if task is None:
            return False
        self._alive_at = self._kernel.now
        if what == "offer":
            if task.phase is not TaskPhase.WAITING or args[1] != self._disk.subject:
                return False
            self._phase(TaskPhase.TRANSFERRING)
        elif task.phase is not TaskPhase.TRANSFERRING:
            return False
        elif what == "broken":
            self._end(TaskPhase.FAILED)
        elif what == "end":
            self._phase(TaskPhase.PREPARING)
            self._kernel.later(self._host.rng.uniform(*PREPARE), self._agent.program, self._prepared, args[0], args[1])
        return True

    def _prepared(self, operation: str, data: Storage) -> None:
        task = self._disk.task
        if task is None or task.operation != operation or task.phase is not TaskPhase.PREPARING:
            return
        self._disk.ready = data
        self._agent.program.spawn(self._replace(self._journal(task, {})))

    # --- other data in the place of the data -----------------------------------------------------------------------------

    def _journal(self, task: TaskReport, of_the_kept: dict[str, Any]) -> swap.Journal:
        state = self._agent.state.read()
        fresh = self._agent._fresh_server_id([state.server_id])
        fence = swap.Fence.of(state)
        return swap.Journal(
            operation=task.operation, kind=task.kind, server_id=fresh, fence=fence, of_the_kept=of_the_kept
        )

    async def _replace(self, journal: swap.Journal) -> None:
        self._phase(TaskPhase.SWAPPING)
        if await self._on_the_verbs_thread(lambda: self._enter(journal)):
            await self._finish()

    async def _on_the_verbs_thread(self, work: Callable[[], bool]) -> bool:
        return bool(await self._agent._verbs.submit(work).done)

    def _enter(self, journal: swap.Journal) -> bool:
        state = self._agent.state.read()
        if state.order_kind is not OrderKind.NONE or not state.vault or journal.fence.is_new(state):
            self._end(TaskPhase.FAILED)
            return False
        before = {name: getattr(state, name) for name in swap.MEMORY}
        self._disk.journal = replace(journal, before=before)
        self._agent.process.held = swap.HELD
        self._host.burn()
        try:
            self._settle()
        except (ProcessError, StateError):
            self._go_back()
            return False
        return True

    def _settle(self) -> None:
        """To where the journal leads, from wherever it stands."""
        disk, server, journal = self._disk, self._agent.server, self._disk.journal
        assert journal is not None
        if journal.stage is swap.Stage.COMPLETE:
            return
        incoming = self._incoming(journal)
        if incoming is not None and disk.parted is None:
            if server.alive:
                self._agent.process.kill()
            self._host.burn()
            before = dict(journal.before)
            disk.parted = Kept(journal.operation, server.storage, server.replica_disk, before)
            server.storage, server.replica_disk = incoming
            server.server_id = journal.server_id
            self._host.replaced()
        self._host.burn()
        self._agent.state.update(lambda state: swap._with_new_data(state, journal))
        self._host.burn()

    def _incoming(self, journal: swap.Journal) -> tuple[Storage, ReplicaDisk] | None:
        if journal.kind is TaskKind.UNDO:
            kept = self._disk.kept
            return (kept.storage, kept.replica) if kept is not None else None
        return (self._disk.ready, ReplicaDisk()) if self._disk.ready is not None else None

    async def _finish(self) -> None:
        journal = self._disk.journal
        assert journal is not None
        if journal.stage is not swap.Stage.COMPLETE:
            self._phase(TaskPhase.STARTING)
            for _ in range(START_TRIES):
                if await self._on_the_verbs_thread(self._start):
                    break
                await asyncio.sleep(0.2)
            else:
                await self._on_the_verbs_thread(self._go_back)
                return
        await self._on_the_verbs_thread(self._complete)

    def _start(self) -> bool:
        journal, process, session = self._disk.journal, self._agent.process, self._agent.session
        assert journal is not None
        process.held = ""
        try:
            process.start(BootRole.PRIMARY, timedelta(seconds=2))
            if session.replica() is not None:
                session.forget_source()
        except (ProcessError, DatabaseError):
            return False
        finally:
            process.held = swap.HELD
        self._host.burn()
        self._disk.journal = replace(journal, stage=swap.Stage.COMPLETE)
        return True

    def _complete(self) -> bool:
        disk, journal = self._disk, self._disk.journal
        assert journal is not None
        disk.kept = disk.parted if journal.kind is TaskKind.RECEIVE else None
        disk.parted = disk.ready = disk.journal = None
        self._agent.process.held = ""
        self._host.burn()
        assert disk.task is not None
        disk.task = replace(disk.task, replaced=True)
        self._end(TaskPhase.DONE)
        return True

    def _go_back(self) -> bool:
        disk, server, journal = self._disk, self._agent.server, self._disk.journal
        assert journal is not None
        if disk.parted is not None:
            if server.alive:
                self._agent.process.kill()
            server.storage, server.replica_disk = disk.parted.storage, disk.parted.replica
            self._host.burn()
        remembered = swap._memory(journal.before)
        self._agent.state.hold(lambda s: replace(s, **{**remembered, "fenced": s.fenced or bool(remembered["fenced"])}))
        disk.parted = disk.ready = disk.journal = None
        self._agent.process.held = ""
        self._end(TaskPhase.FAILED)
        return False

    # --- telling ----------------------------------------------------------------------------------------------------

    def _phase(self, phase: TaskPhase) -> None:
        if self._disk.task is not None:
            self._disk.task = replace(self._disk.task, phase=phase)
            self._agent.bump()

    def _end(self, phase: TaskPhase) -> None:
        task = self._disk.task
        assert task is not None
        self._host.said(f"{task.kind.value} {task.operation}: {phase.value}, it was {task.phase.value}")
        self._phase(phase)


def _arrive(peer: Any, sender: str, what: str, args: tuple[Any, ...], answer: "asyncio.Future[Any] | None") -> None:
    """At the target's host: nobody hears it when its agent does not run, and one that is frozen hears it later."""
    agent: VaultAgent | None = peer.agent
    if agent is None:
        if answer is not None:
            peer.reply(sender, answer, False)
        return

    def hear() -> None:
        wanted = agent.tasks.hear(what, args)
        if answer is not None:
            peer.reply(sender, answer, wanted)

    peer.kernel.soon(agent.program, hear)
