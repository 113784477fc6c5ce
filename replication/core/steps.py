"""The steps of an operation, as its row keeps them and the screens show them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final

KEPT: Final = 40
"""How many steps a row keeps: what is tried for minutes drops the middle of its story, never its beginning or its end."""


class StepState(StrEnum):
    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True)
class Step:
    name: str
    """One word, then the node's hostname where it is about one: "revoke vault-b"."""
    state: StepState
    began_ms: float | None = None
    """Since the operation began; None while it waits."""
    ms: float | None = None
    """When it ended, or what was known of it last: since the operation began."""
    says: str = ""
    position: str = ""
    """GTID position that it came to; "" when it has none."""

    def to_json(self) -> dict[str, Any]:
        return {**self.__dict__, "state": self.state.value}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Step":
        known = {name: data[name] for name in cls.__dataclass_fields__ if name in data}
        return cls(**{**known, "state": StepState(data["state"])})

    def later(self, ms: float) -> "Step":
        """The same step of an operation that began this much earlier."""
        moved = {n: v + ms for n in ("began_ms", "ms") if (v := getattr(self, n)) is not None}
        return replace(self, **moved)


class Track:
    """What an operation has done so far, over all its tries. `changed` is called after every change and must not block."""

    def __init__(
        self,
        now: Callable[[], float],
        changed: Callable[[], None] = lambda: None,
        *,
        before: tuple[Step, ...] = (),
        elapsed: float = 0,
    ) -> None:
        """now: monotonic seconds; the operation began `elapsed` seconds before this moment, and whoever had it then did `before`."""
        self._now, self._began, self._changed = now, now() - elapsed, changed
        self.steps: tuple[Step, ...] = before

    def expect(self, *names: str) -> None:
        """What is still to come, in order."""
        self._set((*self.steps, *(Step(name, StepState.WAITING) for name in names)))

    def begins(self, name: str, says: str = "") -> None:
        self._put(name, StepState.RUNNING, says, "")

    def done(self, name: str, says: str = "", position: str = "") -> None:
        self._put(name, StepState.DONE, says, position)

    def failed(self, name: str, says: str) -> None:
        self._put(name, StepState.FAILED, says, "")

    def stopped(self, why: str = "") -> None:
        """It is over: what it was at has failed, what it had not reached stays as it is."""
        now = self._ms()
        self._set(
            tuple(
                replace(s, state=StepState.FAILED, ms=now, says=why) if s.state is StepState.RUNNING else s
                for s in self.steps
            )
        )

    def again(self, why: str = "") -> None:
        """Another try begins: what the last one had not reached is forgotten."""
        self.stopped(why)
        self._set(tuple(s for s in self.steps if s.state is not StepState.WAITING))

    def position(self, name: str) -> str:
        """Where the last step of this name came to; "" when that is not known."""
        return next((s.position for s in reversed(self.steps) if s.name == name), "")

    def _ms(self) -> float:
        return round((self._now() - self._began) * 1000, 1)

    def _put(self, name: str, state: StepState, says: str, position: str) -> None:
        """Move the step that waits or runs under this name on; else it is a new one."""
        now, steps = self._ms(), list(self.steps)
        open_now = (StepState.WAITING, StepState.RUNNING)
        at = next((i for i, s in enumerate(steps) if s.name == name and s.state in open_now), None)
        before = steps[at] if at is not None else None
        began = before.began_ms if before is not None and before.began_ms is not None else now
        step = Step(name, state, began, now, says, position)
        if at is None:
            steps.append(step)
        else:
            steps[at] = step
        self._set(tuple(steps))

    def _set(self, steps: tuple[Step, ...]) -> None:
        self.steps = shortened(steps)
        self._changed()


def shortened(steps: tuple[Step, ...]) -> tuple[Step, ...]:
    """At most KEPT: the first half and the last."""
    half = KEPT // 2
    return steps if len(steps) <= KEPT else (*steps[:half], *steps[-half:])
