"""What a vault agent does unasked: at its start, when mariadbd dies, and while nobody orders anything.

Pure: it sees the world through the ports of core/vault_ports.py, keeps no thread and reads no file. The agent wires it, and so
may a simulator. Who wires it

- makes it anew with each start of the agent, after `remembered` has said which state to begin with, and calls `take_up`
  once, on the thread of the verbs, when a mariadbd runs that an earlier agent started;
- calls `died` once per death, as soon as it is seen (`Process.phase` is DEAD then); `expected` when Process.kill or a clean
  stop was the cause;
- asks `due` every 50 ms or so, with what it saw last of the database, and calls `act` on the thread of the verbs when it is; a verb never runs beside `act`, and
  `act` finds out itself when one came first. `act` blocks for START_SLICE at most while mariadbd starts, and as long as
  applying a relay log takes;
- calls `directed` when a verb that changes the node's role has worked.

`say` gets one sentence for the log: an event of a kind that an operator may want to read.
"""

from collections import deque
from collections.abc import Callable
from datetime import timedelta
from typing import Final

from replication.core import limits
from replication.core.roles import OrderKind, ProcessState
from replication.core.vault_ports import (
    AgentState,
    BootRole,
    Clock,
    Database,
    DatabaseError,
    Process,
    ProcessError,
    State,
    StateError,
)

from .rescue import CannotRescue, rescue

CRASHES_MAX: Final = 5
CRASHES_WITHIN: Final = timedelta(minutes=5)
"""So many deaths in service within so long: restarting does not help, a person has to look."""
RETRY: Final = timedelta(seconds=5)
"""After a start that failed: a full disk or a taken port may be put right meanwhile."""
CLOSE_LIMIT: Final = timedelta(seconds=1)
START_SLICE: Final = timedelta(seconds=1)
"""Crash recovery of a large database takes its time; in the pauses verbs have their turn."""


def remembered(kept: AgentState | None, lost: str, *, server_id: int) -> AgentState:
    """The state to begin with; a node that lost its memory is held closed, because its promises are gone.

    kept: what was on disk. lost: why it was not, although there should be something, as a clause; "" for a new node.
    server_id: a fresh one.
    """
    if kept is not None:
        return kept
    return AgentState(server_id=server_id, quarantine=f"{lost}: rebuild this node, or purge it" if lost else "")


