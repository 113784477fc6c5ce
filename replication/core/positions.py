"""MariaDB GTID positions: `domain-server-sequence`, one per domain. Pure.

Source: MariaDB manual, "Global Transaction ID". MySQL's `uuid:interval` sets are another type, on purpose.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from .errors import PositionsNotComparable


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
class GtidPosition:
    """The last transaction of each domain, as in gtid_slave_pos or gtid_binlog_pos."""

    last: Mapping[int, Gtid]

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

    def __str__(self) -> str:
        return ",".join(str(self.last[domain]) for domain in sorted(self.last))

    def covers(self, other: "GtidPosition") -> bool:
        """Whether a node at this position has everything up to `other`, sequence by sequence.

        Only right between nodes that share a history: use `extra_transactions` first.
        """
        return all(d in self.last and self.last[d].sequence >= gtid.sequence for d, gtid in other.last.items())

    def missing_from(self, other: "GtidPosition") -> int:
        """How many sequence numbers this position lacks to reach `other`: an upper bound of transactions, 0 or more.

        Gaps in the sequence (a promotion skips GTID_GAP numbers) count as if they were transactions.
        """
        return sum(
            max(0, gtid.sequence - (self.last[d].sequence if d in self.last else 0)) for d, gtid in other.last.items()
        )


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
