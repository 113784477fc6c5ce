"""What is being done on a vault, as operation rows: each ends succeeded, failed, cancelled or needs-a-person, with the reason.

A try that failed and will be repeated is the same operation. Rows are written beside the work: nothing waits for them.
"""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any, Final

from replication.core import limits
from replication.core.errors import PositionsNotComparable, Refused, ReplicationError, StepFailed
from replication.core.plan import Action, ActionKind
from replication.core.ports import Clock, OperationEnd, Operations
from replication.core.positions import Position, parse
from replication.core.steps import Track
from replication.core.view import Topology, VaultView

NEEDS_PERSON: Final = frozenset({"diverged", "quarantine", "rebuild", "tainted"})
"""Reasons of refusals by an agent that trying again does not mend."""
SHOWN_AS: Final = {ActionKind.FINISH: ActionKind.FAILOVER, ActionKind.ROLL_BACK: ActionKind.FAILOVER}


ORPHANS_EVERY: Final = timedelta(seconds=10)
STEPS_EVERY: Final = timedelta(milliseconds=250)
"""The steps of an operation are written no more often, and not before it has run for this long: an ordinary failover is over by
then, and shares the metadata database with nobody."""
FIRST_WRITE_WITHIN: Final = timedelta(minutes=10)
"""A new primary that has written nothing for this long: nobody waits for its first write any more."""
ANOTHERS: Final = frozenset({ActionKind.REBUILD, ActionKind.UNDO})
"""They are a part of an operation that a job tells of and ends: the leader says in an event what it has ordered, or why not."""
HANDS_OVER: Final = frozenset({ActionKind.FAILOVER, ActionKind.FINISH, ActionKind.SWITCHOVER})


@dataclass
class Entry:
    operation: str
    action: Action
    began: float
    tried: float
    track: Track = field(init=False)
    trouble: str = ""
    unwritten: bool = False
    """Its steps have changed since they were written last."""
    writing: bool = False
    ended: bool = False
    """Its row has its terminal state; the intent that it belongs to is still open, and whoever resolves it writes no more."""

    @property
    def of_another(self) -> bool:
        """Its row is written by somebody else."""
        return self.action.kind in ANOTHERS

    def recorded(self, row: Topology) -> bool:
        """Its target is the recorded primary: what is left is an ordinary reopen."""
        return self.action.kind in HANDS_OVER and row.intent is None and row.primary == self.action.node


@dataclass(frozen=True)
class Awaited:
    """The first write on a new primary, which no controller takes part in: it is seen in the primary's reports."""

    operation: str
    node: str
    opened: float
    """Monotonic seconds."""
    opened_at: Position


