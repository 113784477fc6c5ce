"""When and how a mariadbd that is down comes back without being told: always closed, then by the persisted order.

A lossless primary is kept down for a while: its controller may replace it, and then its unacknowledged tail is cut off at
the restart. Restarted at once it would keep that tail, and be held as diverged. Beside a solo primary nobody is promotable.
"""

import logging
import time
from collections import deque
from datetime import timedelta
from typing import Final

from replication.agent.process import Mariadbd
from replication.core import limits
from replication.core.roles import OrderKind, ProcessState
from replication.core.vault_ports import AgentState, BootRole, Database, DatabaseError, ProcessError, State, StateError

log = logging.getLogger(__name__)

CRASHES_MAX: Final = 5
CRASHES_WITHIN: Final = timedelta(minutes=5)
"""So many deaths in service within so long: restarting does not help, a person has to look."""
RETRY: Final = timedelta(seconds=5)
"""After a start that failed: a full disk or a taken port may be put right meanwhile."""
START: Final = timedelta(minutes=10)
"""Crash recovery of a large database takes its time."""


class Revival:
    """Decides on the loop (`died`, `due`), acts on the verbs' thread (`revive`)."""

    def __init__(self, state: State, process: Mariadbd, database: Database, at_start: AgentState) -> None:
        self.state, self.process, self.database = state, process, database
        self.gave_up = ""
        """Why it is not restarted any more, as a sentence. Not persisted: starting the agent anew tries again."""
        self._crashes: deque[float] = deque(maxlen=CRASHES_MAX)
        self._not_before = time.monotonic() + self._grace(at_start)

    @staticmethod
    def _grace(state: AgentState) -> float:
        return limits.RESTART_GRACE.total_seconds() if state.order_kind is OrderKind.LOSSLESS else 0.0

    def died(self, *, expected: bool) -> None:
        """mariadbd has ended. expected: we killed it ourselves, a verb is about to start it again."""
        now = time.monotonic()
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
            log.error("%s", self.gave_up)

    def directed(self) -> None:
        """A controller looks after this node and its order worked: deaths before it say nothing about the next one."""
        self._crashes.clear()
        self.gave_up = ""

    def due(self, *, verb_runs: bool) -> bool:
        state = self.state.read()
        # Not `running`: between a death and its notice the grace has not begun yet.
        if self.process.phase not in (ProcessState.DOWN, ProcessState.DEAD):
            return False
        if verb_runs or state.fenced or self.gave_up or time.monotonic() < self._not_before:
            return False
        # A former primary that was told to stand back waits for FOLLOW, which may have to start it differently.
        return (
            state.order_kind is not OrderKind.NONE
            or state.primary_order_kind is OrderKind.NONE
            or bool(state.quarantine)
        )

    def revive(self) -> None:
        """Start closed, then reopen when the order says so. Failures are logged and tried again later."""
        if not self.due(verb_runs=False):  # a verb came first and has seen to it
            return
        self._not_before = time.monotonic() + RETRY.total_seconds()
        try:
            state = self.state.read()
            if state.source_host and not state.tainted:
                # The relay log is thrown away at the next START SLAVE: what it had acknowledged may be in there only.
                self.state.write(tainted=True)
            self.process.start(BootRole.PRIMARY, START)
            self._reopen()
        except (ProcessError, DatabaseError, StateError) as error:
            log.warning("mariadbd did not come back, trying again: %s", error)

    def _reopen(self) -> None:
        state = self.state.read()
        if state.quarantine or state.order_kind is OrderKind.NONE:
            return
        if state.order_kind is OrderKind.LOSSLESS:
            self.database.set_waiting(True)  # before it opens: not one commit may be acknowledged alone
        self.database.set_read_only(False)
        log.info("reopened as %s primary by the order of epoch %s", state.order_kind.value, state.order_epoch)
