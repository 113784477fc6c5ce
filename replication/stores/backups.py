"""Backups as rows: what is on which host, as its agent said last, and what is wished of one.

The rows follow the files, not the other way round: `reconcile` takes over what a host tells. A file that has gone stays as a row that
says so, until somebody removes it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final

from auditlog.models import LogEntry
from django.db import IntegrityError, transaction
from django.db.models import OuterRef, Subquery
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext as _

from nodes.choices import EventLevel, OperationKind, OperationState
from nodes.models import Backup, Event, Operation, Vault, VaultNode
from nodes.models.operation import OPEN_STATES
from replication.core.backups import Manifest

from . import audit
from .wishes import QueueUnavailable, RefusedWish, finish_operation

MADE: Final = "W120"
FAILED: Final = "W121"
OVERDUE: Final = "W122"
DAMAGED: Final = "W123"
REFUSED: Final = "W124"
GONE: Final = "its file is gone"
INTERVALS: Final = 2
"""A last good backup that is older than so many intervals is warned about."""

CHECK: Final = "check"
REMOVE: Final = "remove"
LOOK: Final = "look"
ACTIONS: Final = (CHECK, REMOVE, LOOK)
"""What an operation of kind BACKUP may be beside making one: arguments {"action", "backup"}."""


def last_good_backup(vault: Vault) -> Backup | None:
    """The newest that nothing is known against."""
    return Backup.objects.filter(vault=vault, fault="").order_by("-taken_at").first()


@dataclass(frozen=True)
class Overdue:
    """The last good backup is older than it should be."""

    last: datetime | None
    """None: there is none."""
    hours: int
    """The interval."""

    @property
    def says(self) -> str:
        """In the reader's language."""
        if self.last is None:
            return _("There is no backup of this vault: what is lost on all hosts is lost for good.")
        text = _("The last good backup is older than %(hours)d h, although one is made every %(every)d h.")
        return text % {"hours": INTERVALS * self.hours, "every": self.hours}


def overdue(vault: Vault, now: datetime) -> Overdue | None:
    last = last_good_backup(vault)
    return overdue_since(vault, last.taken_at if last is not None else None, now)


def overdue_since(vault: Vault, last: datetime | None, now: datetime) -> Overdue | None:
    """Whether backups are wanted and the last good one is too old. A vault that was just made has time."""
    hours = vault.backup_every_hours
    if not hours or vault.primary_id is None:
        return None
    if now - (last or vault.created_at) <= timedelta(hours=INTERVALS * hours):
        return None
    return Overdue(last, hours)


def newest_good(vault: OuterRef) -> Subquery:
    """For the one query of a vault: when its last good backup was taken."""
    return Subquery(Backup.objects.filter(vault=vault, fault="").order_by("-taken_at").values("taken_at")[:1])


# --- what hosts tell


def record(node: VaultNode, operation: str, manifest: Manifest, path: str, removed: Sequence[str]) -> Backup:
    """A backup that was just made, and the old ones that its host removed for it."""
    with transaction.atomic():
        for name in removed:
            Backup.objects.filter(node=node, path__endswith=f"/{name}").delete()
        backup = _take_over(node, manifest, path)
        text = (
            f"Backup of {node.hostname} made in {manifest.seconds:.0f} s: {manifest.bytes / 2**20:.1f} MiB, "
            f"position {manifest.position or '(empty)'}"
        )
        _tell(
            node.vault, node.hostname, MADE, EventLevel.INFO, text, operation, {"path": path, "removed": list(removed)}
        )
        return backup


def tell_failure(vault: Vault, hostname: str, operation: str, why: str) -> None:
    """Nobody watches a backup at night: one that failed is an alarm. why: a sentence."""
    _tell(vault, hostname, FAILED, EventLevel.ERROR, f"No backup was made: {why}", operation, {})


def reconcile(node: VaultNode, directory: str, manifests: Sequence[Manifest]) -> None:
    """Take over what a host says of its backups."""
    with transaction.atomic():
        there = {f"{directory}/{manifest.name}": manifest for manifest in manifests}
        for path, manifest in there.items():
            _take_over(node, manifest, path)
        for backup in Backup.objects.filter(node=node).exclude(fault=GONE):
            if backup.path not in there:
                _mark(backup, GONE)
        Backup.objects.filter(vault=node.vault_id, node__isnull=True).delete()


def removed(backup: str) -> None:
    Backup.objects.filter(pk=backup).delete()


