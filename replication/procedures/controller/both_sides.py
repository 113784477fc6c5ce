"""The two hosts of a comparison, asked one after the other: the primary says where it is, the fallback is read when it is there too."""

import contextlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final, Protocol, TypeVar

from replication.core import limits
from replication.core.comparison import Inventory, Key, RowList, RowSum, TableFacts
from replication.core.errors import NodeUnreachable, StepFailed
from replication.core.ports import Clock
from replication.core.view import NodeView

ANSWER_PATIENCE = timedelta(seconds=8)
ANSWER_PAUSE: Final = timedelta(seconds=1)
"""An agent or a database that is started again answers within seconds, and a comparison of hours goes on."""
PASSING: Final = frozenset({"side", "database"})
LOST: Final = frozenset({"refused", "silent"})
TURN_PAUSE: Final = timedelta(seconds=1)

Said = TypeVar("Said", RowSum, RowList)


class Asking(Protocol):
    async def compare(self, node: NodeView, what: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """Raises NodeUnreachable, or StepFailed with why not."""
        ...


@dataclass
class Figures:
    """How it went, for benchmarks and the operation's result."""

    ranges: int = 0
    looked_again: int = 0
    """Ranges that were not equal at first."""
    holds: int = 0
    longest_hold: float = 0.0
    """Seconds."""
    undecided: int = 0


@dataclass
class BothSides:
    clock: Clock
    agents: Asking
    primary: NodeView
    node: NodeView
    operation: str
    figures: Figures = field(default_factory=Figures)

    async def turn(self, waiting: Callable[[], Awaitable[None]]) -> None:
        """Wait until another comparison on one of the hosts has ended; `waiting` may raise to end this."""
        for node in (self.primary, self.node):
            while True:
                try:
                    await self._ask(node, "release")
                    break
                except StepFailed as error:
                    if error.reason != "busy":
                        raise
                await waiting()
                await self.clock.sleep(TURN_PAUSE)

    async def end(self) -> None:
        """Make room for the next one. Where nobody listens the agent's own clock does it."""
        for node in (self.primary, self.node):
            with contextlib.suppress(NodeUnreachable, StepFailed):
                await self._ask(node, "end")

    async def inventories(self) -> tuple[Inventory, Inventory]:
        here = Inventory.from_json(await self._ask(self.primary, "tables"))
        return here, Inventory.from_json(await self._ask(self.node, "tables", reached=here.position))

    async def sums(
        self, table: TableFacts, after: Key | None = None, *, upto: Key | None = None, rows: int = 0
    ) -> tuple[RowSum, RowSum]:
        here = RowSum.from_json(await self._ask(self.primary, "chunk", table, after=after, upto=upto, rows=rows))
        there = RowSum.from_json(
            await self._ask(self.node, "chunk", table, after=after, upto=here.upto, reached=here.position)
        )
        return here, there

    async def range(
        self, table: TableFacts, after: Key | None, upto: Key | None, most: int
    ) -> tuple[RowList, RowList] | None:
        """Its rows one by one; None when the primary's are too many for one answer."""
        here = RowList.from_json(await self._ask(self.primary, "rows", table, after=after, upto=upto, rows=most))
        if not here.complete:
            return None
        there = RowList.from_json(
            await self._ask(self.node, "rows", table, after=after, upto=upto, rows=most, reached=here.position)
        )
        return here, there

    async def rows(self, table: TableFacts, keys: list[Key]) -> tuple[RowList, RowList]:
        here = RowList.from_json(await self._ask(self.primary, "rows", table, keys=keys))
        return here, RowList.from_json(await self._ask(self.node, "rows", table, keys=keys, reached=here.position))

    async def held_sums(self, table: TableFacts) -> tuple[RowSum, RowSum] | None:
        """The whole table, as `_held`."""
        return await self._held(RowSum.from_json, "chunk", table)

    async def held_rows(self, table: TableFacts, keys: list[Key]) -> tuple[RowList, RowList] | None:
        """As `_held`."""
        return await self._held(RowList.from_json, "rows", table, keys=keys)

    async def _held(
        self, read: Callable[[Mapping[str, Any]], Said], what: str, table: TableFacts, **body: Any
    ) -> tuple[Said, Said] | None:
        """What both say while nobody changes these rows: exact. None while clients have them, or the fallback is late."""
        try:
            began = self.clock.monotonic()
            here = read(await self._ask(self.primary, what, table, hold=True, **body))
            try:
                reach = limits.COMPARE_REACH
                there = read(await self._ask(self.node, what, table, reached=here.position, wait=reach, **body))
            finally:
                held = (await self._ask(self.primary, "release"))["held"]
            seconds = self.clock.monotonic() - began
        except StepFailed as error:
            if error.reason not in ("held", "behind"):
                raise
            return None
        if not held:
            return None
        # From before they were asked for until they were let go: not less than they were held.
        self.figures.holds += 1
        self.figures.longest_hold = max(self.figures.longest_hold, round(seconds, 4))
        return here, there

    async def _ask(
        self, node: NodeView, what: str, table: TableFacts | None = None, *, wait: timedelta | None = None, **body: Any
    ) -> Mapping[str, Any]:
        """wait: what a fallback may take to apply what it has to. Asked again where a repetition may help."""
        primary = node.id == self.primary.id
        asked: dict[str, Any] = {"operation": self.operation, "primary": primary, **_plain(body)}
        if not primary:
            asked["wait"] = (wait or limits.COMPARE_WAIT_MAX).total_seconds()
        if table is not None:
            asked |= {"schema": table.schema, "table": table.table}
        until = self.clock.monotonic() + ANSWER_PATIENCE.total_seconds()
        while True:
            try:
                return await self.agents.compare(node, what, asked)
            except (NodeUnreachable, StepFailed) as error:
                passing = error.kind in LOST if isinstance(error, NodeUnreachable) else error.reason in PASSING
                if not passing or what in ("release", "end") or self.clock.monotonic() > until:
                    raise
                await self.clock.sleep(ANSWER_PAUSE)


def _plain(body: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if value is not None}
