"""How writes become commits: group commit, the wait for an acknowledgement, and read_only, which waits for both.

One group waits for its acknowledgement; the next one is in the binary log already and waits behind it, holding the log; all
others wait for the log and stand nowhere yet. An acknowledgement comes for what was sent over the living stream: what the
replica has from an earlier one is never acknowledged by itself, only with something that is written later.
"""

from collections.abc import Callable, Iterable
from random import Random
from typing import TYPE_CHECKING, Final

from replication.core.positions import Gtid
from tests.simulation.kernel import Timer
from tests.simulation.mariadbd_storage import ACCOUNT_KINDS, DOMAIN, Transaction, What

if TYPE_CHECKING:
    from tests.simulation.mariadbd import Run
    from tests.simulation.mariadbd_clients import Call

LOST, READ_ONLY, OUT_OF_ORDER, OUT_OF_TIME = 2013, 1290, 1950, 1969
FLUSH: Final = (0.0005, 0.003)
"""Seconds that a group takes to the disk."""
LEAK_AT_SHUTDOWN: Final = 0.15
"""How often a commit that hangs at a SIGTERM is answered with OK (once in 6 runs, measured)."""

TEXTS: Final = {
    LOST: "Lost connection to server during query",
    READ_ONLY: "The MariaDB server is running with the --read-only option so it cannot execute this statement",
    OUT_OF_TIME: "Query execution was interrupted (max_statement_time exceeded)",
}


class Commit:
    """One transaction on its way. `ended` is called once, with 0 or an error number."""

    __slots__ = ("applied", "ended", "index", "is_done", "kind", "privileged", "released", "sequence", "what")

    def __init__(
        self,
        what: What,
        ended: Callable[[int], object],
        *,
        privileged: bool,
        sequence: int = 0,
        applied: Transaction | None = None,
    ) -> None:
        self.what, self.ended, self.privileged, self.sequence, self.applied = what, ended, privileged, sequence, applied
        self.kind = what[0]
        self.index = -1
        self.is_done = False
        self.released: int | None = None
        """Ended by KILL in its wait: the error that its client gets, 0 for KILL QUERY."""

    def end(self, error: int) -> None:
        if not self.is_done:
            self.is_done = True
            self.ended(error)

    @property
    def is_clients(self) -> bool:
        return not self.privileged and self.applied is None

    @property
    def changes_accounts(self) -> bool:
        return self.kind in ACCOUNT_KINDS


class ReadLock:
    """SET read_only=1 that waits for the writes under way; new ones wait for its outcome."""

    __slots__ = ("ended", "timer")

    def __init__(self, ended: Callable[[bool], object]) -> None:
        self.ended = ended
        self.timer: Timer | None = None


