"""Reports of lost transactions: written once for each export, dealt with by a person, downloaded by who may."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from django.db import transaction
from django.db.models import Max
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext as _

from nodes.choices import EventLevel, OperationState
from nodes.models import Event, LossReport, Operation, VaultNode
from nodes.models.operation import REPLACING_KINDS

from . import audit
from .wishes import RefusedWish

FOUND: Final = "W110"
NOTHING: Final = "W111"
NOT_KNOWN: Final = "W112"
NO_NOTE: Final = "W113"
HANDLED_BEFORE: Final = "W114"
TEXT_MAX: Final = 500
"""Characters, as in the model: of the reason, the path and the note."""
TABLES_NAMED: Final = 5


def record(node: str, operation: str, why: str, result: Mapping[str, Any]) -> LossReport:
    """What an export came to (docs/reference/agent-protocol.md), with an event. Said again for the same operation it changes nothing.

    node, operation: ids. why: for what the node is held. A report of nothing is dealt with from the beginning.
    """
    with transaction.atomic():
        row = VaultNode.objects.select_for_update().select_related("vault").get(pk=node)
        known = LossReport.objects.filter(pk=operation).first()
        if known is not None:
            return known
        assert row.vault is not None
        count = int(result["count"]) + int(result["never_acknowledged"])
        nothing = not count and not result["not_known"] and not result.get("traceless")
        report = LossReport.objects.create(
            pk=operation,
            vault=row.vault,
            node=row,
            hostname=row.hostname,
            why=why[:TEXT_MAX],
            operation=operation,
            path=str(result["directory"])[:TEXT_MAX],
            size=int(result["bytes"]),
            first_at=parse_datetime(str(result["first_at"])),
            last_at=parse_datetime(str(result["last_at"])),
            transaction_count=count,
            transactions=list(result["transactions"]),
            rotate=list(result["rotate"]),
            notes=list(notes(result)),
            handled_at=timezone.now() if nothing else None,
            note="Nothing was lost." if nothing else "",
        )
        Event.objects.create(
            vault=row.vault, node_name=row.hostname, epoch=row.vault.epoch, operation=operation,
            rule=FOUND if count else NOTHING if nothing else NOT_KNOWN,
            level=EventLevel.INFO if nothing else EventLevel.ERROR, text=says(report)[: audit.EVENT_MAX],
            evidence={"report": report.pk, "ranges": str(result["ranges"])[:1000], "not_known": result["not_known_ranges"]},
        )  # fmt: skip
    return report


def says(report: LossReport) -> str:
    """One sentence on what came of it, for the event and the operation."""
    if report.handled_at is not None and not report.transaction_count:
        return f"{report.hostname} has no transaction that the Master does not have."
    if not report.transaction_count:
        return (
            f"Whether {report.hostname} has transactions that the Master does not have is not known: {report.notes[0]}"
        )
    tables = tables_of(report)
    named = ", ".join(tables[:TABLES_NAMED]) + (
        f" and {len(tables) - TABLES_NAMED} more" if len(tables) > TABLES_NAMED else ""
    )
    return (
        f"{report.transaction_count} transactions of {report.hostname} are not in the vault ({named or 'no table'}):"
        f" rotate {rotations_of(report)} credentials. They are exported, and listed under Lost transactions."
        + ("" if is_whole(report.notes) else f" {report.notes[0]}")
    )


def tables_of(report: LossReport) -> list[str]:
    """In the order in which they were changed first."""
    changes = (change for entry in report.transactions for change in entry["changes"])
    return list(dict.fromkeys(str(change["table"]) for change in changes if change["table"]))


def rotations_of(report: LossReport) -> int:
    """Also those that the list leaves out; how many is the last number of the note on them."""
    more = [note for note in report.notes if note.startswith(MORE_TO_ROTATE)]
    return len(report.rotate) + sum(int(note[len(MORE_TO_ROTATE) :].split()[0]) for note in more)


NO_TRACE: Final = "The Master shows no trace of "


def is_whole(report_notes: Sequence[str]) -> bool:
    """Whether everything that the Master is seen to lack is in the file: only then may the data be replaced unasked."""
    return not any(note.startswith(NO_TRACE) for note in report_notes)


MORE_TO_ROTATE: Final = "Beyond the list of what to rotate: "


def notes(result: Mapping[str, Any]) -> Sequence[str]:
    """What the list does not say, as sentences."""
    told: list[str] = []
    if result.get("traceless"):
        told.append(
            f"{NO_TRACE}{result['traceless']} and of what came before: it is in the data of this node, and neither exported nor listed."
            " Look whether the Master has lost its data, or went back to a backup, before the data of this node are replaced."
        )
    if result["not_known"]:
        told.append(
            f"{result['not_known']} transactions ({result['not_known_ranges']}) are older than the Master's oldest binary log:"
            " whether it has them cannot be said, so they are neither exported nor listed. They stand in the node's own logs."
        )
    if result["never_acknowledged"]:
        told.append(
            f"{result['never_acknowledged']} of them were cut off when the node came back: nobody ever got an OK for them. They"
            " are in files of their own, never-acknowledged.sql and .txt."
        )
    if result["more"]:
        told.append(f"{result['more']} changes more are in the files than are listed here.")
    if result["rotate_more"]:
        told.append(f"{MORE_TO_ROTATE}{result['rotate_more']} changes of secrets more; read transactions.txt.")
    if unnamed := result.get("unnamed"):
        why = "the tables have been changed since" if result["database_up"] else "the database is down"
        told.append(
            f"The names of the columns of {', '.join(unnamed[:TABLES_NAMED])} are not known: the log does not say them, and {why}."
            " Columns are numbers, and each of them may be a secret."
        )
    if result["exported_before"]:
        told.append(f"{result['exported_before']} transactions that were exported before are left out.")
    return told


def of_present_data(vault: str = "", node: str = "") -> list[LossReport]:
    """Lists, without their contents, of what nodes have in their data of now: not those from before they had other data, or were
    found to follow. The same words may hold a node again that has other transactions by then."""
    rows = LossReport.objects.filter(node__isnull=False).select_related("node").defer("transactions", "rotate")
    rows = rows.filter(node=node) if node else rows.filter(vault=vault)
    replaced = Operation.objects.filter(node__isnull=False, kind__in=REPLACING_KINDS, state=OperationState.SUCCEEDED)
    ended = dict(replaced.values_list("node").annotate(Max("finished_at")))

    def is_of_now(report: LossReport) -> bool:
        later = (report.node.verified_at, ended.get(report.node_id))
        return not any(at is not None and at > report.made_at for at in later)

    return [report for report in rows if is_of_now(report)]


def has_whole_list(node: str, why: str) -> bool:
    """Whether everything that this node has, held as it is now, stands in a list. node: id. why: for what it is held, or ""."""
    return bool(why) and any(r.why == why[:TEXT_MAX] and is_whole(r.notes) for r in of_present_data(node=node))


def open_reports(vault: str = "") -> Any:
    """Those that nobody has dealt with, newest first. vault: id; "" for all."""
    rows = LossReport.objects.filter(handled_at__isnull=True)
    return (rows.filter(vault=vault) if vault else rows).order_by("-made_at")


def deal_with(report: LossReport, actor: Any, *, note: str) -> RefusedWish | None:
    """Somebody has rotated what was to be rotated, or says why nothing has to be. note: what was done, in his words."""
    note = " ".join(note.split())[:TEXT_MAX]
    if not note:
        return RefusedWish(
            NO_NOTE, _("Say what was done: whoever looks at this later has nothing else to go by."), "note"
        )
    with transaction.atomic():
        row = LossReport.objects.select_for_update().select_related("vault").get(pk=report.pk)
        if row.handled_at is not None:
            return handled_before(row)
        LossReport.objects.filter(pk=row.pk).update(handled_at=timezone.now(), handled_by=actor, note=note)
        audit.tell(
            row, f"lost transactions of {row.hostname} dealt with", {"note": ("", note)}, actor=actor, reason=note,
            vault=row.vault, node_name=row.hostname, epoch=row.vault.epoch, operation=row.operation,
        )  # fmt: skip
    return None


def handled_before(report: LossReport) -> RefusedWish:
    return RefusedWish(HANDLED_BEFORE, _("Somebody has dealt with it already: %(note)s") % {"note": report.note})


def downloaded(report: LossReport, kind: str, actor: Any) -> None:
    """Who took the list out of the console, for the audit log."""
    audit.record(report, f"list of lost transactions of {report.hostname} downloaded as {kind}", {}, actor=actor)
