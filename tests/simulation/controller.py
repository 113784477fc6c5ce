"""One controller host: the real Heartbeat, watches and procedures behind simulated ports, competing for the lease.

It does what replication/jobs/service.py does around them. The high-water mark is a file of the host: it survives the process
and is in no backup of the metadata database.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from itertools import count
from typing import Any, Final, Protocol

from replication.core import limits
from replication.core.commands import Answer, Command, Verb
from replication.core.errors import ClaimLost, NodeUnreachable, ReplicationError
from replication.core.foresight import Foresight
from replication.core.ports import OperationEnd
from replication.core.report import NodeReport
from replication.core.roles import Witness
from replication.core.snapshot import NodeRow, Snapshot
from replication.core.steps import Step
from replication.core.view import NodeView, RebuildWish, Topology
from replication.procedures.controller.heartbeat import Heartbeat
from replication.procedures.controller.procedure import World
from tests.simulation.kernel import Kernel, Program
from tests.simulation.metadata import Content, MetadataDb, Unavailable
from tests.simulation.network import Network

CONNECT: Final = 1.0
"""Seconds for TCP and TLS to an agent, as replication/client.py has it."""
NETWORK_MARGIN: Final = 1.0
ANSWER: Final = 10.0
"""Seconds for an agent to end long work."""
LOOK: Final = 0.1
"""Seconds between two looks at the lease. The service looks more often; nothing here depends on it."""
TICK: Final = timedelta(milliseconds=150)
"""Pace of a watch's own clock: coarser than the product's, for speed."""
TERMINAL: Final = frozenset(end.value for end in OperationEnd)


class Refused(Exception):
    """Nobody listens there, or the connection was reset."""


class Endpoint(Protocol):
    """An agent as its callers reach it."""

    def request(self, sender: str, what: tuple[Any, ...], answer: "asyncio.Future[Any]") -> None:
        """A request has arrived; its answer goes to `answer` over the network."""
        ...

    def greets(self) -> Witness:
        """What a connection to the database port meets."""
        ...


class SimClock:
    """Implements core.ports.Clock."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel

    def monotonic(self) -> float:
        return self.kernel.now

    async def sleep(self, duration: timedelta) -> None:
        await asyncio.sleep(duration.total_seconds())


class Controller:
    """A host that is started, killed, frozen; every start is a new process with a new holder id."""

    def __init__(
        self, kernel: Kernel, network: Network, db: MetadataDb, agents: Mapping[str, Endpoint], address: str
    ) -> None:
        self.kernel, self.network, self.db, self.agents, self.address = kernel, network, db, agents, address
        self.mark = 0
        self.said: Callable[[str, int, str, str], None] = lambda who, epoch, rule, text: None
        self.generations = count(1)
        self.process: Process | None = None
        self._fuse = 0
        self._explode: Callable[[], None] = lambda: None

    def start(self) -> None:
        self.stop()
        self.process = Process(self, f"{self.address}.{next(self.generations)}")
        self.process.program.spawn(self.process.serve())

    def stop(self) -> None:
        """SIGKILL."""
        if self.process is not None:
            self.process.program.kill()
            self.process = None

    def light_fuse(self, uses: int, explode: Callable[[], None]) -> None:
        """`explode` (kill or freeze) happens at the n-th use of a port from now on, before or after its effect."""
        self._fuse, self._explode = uses, explode

    def put_out_fuse(self) -> None:
        self._fuse = 0

    async def burn(self) -> None:
        if self._fuse:
            self._fuse -= 1
            if not self._fuse:
                self._explode()
                if self.program is None:
                    await self.kernel.create_future()  # dead: nobody ever ends this wait
                await asyncio.sleep(0)

    @property
    def watches(self) -> bool:
        """Whether it leads and has taken up the vault."""
        process = self.process
        return (
            process is not None and process.held and process.heartbeat is not None and bool(process.heartbeat.watches)
        )

    def open_operations(self) -> set[str]:
        """Operations that its process still works on, or means to end."""
        heartbeat = self.process.heartbeat if self.process is not None else None
        watches = heartbeat.watches.values() if heartbeat is not None else ()
        return {entry.operation for watch in watches for entry in watch.ledger._open.values()}

    @property
    def program(self) -> Program | None:
        return self.process.program if self.process is not None else None

    @property
    def leads(self) -> bool:
        return self.process is not None and self.process.held