class Ledger:
    """The open operations of one vault, as this leader began or took them up."""

    def __init__(self, operations: Operations, clock: Clock, vault: str, new_id: Callable[[], str]) -> None:
        self._operations, self._clock, self._vault, self._new_id = operations, clock, vault, new_id
        self._open: dict[str, Entry] = {}
        self._looked = clock.monotonic()
        self._writing: set[asyncio.Task[None]] = set()
        self._awaited: Awaited | None = None

    def begin(self, action: Action) -> str:
        """The operation's id: a new one, or the one that this action goes on with."""
        key, now = _key(action), self._clock.monotonic()
        begun = next((k for k, e in self._open.items() if k == key or e.operation == action.operation), None)
        if begun is not None:
            entry = self._open[key] = self._open.pop(begun)
            entry.tried, entry.action = now, action
            entry.track.again("it was interrupted")
            return entry.operation
        entry = self._open[key] = Entry(action.operation or self._new_id(), action, now, now)
        entry.track = Track(self._clock.monotonic, partial(self._changed, entry))
        if entry.of_another:
            return entry.operation
        kind = SHOWN_AS.get(action.kind, action.kind).value
        self._write(
            self._operations.begin(entry.operation, vault=self._vault, kind=kind, node=action.node, says=action.says)
        )
        return entry.operation

    def track(self, action: Action) -> Track:
        """Where the steps of an action that was begun are kept."""
        return self._open[_key(action)].track

    def succeeded(self, action: Action, says: str, **result: Any) -> None:
        """It reached its goal. Giving a vault back is the failure of what was begun."""
        entry = self._open.pop(_key(action), None)
        if entry is None:
            return
        given_back = action.kind is ActionKind.ROLL_BACK
        end = OperationEnd.FAILED if given_back else OperationEnd.SUCCEEDED
        self._await_write(entry)
        self._end(entry, end, f"{says}: {entry.trouble}" if given_back and entry.trouble else says, **result)

    def failed(self, action: Action, error: Exception, row: Topology, **result: Any) -> None:
        """A try failed. While an intent is open, finishing it or giving it back goes on with this operation."""
        key, now = _key(action), self._clock.monotonic()
        entry = self._open.get(key)
        if entry is None:
            return
        says = str(error) or type(error).__name__
        entry.trouble = entry.trouble or says
        if entry.of_another:
            return
        if isinstance(error, Refused):
            self._end(self._open.pop(key), OperationEnd.FAILED, says, **result)
        elif row.intent is not None or entry.recorded(row):
            self._write(self._operations.progress(entry.operation, says))
        elif isinstance(error, StepFailed) and error.reason in NEEDS_PERSON:
            self._end(self._open.pop(key), OperationEnd.NEEDS_PERSON, says, **result)
        elif _once_only(action, error) or now - entry.began > limits.OPERATION_DEADLINE.total_seconds():
            self._end(self._open.pop(key), OperationEnd.FAILED, says, **result)
        else:
            self._write(self._operations.progress(entry.operation, f"trying again: {says}"))

    def cancelled(self, action: Action, row: Topology, why: str) -> None:
        if row.intent is None and (entry := self._open.pop(_key(action), None)) is not None:
            self._end(entry, OperationEnd.CANCELLED, why)

    def settle(self, row: Topology, acting: Action | None) -> None:
        """End what is no longer tried: it was done after all, or what it was to mend has gone."""
        now, resolving = self._clock.monotonic(), row.intent.operation if row.intent is not None else ""
        if not self._open and acting is None and now - self._looked > ORPHANS_EVERY.total_seconds():
            self.take_over(resolving)  # a leader that was deposed in the middle may have written its row after we came
        for key, entry in list(self._open.items()):
            late = now - entry.began > limits.OPERATION_DEADLINE.total_seconds()
            if entry.operation == resolving and late:
                self._end(entry, OperationEnd.NEEDS_PERSON, f"not within its time, and still open: {entry.trouble}")
            if entry.operation == resolving or entry.action is acting:
                continue
            if entry.recorded(row):
                self._end(self._open.pop(key), OperationEnd.SUCCEEDED, f"it is recorded as Master ({entry.trouble})")
            elif late:
                self._end(self._open.pop(key), OperationEnd.FAILED, f"not within its time: {entry.trouble}")
            elif now - entry.tried > 2 * limits.RETRY_MAX.total_seconds():
                self._end(self._open.pop(key), OperationEnd.CANCELLED, "it was no longer needed")

    def look(self, view: VaultView) -> None:
        """Note when the first write of a new primary was seen: it was made then at the latest, a report's interval earlier at
        the earliest."""
        awaited, now = self._awaited, self._clock.monotonic()
        if awaited is None:
            return
        primary = view.primary
        late = now - awaited.opened > FIRST_WRITE_WITHIN.total_seconds()
        if late or primary is None or primary.id != awaited.node:
            self._awaited = None
        elif primary.up and primary.database is not None and not primary.database.read_only:
            written = _parsed(primary.database.gtid_binlog_pos)
            if written is not None and awaited.opened_at.missing_from(written):
                seen = {"after_open_ms": round((now - awaited.opened) * 1000, 1), "position": str(written)}
                self._write(self._operations.note(awaited.operation, {"first_write": seen}))
                self._awaited = None

    def _await_write(self, entry: Entry) -> None:
        opened = [s for s in entry.track.steps if s.name.startswith("open ") and s.position]
        if entry.action.kind in HANDS_OVER and opened:
            at = entry.began + (opened[-1].ms or 0.0) / 1000
            position = _parsed(opened[-1].position)
            if position is not None:
                self._awaited = Awaited(entry.operation, entry.action.node, at, position)

    def _changed(self, entry: Entry) -> None:
        entry.unwritten = True
        if not entry.writing and not entry.ended and not entry.of_another:
            entry.writing = True
            self._write(self._keep_steps(entry))

    async def _keep_steps(self, entry: Entry) -> None:
        """Write the steps while they change, until the operation ends: that writes the last of them itself."""
        while entry.unwritten and not entry.ended:
            await self._clock.sleep(STEPS_EVERY)
            if not entry.ended:
                entry.unwritten = False
                await self._operations.steps(entry.operation, entry.track.steps)
        entry.writing = False

    def take_over(self, keep: str) -> None:
        """A leader ends what others left open, except the operation of the open intent: that one is resolved."""
        self._looked = self._clock.monotonic()
        self._write(self._operations.end_orphans(self._vault, keep))

    def hand_over(self, row: Topology) -> None:
        """This leader ends: what it meant to try again is cancelled, the next one decides anew and goes on with an open intent.

        The next leader has ended what it found, perhaps before this one began its last operation.
        """
        resolving = row.intent.operation if row.intent is not None else ""
        for key, entry in list(self._open.items()):
            if entry.operation != resolving:
                self._end(self._open.pop(key), OperationEnd.CANCELLED, "this leader ended, the next one decides anew")

    def _end(self, entry: Entry, end: OperationEnd, says: str, **result: Any) -> None:
        if not entry.ended:
            entry.ended = True
            if end is not OperationEnd.SUCCEEDED:
                entry.track.stopped()
            if entry.of_another:
                return
            self._write(self._ended(entry, end, says, result))

    async def _ended(self, entry: Entry, end: OperationEnd, says: str, result: dict[str, Any]) -> None:
        if entry.track.steps:
            await self._operations.steps(entry.operation, entry.track.steps)
        await self._operations.end(entry.operation, end, says, result)

    def _write(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)


def _parsed(position: str) -> Position | None:
    """None for what is no position: what an agent says must not end the watch, nor make a failover fail that has succeeded."""
    try:
        return parse(position)
    except (ValueError, PositionsNotComparable):
        return None


def _key(action: Action) -> str:
    """One operation per intent, else per kind and node."""
    return action.operation or f"{action.kind.value} {action.node}"


def _once_only(action: Action, error: Exception) -> bool:
    """A switchover is never tried twice: an operator is not surprised by it later."""
    return action.kind is ActionKind.SWITCHOVER or (isinstance(error, ReplicationError) and not error.retry_helps)
