"""MySQL GTID sets: `uuid:1-5:7,uuid:tag:1-3`, the transactions of each server as intervals of numbers. Pure.

Source: MySQL manual, "GTID Sets": UUIDs without case, intervals in any order and overlapping, white space anywhere. A tag belongs to
the numbers behind it, up to the next one (since 8.3); within a UUID each tag counts for itself.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Final

from .position_kinds import Position

_UUID: Final = re.compile(r"[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}")
_TAG: Final = re.compile(r"[a-z_][a-z0-9_]{0,31}")
_INTERVAL: Final = re.compile(r"([0-9]{1,19})(?:-([0-9]{1,19}))?")
NUMBER_MAX: Final = 2**63 - 1

Origin = tuple[str, str]
"""UUID of the server that committed, in lower case; tag, "" without one."""
Interval = tuple[int, int]
"""First and last number."""


@dataclass(frozen=True)
class GtidSet(Position):
    """gtid_executed, gtid_purged or Retrieved_Gtid_Set. Intervals are in order and neither touch nor overlap."""

    intervals: Mapping[Origin, tuple[Interval, ...]] = field(default_factory=dict)

    engine: ClassVar[str] = "MySQL"
    skips: ClassVar[bool] = False

    @classmethod
    def parse(cls, text: str) -> "GtidSet":
        """Raises ValueError."""
        found: dict[Origin, list[Interval]] = {}
        for part in re.sub(r"\s", "", text.lower()).split(","):
            if not part:
                continue
            uuid, *rest = part.split(":")
            if not _UUID.fullmatch(uuid):
                raise ValueError(f"{uuid!r} is no UUID of a server, in {_short(text)}")
            if not rest:
                raise ValueError(f"{uuid!r} stands without numbers, in {_short(text)}")
            tag = ""
            for word in rest:
                if _TAG.fullmatch(word):
                    tag = word
                else:
                    found.setdefault((_with_hyphens(uuid), tag), []).append(_interval(word, text))
        return cls({origin: merged for origin, parts in sorted(found.items()) if (merged := _merged(parts))})

    def __bool__(self) -> bool:
        return bool(self.intervals)

    def __str__(self) -> str:
        """As the server prints it, in one line: the numbers without a tag first, then each tag."""
        texts: dict[str, str] = {}
        for (uuid, tag), parts in sorted(self.intervals.items()):
            numbers = ":".join(str(first) if first == last else f"{first}-{last}" for first, last in parts)
            texts[uuid] = f"{texts.get(uuid, uuid)}:{tag + ':' if tag else ''}{numbers}"
        return ",".join(texts.values())

    def subtract(self, other: "GtidSet") -> "GtidSet":
        """What is here and not in `other`, as GTID_SUBTRACT."""
        left = {
            origin: tuple(_without(parts, other.intervals.get(origin, ()))) for origin, parts in self.intervals.items()
        }
        return GtidSet({origin: parts for origin, parts in left.items() if parts})

    def union(self, other: "GtidSet") -> "GtidSet":
        origins = sorted({*self.intervals, *other.intervals})
        both = {o: _merged([*self.intervals.get(o, ()), *other.intervals.get(o, ())]) for o in origins}
        return GtidSet(both)

    def _covers(self, other: "GtidSet") -> bool:
        return not other.subtract(self)

    def _missing_from(self, other: "GtidSet") -> int:
        return other.subtract(self)._count()

    def _count(self) -> int:
        return sum(last - first + 1 for parts in self.intervals.values() for first, last in parts)


def _with_hyphens(uuid: str) -> str:
    bare = uuid.replace("-", "")
    return "-".join((bare[:8], bare[8:12], bare[12:16], bare[16:20], bare[20:]))


def _interval(word: str, text: str) -> Interval:
    found = _INTERVAL.fullmatch(word)
    if not found:
        raise ValueError(f"{word!r} is neither a tag nor an interval of numbers, in {_short(text)}")
    first, last = int(found[1]), int(found[2] or found[1])
    if not 1 <= first <= NUMBER_MAX or last > NUMBER_MAX:
        raise ValueError(f"{word!r} is no interval between 1 and {NUMBER_MAX}, in {_short(text)}")
    return first, last


def _short(text: str) -> str:
    return repr(text if len(text) <= 200 else text[:200] + "…")


def _merged(parts: Iterable[Interval]) -> tuple[Interval, ...]:
    """In order, neighbours joined. An interval that ends before it begins is empty, as the server has it."""
    done: list[Interval] = []
    for first, last in sorted(part for part in parts if part[0] <= part[1]):
        if done and first <= done[-1][1] + 1:
            done[-1] = (done[-1][0], max(last, done[-1][1]))
        else:
            done.append((first, last))
    return tuple(done)


def _without(mine: Iterable[Interval], theirs: tuple[Interval, ...]) -> Iterator[Interval]:
    """Both in order; one walk over each."""
    at = 0
    for first, last in mine:
        while at < len(theirs) and theirs[at][1] < first:
            at += 1
        start, next_ = first, at
        while next_ < len(theirs) and theirs[next_][0] <= last:
            if theirs[next_][0] > start:
                yield start, theirs[next_][0] - 1
            start = max(start, theirs[next_][1] + 1)
            next_ += 1
        if start <= last:
            yield start, last
