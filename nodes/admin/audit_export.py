"""The audit log as CSV and JSON: everything that the filter finds, piece by piece, so that a million rows take no memory."""

import csv
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final

from django.http import StreamingHttpResponse
from django.utils.translation import override

from .audit_entry import ACTION_NAMES, shown, written
from .audit_filter import AuditFilter
from .event_export import FORMULA, PIECE

KINDS: Final = ("csv", "json")
COLUMNS: Final = (
    "id", "at", "who", "remote_addr", "via", "action", "what", "kind", "object_pk", "object", "changes", "reason",
)  # fmt: skip


def export(kind: str, entries: Any, chosen: AuditFilter, now: datetime) -> StreamingHttpResponse:
    rows = _rows(entries.filter(chosen.where))
    pieces, mime = (_csv(rows), "text/csv") if kind == "csv" else (_json(rows, chosen, now), "application/json")
    response = StreamingHttpResponse(pieces, content_type=f"{mime}; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="audit-{now.astimezone(UTC):%Y%m%dT%H%M%SZ}.{kind}"'
    response["Cache-Control"] = "no-store"
    return response


def _rows(entries: Any) -> Iterator[dict[str, Any]]:
    """Newest first, by key: one long read would keep SQLite from emptying its log."""
    last: int | None = None
    while True:
        piece = list((entries.filter(pk__lt=last) if last is not None else entries).order_by("-pk")[:PIECE])
        yield from map(_row, piece)
        if len(piece) < PIECE:
            return
        last = piece[-1].pk


def _row(entry: Any) -> dict[str, Any]:
    """In English, for whoever it is sent to."""
    with override("en"):
        return _as_written(entry)


def _as_written(entry: Any) -> dict[str, Any]:
    row = shown(entry)
    return {
        "id": entry.pk,
        "at": entry.timestamp.astimezone(UTC).isoformat(timespec="microseconds"),
        "who": row.who,
        "remote_addr": entry.remote_addr or "",
        "via": row.via,
        "action": str(ACTION_NAMES[entry.action]),
        "what": written(entry) or row.what,
        "kind": row.kind,
        "object_pk": entry.object_pk,
        "object": entry.object_repr,
        "changes": {change.field: [change.before, change.after] for change in row.changes},
        "reason": row.reason,
    }


class _Echo:
    """A file that gives back what is written to it."""

    def write(self, text: str) -> str:
        return text


def _csv(rows: Iterator[dict[str, Any]]) -> Iterator[str]:
    # The mark tells spreadsheet programs that this is UTF-8.
    write = csv.writer(_Echo()).writerow
    yield "\ufeff" + write(COLUMNS)
    for row in rows:
        row["changes"] = json.dumps(row["changes"], ensure_ascii=False)
        yield write([_cell(row[name]) for name in COLUMNS])


def _cell(value: Any) -> Any:
    """Text that a spreadsheet would take for a formula gets an apostrophe in front."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


def _json(rows: Iterator[dict[str, Any]], chosen: AuditFilter, now: datetime) -> Iterator[str]:
    head = {"exported_at": now.astimezone(UTC).isoformat(timespec="seconds"), "filter": dict(chosen.values)}
    yield json.dumps(head, ensure_ascii=False)[:-1] + ', "entries": ['
    comma = "\n"
    for row in rows:
        yield comma + json.dumps(row, ensure_ascii=False)
        comma = ",\n"
    yield "\n]}\n"
