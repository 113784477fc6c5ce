"""Both sides of replication in one running mariadbd: its dump threads, its receiver and its applier, its relay log.

With GTID, the relay log is thrown away when one of the two threads is started while both are stopped, and everything is
fetched again from gtid_slave_pos. relay-log.info lags behind the applier, it is right only after a clean stop.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Final

from replication.core.positions import Gtid, GtidPosition
from replication.core.vault_ports import RelayPlace, RelayTransaction, ReplicaStatus, Source
from tests.simulation.kernel import Timer
from tests.simulation.mariadbd_commit import OUT_OF_ORDER, Commit
from tests.simulation.mariadbd_storage import Account, Transaction
from tests.simulation.mariadbd_stream import Accepted, Closed, Events, Fatal, Stream

if TYPE_CHECKING:
    from tests.simulation.mariadbd import Mariadbd, Run

CONNECT_RETRY: Final = 1.0
NET_TIMEOUT: Final = 4.0
KILL_DIAL: Final = 1.0
"""rpl_semi_sync_slave_kill_conn_timeout."""
QUICK_DIAL: Final = (0.001, 0.008)
HANDSHAKE: Final = (0.006, 0.02)
REFUSED, LOCKED, DENIED, FATAL, SAME_ID, DUPLICATE = 2003, 4151, 1045, 1236, 1593, 1062
TORN: Final = 0.3
"""How often a crash leaves half a transaction at the end of the relay log, when one was on its way."""
BYTES: Final = 100
"""Of one transaction in the relay log."""
HEADER: Final = 4
POSITION: Final = 0.0005
"""Seconds from a statement on tables to the transaction that tells the position."""


@dataclass
class ReplicaDisk:
    """master.info, relay-log.info and the relay log: they survive the process."""

    source: Source | None = None
    by_gtid: bool = True
    relay: list[Transaction] = field(default_factory=list)
    torn: Transaction | None = None
    rows: set[int] = field(default_factory=set)
    """Of clients, that stand in the relay log."""
    generation: int = 1
    info: int = 0
    """Index in the relay log that relay-log.info tells."""
    flushed: int = 0
    """So many at the head of it survive a power cut."""

    def throw_away(self) -> None:
        self.relay, self.torn, self.info, self.flushed = [], None, 0, 0
        self.rows = set()
        self.generation += 1

    def write(self, transactions: list[Transaction], *, flush: bool) -> None:
        self.relay.extend(transactions)
        self.rows.update(int(t.what[1]) for t in transactions if t.what[0] == "row")
        if flush:
            self.flushed = len(self.relay)

    def lose_power(self) -> None:
        del self.relay[self.flushed :]
        self.torn = None
        self.rows = {int(t.what[1]) for t in self.relay if t.what[0] == "row"}

    def place(self, index: int) -> RelayPlace:
        return RelayPlace(f"relay.{self.generation:06}", HEADER + BYTES * index)

    def index(self, place: RelayPlace) -> int:
        assert place.file == f"relay.{self.generation:06}", f"{place} is in no relay log"
        return (place.offset - HEADER) // BYTES

    def transactions(self) -> Iterator[RelayTransaction]:
        for index, transaction in enumerate(self.relay):
            yield RelayTransaction(transaction.gtid, self.place(index), self.place(index + 1))
        if self.torn is not None:
            yield RelayTransaction(self.torn.gtid, self.place(len(self.relay)), None)


class Attempt:
    """The receiver's try to connect."""

    __slots__ = ("over", "timer")

    def __init__(self) -> None:
        self.over = False
        self.timer: Timer | None = None


