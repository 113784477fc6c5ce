"""Sets of transactions, as runs of sequence numbers for each domain and server; and what a primary has of them. Pure.

A binary log of years is a handful of runs: one server writes at a time, and each promotion begins a new run.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from .positions import Gtid, parse_list

Key = tuple[int, int]
"""Domain and server."""


class GtidRanges:
    """A set of transactions. Grows by `add`; otherwise it is not changed."""

    def __init__(self) -> None:
        self._first: dict[Key, list[int]] = {}
        self._last: dict[Key, list[int]] = {}
        """Both ends of each run, inclusive; rising, and never adjacent."""

    @classmethod
    def of(cls, gtids: Iterable[Gtid]) -> "GtidRanges":
        made = cls()
        for gtid in gtids:
            made.add(gtid)
        return made

    def add(self, gtid: Gtid) -> None:
        self.add_run((gtid.domain, gtid.server), gtid.sequence, gtid.sequence)

    def add_run(self, key: Key, first: int, last: int) -> None:
        """first, last: both inclusive. What it touches becomes one run with it."""
        firsts, lasts = self._first.setdefault(key, []), self._last.setdefault(key, [])
        if lasts and first == lasts[-1] + 1:  # the ordinary case: a log is read from its beginning
            lasts[-1] = last
            return
        begin, end = bisect_left(lasts, first - 1), bisect_right(firsts, last + 1)
        if begin < end:
            first, last = min(first, firsts[begin]), max(last, lasts[end - 1])
        firsts[begin:end], lasts[begin:end] = [first], [last]

    def __contains__(self, gtid: Gtid) -> bool:
        lasts = self._last.get((gtid.domain, gtid.server), [])
        at = bisect_left(lasts, gtid.sequence)
        return at < len(lasts) and self._first[gtid.domain, gtid.server][at] <= gtid.sequence

    def __len__(self) -> int:
        return sum(last - first + 1 for _key, first, last in self.runs())

    def __bool__(self) -> bool:
        return any(self._first.values())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, GtidRanges) and list(self.runs()) == list(other.runs())

    __hash__ = None  # type: ignore[assignment]  # it grows

    def runs(self) -> Iterator[tuple[Key, int, int]]:
        """By domain and server, then rising."""
        for key in sorted(self._first):
            for first, last in zip(self._first[key], self._last[key], strict=True):
                yield key, first, last

    def update(self, other: "GtidRanges") -> None:
        for key, first, last in other.runs():
            self.add_run(key, first, last)

    def difference(self, other: "GtidRanges") -> "GtidRanges":
        """What is in this set and not in the other."""
        left = GtidRanges()
        for key, first, last in self.runs():
            firsts, lasts = other._first.get(key, []), other._last.get(key, [])
            rest = first
            for at in range(bisect_left(lasts, first), len(lasts)):
                if firsts[at] > last:
                    break
                if rest < firsts[at]:
                    left.add_run(key, rest, firsts[at] - 1)
                rest = lasts[at] + 1
            if rest <= last:
                left.add_run(key, rest, last)
        return left

    def __str__(self) -> str:
        """As a person reads it: `0-1-5`, or `0-1-5…9`."""
        return ", ".join(
            f"{domain}-{server}-{first}" + (f"…{last}" if last > first else "")
            for (domain, server), first, last in self.runs()
        )

    def to_json(self) -> dict[str, list[list[int]]]:
        made: dict[str, list[list[int]]] = {}
        for (domain, server), first, last in self.runs():
            made.setdefault(f"{domain}-{server}", []).append([first, last])
        return made

    @classmethod
    def from_json(cls, data: Any) -> "GtidRanges":
        """Raises ValueError."""
        made = cls()
        try:
            for name, runs in data.items():
                domain, server = name.split("-")
                for first, last in runs:
                    if not 0 <= int(first) <= int(last):
                        raise ValueError(f"{first} to {last} is no run")
                    made.add_run((int(domain), int(server)), int(first), int(last))
        except (AttributeError, TypeError) as error:
            raise ValueError("runs of sequence numbers by domain and server were expected") from error
        return made


class Standing(StrEnum):
    """Whether somebody has a transaction."""

    HAS = "has"
    LACKS = "lacks"
    UNKNOWN = "unknown"
    """Its binary logs do not reach back so far."""


@dataclass(frozen=True)
class Inventory:
    """What stands in the binary logs of one node."""

    before: tuple[Gtid, ...]
    """The last transaction of each domain and server that was written before the oldest log: its Gtid_list event."""
    ranges: GtidRanges
    oldest: str = ""
    """File name of the oldest log; "" when there is none."""
    executed: str = ""
    """Of MySQL, all that there is to say: gtid_executed."""

    def standing(self, gtid: Gtid) -> Standing:
        """A number that is not in the logs, of a server that had already written a higher one before they begin, may have been
        there and may have been left out: that is not known. Nor is anything of before the first log of a node that was made from
        a copy and says nothing of what came before. Everything else is known."""
        if gtid in self.ranges:
            return Standing.HAS
        return Standing.UNKNOWN if gtid.sequence <= self._reach(gtid) else Standing.LACKS

    def _reach(self, gtid: Gtid) -> int:
        """The highest sequence number that the logs may leave out although it was written."""
        if self.before:
            same = (g.sequence for g in self.before if (g.domain, g.server) == (gtid.domain, gtid.server))
            return max(same, default=-1)
        firsts: dict[int, int] = {}
        for (domain, _server), first, _last in self.ranges.runs():
            firsts[domain] = min(first, firsts.get(domain, first))
        if firsts and set(firsts.values()) == {1}:
            return -1  # its logs begin with its first transaction
        return firsts[gtid.domain] - 1 if gtid.domain in firsts else gtid.sequence

    def to_json(self) -> dict[str, Any]:
        return {
            "before": ",".join(map(str, self.before)),
            "ranges": self.ranges.to_json(),
            "oldest": self.oldest,
            "executed": self.executed,
        }

    @classmethod
    def from_json(cls, data: Any) -> "Inventory":
        """Raises ValueError."""
        if not isinstance(data, Mapping):
            raise ValueError("an inventory was expected")
        before = parse_list(str(data.get("before", "")))
        return cls(
            before,
            GtidRanges.from_json(data.get("ranges", {})),
            str(data.get("oldest", "")),
            str(data.get("executed", "")),
        )
