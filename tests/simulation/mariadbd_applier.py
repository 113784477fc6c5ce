"""The applier of a replica: transactions of the relay log become commits, or it stops."""

from random import Random
from typing import TYPE_CHECKING, Final

from replication.core.positions import GtidPosition
from tests.simulation.mariadbd_commit import OUT_OF_ORDER, Commit
from tests.simulation.mariadbd_relay import ReplicaDisk
from tests.simulation.mariadbd_storage import Storage, Transaction

if TYPE_CHECKING:
    from tests.simulation.mariadbd import Run

DUPLICATE: Final = 1062
POSITION: Final = 0.0005
"""Seconds from a statement on tables to the transaction that tells the position."""


class Applier:
    run: "Run"
    rng: Random
    storage: Storage
    disk: ReplicaDisk

    def _begin_applier(self) -> None:
        """A process has started."""
        self.applier = False
        self.applier_errno, self.applier_error = 0, ""
        self.applied_to = self.disk.info
        """Index in the relay log of what is applied next."""
        self.until: int | None = None
        self.ending = False
        """STOP SLAVE was given: the applier ends behind the transaction that it is at, whatever else it has."""
        self._applies = False

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

    def covers(self, position: str) -> bool:
        return GtidPosition(self.storage.slave_pos).covers(GtidPosition.parse(position))
