"""A mariadbd that is none: it reproduces what was measured of the real one, in virtual time, driven by events.

What it must do like the real one, and where the two were compared, stands in tests/conformance. `Mariadbd` is one data directory
with at most one running process, its `Run`. The verbs' ports are `process`, `firewall` and what `connect_session()` returns.

Nothing polls, and heartbeats are counted instead of sent, so that a minute without writes costs nothing.
"""

from collections.abc import Callable, Iterator
from datetime import timedelta
from random import Random
from typing import Any, Final

from greenlet import getcurrent

from replication.core import limits
from replication.core.commands import ReplicationAccount
from replication.core.roles import ProcessState
from replication.core.vault_ports import BootRole, ProcessError, RelayTransaction
from replication.dialects.mariadb import Observation
from tests.simulation.kernel import Kernel, Signal, Timer
from tests.simulation.mariadbd_clients import Call, Client
from tests.simulation.mariadbd_commit import Pipeline
from tests.simulation.mariadbd_relay import ReplicaDisk
from tests.simulation.mariadbd_replication import Replication
from tests.simulation.mariadbd_session import Session
from tests.simulation.mariadbd_storage import Account, Refused, Storage
from tests.simulation.mariadbd_stream import Stream, Wires

START: Final = (0.1, 0.6)
"""Seconds from the start to the first answer, crash recovery included."""
APPLY: Final = (0.0003, 0.002)
TEARDOWN: Final = (0.002, 0.01)
"""Seconds until a killed process is gone. A large pool takes longer."""


class Run:
    """One process, from its start to its death."""

    def __init__(self, server: "Mariadbd") -> None:
        self.server, self.kernel, self.storage = server, server.kernel, server.storage
        self.program = server.kernel.program(f"mariadbd of {server.address}")
        self.up = False
        """It listens."""
        self.died_at: float | None = None
        self.server_id = server.server_id
        self.pipeline = Pipeline(self, server.rng)
        self.replication = Replication(self, server.rng)
        self.calls: dict[Call, None] = {}

    @property
    def now(self) -> float:
        return self.kernel.now

    def later(self, seconds: float, action: Callable[..., object], *args: Any) -> Timer:
        return self.kernel.later(seconds, self.program, action, *args)

    def changed(self) -> None:
        """One of the switches, the streams or the waits has changed."""
        self.server.changed()

    def progressed(self) -> None:
        """A position has moved."""
        self.server.signal.fire()


