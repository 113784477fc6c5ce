"""The list of a report as CSV and JSON: as masked as the page. In English, for whoever it is sent to."""

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from django.http import HttpResponseBase

from nodes.admin.export import attachment, csv_pieces
from nodes.models import LossReport
from replication.stores.audit import name_of

from .shown import changes

COLUMNS: Final = ("gtid", "at", "acknowledged", "table", "change", "statement", "key", "shown", "columns", "rotate")


def answer(report: LossReport, kind: str, now: datetime) -> HttpResponseBase:
    name = f"lost-transactions-{report.hostname}-{now.astimezone(UTC):%Y%m%dT%H%M%SZ}.{kind}"
    if kind == "csv":
        return attachment(csv_pieces(COLUMNS, _rows(report)), "text/csv", name)
    return attachment([json.dumps(as_json(report, now), indent=1, ensure_ascii=False)], "application/json", name)


def _rows(report: LossReport) -> Iterator[Mapping[str, Any]]:
    for entry, change in changes(report):
        yield {
            "gtid": entry["gtid"],
            "at": entry["at"],
            "acknowledged": "never" if entry.get("cut") else "perhaps",
            "table": change.get("table", ""),
            "change": change.get("verb", ""),
            "statement": change.get("says", ""),
            "key": change.get("key", {}),
            "shown": change.get("shown", {}),
            "columns": " ".join(change.get("changed", ())),
            "rotate": " ".join(change.get("secrets", ())),
        }


def as_json(report: LossReport, now: datetime) -> dict[str, Any]:
    return {
        "exported_at": _text(now),
        "id": report.pk,
        "hostname": report.hostname,
        "why": report.why,
        "made_at": _text(report.made_at),
        "first_at": _text(report.first_at),
        "last_at": _text(report.last_at),
        "files": report.path,
        "bytes": report.size,
        "transaction_count": report.transaction_count,
        "notes": report.notes,
        "rotate": report.rotate,
        "transactions": report.transactions,
        "dealt_with_at": _text(report.handled_at),
        "dealt_with_by": name_of(report.handled_by),
        "note": report.note,
    }


def _text(at: datetime | None) -> str:
    return at.astimezone(UTC).isoformat(timespec="seconds") if at is not None else ""
