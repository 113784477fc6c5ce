"""One replication connection: the dump thread's end on the source, the receiver's end on the replica, and what is between.

Each end knows only what has arrived. What is sent into a cut waits in the sender's kernel and comes out after the heal, also
when the sending process has long ended; only a host without power takes it along.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Final, Protocol

from tests.simulation.kernel import Kernel, Program
from tests.simulation.mariadbd_storage import Start, Transaction

if TYPE_CHECKING:
    from tests.simulation.mariadbd import Run

HEARTBEAT: Final = 0.25
WAKE: Final = 0.0008
"""Seconds, at most: from the flush of a transaction to its first packet. A crash in between sends nothing."""


class Wires(Protocol):
    """What the servers need of the network."""

    def reachable(self, sender: str, receiver: str) -> bool: ...

    def delay(self) -> float: ...

    def watch(self, changed: Callable[[], None]) -> None: ...


@dataclass(frozen=True, slots=True)
class Accepted:
    """The source has accepted; ahead of everything that it sends."""

    attempt: object
    server_id: int


@dataclass(frozen=True, slots=True)
class Events:
    """Transactions as the dump thread sends them."""

    transactions: list[Transaction]
    upto: int
    """Of so many at the head of the source's log the replica has everything then."""
    wants_reply: bool
    sent_at: float


@dataclass(frozen=True, slots=True)
class Fatal:
    """Error 1236."""

    text: str


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    upto: int


@dataclass(frozen=True, slots=True)
class Closed:
    """The other end is closed. at_once: its process was told, it need not find out with its next heartbeat."""

    at_once: bool = False


Message = Accepted | Events | Fatal | Acknowledgement | Closed


class Pipe:
    """One direction, in order."""

    __slots__ = (
        "_arrived",
        "_held",
        "_kernel",
        "_last",
        "_network",
        "_program",
        "_queue",
        "_rng",
        "receiver",
        "sender",
    )

    def __init__(
        self,
        kernel: Kernel,
        network: Wires,
        rng: Random,
        ends: tuple[str, str],
        program: Program,
        arrived: Callable[[Message], None],
    ) -> None:
        self._kernel, self._network, self._rng = kernel, network, rng
        self.sender, self.receiver = ends
        self._program, self._arrived = program, arrived
        self._queue: deque[Message] = deque()
        self._held: list[Message] = []
        self._last = 0.0

    def send(self, message: Message, after: float = 0.0) -> None:
        if self._held or not self._network.reachable(self.sender, self.receiver):
            self._held.append(message)
        else:
            self._post(message, after + self._network.delay())

    def _post(self, message: Message, after: float) -> None:
        self._last = max(self._last, self._kernel.now + after)
        self._queue.append(message)
        self._kernel.later(self._last - self._kernel.now, self._program, self._arrive)

    def _arrive(self) -> None:
        # Not the message of this timer, the next one: two timers of one moment may run in either order.
        self._arrived(self._queue.popleft())

    def resume(self, after: float) -> None:
        """The network has changed."""
        if self._held and self._network.reachable(self.sender, self.receiver):
            held, self._held = self._held, []
            for message in held:
                self._post(message, after)

    def lose(self) -> None:
        """What has not left the host never will."""
        self._held.clear()

    @property
    def first(self) -> Message | None:
        return self._queue[0] if self._queue else None

    @property
    def empty(self) -> bool:
        return not self._held and not self._queue


