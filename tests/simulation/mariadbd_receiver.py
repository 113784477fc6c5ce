"""The receiver of a replica: it dials, falls silent, is refused, is cut off, and writes the relay log."""

from random import Random
from typing import TYPE_CHECKING, Final

from replication.core.positions import Gtid
from replication.core.vault_ports import Source
from tests.simulation.kernel import Timer
from tests.simulation.mariadbd_relay import ReplicaDisk
from tests.simulation.mariadbd_stream import Events, Stream

if TYPE_CHECKING:
    from tests.simulation.mariadbd import Mariadbd, Run

CONNECT_RETRY: Final = 1.0
NET_TIMEOUT: Final = 4.0
KILL_DIAL: Final = 1.0
"""rpl_semi_sync_slave_kill_conn_timeout."""
QUICK_DIAL: Final = (0.001, 0.008)
HANDSHAKE: Final = (0.006, 0.02)
REFUSED, FATAL, SAME_ID = 2003, 1236, 1593


class Attempt:
    """The receiver's try to connect."""

    __slots__ = ("over", "timer")

    def __init__(self) -> None:
        self.over = False
        self.timer: Timer | None = None


class Receiver:
    run: "Run"
    rng: Random
    disk: ReplicaDisk

    def _begin_receiver(self) -> None:
        """A process has started."""
        self.acknowledging = False
        """rpl_semi_sync_slave_enabled."""
        self.stream_acknowledges = False
        """Rpl_semi_sync_slave_status: settled when the receiver starts and whenever it connects."""
        self.receiver = "No"
        self.receiver_errno, self.receiver_error = 0, ""
        self.io_pos: dict[int, Gtid] = {}
        self.stream: Stream | None = None
        self.source_known: Mariadbd | None = None
        """Whom the receiver has reached since it was started."""
        self.source_server_id = 0
        self.ever_heard: float | None = None
        self.attempt: Attempt | None = None
        self._stopping = False

    def _plan_apply(self) -> None:
        raise NotImplementedError

    def stop_receiver(self) -> None:
        """Begin to stop it. One that acknowledges dials its source once more to end the stream there, also when it has lost
        it by now."""
        if self.receiver == "No" or self._stopping:
            return
        stream, self.stream = self.stream, None
        self._give_up_attempt()
        if self.source_known is None or not self.stream_acknowledges:
            if stream is not None:
                stream.end_on_replica()
            self._receiver_ended()
            return
        quick = self._dial_is_quick(self.source_known)
        if quick and stream is not None:
            stream.end_on_replica(at_once=True)
        self._stopping = True
        self.run.later(self.rng.uniform(*QUICK_DIAL) if quick else KILL_DIAL, self._dialled, stream)

    def _dialled(self, stream: Stream | None) -> None:
        if stream is not None:
            stream.end_on_replica()
        self._receiver_ended()

    def _dial_is_quick(self, other: "Mariadbd") -> bool:
        me, network = self.run.server, self.run.server.network
        if other.address in me.firewall.revoked:
            return True
        both = network.reachable(me.address, other.address) and network.reachable(other.address, me.address)
        return both and not other.frozen

    def _receiver_ended(self) -> None:
        self._stopping, self.source_known = False, None
        self.receiver, self.stream_acknowledges = "No", False
        self.run.changed()

    def _dial(self) -> None:
        attempt = self.attempt = Attempt()
        attempt.timer = self.run.later(NET_TIMEOUT, lambda: self.not_connected(attempt, REFUSED, "timed out"))
        self._knock(attempt)

    def _knock(self, attempt: Attempt) -> None:
        """The first packet."""
        source, me = self.disk.source, self.run.server
        if attempt.over or source is None:
            return
        if source.host in me.firewall.revoked or source.host not in me.others:
            self.not_connected(attempt, REFUSED, "refused")
            return
        if not me.network.reachable(me.address, source.host):
            return  # TCP tries again, see network_changed
        other, delay = me.others[source.host], me.network.delay()
        self.run.kernel.later(delay, None, lambda: self._knocked(other, attempt, source))

    def _knocked(self, other: "Mariadbd", attempt: Attempt, source: Source) -> None:
        there, me = other.run, self.run
        if there is None or not there.up or source.port != other.port:
            network = me.server.network
            if network.reachable(other.address, me.server.address):
                me.later(network.delay(), lambda: self.not_connected(attempt, REFUSED, "refused"))
            return
        position = ",".join(str(self.io_pos[d]) for d in sorted(self.io_pos))
        seconds = self.rng.uniform(*HANDSHAKE)
        accept = there.replication.accept
        me.kernel.later(seconds, there.program, lambda: accept(me, attempt, source.account, position))

    def not_connected(self, attempt: Attempt, errno: int, text: str) -> None:
        if attempt.over:
            return
        self._give_up_attempt()
        self.receiver_errno, self.receiver_error = errno, f"error connecting to master: {text}"
        self.run.later(CONNECT_RETRY, self._dial_again)
        self.run.changed()

    def same_server_id(self, attempt: Attempt) -> None:
        if not attempt.over:
            self._give_up_attempt()
            text = "Fatal error: The slave I/O thread stops because master and slave have equal MySQL server ids"
            self.receiver_errno, self.receiver_error = SAME_ID, text
            self._receiver_ended()

    def _dial_again(self) -> None:
        if self.receiver == "Connecting" and self.attempt is None and not self._stopping:
            self._dial()

    def _give_up_attempt(self) -> None:
        attempt, self.attempt = self.attempt, None
        if attempt is not None:
            attempt.over = True
            if attempt.timer is not None:
                attempt.timer.cancel()

    def connected(self, attempt: Attempt, stream: Stream, server_id: int) -> None:
        if attempt.over or not stream.replica_open:
            stream.end_on_replica()
            return
        self._give_up_attempt()
        self.stream, self.receiver, self.receiver_errno, self.receiver_error = stream, "Yes", 0, ""
        self.stream_acknowledges, self.source_known = stream.acknowledges, stream.source.server
        self.source_server_id = server_id
        self.ever_heard = self.run.now
        self._watch_silence(stream)
        self.run.changed()

    def lost_stream(self, stream: Stream) -> None:
        """The connection broke: it dials at once."""
        if stream is not self.stream:
            return
        self.ever_heard, self.stream = stream.heard_at(), None
        stream.end_on_replica()
        self.receiver = "Connecting"
        self._dial()
        self.run.changed()

    def refused(self, stream: Stream, text: str) -> None:
        if stream is not self.stream:
            return
        self.stream = None
        stream.end_on_replica()
        self.receiver_errno, self.receiver_error = FATAL, text
        self._receiver_ended()

    def _watch_silence(self, stream: Stream) -> None:
        if stream is not self.stream:
            return
        left = stream.heard_at() + NET_TIMEOUT - self.run.now
        if left <= 0:
            self.lost_stream(stream)
        else:
            self.run.later(max(left, 0.01), lambda: self._watch_silence(stream))

    def network_changed(self) -> None:
        attempt = self.attempt
        if attempt is not None:
            self.run.later(self.rng.uniform(0.01, 1.0), lambda: self._knock(attempt))

    def cut_off(self, address: str) -> None:
        """The firewall of this host resets connections to an address."""
        if self.stream is not None and self.stream.source.server.address == address:
            stream = self.stream
            stream.reset_by_firewall()
            self.lost_stream(stream)
        elif self.attempt is not None and self.disk.source is not None and self.disk.source.host == address:
            self.not_connected(self.attempt, REFUSED, "refused")

    def received(self, stream: Stream, events: Events) -> None:
        if stream is not self.stream:
            return
        self.disk.write(events.transactions, flush=self.acknowledging)  # sync_relay_log = 1 on an acker
        for transaction in events.transactions:
            self.io_pos[transaction.gtid.domain] = transaction.gtid
        self.ever_heard = self.run.now
        if events.wants_reply:
            stream.acknowledge(events.upto)
        self._plan_apply()
        self.run.progressed()

    def heard_at(self) -> float | None:
        return self.stream.heard_at() if self.stream is not None else self.ever_heard