class Mariadbd:
    """rng: its own chance, so that a run replays. armed: whether the firewall of its host works."""

    port = limits.DATABASE_PORT

    def __init__(self, kernel: Kernel, network: Wires, address: str, rng: Random, *, armed: bool = True) -> None:
        self.kernel, self.network, self.address, self.rng = kernel, network, address, rng
        self.others: dict[str, Mariadbd] = vars(network).setdefault("servers", {})
        """By address, itself included."""
        self.others[address] = self
        self.server_id = len(self.others)
        self.storage = Storage()
        self.replica_disk = ReplicaDisk()
        self.run: Run | None = None
        self.connections: list[Stream] = []
        """Those of its receiver that are not forgotten by both ends yet."""
        self.signal = Signal()
        self.apply_seconds = APPLY
        self.max_connections = 300
        """Of clients; the agent has a port of its own."""
        self.client_account = True
        """Whether the agent is configured to make one."""
        self.drifted: tuple[str, ...] = ()
        """Settings that somebody has changed, as Database.drift tells them."""
        self.acknowledged: Callable[[int], object] = lambda row: None
        """Called at the instant at which a client's row is acknowledged."""
        self._watcher: Callable[[], None] = lambda: None
        self.process = FakeProcess(self)
        self.firewall = FakeFirewall(self, armed=armed)
        self.database = self.connect_session()
        network.watch(self._network_changed)

    # --- what is seen of it -------------------------------------------------------------------------------------------

    @property
    def alive(self) -> bool:
        """The process exists, frozen or not."""
        return self.run is not None

    @property
    def frozen(self) -> bool:
        return self.run is not None and self.run.program.frozen

    @property
    def stalled(self) -> bool:
        """A statement on accounts waits for its acknowledgement: `switches` and `observe` hang behind it."""
        return self.run is not None and self.run.pipeline.accounts_busy

    @property
    def ready(self) -> bool:
        """A look at it is answered now."""
        return self.run is not None and self.run.up and not self.frozen and not self.stalled

    def connect_session(self) -> Session:
        """Another connection of the agent's; made at its first statement, and again after it was lost."""
        return Session(self)

    def observe(self) -> Observation:
        """At once; only while it is ready."""
        return self.database.observe()

    def heard_at(self) -> float | None:
        """When the receiver last heard its source, to the heartbeat; None when it never did since it was started."""
        return self.run.replication.heard_at() if self.run is not None else None

    def watch(self, changed: Callable[[], None]) -> None:
        """`changed` is called when it starts, answers, dies, freezes or thaws, and when its switches, its streams or its
        waiting commits change. Replaces the last watcher."""
        self._watcher = changed

    def changed(self) -> None:
        self.signal.fire()
        self._watcher()

    @property
    def binlog_oldest(self) -> str:
        return self.storage.oldest_binary_log

    def rows(self) -> list[int]:
        return sorted(self.storage.rows)

    def has_received(self, row: int) -> bool:
        """Whether it stands in the relay log or in the binary log, also of a server that does not run."""
        return row in self.storage.written_rows or row in self.replica_disk.rows

    # --- clients ------------------------------------------------------------------------------------------------------

    def client(self) -> Client:
        return Client(self)

    def write(self, row: int) -> Call:
        """A client connects, inserts a row and commits."""
        return Client(self).insert(row)

    def administrator_writes(self, row: int) -> Call:
        return Client(self, privileged=True).insert(row)

    def administrator_writes_unlogged(self, row: int) -> Call:
        """With sql_log_bin = 0."""
        self.storage.rows.add(row)
        call = Call(self)
        call.end(0)
        return call

    def create_account_unlogged(self, account: ReplicationAccount) -> None:
        self.storage.accounts[account.name] = Account(account.subject, granted=True)

    def define(self, table: str) -> Call:
        return Client(self, privileged=True).define(table)

    def kill_writers(self, *, query_only: bool) -> None:
        """KILL, or KILL QUERY, of every session of the vault's clients."""
        if self.run is not None:
            self.run.pipeline.kill_clients(0 if query_only else 2013)

    # --- what happens to it -------------------------------------------------------------------------------------------

    def crash(self, *, power: bool | None = None) -> None:
        """SIGKILL. power: the host has lost its power, so nothing is sent any more and what was not flushed is gone; None
        asks the network."""
        run = self.run
        if run is None:
            return
        if power is None:
            power = self.address in getattr(self.network, "off", ())
        if power:
            self.firewall.revoked.clear()  # it lives in the kernel
        self.storage.crash(self.kernel.now, self.rng)
        self._end(run, power=power)

    def terminate(self) -> None:
        """SIGTERM: what hangs stays here, and is told to clients now and then."""
        run = self.run
        if run is None:
            return
        run.pipeline.shut_down()
        self.storage.stop_cleanly(self.kernel.now)
        run.replication.end_applier()
        self._end(run, power=False)

    def _end(self, run: Run, *, power: bool) -> None:
        self.run, run.died_at = None, self.kernel.now
        run.program.kill()
        run.replication.end_process(power=power)
        run.pipeline.lose()
        for call in [*run.calls]:
            call.lose()
        self.changed()

    def freeze(self) -> None:
        if self.run is not None and not self.run.program.frozen:
            self._settle_streams()
            self.run.program.freeze()
            self._settle_streams()
            self.changed()

    def thaw(self) -> None:
        if self.run is not None and self.run.program.frozen:
            self.run.program.thaw()
            self._settle_streams()
            self.changed()

    def _settle_streams(self) -> None:
        if self.run is not None:
            for stream in self.run.replication.streams:
                stream.settle()

    def stop_applier(self) -> None:
        """By somebody who is not the agent, at once."""
        if self.run is not None:
            self.run.replication.end_applier()

    def start_applier(self) -> None:
        if self.run is not None and self.replica_disk.source is not None:
            self.run.replication.start(receiver=False, applier=True)

    def set_semisync_wait_no_slave(self, on: bool) -> None:
        if self.run is not None:
            self.run.pipeline.wait_no_slave = on
            self.run.pipeline.advance()

    def set_flush_interval(self, seconds: int) -> None:
        self.storage.flush_every = float(seconds)

    def set_max_connections(self, most: int) -> None:
        self.max_connections = most

    def purge_binary_logs(self) -> None:
        self.storage.purge()

    def _network_changed(self) -> None:
        off = getattr(self.network, "off", ())
        for stream in self.connections:
            if self.address in off:
                stream.up.lose()
            if stream.source.server.address in off:
                stream.down.lose()
            stream.network_changed()
            stream.source_meets_nobody()
        self.forget_connections()
        if self.run is not None:
            self.run.replication.network_changed()

    def forget_connections(self) -> None:
        self.connections = [stream for stream in self.connections if not stream.over]

    # --- starting -----------------------------------------------------------------------------------------------------

    def begin(self, role: BootRole) -> Run:
        """Start the process; it answers, or ends, after a while."""
        run = self.run = Run(self)
        run.later(self.rng.uniform(*START), self._come_up, run, role)
        self.changed()
        return run

    def _come_up(self, run: Run, role: BootRole) -> None:
        try:
            self.storage.recover(role, self.kernel.now)
        except Refused as error:
            self.process.why_ended = str(error)
            self._end(run, power=False)
            return
        run.up = True
        self.changed()

    def blocks(self) -> bool:
        """Whether the caller may wait: it is blocking code on a greenlet."""
        return getcurrent() is not self.kernel.hub


