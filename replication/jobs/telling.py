"""What a job says of itself while it works: steps, how much of how much, and the samples that its pace follows from.

One write each half second at most, whatever happens; with each the job learns whether it is to be cancelled.
"""

import asyncio
import time
from typing import Any, Final

from django.db import close_old_connections, transaction
from django.utils import timezone

from nodes.models import Operation
from replication.core.pace import Sample, with_sample
from replication.core.steps import Step, StepState, Track
from replication.stores import operations

TELL_EVERY: Final = 0.5
"""Seconds between two writes; a wish to cancel is read as often."""


class Lost(Exception):
    """The operation was ended by somebody else."""


class CancelWished(Exception):
    """An operator wants it to end."""


class Refused(Exception):
    """Ends the operation as failed, with a sentence that has no full stop."""


async def in_thread(function: Any, *args: Any) -> Any:
    """Work with the metadata database, off the loop."""

    def guarded() -> Any:
        close_old_connections()
        return function(*args)

    return await asyncio.to_thread(guarded)


class Telling:
    """Of one operation, from the moment a worker takes it; with what an earlier worker of it has done."""

    def __init__(self, operation: Operation) -> None:
        began = operation.started_at
        elapsed = max(0.0, (timezone.now() - began).total_seconds()) if began is not None else 0.0
        before = tuple(step for step in map(Step.from_json, operation.steps) if step.state is StepState.DONE)
        self.operation, self.track = operation, Track(time.monotonic, before=before, elapsed=elapsed)
        self._began, self._told = time.monotonic() - elapsed, float("-inf")
        self._samples: tuple[Sample, ...] = ()
        self._done: int | None = None
        self._unit = ""
        self._cancel_heard = False

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    def tell(
        self, percent: int, message: str, *, done: int | None = None, total: int | None = None, unit: str = ""
    ) -> None:
        """Write how far it is, when the last time is long enough ago. Raises Lost or CancelWished.

        done, total: in `unit`; None while that is not known.
        """
        now = time.monotonic()
        if now - self._told < TELL_EVERY:
            return
        if unit != self._unit or (done is not None and self._done is not None and done < self._done):
            self._samples, self._unit = (), unit  # another amount: its pace is not that of the one before
        self._told, self._done = now, done
        if done is not None:
            self._samples = with_sample(self._samples, round(self.seconds, 2), done)
        row = operations.progress(
            self.operation.pk, percent, message,
            done=done, total=total, unit=unit, steps=self.steps(), result={"samples": self._samples},
        )  # fmt: skip
        if row is None:
            raise Lost
        if row.cancel_requested_at is not None and not self._cancel_heard:
            raise CancelWished

    def cancel_heard(self) -> None:
        """The wish to cancel is being seen to: `tell` raises it no more."""
        self._cancel_heard = True

    def cannot_cancel(self) -> None:
        """There is no way back: the wish to cancel is taken from the row, and this goes on. The next one is heard again."""
        operations.refuse_cancel(self.operation.pk)
        self._cancel_heard = False

    def steps(self) -> list[dict[str, Any]]:
        return [step.to_json() for step in self.track.steps]

    def end(self, state: str, message: str, result: dict[str, Any], *, rule: str = "", **more: Any) -> bool:
        """The terminal state, with the last of the steps. rule: of its event; "" for none here. more: done. False when somebody
        else was faster."""
        self.track.stopped(message)
        with transaction.atomic():
            ended = operations.end(self.operation.pk, state, message, result, steps=self.steps(), **more)
            if ended and rule:
                operations.tell_end(self.operation, state, message, rule)
        return ended
