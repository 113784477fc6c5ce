"""Events as CSV and JSON: everything that the filter finds, in pieces, so that a million rows take no memory.

Read page by page instead of with one long cursor: an open read would keep SQLite from emptying its log.
"""

import csv
import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from django.http import StreamingHttpResponse

from nodes.models import Event, Vault

from .event_filter import Cursor, EventFilter

PIECE: Final = 500
COLUMNS: Final = (
    "id", "at", "vault", "vault_name", "node", "epoch", "level", "rule", "diagnosis", "text", "operation", "actor", "evidence",
)  # fmt: skip
FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n")
"""A cell that begins so may be run by a spreadsheet program."""


def export(kind: str, chosen: EventFilter, now: datetime) -> StreamingHttpResponse:
    """kind: "csv" or "json"."""
    pieces, mime = (_csv(chosen), "text/csv") if kind == "csv" else (_json(chosen, now), "application/json")
    response = StreamingHttpResponse(pieces, content_type=f"{mime}; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="events-{now.astimezone(UTC):%Y%m%dT%H%M%SZ}.{kind}"'
    response["Cache-Control"] = "no-store"
    return response


def _rows(chosen: EventFilter) -> Iterator[dict[str, Any]]:
    names = dict(Vault.objects.values_list("pk", "name"))
    events = Event.objects.filter(chosen.where).order_by("-at", "-pk")
    place: Cursor | None = None
    while True:
        piece = list((events.filter(place.older) if place else events)[:PIECE])
        for event in piece:
            yield _row(event, names)
        if len(piece) < PIECE:
            return
        place = Cursor(piece[-1].at, piece[-1].pk)


def _row(event: Event, names: Mapping[str, str]) -> dict[str, Any]:
    return {
        "id": event.pk,
        "at": event.at.astimezone(UTC).isoformat(timespec="microseconds"),
        "vault": event.vault_id or "",
        "vault_name": names.get(event.vault_id or "", ""),
        "node": event.node_name,
        "epoch": event.epoch,
        "level": event.level,
        "rule": event.rule,
        "diagnosis": event.diagnosis,
        "text": event.text,
        "operation": event.operation,
        "actor": event.actor,
        "evidence": event.evidence,
    }


class _Echo:
    """A file that gives back what is written to it."""

    def write(self, text: str) -> str:
        return text


def _csv(chosen: EventFilter) -> Iterator[str]:
    # The mark tells spreadsheet programs that this is UTF-8.
    write = csv.writer(_Echo()).writerow
    yield "\ufeff" + write(COLUMNS)
    for row in _rows(chosen):
        row["evidence"] = json.dumps(row["evidence"], ensure_ascii=False)
        yield write([_cell(row[name]) for name in COLUMNS])


def _cell(value: Any) -> Any:
    """Text that a spreadsheet would take for a formula gets an apostrophe in front."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


def _json(chosen: EventFilter, now: datetime) -> Iterator[str]:
    head = {"exported_at": now.astimezone(UTC).isoformat(timespec="seconds"), "filter": dict(chosen.values)}
    yield json.dumps(head, ensure_ascii=False)[:-1] + ', "events": ['
    comma = "\n"
    for row in _rows(chosen):
        yield comma + json.dumps(row, ensure_ascii=False)
        comma = ",\n"
    yield "\n]}\n"
