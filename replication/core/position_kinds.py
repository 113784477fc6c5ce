"""What MariaDB's positions and MySQL's GTID sets have in common. Pure. `positions.parse` makes the right one of a text."""

from abc import ABC, abstractmethod
from typing import ClassVar, Self

from .errors import PositionsNotComparable


class Position(ABC):
    """How far a node is. The empty one is comparable with either kind: a server that has done nothing is of no engine yet."""

    engine: ClassVar[str]
    """For sentences."""
    skips: ClassVar[bool]
    """Promotions skip GTID_GAP numbers, so counting numbers does not count transactions."""

    def covers(self, other: "Position") -> bool:
        """Whether a node at this position has everything that `other` has. Raises PositionsNotComparable between two engines.

        MariaDB's are compared sequence by sequence, which is only right between nodes that share a history: see `beyond`.
        """
        if not other:
            return True
        return bool(self) and self._covers(self._same(other))

    def missing_from(self, other: "Position") -> int:
        """How many numbers this position lacks to reach `other`: an upper bound of transactions, 0 or more.

        Raises PositionsNotComparable between two engines.
        """
        if not other:
            return 0
        return self._missing_from(self._same(other)) if self else other._count()

    def _same(self, other: "Position") -> Self:
        if not isinstance(other, type(self)):
            raise PositionsNotComparable(f"{self} is a position of {self.engine}, {other} one of {other.engine}")
        return other

    @abstractmethod
    def __bool__(self) -> bool: ...

    @abstractmethod
    def __str__(self) -> str:
        """As the server writes it."""

    @abstractmethod
    def _count(self) -> int:
        """Numbers from nothing to here."""

    @abstractmethod
    def _covers(self, other: Self) -> bool: ...

    @abstractmethod
    def _missing_from(self, other: Self) -> int: ...
