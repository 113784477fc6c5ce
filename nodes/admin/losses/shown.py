"""A report of lost transactions as its page shows it: what to rotate, and every change, with values that may be shown."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from nodes.models import LossReport
from replication.core.losses import MASK
from replication.stores.losses import rotations_of, tables_of

PAGE: Final = 200
"""Changes on a page."""
TABLES_SHOWN: Final = 4
VERBS: Final = {
    "insert": gettext_lazy("inserted"),
    "update": gettext_lazy("changed"),
    "delete": gettext_lazy("deleted"),
    "ddl": gettext_lazy("statement"),
}


@dataclass(frozen=True)
class LossRow:
    """In the list."""

    report: LossReport
    tables: str
    rotations: int


@dataclass(frozen=True)
class Value:
    name: str
    text: str
    masked: bool = False


@dataclass(frozen=True)
class ChangeShown:
    gtid: str
    """"" when it is of the same transaction as the one before it."""
    at: datetime | None
    cut: bool
    table: str
    verb: str
    says: str
    key: tuple[Value, ...]
    values: tuple[Value, ...]


@dataclass(frozen=True)
class ToRotate:
    table: str
    key: tuple[Value, ...]
    name: str
    columns: str
    last_at: datetime | None
    times: int


def row_of(report: LossReport) -> LossRow:
    tables = tables_of(report)
    more = len(tables) - TABLES_SHOWN
    named = ", ".join(tables[:TABLES_SHOWN])
    return LossRow(
        report,
        _("%(tables)s and %(more)d more") % {"tables": named, "more": more} if more > 0 else named,
        rotations_of(report),
    )


def rotations(report: LossReport) -> list[ToRotate]:
    return [
        ToRotate(
            table=str(row["table"]),
            key=_values(row["key"]),
            name=str(row["name"]),
            columns=", ".join(row["columns"]),
            last_at=parse_datetime(str(row["last_at"])),
            times=int(row.get("times", 1)),
        )
        for row in report.rotate
    ]


def changes(report: LossReport) -> Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """All that are listed, each with its transaction. One without any is in it with none."""
    return [(entry, change) for entry in report.transactions for change in entry["changes"] or ({},)]


def page_of_changes(report: LossReport, begin: int) -> tuple[list[ChangeShown], int, int]:
    """The changes from this one on; where the page before and the page behind begin, or -1."""
    every = changes(report)
    begin = begin if 0 <= begin < len(every) else 0
    shown, before = [], ""
    for entry, change in every[begin : begin + PAGE]:
        gtid = str(entry["gtid"])
        shown.append(_shown(entry, change, "" if gtid == before else gtid))
        before = gtid
    end = begin + PAGE
    return shown, max(0, begin - PAGE) if begin else -1, end if end < len(every) else -1


def _shown(entry: Mapping[str, Any], change: Mapping[str, Any], gtid: str) -> ChangeShown:
    shown, key = change.get("shown", {}), change.get("key", {})
    masked = [Value(name, MASK, True) for name in change.get("changed", ()) if name not in shown and name not in key]
    verb = str(change.get("verb", ""))
    return ChangeShown(
        gtid=gtid,
        at=parse_datetime(str(entry["at"])),
        cut=bool(entry.get("cut")),
        table=str(change.get("table", "")),
        verb=str(VERBS.get(verb, verb)) if change else _("nothing that is listed"),
        says=str(change.get("says", "")),
        key=_values(key),
        values=(*_values(shown), *masked),
    )


def _values(told: Mapping[str, Any]) -> tuple[Value, ...]:
    return tuple(Value(str(name), str(value), str(value) == MASK) for name, value in told.items())


def read_command(report: LossReport) -> str:
    """What a person types on the host to read everything, unmasked; "" when there is no file."""
    return f"sudo less {shlex.quote(report.path + '/transactions.txt')}" if report.path else ""


def replay_command(report: LossReport) -> str:
    return f"sudo less {shlex.quote(report.path + '/transactions.sql')}" if report.path else ""
