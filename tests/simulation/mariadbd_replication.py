"""Both sides of replication in one running mariadbd.

With GTID, the relay log is thrown away when one of the two threads is started while both are stopped, and everything is
fetched again from gtid_slave_pos. relay-log.info lags behind the applier, it is right only after a clean stop.
"""

from random import Random
from typing import TYPE_CHECKING, Final

from replication.core.vault_ports import RelayPlace, ReplicaStatus, Source
from tests.simulation.mariadbd_applier import Applier
from tests.simulation.mariadbd_dumps import Dumps
from tests.simulation.mariadbd_receiver import Receiver
from tests.simulation.mariadbd_stream import Closed, Stream

if TYPE_CHECKING:
    from tests.simulation.mariadbd import Run

TORN: Final = 0.3
"""How often a crash leaves half a transaction at the end of the relay log, when one was on its way."""


class Replication(Dumps, Applier, Receiver):
    def __init__(self, run: "Run", rng: Random) -> None:
        self.run, self.rng, self.storage, self.disk = run, rng, run.storage, run.server.replica_disk
        self.streams: list[Stream] = []
        """Of this server's dump threads."""
        self._begin_receiver()
        self._begin_applier()

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
