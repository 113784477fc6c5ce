"""MariaDB GTID positions: `domain-server-sequence`, one per domain. And the common door to them and to MySQL's sets. Pure.

Source: MariaDB manual, "Global Transaction ID". MySQL's `uuid:interval` sets are another type, on purpose: mysql_positions.py.
`parse`, `check_state`, `beyond` and `servers_in` take the texts of either; which one it is can be seen.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from .errors import PositionsNotComparable
from .mysql_positions import GtidSet
from .position_kinds import Position

__all__ = [
    "Gtid", "GtidPosition", "GtidSet", "Position", "beyond", "check_state", "extra_transactions", "highest_sequence", "parse",
    "parse_list", "servers_in",
]  # fmt: skip


@dataclass(frozen=True, order=True)
class Gtid:
    domain: int
    server: int
    sequence: int

    def __str__(self) -> str:
        return f"{self.domain}-{self.server}-{self.sequence}"

    @classmethod
    def parse(cls, text: str) -> "Gtid":
        """Read one `d-s-n`. Raises ValueError when it is not three numbers."""
        domain, server, sequence = text.strip().split("-")
        return cls(int(domain), int(server), int(sequence))


def parse_list(text: str) -> tuple[Gtid, ...]:
    """Read a comma-separated list as MariaDB prints it; the empty string is the empty list. Raises ValueError."""
    return tuple(Gtid.parse(part) for part in text.split(",") if part.strip())


@dataclass(frozen=True)
class GtidPosition(Position):
    """The last transaction of each domain, as in gtid_slave_pos or gtid_binlog_pos."""

    last: Mapping[int, Gtid]

    engine: ClassVar[str] = "MariaDB"
    skips: ClassVar[bool] = True

    @classmethod
    def parse(cls, text: str) -> "GtidPosition":
        """Read a position. Raises ValueError on bad text and PositionsNotComparable on two entries of one domain."""
        last: dict[int, Gtid] = {}
        for gtid in parse_list(text):
            if gtid.domain in last:
                raise PositionsNotComparable(
                    f"{text!r} holds domain {gtid.domain} twice: it is a state, not a position"
                )
            last[gtid.domain] = gtid
        return cls(last)

    def __bool__(self) -> bool:
        return bool(self.last)

    def __str__(self) -> str:
        return ",".join(str(self.last[domain]) for domain in sorted(self.last))

    def _covers(self, other: "GtidPosition") -> bool:
        return all(d in self.last and self.last[d].sequence >= gtid.sequence for d, gtid in other.last.items())

    def _missing_from(self, other: "GtidPosition") -> int:
        return sum(
            max(0, gtid.sequence - (self.last[d].sequence if d in self.last else 0)) for d, gtid in other.last.items()
        )

    def _count(self) -> int:
        return sum(gtid.sequence for gtid in self.last.values())


def is_mysql(text: str) -> bool:
    """Whether a text is, or would be, a set of MySQL. No colon ever stands in a position of MariaDB."""
    return ":" in text


def parse(text: str) -> Position:
    """Read a position of either engine. Raises ValueError, or PositionsNotComparable for a state of MariaDB."""
    return GtidSet.parse(text) if is_mysql(text) else GtidPosition.parse(text)


def check_state(text: str) -> None:
    """Raises ValueError when it is neither a gtid_binlog_state nor a gtid_executed."""
    if is_mysql(text):
        GtidSet.parse(text)
    else:
        parse_list(text)


def beyond(mine: str, theirs: str) -> tuple[str, ...]:
    """What the state `mine` has that `theirs` has not, as texts. mine, theirs: gtid_binlog_state, or gtid_executed.

    Of MariaDB see `extra_transactions` for what that proves. MySQL's answer is exact, as far as no number was ever issued
    twice; its replication itself never complains of them. Raises ValueError, PositionsNotComparable.
    """
    if not is_mysql(mine) and not is_mysql(theirs):
        return tuple(map(str, extra_transactions(mine, theirs)))
    own, other = parse(mine), parse(theirs)
    if isinstance(own, GtidSet) and (isinstance(other, GtidSet) or not other):
        extra = own.subtract(other) if isinstance(other, GtidSet) else own
        return tuple(str(GtidSet({origin: parts})) for origin, parts in extra.intervals.items())
    if not own:
        return ()
    raise PositionsNotComparable(f"{mine} is a state of {own.engine}, {theirs} one of {other.engine}")


def servers_in(state: str) -> tuple[int, ...]:
    """The server_ids that a state names, in order; MySQL's name none."""
    return () if is_mysql(state) else tuple(sorted({gtid.server for gtid in parse_list(state)}))


def extra_transactions(mine: str, theirs: str) -> tuple[Gtid, ...]:
    """The last transaction of each (domain, server) that `mine` holds beyond `theirs`.

    mine, theirs: gtid_binlog_state texts (or any GTID list with one entry per domain and server).
    Necessary, not sufficient: a lost GTID that was issued again with other content is not seen here, hence GTID_GAP
    and strict mode's error 1236 beside it. Source: measured on 10.11.19, docs/design/rejoin.md.
    """
    have: dict[tuple[int, int], int] = {}
    for gtid in parse_list(theirs):
        key = gtid.domain, gtid.server
        have[key] = max(gtid.sequence, have.get(key, 0))
    return tuple(sorted(g for g in parse_list(mine) if have.get((g.domain, g.server), 0) < g.sequence))


def highest_sequence(gtids: Iterable[Gtid], domain: int) -> int:
    """The highest sequence number of `domain` in `gtids`; 0 when there is none."""
    return max((g.sequence for g in gtids if g.domain == domain), default=0)
