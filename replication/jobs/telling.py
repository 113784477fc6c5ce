"""What a job says of itself while it works: steps, how much of how much, and the samples that its pace follows from.

One write each half second at most, whatever happens; with each the job learns whether it is to be cancelled.
"""

import time
from typing import Any, Final

from nodes.models import Operation
from replication.core.pace import Sample, with_sample
from replication.core.steps import Track
from replication.stores import operations

TELL_EVERY: Final = 0.5
"""Seconds between two writes; a wish to cancel is read as often."""


class Lost(Exception):
    """The operation was ended by somebody else."""


class CancelWished(Exception):
    """An operator wants it to end."""


class Telling:
    """Of one operation, from the moment a worker takes it."""

    def __init__(self, operation: Operation) -> None:
        self.operation, self.track = operation, Track(time.monotonic)
        self._began, self._told = time.monotonic(), float("-inf")
        self._samples: tuple[Sample, ...] = ()
        self._done: int | None = None

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
        self._told, self._done = now, done
        if done is not None:
            self._samples = with_sample(self._samples, round(self.seconds, 2), done)
        row = operations.progress(
            self.operation.pk, percent, message,
            done=done, total=total, unit=unit, steps=self.steps(), result={"samples": self._samples},
        )  # fmt: skip
        if row is None:
            raise Lost
        if row.cancel_requested_at is not None:
            raise CancelWished

    def steps(self) -> list[dict[str, Any]]:
        return [step.to_json() for step in self.track.steps]

    def end(self, state: str, message: str, result: dict[str, Any], **more: Any) -> bool:
        """The terminal state, with the last of the steps. more: done. False when somebody else was faster."""
        self.track.stopped(message)
        return operations.end(self.operation.pk, state, message, result, steps=self.steps(), **more)