class Pipeline:
    def __init__(self, run: "Run", rng: Random) -> None:
        self.run, self.rng, self.storage = run, rng, run.storage
        self.read_only = True
        self.waiting = False
        """rpl_semi_sync_master_enabled."""
        self.wait_no_slave = True
        self.acknowledged_to = 0
        """So many transactions at the head of the log are acknowledged."""
        self.yes, self.no = 0, 0
        self.waits: list[Commit] = []
        self.behind: list[Commit] = []
        self.queue: list[Commit] = []
        self.held: list[Commit] = []
        self.running: dict[Call, float] = {}
        """Statements of clients that write and have not come to their commit, with the moment at which they began."""
        self.lock: ReadLock | None = None
        self._flush_is_due = False
        self._told_waiting = False

    # --- what others see ------------------------------------------------------------------------------------------

    @property
    def waiting_sessions(self) -> int:
        return int(bool(self.waits) and self.waiting)

    @property
    def accounts_busy(self) -> bool:
        """A statement on accounts is under way: it holds what every other look at accounts needs, and so does the status."""
        return any(c.changes_accounts for group in (self.waits, self.behind, self.queue) for c in group)

    @property
    def idle(self) -> bool:
        return not (self.waits or self.behind or self.queue or self.running)

    def under_way(self) -> Iterable[Commit]:
        return (*self.waits, *self.behind, *self.queue)

    # --- in -------------------------------------------------------------------------------------------------------

    def submit(self, commit: Commit) -> None:
        if self.lock is not None or (commit.applied is None and self.accounts_busy):
            self.held.append(commit)
        elif self.read_only and commit.is_clients:
            commit.end(READ_ONLY)
        else:
            self.queue.append(commit)
            self._plan_flush()

    def submit_running(self, commit: Commit) -> None:
        """A statement that was `running` comes to its commit: it is under way, so no lock holds it back."""
        self.queue.append(commit)
        self._plan_flush()

    def end_running(self, call: "Call") -> None:
        """KILL of a session whose statement has not come to its commit: it is rolled back."""
        if self.running.pop(call, None) is not None:
            call.lose()
            self.advance()

    def _plan_flush(self) -> None:
        if not self._flush_is_due and not self.behind:
            self._flush_is_due = True
            low, high = FLUSH
            self.run.later(low + (high - low) * self.rng.random(), self._flush)

    def _flush(self) -> None:
        self._flush_is_due = False
        if self.behind:
            return
        group, self.queue = self.queue, []
        written = [commit for commit in group if self._write(commit)]
        if written:
            if self.waits:
                self.behind = written
            else:
                self.waits = written
            self.run.replication.appended()
        self.advance()

    def _write(self, commit: Commit) -> bool:
        if commit.applied is not None:
            commit.index = self.storage.append(commit.applied, applied=True)
            return True
        if self.read_only and commit.is_clients:
            commit.end(READ_ONLY)
            return False
        sequence = commit.sequence or self.storage.next_sequence()
        gtid = Gtid(DOMAIN, self.run.server_id, sequence)
        if self.storage.out_of_order(gtid):
            commit.end(OUT_OF_ORDER)
            return False
        commit.index = self.storage.append(Transaction(gtid, commit.what, self.run.now), applied=False)
        return True

    # --- the wait -------------------------------------------------------------------------------------------------

    def advance(self) -> None:
        """Go on as far as acknowledgements, switches and locks allow."""
        while self.waits:
            why_over = self._over(self.waits)
            if why_over is None:
                break
            group, self.waits = self.waits, self.behind
            self.behind = []
            self._finish(group, why_over)
        if self.queue:
            self._plan_flush()
        if self.lock is not None and self.idle:
            self._end_lock(True)
        elif self.held and self.lock is None and not self.accounts_busy:
            self._let_go()
        if bool(self.waiting_sessions) != self._told_waiting:
            self._told_waiting = not self._told_waiting
            self.run.changed()

    def _over(self, group: list[Commit]) -> str | None:
        if not self.waiting:
            return "off"
        if group[-1].index < self.acknowledged_to:
            return "acknowledged"
        if not self.wait_no_slave and not self.run.replication.ack_clients:
            return "nobody"
        if all(commit.released is not None for commit in group):
            return "killed"
        return None

    def _finish(self, group: list[Commit], why: str) -> None:
        self.storage.commit(group[-1].index + 1, self.run.now)
        if why == "acknowledged":
            self.yes += len(group)
        elif why != "off" or self._told_waiting:
            self.no += len(group)
        if any(commit.changes_accounts for commit in group):
            self.run.changed()  # the status answers again
        for commit in group:
            if commit.released:
                commit.end(commit.released)
            else:
                if commit.kind == "row" and commit.applied is None:
                    self.run.server.acknowledged(int(commit.what[1]))
                commit.end(0)

    def acknowledge(self, upto: int) -> None:
        """A replica has everything before this index of the log."""
        if self.waiting and upto > self.acknowledged_to:
            self.acknowledged_to = upto
            self.advance()

    def set_waiting(self, on: bool) -> None:
        self.waiting = on
        self.advance()
        self.run.changed()

    def kill_clients(self, error: int) -> None:
        """KILL (error LOST) or KILL QUERY (0) of every client that waits: either way the row stays."""
        for commit in [*self.under_way()]:
            if commit.is_clients and commit.released is None:
                commit.released = error
        self._flush_behind()
        self.advance()

    def _flush_behind(self) -> None:
        """The end of a wait sets the log free for those who wait for it."""
        self.advance()
        while self.queue and not self.behind:
            self._flush()

    # --- read_only ------------------------------------------------------------------------------------------------

    def begin_lock(self, ended: Callable[[bool], object], seconds: float | None) -> None:
        lock = self.lock = ReadLock(ended)
        if seconds is not None:
            lock.timer = self.run.later(seconds, lambda: self._end_lock(False) if self.lock is lock else None)
        self.advance()

    def _end_lock(self, reached: bool) -> None:
        lock, self.lock = self.lock, None
        assert lock is not None
        if lock.timer is not None:
            lock.timer.cancel()
        if reached:
            self.read_only = True
        self._let_go()
        self.run.changed()
        lock.ended(reached)

    def _let_go(self) -> None:
        held, self.held = self.held, []
        for commit in held:
            self.submit(commit)

    # --- the end --------------------------------------------------------------------------------------------------

    def shut_down(self) -> None:
        """SIGTERM: what hangs is committed here; its client gets an error, and now and then OK."""
        group, self.waits, self.behind = [*self.waits, *self.behind], [], []
        for commit in group:
            commit.released = 0 if commit.is_clients and self.rng.random() < LEAK_AT_SHUTDOWN else LOST
        if group:
            self._finish(group, "killed")

    def lose(self) -> None:
        """The process is gone, and with it every connection."""
        for commit in [*self.under_way(), *self.held]:
            commit.end(LOST)
