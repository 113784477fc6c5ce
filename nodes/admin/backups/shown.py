"""How a backup is shown: whether it is good, since when that is known, and what to type to have it back."""

import shlex
from dataclasses import dataclass
from typing import Any

from django.urls import reverse
from django.utils.translation import gettext as _

from nodes.admin.operations import words
from nodes.choices import OperationUnit
from nodes.models import Backup, VaultNode
from nodes.sentences import said
from replication.stores.backups import GONE

HOME = "/home/of/the/agent"
PROGRAM = "vault-agent"


@dataclass(frozen=True)
class BackupShown:
    backup: Backup
    level: str
    word: str
    fault: str

    @property
    def url(self) -> str:
        return reverse("admin:nodes_backup_detail", args=[self.backup.pk])

    @property
    def size(self) -> str:
        return words.amount(self.backup.size, OperationUnit.BYTES)

    @property
    def took(self) -> str:
        return words.duration(self.backup.seconds)

    @property
    def is_gone(self) -> bool:
        return self.backup.fault == GONE


def backup_shown(backup: Backup) -> BackupShown:
    if backup.fault == GONE:
        return BackupShown(backup, "bad", _("Gone"), said(backup.fault))
    if backup.fault:
        return BackupShown(backup, "bad", _("Damaged"), said(backup.fault))
    if backup.checked_at is None:
        return BackupShown(backup, "ok2", _("Written"), "")
    return BackupShown(backup, "ok", _("Checked"), "")


@dataclass(frozen=True)
class Command:
    """To be typed on a vault host."""

    key: str
    label: str
    text: str


def commands(backup: Backup) -> tuple[Command, ...]:
    program = _program(backup.node)
    file = shlex.quote(backup.path)
    return (
        Command("read", _("Only to look into it"), f"{program} --from {file} --to /root/restored"),
        Command("place", _("In the place of the node's data"), f"{program} --from {file}"),
    )


def _program(node: VaultNode | None) -> str:
    """As the node's agent names its own command line; a general form when it never has."""
    report: Any = (node.report if node is not None else None) or {}
    purge = str(report.get("purge_command") or "")
    if " purge " in purge:
        return purge.replace(" purge ", " restore ", 1)
    return f"{PROGRAM} restore --home {HOME}"