def _take_over(node: VaultNode, manifest: Manifest, path: str) -> Backup:
    facts = {
        "hostname": node.hostname,
        "operation": manifest.operation[:32],
        "taken_at": _time(manifest.taken_at),
        "position": manifest.position[:500],
        "size": manifest.bytes,
        "seconds": manifest.seconds,
        "checksum": manifest.sha256[:64],
        "checked_at": _time(manifest.checked_at),
    }
    known = Backup.objects.filter(node=node, path=path[:500]).first()
    if known is None:
        return Backup.objects.create(
            vault_id=node.vault_id, node=node, path=path[:500], fault=manifest.fault[:500], **facts
        )
    if manifest.fault and manifest.fault != known.fault:
        _mark(known, manifest.fault)
    Backup.objects.filter(pk=known.pk).update(fault=manifest.fault[:500], **facts)
    return known


def _mark(backup: Backup, fault: str) -> None:
    Backup.objects.filter(pk=backup.pk).update(fault=fault[:500])
    text = f"The backup of {backup.taken_at:%Y-%m-%d %H:%M} UTC on {backup.hostname} is of no use: {fault}"
    _tell(backup.vault, backup.hostname, DAMAGED, EventLevel.ERROR, text, backup.operation, {"path": backup.path})


def _tell(
    vault: Vault, hostname: str, rule: str, level: EventLevel, text: str, operation: str, evidence: dict[str, Any]
) -> None:
    Event.objects.create(
        vault=vault, node_name=hostname, epoch=vault.epoch, rule=rule, level=level, text=text[: audit.EVENT_MAX],
        operation=operation, evidence=evidence,
    )  # fmt: skip


def _time(text: str) -> datetime | None:
    at = parse_datetime(text) if text else None
    return at if at is not None and at.tzinfo is not None else None


# --- wishes


def why_not(vault: Vault, backup: Backup | None) -> RefusedWish | None:
    """Why nothing can be done with this backup now. None as backup: with those of the vault."""
    if Operation.objects.filter(vault=vault, kind=OperationKind.BACKUP, state__in=OPEN_STATES).exists():
        return RefusedWish("W108", _("Another backup, or the check of one, is under way: wait until it has ended."))
    if backup is not None and (backup.node is None or backup.node.removed_at is not None):
        return RefusedWish(REFUSED, _("Its host was deleted from the list: nobody can look at the file any more."))
    return None


def request(
    action: str,
    vault: Vault,
    backup: Backup | None,
    actor: Any,
    enqueue: Callable[[Operation], None],
    *,
    typed: str | None = None,
    reason: str = "",
) -> Operation | RefusedWish:
    """Have a backup read through or removed, or all hosts asked what they have. typed: what a person typed to confirm; None where
    nobody is asked."""
    named = backup.hostname if backup is not None else ""
    if action == REMOVE and typed is not None and typed.strip().lower() != named.lower():
        text = _("Type %(name)s here to confirm that you mean this backup.") % {"name": named}
        return RefusedWish("W62", text, "confirm")
    operation: Operation | None = None
    try:
        with transaction.atomic():
            vault = Vault.objects.select_for_update().get(pk=vault.pk)
            if refused := why_not(vault, backup):
                return refused
            arguments = {"action": action, **({"backup": backup.pk} if backup is not None else {})}
            operation = Operation.objects.create(
                kind=OperationKind.BACKUP, vault=vault, node=backup.node if backup is not None else None,
                requested_by=actor, message="waiting", reason=reason[:200], arguments=arguments,
            )  # fmt: skip
            text, removal = {
                CHECK: ("Check of a backup requested", LogEntry.Action.UPDATE),
                REMOVE: ("Removal of a backup requested", LogEntry.Action.DELETE),
                LOOK: ("Look at the backups of all hosts requested", LogEntry.Action.UPDATE),
            }[action]
            audit.tell(
                backup or vault, text, {}, actor=actor, reason=reason, action=removal, vault=vault, epoch=vault.epoch,
                node_name=backup.hostname if backup is not None else "", operation=operation.pk,
            )  # fmt: skip
            transaction.on_commit(partial(enqueue, operation))
    except IntegrityError:
        return RefusedWish("W108", _("Another backup, or the check of one, is under way: wait until it has ended."))
    except QueueUnavailable:
        if operation is not None:
            finish_operation(operation.pk, OperationState.FAILED, {"summary": "The work queue (Redis) did not answer."})
        text = _("The work queue (Redis) does not answer, so nothing was started. Try again when it is back.")
        return RefusedWish("W43", text)
    return operation
