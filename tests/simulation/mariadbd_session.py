"""Implements core.vault_ports.Database over a simulated mariadbd. Calls block the greenlet that makes them."""

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from replication.core.commands import ReplicationAccount
from replication.core.positions import GtidPosition
from replication.core.vault_ports import (
    AccountStatus,
    DatabaseError,
    Positions,
    RelayPlace,
    ReplicaStatus,
    Source,
    Switches,
)
from replication.dialects.mariadb import Observation
from tests.simulation.mariadbd_commit import LOST, TEXTS, Commit
from tests.simulation.mariadbd_storage import What

if TYPE_CHECKING:
    from tests.simulation.mariadbd import Mariadbd, Run

STATEMENT: Final = (0.0001, 0.0006)
"""Seconds that a statement takes which waits for nothing."""
READ_SECONDS: Final = 90.0
"""The driver gives up on an answer."""
AGENT_SESSIONS: Final = 2
NO_SERVER, MUST_STOP, NO_SOURCE, NO_SUCH_USER = 2002, 1198, 1200, 1396
OVER: Final = "the time for this command is over"
VERSION: Final = "10.11.19-MariaDB-fake"


class Session:
    keeps_relay_log = False

    def __init__(self, server: "Mariadbd") -> None:
        self._server, self._kernel = server, server.kernel
        self._aborted = False

    def abort(self) -> None:
        """From elsewhere: the call that blocks now fails at once, and so does every later one until `ready`."""
        self._aborted = True
        self._server.signal.fire()

    def ready(self) -> None:
        self._aborted = False

    # --- waiting ------------------------------------------------------------------------------------------------------

    def _run(self) -> "Run":
        """The server, once it answers. From code that cannot wait it is asked only when it is ready."""
        server = self._server
        run = server.run
        if self._aborted:
            raise DatabaseError(0, OVER)
        if run is None or not run.up:
            raise DatabaseError(NO_SERVER, "Can't connect to local server through socket")
        if server.blocks():
            low, high = STATEMENT
            self._kernel.block(low + (high - low) * server.rng.random())
            self._wait(run, lambda: not run.program.frozen)
        return run

    def _wait(self, run: "Run", condition: Callable[[], object], seconds: float = READ_SECONDS) -> bool:
        """Until the condition holds and the server answers. Returns whether it came to hold in time."""
        server = self._server
        over = lambda: (  # noqa: E731
            self._aborted or server.run is not run or (not run.program.frozen and condition())
        )
        if not server.blocks():
            if not over():
                raise DatabaseError(LOST, "only blocking code can wait for this")
        elif not self._kernel.block_until(over, self._kernel.now + seconds, server.signal):
            if seconds >= READ_SECONDS or run.program.frozen:
                raise DatabaseError(LOST, TEXTS[LOST])
            return False
        if self._aborted:
            raise DatabaseError(0, OVER)
        if server.run is not run:
            raise DatabaseError(LOST, TEXTS[LOST])
        return True

    def _accounts_free(self, run: "Run") -> None:
        self._wait(run, lambda: not run.pipeline.accounts_busy)

    def _write(self, what: What, *, sequence: int = 0) -> None:
        run = self._run()
        errors: list[int] = []

        def ended(error: int) -> None:
            errors.append(error)
            self._server.signal.fire()

        run.pipeline.submit(Commit(what, ended, privileged=True, sequence=sequence))
        self._wait(run, lambda: errors)
        if errors[0]:
            raise DatabaseError(errors[0], TEXTS.get(errors[0], "the statement was refused"))

    # --- looking ------------------------------------------------------------------------------------------------------

    def ping(self) -> None:
        self._run()

    def observe(self) -> Observation:
        run = self._run()
        self._accounts_free(run)
        replica = run.replication.status()
        heard = run.replication.heard_at()
        return Observation(
            version=VERSION,
            positions=self._positions(run),
            switches=self._switches(run),
            replica=replica,
            acknowledged=run.pipeline.yes,
            unacknowledged=run.pipeline.no,
            connections=len(run.calls) + AGENT_SESSIONS,
            connections_max=self._server.max_connections,
            heard=(str(heard), replica.gtid_io_pos) if replica is not None else (),
        )

    def positions(self) -> Positions:
        return self._positions(self._run())

    @staticmethod
    def _positions(run: "Run") -> Positions:
        storage = run.storage
        return Positions(
            server_id=run.server_id,
            gtid_binlog_pos=storage.binlog_pos,
            gtid_binlog_state=storage.binlog_state,
            gtid_slave_pos=",".join(str(storage.slave_pos[d]) for d in sorted(storage.slave_pos)),
        )

    def replica(self) -> ReplicaStatus | None:
        return self._run().replication.status()

    def switches(self) -> Switches:
        run = self._run()
        self._accounts_free(run)
        return self._switches(run)

    @staticmethod
    def _switches(run: "Run") -> Switches:
        pipeline, replication = run.pipeline, run.replication
        return Switches(
            read_only=pipeline.read_only,
            waiting=pipeline.waiting,
            acknowledging=replication.acknowledging,
            stream_acknowledges=replication.stream_acknowledges,
            ack_clients=replication.ack_clients,
            waiting_sessions=pipeline.waiting_sessions,
        )

    def drift(self) -> tuple[str, ...]:
        self._run()
        return self._server.drifted

    # --- switches -----------------------------------------------------------------------------------------------------

    def set_read_only(self, on: bool) -> None:
        run = self._run()
        if on:
            self._lock(run, None)
        else:
            run.pipeline.read_only = False
            run.changed()

    def close_writes(self, limit: timedelta) -> bool:
        return self._lock(self._run(), limit.total_seconds())

    def _lock(self, run: "Run", seconds: float | None) -> bool:
        pipeline = run.pipeline
        if pipeline.read_only:
            return True
        if not self._wait(run, lambda: pipeline.lock is None, READ_SECONDS if seconds is None else seconds):
            return False
        reached: list[bool] = []

        def ended(how: bool) -> None:
            reached.append(how)
            self._server.signal.fire()

        pipeline.begin_lock(ended, seconds)
        self._wait(run, lambda: reached)
        return reached[0]

    def end_writers(self, longer_than: timedelta, limit: timedelta) -> bool:
        run = self._run()
        pipeline = run.pipeline
        if not self._wait(run, lambda: not any(pipeline.under_way()), limit.total_seconds()):
            return False
        for call, since in [*pipeline.running.items()]:
            if run.now - since > longer_than.total_seconds():
                pipeline.end_running(call)
        return True

    def set_waiting(self, on: bool) -> None:
        self._run().pipeline.set_waiting(on)

    def set_acknowledging(self, on: bool) -> None:
        run = self._run()
        run.replication.acknowledging = on
        run.changed()

    def set_server_id(self, server_id: int) -> None:
        run = self._run()
        run.server_id = self._server.server_id = server_id

    # --- replication --------------------------------------------------------------------------------------------------

    def _stopped(self) -> "Run":
        run = self._run()
        if not run.replication.stopped:
            raise DatabaseError(MUST_STOP, "This operation cannot be performed as you have a running slave")
        return run

    def change_source(self, source: Source) -> None:
        run = self._stopped()
        if source.demote:
            run.storage.count_own_as_applied()
        run.replication.change_source(source)

    def count_own_as_applied(self) -> None:
        self._stopped().storage.count_own_as_applied()

    def apply_relay_log(self, begin: RelayPlace, end: RelayPlace) -> None:
        self._stopped().replication.apply_by_place(begin, end)

    def follow_by_gtid(self) -> None:
        replication = self._stopped().replication
        replication.disk.by_gtid = True
        replication.forget_relay_log()

    def start_receiver(self) -> None:
        self._start(receiver=True, applier=False)

    def start_applier(self) -> None:
        self._start(receiver=False, applier=True)

    def start_replication(self) -> None:
        self._start(receiver=True, applier=True)

    def _start(self, *, receiver: bool, applier: bool) -> None:
        run = self._run()
        if run.replication.disk.source is None:
            raise DatabaseError(NO_SOURCE, "Misconfigured slave: MASTER_HOST was not set")
        run.replication.start(receiver=receiver, applier=applier)

    def stop_receiver(self) -> None:
        run = self._run()
        run.replication.stop_receiver()
        self._wait(run, lambda: run.replication.receiver == "No")

    def stop_replication(self) -> None:
        self.stop_receiver()
        run = self._run()
        replication = run.replication
        replication.ending = replication.applier
        self._wait(run, lambda: not replication.busy)
        replication.end_applier()

    def forget_source(self) -> None:
        self._stopped().replication.forget_source()

    def wait_applied(self, position: str, duration: timedelta) -> bool:
        if not position:
            return True
        run = self._run()
        GtidPosition.parse(position)
        return self._wait(run, lambda: run.replication.covers(position), duration.total_seconds())

    # --- epochs -------------------------------------------------------------------------------------------------------

    def epoch_recorded(self, epoch: int) -> bool:
        return epoch in self._run().storage.epochs

    def record_epoch(self, epoch: int, first_sequence: int) -> None:
        objects = self._run().storage.objects
        for what in (("database", "vault_ha"), ("table", "vault_ha.epoch")):
            if " ".join(what) not in objects:
                self._write(what, sequence=first_sequence)
                first_sequence = 0
        self._write(("epoch", epoch), sequence=first_sequence)

    # --- accounts -----------------------------------------------------------------------------------------------------

    def accounts(self) -> tuple[AccountStatus, ...]:
        run = self._run()
        self._accounts_free(run)
        return tuple(
            AccountStatus(name=name, subject=account.subject if account.granted else "", locked=account.locked)
            for name, account in sorted(run.storage.accounts.items())
        )

    def create_account(self, account: ReplicationAccount) -> None:
        self._write(("account", account.name, account.subject))
        self._write(("grant", account.name))

    def drop_account(self, name: str) -> None:
        self._write(("drop account", name))

    def lock_account(self, name: str, locked: bool) -> None:
        run = self._run()
        self._wait(run, lambda: not run.pipeline.accounts_busy and run.pipeline.lock is None)
        account = run.storage.accounts.get(name)
        if account is None:
            raise DatabaseError(NO_SUCH_USER, f"Operation ALTER USER failed for '{name}'@'%'")
        account.locked = locked

    def end_streams(self, name: str) -> int:
        return self._run().replication.end_streams(name)

    def ensure_client(self) -> None:
        run = self._run()
        if not self._server.client_account:
            return
        for what in (("client database", "vault"), ("client user", "vault"), ("client grant", "vault")):
            if " ".join(what) not in run.storage.objects:
                self._write(what)
