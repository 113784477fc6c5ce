"""The agent's memory on a simulated disk: a write that returned survives everything; one that did not may or may not."""

from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

from greenlet import getcurrent

from replication.core.vault_ports import AgentState, StateError
from tests.simulation.kernel import Kernel, Program, Signal

FLUSH = (0.0005, 0.004)
"""Seconds that a flush takes, from and to."""


class Disk:
    """What survives the agent and its host. `full`: nothing can be written."""

    def __init__(self, kernel: Kernel, rng: Random, state: AgentState) -> None:
        self.kernel, self.rng = kernel, rng
        self.durable = state
        self.full = False
        self._under_way: AgentState | None = None

    def flush(self, state: AgentState) -> None:
        """Blocks while it is written. Raises StateError."""
        if self.full:
            raise StateError("the agent's state cannot be written: No space left on device; nothing was promised")
        low, high = FLUSH
        if getcurrent() is not self.kernel.hub:
            self._under_way = state
            self.kernel.block(low + (high - low) * self.rng.random())
            self._under_way = None
        self.durable = state

    def crash(self) -> AgentState:
        """What is found when the agent starts again."""
        if self._under_way is not None and self.rng.random() < 0.5:
            self.durable = self._under_way
        self._under_way = None
        return self.durable


class SimState:
    """Implements core.vault_ports.State for one run of the agent."""

    def __init__(self, disk: Disk, program: Program, changed: Callable[[AgentState, AgentState], None]) -> None:
        self._disk, self._program, self._changed = disk, program, changed
        self._state = disk.durable
        self._busy = False
        self._free = Signal()

    def read(self) -> AgentState:
        return self._state

    def write(self, **changes: Any) -> AgentState:
        return self.update(lambda state: replace(state, **changes))

    def update(self, change: Callable[[AgentState], AgentState]) -> AgentState:
        return self._exchange(change, self._disk.flush)

    @property
    def unwritten(self) -> bool:
        return self._state != self._disk.durable

    def hold(self, change: Callable[[AgentState], AgentState]) -> str:
        said = [""]

        def flush(state: AgentState) -> None:
            try:
                self._disk.flush(state)
            except StateError as error:
                said[0] = str(error)

        self._exchange(change, flush)
        return said[0]

    def _exchange(self, change: Callable[[AgentState], AgentState], flush: Callable[[AgentState], None]) -> AgentState:
        if self._busy:
            self._disk.kernel.block_until(lambda: not self._busy, None, self._free)
        before = self._state
        after = change(before)
        if after == before and after == self._disk.durable:
            return after
        self._busy = True
        try:
            flush(after)
            self._state = after
        finally:
            self._busy = False
            self._free.fire()
        self._changed(before, after)
        return after