class Stream:
    """Made by the source when it accepts; the replica hears of it a moment later."""

    def __init__(
        self,
        source: "Run",
        replica: "Run",
        *,
        account: str,
        server_id: int,
        acknowledges: bool,
        start: Start,
    ) -> None:
        self.source, self.replica = source, replica
        self.account, self.server_id, self.acknowledges = account, server_id, acknowledges
        self.kernel, self.network = source.kernel, source.server.network
        self._rng = source.server.rng
        self.source_open = True
        self.replica_open = True
        there, here = source.server.address, replica.server.address
        self.down = Pipe(self.kernel, self.network, self._rng, (there, here), replica.program, self._reached_replica)
        self.up = Pipe(self.kernel, self.network, self._rng, (here, there), source.program, self._reached_source)
        self._next = start.index
        self._doubtful = start.doubtful
        self._heard = self.kernel.now
        self._beats_from: float | None = self.kernel.now
        self._cut_since: float | None = None

    # --- on the source ----------------------------------------------------------------------------------------------

    def pump(self) -> None:
        """Send what is in the binary log and was not sent."""
        log = self.source.storage.log
        if self._next >= len(log) or not self.source_open:
            return
        if self._doubtful:
            self.down.send(Fatal(self._doubtful))
            return
        now, wake = self.kernel.now, WAKE * self._rng.random()
        wants_reply = self.acknowledges and self.source.pipeline.waiting
        self.down.send(Events(log[self._next :], len(log), wants_reply, now + wake), wake)
        self._next = len(log)

    def _reached_source(self, message: Message) -> None:
        if not self.source_open:
            return
        if isinstance(message, Acknowledgement):
            self.source.pipeline.acknowledge(message.upto)
        elif isinstance(message, Closed) and message.at_once:
            self.end_on_source()
        elif isinstance(message, Closed):
            self.source.later(HEARTBEAT * self._rng.random(), self.end_on_source)

    def end_on_source(self) -> None:
        """The dump thread ends: killed, or its socket is dead."""
        if self.source_open:
            self.source_open = False
            self.settle()
            self.source.replication.stream_ended(self)
            self.down.send(Closed())

    # --- on the replica ---------------------------------------------------------------------------------------------

    def _reached_replica(self, message: Message) -> None:
        if not self.replica_open:
            return
        if isinstance(message, Accepted):
            self.replica.replication.connected(message.attempt, self, message.server_id)
        elif isinstance(message, Events):
            died = self.source.died_at
            if died is not None and died < message.sent_at:
                return
            self._heard_now()
            self.replica.replication.received(self, message)
        elif isinstance(message, Fatal):
            self.replica.replication.refused(self, message.text)
        else:
            self.replica.replication.lost_stream(self)

    def acknowledge(self, upto: int) -> None:
        self.up.send(Acknowledgement(upto))

    def end_on_replica(self, *, at_once: bool = False) -> None:
        """Its socket is closed."""
        if self.replica_open:
            self.replica_open = False
            self.up.send(Closed(at_once))

    def reset_by_firewall(self) -> None:
        """No packet of ours leaves this host any more; the source is not told."""
        self.replica_open = False
        self.up.lose()

    # --- hearing: heartbeats are counted, not sent --------------------------------------------------------------------

    @property
    def _live(self) -> bool:
        source = self.source
        return (
            self.source_open
            and source.died_at is None
            and not source.program.frozen
            and self.network.reachable(source.server.address, self.replica.server.address)
        )

    def heard_at(self) -> float:
        if self._beats_from is None:
            return self._heard
        beats = int((self.kernel.now - self._beats_from) / HEARTBEAT)
        return max(self._heard, self._beats_from + beats * HEARTBEAT)

    def _heard_now(self) -> None:
        self._heard = self.kernel.now
        if self._beats_from is not None:
            self._beats_from = self.kernel.now

    def settle(self) -> None:
        """Something has changed that may start or end the heartbeats."""
        live, now = self._live, self.kernel.now
        if live and self._beats_from is None:
            # The first one comes when TCP tries again, the later the longer it had nothing.
            self._beats_from = now + self._patience() - HEARTBEAT
        elif not live and self._beats_from is not None:
            self._heard, self._beats_from, self._cut_since = self.heard_at(), None, now

    def _patience(self) -> float:
        since = self._cut_since if self._cut_since is not None else self.kernel.now
        return self._rng.uniform(0.02, 0.2 + 0.5 * (self.kernel.now - since))

    def network_changed(self) -> None:
        self.settle()
        after = self._patience()
        self.down.resume(after)
        self.up.resume(after)

    def source_meets_nobody(self) -> None:
        """The replica's host answers the next heartbeat with a reset, if it reaches it."""
        here, there = self.replica.server.address, self.source.server.address
        both = self.network.reachable(here, there) and self.network.reachable(there, here)
        if self.source_open and not self.replica_open and both:
            self.source.later(HEARTBEAT * self._rng.random() + self._patience(), self.end_on_source)

    def arriving(self) -> Transaction | None:
        """What the replica would receive next, when something is on its way."""
        message = self.down.first
        return message.transactions[0] if isinstance(message, Events) else None

    @property
    def over(self) -> bool:
        return not self.source_open and not self.replica_open and self.down.empty and self.up.empty