class FakeProcess:
    """Implements core.vault_ports.Process, but for the agent's own phase and fence."""

    error_log = "the error log"

    def __init__(self, server: Mariadbd) -> None:
        self._server = server
        self.why_ended = ""
        self.phase = ProcessState.DOWN
        self.died_in_service = False

    def running(self) -> bool:
        return self._server.alive

    def start(self, role: BootRole, deadline: timedelta) -> None:
        server = self._server
        run = server.run or server.begin(role)
        until = server.kernel.now + deadline.total_seconds()
        done = lambda: server.run is not run or (run.up and not run.program.frozen)  # noqa: E731
        if not server.kernel.block_until(done, until, server.signal):
            raise ProcessError("mariadbd is still starting; it may be recovering from a crash")
        if server.run is not run:
            raise ProcessError(f"mariadbd ended while starting: {self.why_ended or 'it was killed'}")

    def kill(self) -> None:
        self._server.crash()
        if self._server.blocks():
            self._server.kernel.block(self._server.rng.uniform(*TEARDOWN))

    def save_binary_logs(self) -> str:
        if self._server.alive:
            raise ProcessError("the binary logs are copied only while mariadbd is down")
        return "salvage" if self._server.storage.files else ""

    def relay_log(self) -> Iterator[RelayTransaction]:
        return self._server.replica_disk.transactions()


class FakeFirewall:
    """Implements core.vault_ports.Firewall: packets of this host to a revoked address are answered with a reset."""

    def __init__(self, server: Mariadbd, *, armed: bool) -> None:
        self._server, self.armed = server, armed
        self.revoked: set[str] = set()

    def cut(self, address: str) -> None:
        if self.armed and address not in self.revoked:
            self.revoked.add(address)
            if self._server.run is not None:
                self._server.run.replication.cut_off(address)

    def lift(self) -> None:
        if self.revoked:
            self.revoked.clear()
            for stream in self._server.connections:
                stream.source_meets_nobody()
