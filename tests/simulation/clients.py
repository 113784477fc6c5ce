"""Writers: each inserts rows one after the other and remembers what it was told. One stays with a node, others move on."""

from collections.abc import Callable, Sequence
from itertools import count
from random import Random
from typing import Final, Protocol

from tests.simulation.history import History
from tests.simulation.kernel import Kernel

PATIENCE: Final = 3.0
"""Seconds after which a client gives up on an answer: the row may be there or not."""

SLOW_STATEMENTS: Final = 0.03
"""Share of the statements that write for a while before they commit."""


class Call(Protocol):
    def outcome(self, within: float) -> str:
        """ "ok", "error 1290", "lost" (the connection broke) or "hangs". Blocks."""
        ...


class Session(Protocol):
    def update_slowly(self, row: int, seconds: float) -> Call: ...


class Writable(Protocol):
    def write(self, row: int) -> Call: ...

    def client(self) -> Session: ...


class Writer:
    """nodes: where it may write, by name; one that has a single node never leaves it."""

    def __init__(
        self,
        kernel: Kernel,
        history: History,
        name: str,
        nodes: Sequence[tuple[str, Writable]],
        rows: "count[int]",
        rng: Random,
        reachable: Callable[[str], bool],
    ) -> None:
        self.kernel, self.history, self.name, self.nodes, self.rows = kernel, history, name, nodes, rows
        self.rng, self.reachable = rng, reachable
        self.program = kernel.program(name)
        self.stopped = False
        self.last_ok = 0.0
        self._at = 0

    def start(self) -> None:
        self.program.run(self._write_for_ever)

    def _write(self, server: Writable, row: int) -> Call:
        if self.rng.random() < SLOW_STATEMENTS:
            return server.client().update_slowly(row, self.rng.uniform(0.1, 2.0))
        return server.write(row)

    def _write_for_ever(self) -> None:
        while not self.stopped:
            node, server = self.nodes[self._at % len(self.nodes)]
            row = next(self.rows)
            began = self.kernel.now
            self.history.sends(row)
            outcome = self._write(server, row).outcome(PATIENCE) if self.reachable(node) else "lost"
            if outcome == "ok":
                self.history.told_ok(node, row)
                self.last_ok = began
                self.kernel.block(self.rng.uniform(0.05, 0.4))
            else:
                self.history.note(self.name, f"row {row} at {node}: {outcome}")
                self._at += 1
                self.kernel.block(self.rng.uniform(0.1, 0.3))
