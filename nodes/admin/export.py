"""A list as CSV and JSON: everything that its filter finds, in pieces, so that a million rows take no memory.

Read page by page instead of with one long cursor: an open read would keep SQLite from emptying its log.
"""

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from django.db.models import QuerySet
from django.http import HttpResponse, HttpResponseBase, StreamingHttpResponse

from .filtering import Filter
from .paging import Order

PIECE: Final = 500
KINDS: Final = ("csv", "json")
FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n")
"""A cell that begins so may be run by a spreadsheet program."""


@dataclass(frozen=True)
class Export:
    name: str
    """Of the file, before its time."""
    rows: str
    """What the list is called in JSON."""
    columns: Sequence[str]
    order: Order
    as_row: Callable[[Any], Mapping[str, Any]]

    def answer(self, kind: str, rows: "QuerySet[Any]", chosen: Filter, now: datetime) -> HttpResponseBase:
        """kind: one of KINDS. A filter that was not understood is refused: nobody sees in a file what was left out."""
        if chosen.problems:
            return refused(chosen)
        found = map(self.as_row, in_pieces(self.order, rows.filter(chosen.where)))
        pieces, mime = (
            (csv_pieces(self.columns, found), "text/csv")
            if kind == "csv"
            else (_json(self.rows, found, chosen, now), "application/json")
        )
        return attachment(pieces, mime, f"{self.name}-{now.astimezone(UTC):%Y%m%dT%H%M%SZ}.{kind}")


def refused(chosen: Filter) -> HttpResponse:
    says = "\n".join(chosen.problems)
    return HttpResponse(f"{says}\n", status=400, content_type="text/plain; charset=utf-8")


def attachment(pieces: Iterable[str], mime: str, name: str) -> StreamingHttpResponse:
    response = StreamingHttpResponse(pieces, content_type=f"{mime}; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    response["Cache-Control"] = "no-store"
    return response


def in_pieces(order: Order, rows: "QuerySet[Any]") -> Iterator[Any]:
    """Newest first."""
    rows, place = order.sort(rows), None
    while True:
        piece = list((rows.filter(place.older) if place else rows)[:PIECE])
        yield from piece
        if len(piece) < PIECE:
            return
        place = order.place(piece[-1])


class _Echo:
    """A file that gives back what is written to it."""

    def write(self, text: str) -> str:
        return text


def csv_pieces(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    # The mark tells spreadsheet programs that this is UTF-8.
    write = csv.writer(_Echo()).writerow
    yield "\ufeff" + write(columns)
    for row in rows:
        yield write([_cell(row[name]) for name in columns])


def _cell(value: Any) -> Any:
    """Text that a spreadsheet would take for a formula gets an apostrophe in front."""
    if isinstance(value, dict | list):
        value = json.dumps(value, ensure_ascii=False)
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


def _json(name: str, rows: Iterable[Mapping[str, Any]], chosen: Filter, now: datetime) -> Iterator[str]:
    head = {"exported_at": now.astimezone(UTC).isoformat(timespec="seconds"), "filter": dict(chosen.values)}
    yield json.dumps(head, ensure_ascii=False)[:-1] + f', "{name}": ['
    comma = "\n"
    for row in rows:
        yield comma + json.dumps(row, ensure_ascii=False)
        comma = ",\n"
    yield "\n]}\n"
