"""The source's side of replication: who may log in, from where he is served, and the dump threads that serve."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from tests.simulation.mariadbd_storage import Account
from tests.simulation.mariadbd_stream import Accepted, Fatal, Stream

if TYPE_CHECKING:
    from tests.simulation.mariadbd import Run
    from tests.simulation.mariadbd_receiver import Attempt

LOCKED, DENIED = 4151, 1045
JUDGED_AFTER: Final = 0.002
"""Seconds: a receiver says Yes before its source has judged its position."""


class Dumps:
    run: "Run"
    streams: list[Stream]

    @property
    def ack_clients(self) -> int:
        return sum(stream.acknowledges for stream in self.streams)

    def appended(self) -> None:
        for stream in self.streams:
            stream.pump()

    def accept(self, replica: "Run", attempt: "Attempt", account: str, position: str) -> None:
        """Somebody logs in and asks for the binary log from a position."""
        error = self._login_error(self.run.storage.accounts.get(account))
        if error is not None:
            self._answer(replica, lambda: replica.replication.not_connected(attempt, *error))
            return
        theirs = replica.replication
        if replica.server_id == self.run.server_id:
            self._answer(replica, lambda: replica.replication.same_server_id(attempt))
            return
        for zombie in [s for s in self.streams if s.server_id == replica.server_id]:
            zombie.end_on_source()
        start = self.run.storage.start_of(position)
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
            self.run.later(JUDGED_AFTER, lambda: self._refuse(stream, start.error))
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
