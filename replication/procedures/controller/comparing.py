"""Compare a fallback with the primary, table by table, while both work. docs/design/comparison.md has the argument.

A range of rows is read on the primary, which then says its position P; the fallback is read when it has applied P. What is equal
then was equal at P, or has been overwritten since by what the primary sent. What is not equal is looked at again row by row;
what still differs is held on the primary (nobody changes these rows) until the fallback has applied all that was written before
and has been read: only that makes a difference. Nothing is stopped, and nothing is written.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from replication.core import limits
from replication.core.comparison import (
    Comparison,
    Key,
    Matched,
    RowFacts,
    Rows,
    TableFacts,
    match,
    row_sentence,
    unlike,
)
from replication.core.errors import NodeUnreachable, StepFailed
from replication.core.ports import Clock
from replication.core.view import NodeView
from replication.procedures.controller.both_sides import Asking, BothSides, Figures

FIRST_ROWS: Final = 500
"""Rows of the first range of a table."""
FEWEST_ROWS: Final = 50
MOST_ROWS: Final = 100_000
LISTED_ROWS: Final = 500
"""Of a range that differs, so many at a time are looked at one by one."""
LIST_MAX: Final = 4000
HELD_KEYS: Final = 20
KEYS_AT_ONCE: Final = 100
KEYS_LENGTH: Final = 20_000
"""Characters of all keys in one request."""
COUNTED: Final = 500
"""Differing rows of a table after which no more are looked for in it."""
TRIES = 6
"""How often rows that clients are at, or definitions that are changing, are looked at before it is given up."""
SETTLING: Final = 2
"""How often differing rows are looked at again before they are held: what was just written is the same a moment later."""
PAUSE: Final = timedelta(milliseconds=50)
"""Before the second look, doubled before each further one."""

Progress = Callable[[str, int, int], Awaitable[None]]
"""Told the table, and how many of how many rows were compared; may raise to end it."""


class NotCompared(Exception):
    """It could not be carried to its end; the text is one sentence without a full stop. It says nothing of the data."""


@dataclass
class Comparing:
    clock: Clock
    agents: Asking
    primary: NodeView
    node: NodeView
    operation: str
    progress: Progress
    duty: float = limits.COMPARE_DUTY
    figures: Figures = field(default_factory=Figures)
    _differences: list[str] = field(default_factory=list)
    _left_out: list[str] = field(default_factory=list)
    _rows: int = 0
    _total: int = 0

    def __post_init__(self) -> None:
        self._sides = BothSides(self.clock, self.agents, self.primary, self.node, self.operation, self.figures)

    async def run(self) -> Comparison:
        """Raises NotCompared, and what `progress` raises."""
        began = self.clock.monotonic()
        try:
            await self._sides.turn(lambda: self.progress("", 0, 0))
            position, matched = await self._match()
            self._total = sum(table.rows for table in matched.tables)
            for table in matched.tables:
                await self._table(table)
        except (NodeUnreachable, StepFailed) as error:
            raise NotCompared(_words(error)) from error
        finally:
            await self._sides.end()
        return Comparison(
            node=self.node.hostname, position=position, tables=len(matched.tables), rows=self._rows,
            seconds=self.clock.monotonic() - began,
            differences=(*matched.differences, *self._differences),
            not_compared=(*matched.not_compared, *self._left_out), figures=vars(self.figures),
        )  # fmt: skip

    # --- definitions ----------------------------------------------------------------------------------------------

    async def _match(self) -> tuple[str, Matched]:
        """What both have. A difference counts when it stands over several looks: definitions change while clients work."""
        first = ""
        stands: set[str] | None = None
        for number in range(4):
            if number:
                await self.clock.sleep(PAUSE * 2**number)
            here, there = await self._sides.inventories()
            found = match(here, there, self.node.hostname)
            first = first or here.position
            stands = set(found.differences) if stands is None else stands & set(found.differences)
            if not stands:
                break
        kept = tuple(says for says in found.differences if says in (stands or ()))
        return first, Matched(tables=found.tables, differences=kept, not_compared=found.not_compared)

    # --- rows -----------------------------------------------------------------------------------------------------

    async def _table(self, table: TableFacts) -> None:
        for _ in range(2):
            try:
                await (self._keyed(table) if table.keyed else self._keyless(table))
                return
            except StepFailed as error:
                if error.reason == "held":
                    self._left_out.append(f"{table.name}: {error.text}")
                    return
                if error.reason == "database":
                    await self._sides.inventories()  # it is not the database as a whole, or this says so
                    self._differences.append(f"{table.name}: it cannot be read on {error.node}: {error.text}")
                    return
                if error.reason != "table":
                    raise
            here, there = await self._sides.inventories()
            if table.name not in {one.name for one in (*here.tables, *there.tables)}:
                return  # it was dropped
            found = match(here, there, self.node.hostname).tables
            fresh = next((one for one in found if one.name == table.name), None)
            if fresh is None:
                break
            table = fresh
        self._left_out.append(f"{table.name}: it was changed while it was compared")

    async def _keyed(self, table: TableFacts) -> None:
        after: Key | None = None
        size, found, enough = FIRST_ROWS, Rows(), False
        while True:
            await self.progress(table.name, self._rows, max(self._total, self._rows))
            try:
                here, there = await self._sides.sums(table, after, rows=size)
            except StepFailed as error:
                if error.reason != "held" or size <= FEWEST_ROWS:  # it took too long
                    raise
                size = max(FEWEST_ROWS, size // 4)
                continue
            self.figures.ranges += 1
            if not here.same(there):
                self.figures.looked_again += 1
                found += await self._look_closer(table, after, here.upto)
                enough = len(found) >= COUNTED
            self._rows += here.rows
            if here.upto is None or enough:
                break
            after = here.upto
            slower = max(here.seconds, there.seconds, 0.001)
            size = round(size * min(4.0, max(0.25, limits.COMPARE_CHUNK.total_seconds() / slower)))
            size = min(MOST_ROWS, max(FEWEST_ROWS, size))
            await self._rest(here.seconds + there.seconds)
        if len(found):
            self._differences.append(row_sentence(table.name, found, at_least=enough))

    async def _rest(self, worked: float) -> None:
        """Leave the servers to their clients for the rest of the time."""
        await self.clock.sleep(timedelta(seconds=worked * (1 / self.duty - 1)))

    async def _look_closer(self, table: TableFacts, after: Key | None, end: Key | None) -> Rows:
        """The rows of a range that differ, smaller ranges at a time. Lists first and looks again afterwards: a range that ends
        with the table grows while clients work, and this has to be faster."""
        found, suspected, size = Rows(), Rows(), LISTED_ROWS
        while True:
            await self.progress(table.name, self._rows, max(self._total, self._rows))
            here, there = await self._sides.sums(table, after, upto=end, rows=size)
            if not here.same(there):
                listed = await self._listed(table, after, here.upto)
                if listed is None and size > 1:
                    size = max(1, size // 4)
                    continue
                suspected += listed or Rows()
            last = here.upto == end
            if last or len(suspected) >= COUNTED:
                found += await self._confirmed(table, suspected)
                suspected = Rows()
            if last or len(found) >= COUNTED:
                return found
            after = here.upto

    async def _listed(self, table: TableFacts, after: Key | None, upto: Key | None) -> Rows | None:
        """What seems to differ in a range; None when it is too much for one answer."""
        rows = await self._sides.range(table, after, upto, LIST_MAX)
        if rows is None:
            return None
        here, there = rows
        # Rows that the second answer had no room for seem to be missing: they are asked for by their keys next.
        return unlike(here.rows, there.rows)

    async def _confirmed(self, table: TableFacts, suspected: Rows) -> Rows:
        """Those that differ at one and the same position."""
        confirmed, keys = Rows(), suspected.keys
        for number in range(SETTLING):
            if not keys:
                return confirmed
            await self.clock.sleep(PAUSE * 2**number)
            keys = [key for batch in _batches(keys, KEYS_AT_ONCE) for key in (await self._again(table, batch)).keys]
        for batch in _batches(keys, HELD_KEYS):
            await self.progress(table.name, self._rows, max(self._total, self._rows))
            confirmed += await self._held(table, batch)
            if len(confirmed) >= COUNTED:
                break
        return confirmed

    async def _again(self, table: TableFacts, keys: list[Key]) -> Rows:
        here, there = await self._sides.rows(table, keys)
        return unlike(_only(keys, here.rows), _only(keys, there.rows))

    async def _held(self, table: TableFacts, keys: list[Key]) -> Rows:
        """As `_again`, with the rows held meanwhile: exact. Tried again while clients have them, or the fallback is late."""
        for number in range(TRIES):
            if number:
                await self.clock.sleep(PAUSE * 2**number)
            both = await self._sides.held_rows(table, keys)
            if both is not None:
                here, there = both
                return unlike(_only(keys, here.rows), _only(keys, there.rows))
        self._undecided(table, len(keys))
        return Rows()

    def _undecided(self, table: TableFacts, rows: int) -> None:
        self.figures.undecided += rows
        self._left_out.append(f"{table.name}: {rows} rows, clients hold them or the fallback is too late for them")

    async def _keyless(self, table: TableFacts) -> None:
        """As a whole: equal at one look is equal. Otherwise it is held for the last look."""
        await self.progress(table.name, self._rows, max(self._total, self._rows))
        for number in range(3):
            here, there = await self._sides.sums(table)
            self.figures.ranges += 1
            self._rows += here.rows if not number else 0
            if here.same(there):
                return
            self.figures.looked_again += 1
            await self._rest(here.seconds + there.seconds)
        for number in range(TRIES):
            await self.clock.sleep(PAUSE * 2**number)
            both = await self._sides.held_sums(table)
            if both is not None:
                here, there = both
                if not here.same(there):
                    which = f"{here.rows} and {there.rows} rows; it has no key that would tell which ones differ"
                    self._differences.append(f"{table.name}: its rows differ ({which})")
                return
        self._undecided(table, here.rows)


def _only(keys: list[Key], rows: tuple[RowFacts, ...]) -> tuple[RowFacts, ...]:
    """A collation may take other keys for the same: they are rows of their own."""
    asked = set(keys)
    return tuple(row for row in rows if row.key in asked)


def _batches(keys: list[Key], most: int) -> list[list[Key]]:
    batches: list[list[Key]] = []
    length = 0
    for key in keys:
        size = sum(map(len, key)) + 4 * len(key)
        if not batches or len(batches[-1]) >= most or length + size > KEYS_LENGTH:
            batches.append([])
            length = 0
        batches[-1].append(key)
        length += size
    return batches


def _words(error: NodeUnreachable | StepFailed) -> str:
    if isinstance(error, StepFailed) and error.reason == "behind":
        return f"{error.node} is too far behind: {error.text}; compare again when it has caught up"
    if isinstance(error, StepFailed):
        return f"{error.node} could not be compared: {error.text}"
    return str(error)