class Revival:
    """When and how a mariadbd that is down comes back: always closed, then by the persisted order.

    A lossless primary is kept down for a while: its controller may replace it, and then its unacknowledged tail is cut
    off at the restart. Restarted at once it would keep that tail, and be held as diverged. Beside a solo primary nobody is
    promotable.
    """

    def __init__(
        self, clock: Clock, state: State, process: Process, database: Database, say: Callable[[str], None]
    ) -> None:
        self.clock, self.state, self.process, self.database, self.say = clock, state, process, database, say
        self.gave_up = ""
        """Why it is not restarted any more, as a sentence. Not persisted: starting the agent anew tries again."""
        self._crashes: deque[float] = deque(maxlen=CRASHES_MAX)
        self._not_before = self._now() + self._grace(state.read())

    def _now(self) -> float:
        return self.clock.monotonic()

    @staticmethod
    def _grace(state: AgentState) -> float:
        return limits.RESTART_GRACE.total_seconds() if state.order_kind is OrderKind.LOSSLESS else 0.0

    # --- what is told to it -------------------------------------------------------------------------------------------

    def take_up(self) -> None:
        """Close a mariadbd that must not be open: an earlier agent may have ended between an order and its deed, or the
        order may be lost (rules 11, 12)."""
        state = self.state.read()
        if state.order_kind is not OrderKind.NONE:
            return
        try:
            closed = not state.fenced and self.database.switches().read_only
        except DatabaseError:
            return  # it is starting, and so it is closed; or it hangs, and whoever follows or fences it kills it
        if not closed:
            self.say("mariadbd is open without an order to be primary: it is killed and starts closed")
            self.process.kill()

    def died(self, *, expected: bool) -> None:
        """mariadbd has ended. expected: we killed it ourselves, a verb is about to start it again."""
        now = self._now()
        if expected:
            self._not_before = now + RETRY.total_seconds()
            return
        self._not_before = now + self._grace(self.state.read())
        if not self.process.died_in_service:
            self._not_before += RETRY.total_seconds()
            return
        self._crashes.append(now)
        if len(self._crashes) == CRASHES_MAX and now - self._crashes[0] <= CRASHES_WITHIN.total_seconds():
            minutes = int(CRASHES_WITHIN.total_seconds() // 60)
            self.gave_up = (
                f"its database died {CRASHES_MAX} times within {minutes} minutes: "
                f"read {self.process.error_log}, then restart its agent"
            )
            self.say(self.gave_up)

    def directed(self) -> None:
        """A controller looks after this node and its order worked: deaths before it say nothing about the next one."""
        self._crashes.clear()
        self.gave_up = ""

    # --- what it does -------------------------------------------------------------------------------------------------

    def due(self, *, verb_runs: bool, read_only: bool | None = None) -> bool:
        """Whether `act` has something to do now. read_only: as it was seen last, which may be a while ago; None: unknown."""
        state = self.state.read()
        if verb_runs or self._now() < self._not_before:
            return False
        if self.state.unwritten:
            return True
        if state.fenced or self.gave_up:
            return False
        # Not `running`: between a death and its notice the grace has not begun yet.
        if self.process.phase in (ProcessState.DOWN, ProcessState.DEAD):
            # A former primary that was told to stand back waits for FOLLOW, which may have to start it differently.
            return (
                state.order_kind is not OrderKind.NONE
                or state.primary_order_kind is OrderKind.NONE
                or bool(state.quarantine)
            )
        unfinished = state.relay_log_kept or _must_open(state)
        if unfinished and self.process.phase in (ProcessState.STARTING, ProcessState.UP):
            return True
        return state.order_kind is OrderKind.NONE and read_only is False and self.process.phase is ProcessState.UP

    def act(self) -> None:
        """Write what is on no disk yet; close what somebody opened; start closed, apply what the relay log holds, reopen when
        the order says so. What failed is tried again."""
        # Perhaps a verb came first and has seen to it; whether it is open is asked anew.
        if not self.due(verb_runs=False, read_only=False):
            return
        self._not_before = self._now() + RETRY.total_seconds()
        try:
            if self.state.unwritten:
                self.state.write()
                self._not_before = self._now()  # and then what there is to do
                return
            if self.process.phase is ProcessState.UP:
                self._close()
            self._start()
            self._rescue()
            self._open()
            self._not_before = self._now()
        except (ProcessError, DatabaseError, StateError) as error:
            if self.process.phase is ProcessState.STARTING:
                self._not_before = self._now()
            else:
                self.say(f"it could not be done, and is tried again: {error}")

    def _close(self) -> None:
        """Somebody opened a node that has no order to be open (fault O09). A primary that was set read-only is left alone:
        that is maintenance."""
        if self.state.read().order_kind is not OrderKind.NONE:
            return
        if self.database.switches().read_only:
            return
        closed = self.database.close_writes(CLOSE_LIMIT)
        if not closed:
            self.process.kill()
        how = "closed again" if closed else "killed, because it did not close"
        self.say(f"somebody opened this node although it has no order to be primary: it was {how}")

    def _start(self) -> None:
        state = self.state.read()
        if not self.process.running():
            if state.source_host and not state.tainted:
                # Until its relay log is applied it may lack what it has acknowledged.
                self.state.write(tainted=True, relay_log_kept=True, taint_reason="")
            if state.order_kind is not OrderKind.NONE and not state.to_open:
                self.state.write(to_open=True)
        self.process.start(BootRole.PRIMARY, START_SLICE)

    def _rescue(self) -> None:
        if not self.state.read().relay_log_kept:
            return
        try:
            count = rescue(self.clock, self.process, self.database, self.state.write)
        except CannotRescue as reason:
            self.say(
                f"it may lack writes that it had acknowledged, and is not promoted until it has followed: {reason}"
            )
        else:
            self.say(f"applied {count} transactions that were left in its relay log: it has all that it acknowledged")

    def _open(self) -> None:
        state = self.state.read()
        if not _must_open(state):
            return
        if state.order_kind is OrderKind.LOSSLESS:
            self.database.set_waiting(True)  # before it opens: not one commit may be acknowledged alone
        else:
            self.database.ensure_client()  # the first OPEN may have been interrupted before it came to that
        self.database.set_read_only(False)
        self.state.write(to_open=False)
        self.say(f"reopened as {state.order_kind.value} primary by the order of epoch {state.order_epoch}")


def _must_open(state: AgentState) -> bool:
    return state.to_open and state.order_kind is not OrderKind.NONE and not state.quarantine