class Replication:
    def __init__(self, run: "Run", rng: Random) -> None:
        self.run, self.rng, self.storage, self.disk = run, rng, run.storage, run.server.replica_disk
        self.streams: list[Stream] = []
        """Of this server's dump threads."""
        self.acknowledging = False
        """rpl_semi_sync_slave_enabled."""
        self.stream_acknowledges = False
        """Rpl_semi_sync_slave_status: settled when the receiver starts and whenever it connects."""
        self.receiver = "No"
        self.receiver_errno, self.receiver_error = 0, ""
        self.applier = False
        self.applier_errno, self.applier_error = 0, ""
        self.io_pos: dict[int, Gtid] = {}
        self.stream: Stream | None = None
        self.source_known: Mariadbd | None = None
        """Whom the receiver has reached since it was started."""
        self.ever_heard: float | None = None
        self.source_server_id = 0
        self.attempt: Attempt | None = None
        self.applied_to = self.disk.info
        """Index in the relay log of what is applied next."""
        self.until: int | None = None
        self.ending = False
        """STOP SLAVE was given: the applier ends behind the transaction that it is at, whatever else it has."""
        self._applies = False
        self._stopping = False

    # --- the source's side ------------------------------------------------------------------------------------------

    @property
    def ack_clients(self) -> int:
        return sum(stream.acknowledges for stream in self.streams)

    def appended(self) -> None:
        for stream in self.streams:
            stream.pump()

    def accept(self, replica: "Run", attempt: Attempt, account: str, position: str) -> None:
        """Somebody logs in and asks for the binary log from a position."""
        error = self._login_error(self.storage.accounts.get(account))
        if error is not None:
            self._answer(replica, lambda: replica.replication.not_connected(attempt, *error))
            return
        theirs = replica.replication
        if replica.server_id == self.run.server_id:
            self._answer(replica, lambda: replica.replication.same_server_id(attempt))
            return
        for zombie in [s for s in self.streams if s.server_id == replica.server_id]:
            zombie.end_on_source()
        start = self.storage.start_of(position)
        stream = Stream(
            self.run,
            replica,
            account=account,
            server_id=replica.server_id,
            acknowledges=theirs.acknowledging,
            start=start,
        )
        self.streams.append(stream)
        replica.server.connections.append(stream)
        if self.run.server.network.reachable(self.run.server.address, replica.server.address):
            stream.down.send(Accepted(attempt, self.run.server_id))
        else:  # the replica gives up before it hears of it
            stream.replica_open = False
        if start.error:
            self.run.later(0.002, lambda: self._refuse(stream, start.error))
        else:
            stream.pump()
        self.run.changed()

    @staticmethod
    def _login_error(account: Account | None) -> tuple[int, str] | None:
        if account is None or not account.granted:
            return DENIED, "Access denied"
        return (LOCKED, "Access denied, this account is locked") if account.locked else None

    def _answer(self, replica: "Run", arrive: Callable[[], None]) -> None:
        network = self.run.server.network
        if network.reachable(self.run.server.address, replica.server.address):
            self.run.kernel.later(network.delay(), replica.program, arrive)

    def _refuse(self, stream: Stream, text: str) -> None:
        stream.down.send(Fatal(text))
        if stream.source_open:
            stream.source_open = False
            self.stream_ended(stream)

    def stream_ended(self, stream: Stream) -> None:
        if stream in self.streams:
            self.streams.remove(stream)
            self.run.pipeline.advance()
            self.run.changed()

    def end_streams(self, account: str) -> int:
        ended = [s for s in self.streams if s.account == account]
        for stream in ended:
            stream.end_on_source()
        return len(ended)

    # --- receiver: starting and stopping ------------------------------------------------------------------------------

    @property
    def stopped(self) -> bool:
        return self.receiver == "No" and not self.applier

    def start(self, *, receiver: bool, applier: bool) -> None:
        if self.stopped and self.disk.by_gtid and (receiver or applier):
            self.disk.throw_away()
            self.applied_to, self.until = 0, None
            self.io_pos = dict(self.storage.slave_pos)
        if receiver and self.receiver == "No":
            self.receiver, self.receiver_errno, self.receiver_error = "Connecting", 0, ""
            self.stream_acknowledges = self.acknowledging
            self._dial()
        if applier and not self.applier:
            self.applier, self.applier_errno, self.applier_error = True, 0, ""
            self._plan_apply()
        self.run.changed()

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

    # --- receiver: connecting ---------------------------------------------------------------------------------------

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

    # --- receiver: events ---------------------------------------------------------------------------------------------

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

    # --- applier ------------------------------------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """A transaction is being committed: the applier cannot stop before it is."""
        return self._applies

    def _plan_apply(self) -> None:
        if self.applier and not self.ending and not self._applies and self.applied_to < self._end():
            self._applies = True
            self.run.later(self.rng.uniform(*self.run.server.apply_seconds), self._apply)

    def _end(self) -> int:
        return len(self.disk.relay) if self.until is None else min(self.until, len(self.disk.relay))

    def _apply(self) -> None:
        if not self.applier:
            self._applies = False
            return
        transaction = self.disk.relay[self.applied_to]
        if transaction.gtid.server == self.run.server_id and not self.acknowledging:
            self.storage.count_applied(transaction.gtid)  # an event of its own: skipped, and counted
            self._applied()
            return
        obstacle = self.storage.out_of_order(transaction.gtid)
        if obstacle is not None:
            text = f"An attempt was made to binlog GTID {transaction.gtid} which would create an out-of-order sequence number"
            self._fail(OUT_OF_ORDER, f"{text} with existing GTID {obstacle}, and gtid strict mode is enabled")
        elif transaction.what[0] == "row" and transaction.what[1] in self.storage.rows:
            self._fail(DUPLICATE, f"Duplicate entry '{transaction.what[1]}' for key 'PRIMARY'")
        else:
            self._commit(transaction)

    def _commit(self, transaction: Transaction) -> None:
        pipeline = self.run.pipeline
        if pipeline.idle and not pipeline.waiting and pipeline.lock is None:
            index = self.storage.append(transaction, applied=True)
            self.appended()
            self._committed(transaction, index)
        else:
            commit = Commit(
                transaction.what,
                lambda error: self._committed(transaction, commit.index) if not error else None,
                privileged=True,
                applied=transaction,
            )
            pipeline.submit(commit)

    def _committed(self, transaction: Transaction, index: int) -> None:
        self.storage.commit(index + 1, self.run.now)
        if transaction.prepared:
            self._applied()
        else:  # the position is a transaction of its own
            self.run.later(POSITION, self._position_applied, transaction)

    def _position_applied(self, transaction: Transaction) -> None:
        self.storage.count_applied(transaction.gtid)
        self._applied()

    def _applied(self) -> None:
        self._applies = False
        self.applied_to += 1
        if self.until is not None and self.applied_to >= self.until and self.rng.random() < 0.5:
            self.end_applier()
        self._plan_apply()
        self.run.progressed()

    def _fail(self, errno: int, text: str) -> None:
        self._applies = False
        self.applier_errno, self.applier_error = errno, text
        self.end_applier()

    def end_applier(self) -> None:
        self.ending = False
        if self.applier:
            self.applier = False
            self.disk.info = self.applied_to
            self.run.changed()

    # --- the source that it has ---------------------------------------------------------------------------------------

    def change_source(self, source: Source) -> None:
        self.disk.source, self.disk.by_gtid = source, True
        self.forget_relay_log()

    def forget_relay_log(self) -> None:
        self.disk.throw_away()
        self.applied_to, self.until = 0, None
        self.io_pos = {}
        self.receiver_errno, self.receiver_error, self.applier_errno, self.applier_error = 0, "", 0, ""

    def forget_source(self) -> None:
        self.disk.source = None
        self.forget_relay_log()
        self.ever_heard, self.source_server_id = None, 0

    def apply_by_place(self, begin: RelayPlace, end: RelayPlace) -> None:
        self.disk.by_gtid = False
        self.applied_to, self.until = self.disk.index(begin), self.disk.index(end)
        self.start(receiver=False, applier=True)

    # --- what is seen of it -------------------------------------------------------------------------------------------

    def status(self) -> ReplicaStatus | None:
        source = self.disk.source
        if source is None:
            return None
        return ReplicaStatus(
            source_host=source.host,
            source_port=source.port,
            account=source.account,
            source_server_id=self.source_server_id,
            receiver=self.receiver,
            applier=self.applier,
            gtid_io_pos=",".join(str(self.io_pos[d]) for d in sorted(self.io_pos)),
            receiver_errno=self.receiver_errno,
            receiver_error=self.receiver_error,
            applier_errno=self.applier_errno,
            applier_error=self.applier_error,
            seconds_behind=self._seconds_behind(),
            by_gtid=self.disk.by_gtid,
        )

    def _seconds_behind(self) -> float | None:
        if self.receiver != "Yes" or not self.applier:
            return None
        if self.applied_to >= len(self.disk.relay):
            return 0.0
        return float(int(self.run.now - self.disk.relay[self.applied_to].at))

    def covers(self, position: str) -> bool:
        return GtidPosition(self.storage.slave_pos).covers(GtidPosition.parse(position))

    # --- the end ------------------------------------------------------------------------------------------------------

    def end_process(self, *, power: bool) -> None:
        """Its sockets are closed by the kernel, or by nobody when the host has lost its power."""
        stream = self.stream
        arriving = stream.arriving() if stream is not None else None
        if arriving is not None and self.rng.random() < TORN:
            self.disk.torn = arriving
        if power:
            self.disk.lose_power()
        for ours in [*self.streams]:
            ours.source_open = False
            ours.settle()
            if not power:
                ours.down.send(Closed())
        self.streams.clear()
        if stream is not None:
            if power:
                stream.replica_open = False
                stream.up.lose()
            else:
                stream.end_on_replica()
