"""What every dialect is written against: one connection to one server. The driver is the caller's business."""

from collections.abc import Mapping
from typing import Any, Protocol

Row = Mapping[str, Any]


class Session(Protocol):
    """A connection that keeps itself open. Values are always arguments, never part of the statement's text."""

    def rows(self, statement: str, *values: Any) -> list[Row]:
        """Run a statement and return its rows. Raises core.vault_ports.DatabaseError."""
        ...

    def run(self, statement: str, *values: Any) -> None:
        """Run a statement that has no rows. Raises core.vault_ports.DatabaseError."""
        ...