class Process:
    """One run of the service: implements every port of the controller."""

    def __init__(self, host: Controller, name: str) -> None:
        self.host, self.kernel, self.db, self.name = host, host.kernel, host.db, name
        self.program = host.kernel.program(name)
        self.heartbeat: Heartbeat | None = None
        self.term = 0
        self._valid_until = -1.0
        self._connected: set[str] = set()
        self._last = Snapshot()
        self._ids = count(1)
        self._claims, self._reads, self._notes = asyncio.Lock(), asyncio.Lock(), asyncio.Lock()
        clock = SimClock(self.kernel)
        self.world = World(
            clock=clock, agents=self, topologies=self, inventory=self, journal=self, operations=self, tick=TICK
        )

    # --- as replication/jobs/service.py ---------------------------------------------------------------------------

    async def serve(self) -> None:
        self.program.spawn(self._renew_for_ever())
        task: asyncio.Task[None] | None = None
        while True:
            if self.held and task is None:
                self.heartbeat = Heartbeat(self.world, self, self, self._new_id)
                task = self.program.spawn(self.heartbeat.run())
            if not self.held and task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                task = self.heartbeat = None
            await asyncio.sleep(LOOK)

    async def _renew_for_ever(self) -> None:
        while True:
            renewed = await self._renew()
            await asyncio.sleep(limits.LEADER_RENEWAL.total_seconds() if renewed else 0.2)

    async def _renew(self) -> bool:
        asked = self.kernel.now
        try:
            term = await self.db.query(self.host.address, self.db.acquire(self.name))
        except Unavailable:
            return False
        if term is None:
            self._valid_until = -1.0
            await self._remember_epoch()
            return False
        self.term = term
        self._valid_until = asked + (limits.LEADER_LEASE - limits.LEADER_MARGIN).total_seconds()
        return True

    async def _remember_epoch(self) -> None:
        """A standby knows of the epochs that the leader takes."""
        try:
            epoch = await self.db.query(self.host.address, self.db.epoch)
        except Unavailable:
            return
        self.host.mark = max(self.host.mark, epoch)

    @property
    def held(self) -> bool:
        return self.kernel.now < self._valid_until

    @property
    def owner(self) -> str:
        return f"{self.name}:{self.term}"

    def _new_id(self) -> str:
        return f"{self.name}#{next(self._ids)}"

    async def _port(self) -> None:
        """A place where the process may be killed or frozen."""
        await self.host.burn()

    # --- Topologies -----------------------------------------------------------------------------------------------

    async def lead_above(self, term: int) -> None:
        try:
            raised = await self.db.query(self.host.address, self.db.raise_term(self.name, self.term, term + 1))
        except Unavailable as error:
            raise ClaimLost(f"the metadata database did not take a higher term: {error}") from error
        if not raised:
            raise ClaimLost("this process no longer leads")
        self.term = term + 1

    def high_water(self, vault: str) -> int:
        return self.host.mark

    async def claim(self, known: Topology, *, at_least: int, **changes: Any) -> Topology:
        epoch = max(known.epoch, at_least) + 1
        return await self._change(known, {**changes, "epoch": epoch, "owner": self.owner}, claim=True)

    async def amend(self, known: Topology, **changes: Any) -> Topology:
        return await self._change(known, changes, claim=False)

    async def _change(self, known: Topology, changes: dict[str, Any], *, claim: bool) -> Topology:
        await self._port()
        change = self.db.compare_and_set(known, self.owner, self.name, self.term, self.name, changes, claim=claim)
        try:
            async with self._claims:
                row = await self.db.query(self.host.address, change)
        except Unavailable as error:
            raise ClaimLost(f"the metadata database did not take the change: {error}") from error
        if row is None:
            raise ClaimLost(f"epoch {known.epoch} was no longer the current one, or this process no longer leads")
        self.host.mark = max(self.host.mark, row.epoch)
        await self._port()
        return row

    # --- Agents ---------------------------------------------------------------------------------------------------

    async def hello(self, node: NodeView, *, since: int, wait: timedelta, echo: str = "", term: int = 0) -> NodeReport:
        seconds = wait.total_seconds()
        limit = seconds + limits.HELLO_MARGIN.total_seconds()
        report: NodeReport = await self._ask(node, ("hello", since, seconds, echo, term, self.kernel.now), limit)
        return report

    async def command(self, node: NodeView, verb: Verb, command: Command) -> Answer:
        await self._port()
        answer: Answer = await self._ask(node, ("command", verb, command, self.name), command.deadline + NETWORK_MARGIN)
        await self._port()
        return answer

    async def cancel_task(self, node: NodeView, operation: str) -> bool:
        await self._port()
        ends: bool = await self._ask(node, ("cancel", operation), ANSWER)
        await self._port()
        return ends

    async def _ask(self, node: NodeView, what: tuple[Any, ...], total: float) -> Any:
        network, here = self.host.network, self.host.address
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        network.send(here, node.ip, self.host.agents[node.ip].request, here, what, answer, noisy=True)
        known = node.ip in self._connected  # a connection that stands is not dialled anew
        self._connected.discard(node.ip)
        try:
            async with asyncio.timeout(total if known else min(total, CONNECT) if self._dead(node.ip) else total):
                result = await answer
        except TimeoutError:
            raise NodeUnreachable(node.hostname, "silent") from None
        if isinstance(result, Refused):
            raise NodeUnreachable(node.hostname, "refused", str(result))
        self._connected.add(node.ip)
        if isinstance(result, Exception):
            raise result
        return result

    def _dead(self, address: str) -> bool:
        """Whether not even TCP gets there and back: a new connection is given up sooner than an answer."""
        network, here = self.host.network, self.host.address
        return not (network.reachable(here, address) and network.reachable(address, here))

    # --- Witnesses ------------------------------------------------------------------------------------------------

    async def ask(self, node: NodeView) -> Witness:
        network = self.host.network
        if self._dead(node.ip):
            await asyncio.sleep(limits.WITNESS_DEADLINE.total_seconds())
            return Witness.SILENT
        await asyncio.sleep(2 * network.delay())
        word = self.host.agents[node.ip].greets()
        if word is Witness.SILENT:
            await asyncio.sleep(limits.WITNESS_DEADLINE.total_seconds())
        return word

    # --- Inventory ------------------------------------------------------------------------------------------------

    async def load(self) -> Snapshot:
        try:
            async with self._reads:
                self._last = await self.db.query(self.host.address, self.db.snapshot)
        except Unavailable:
            return replace(self._last, fresh=False)
        for config in self._last.vaults:
            self.host.mark = max(self.host.mark, config.topology.epoch)
        return self._last

    async def publish(self, vault: str, reason: str, rows: Mapping[str, NodeRow], if_lost: Foresight) -> None:
        pass

    async def note_service(self, *, started: bool, pass_done: bool) -> None:
        def note(c: Content) -> None:
            c.noted_running = started
            if pass_done:
                c.run_wanted = False

        await self._note(note)

    async def mark(self, node: str, **fields: Any) -> None:
        await self._port()
        if "resync_requested_at" in fields:
            fields["resync_wanted"] = fields.pop("resync_requested_at") is not None

        def note(c: Content) -> bool:
            written = self.db.leads(c, self.name, self.term) and node in c.nodes
            if written:
                c.nodes[node] = replace(c.nodes[node], **fields)
            return written

        await self._must_note(note)
        await self._port()

    async def answer_rebuild(self, node: str, operation: str, wish: RebuildWish | None) -> bool:
        await self._port()
        stands = False

        def note(c: Content) -> bool:
            nonlocal stands
            row = c.nodes.get(node)
            if row is None or not self.db.leads(c, self.name, self.term):
                return False
            stands = row.rebuild is not None and row.rebuild.operation == operation
            if stands:
                c.nodes[node] = replace(row, rebuild=wish)
            return True

        await self._must_note(note)
        await self._port()
        return stands

    async def forget(self, node: str) -> None:
        await self._port()

        def delete(c: Content) -> bool:
            if node in c.nodes and c.nodes[node].removed:
                del c.nodes[node]
            return True

        await self._must_note(delete)
        await self._port()

    async def _must_note(self, statement: Callable[[Content], bool]) -> None:
        try:
            async with self._notes:
                written = await self.db.query(self.host.address, statement)
        except Unavailable as error:
            raise ReplicationError(f"the metadata database did not take a note: {error}") from error
        if not written:
            raise ReplicationError("the note was not taken: this process no longer leads, or the node's row is gone")

    async def note_silence_failover(self, vault: str) -> None:
        await self._note(self.db.note_silence_failover)

    async def _note(self, statement: Any) -> bool:
        try:
            async with self._notes:
                await self.db.query(self.host.address, statement)
        except Unavailable:
            return False
        return True

    # --- Operations -----------------------------------------------------------------------------------------------

    async def begin(self, operation: str, *, vault: str, kind: str, node: str, says: str) -> None:
        def note(c: Content) -> None:
            if c.operations.get(operation) not in TERMINAL:
                c.operations[operation] = "running"

        await self._note(note)

    async def take_up(self, operation: str) -> bool:
        taken = False

        def take(c: Content) -> None:
            nonlocal taken
            taken = c.operations.get(operation) not in TERMINAL
            if taken:
                c.operations[operation] = "running"

        return await self._note(take) and taken

    async def progress(self, operation: str, says: str) -> None:
        pass

    async def steps(self, operation: str, steps: Sequence[Step]) -> None:
        await self._note(lambda c: None)

    async def note(self, operation: str, facts: Mapping[str, Any]) -> None:
        await self._note(lambda c: None)

    async def end(self, operation: str, state: OperationEnd, says: str, result: Mapping[str, Any]) -> None:
        def note(c: Content) -> None:
            if c.operations.get(operation) in ("queued", "running"):
                c.operations[operation] = state.value
                if c.wish is not None and c.wish.operation == operation:
                    c.wish = None

        await self._note(note)

    async def end_orphans(self, vault: str, keep: str) -> None:
        def note(c: Content) -> None:
            for id, state in c.operations.items():
                if state == "running" and id != keep:
                    c.operations[id] = OperationEnd.FAILED.value

        await self._note(note)

    # --- Journal --------------------------------------------------------------------------------------------------

    async def record(
        self,
        *,
        vault: str,
        node: str,
        epoch: int,
        rule: str,
        text: str,
        level: str,
        evidence: Mapping[str, Any],
    ) -> None:
        if "traceback" in evidence:
            self.kernel.fault(self.name, str(evidence["traceback"]))
        self.host.said(self.name, epoch, rule, text)
