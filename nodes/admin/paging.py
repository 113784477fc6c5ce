"""Pages of a list whose newest rows come first: a place in it is a row, so that rows that come meanwhile move nobody."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from django.db.models import Q, QuerySet

NUMBER: Final = r"[1-9]\d{0,17}"
HEX: Final = r"[0-9a-f]{1,32}"


@dataclass(frozen=True)
class Order:
    """How the rows of a list follow each other: newest first by a column of times, and by key where two rows share a moment."""

    time: str = ""
    """The column; "" where the key alone says what came first."""
    key: str = NUMBER
    """What a key looks like in an address."""

    def sort(self, rows: "QuerySet[Any]") -> "QuerySet[Any]":
        return rows.order_by(*(f"-{column}" for column in self._columns))

    def upwards(self, rows: "QuerySet[Any]") -> "QuerySet[Any]":
        return rows.order_by(*self._columns)

    def place(self, row: Any) -> "Cursor":
        return Cursor(self, row.pk, getattr(row, self.time) if self.time else None)

    def read(self, text: str) -> "Cursor | None":
        """None for what is no place in the list: then it begins at its beginning."""
        time, _dash, key = text.rpartition("-") if self.time else ("", "", text)
        if bool(time) != bool(self.time) or not re.fullmatch(self.key, key, re.ASCII):
            return None
        pk: Any = int(key) if self.key == NUMBER else key
        try:
            at = datetime.strptime(time, "%Y%m%dT%H%M%S.%fZ").replace(tzinfo=UTC) if time else None
        except ValueError:
            return None
        return Cursor(self, pk, at)

    @property
    def _columns(self) -> tuple[str, ...]:
        return (self.time, "pk") if self.time else ("pk",)


@dataclass(frozen=True)
class Cursor:
    order: Order
    pk: Any
    at: datetime | None = None

    def __str__(self) -> str:
        """As it is written in an address."""
        return f"{self.at.astimezone(UTC):%Y%m%dT%H%M%S.%fZ}-{self.pk}" if self.at else str(self.pk)

    @property
    def older(self) -> Q:
        return self._beyond("lt")

    @property
    def newer(self) -> Q:
        return self._beyond("gt")

    def _beyond(self, than: str) -> Q:
        time, key = self.order.time, Q(**{f"pk__{than}": self.pk})
        if not time:
            return key
        # In this form the index on the time is used: `at < x OR (at = x AND pk < y)` is not.
        return Q(**{f"{time}__{than}e": self.at}) & (Q(**{f"{time}__{than}": self.at}) | key)


@dataclass(frozen=True)
class Page:
    rows: list[Any]
    first: bool
    newer: Cursor | None
    """To the page before; None on the first, and where nothing was found."""
    older: Cursor | None
    place: str = ""
    """As it was asked for in the address; "" on the first."""


def page_of(rows: "QuerySet[Any]", order: Order, before: Cursor | None, after: Cursor | None, size: int) -> Page:
    """What is older than `before`, or what is just newer than `after`; at the top of the list it is the first page."""
    if before is None and after is not None:
        found = list(order.upwards(rows.filter(after.newer))[: size + 1])
        if len(found) > size:
            shown = found[:size][::-1]
            return Page(shown, False, order.place(shown[0]), order.place(shown[-1]), f"after={after}")
    if before is not None:
        rows = rows.filter(before.older)
    found = list(order.sort(rows)[: size + 1])
    shown, first = found[:size], before is None
    return Page(
        shown,
        first,
        order.place(shown[0]) if shown and not first else None,
        order.place(shown[-1]) if len(found) > size else None,
        "" if first else f"before={before}",
    )


def addresses(here: str, query: str, page: Page) -> dict[str, str]:
    """Where the list goes on, with the filter that it has; "" for what there is not. For templates/nodes/list/_pages.html."""

    def address(*place: str) -> str:
        asked = "&".join(filter(None, (query, *place)))
        return f"{here}?{asked}" if asked else here

    return {
        "newest_url": address(),
        "this_url": address(page.place),
        "newer_url": address(f"after={page.newer}") if page.newer else "",
        "older_url": address(f"before={page.older}") if page.older else "",
    }
