"""The Action menu of a row of the Vault screen: everything that is possible now, and what is not with its reason.

Pure: made of the rows that the screen has read already, so that 200 menus cost no query. Each popup asks the same questions
again, and each wish once more under the lock.
"""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Final
from urllib.parse import quote

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from nodes.choices import OperationKind
from nodes.help import node_status_heading, status_url
from nodes.models import Vault
from replication.core.roles import NodeStatus
from replication.stores import data_wishes, wishes
from replication.stores.data_wishes import Around
from replication.stores.wishes import RefusedWish

from .rows import Row

ON_DATA: Final = (
    (OperationKind.VERIFY, "compare", "verify", gettext_lazy("Compare with the Master")),
    (OperationKind.REBUILD, "rebuild", "rebuild", gettext_lazy("Rebuild (full copy)")),
    (OperationKind.UNDO, "undo", "rebuild", gettext_lazy("Undo rebuild")),
    (OperationKind.EXPORT, "export", "rebuild", gettext_lazy("Export lost transactions")),
    (OperationKind.BACKUP, "backup", "backup", gettext_lazy("Back up now")),
    (OperationKind.REMOVE_KEPT, "remove-kept", "rebuild", gettext_lazy("Remove old data")),
)
"""Kind, address, permission and label of what works on a node's data."""


@dataclass(frozen=True)
class Entry:
    name: str
    label: str
    url: str = ""
    """Where it leads; "" of a refused one."""
    refused: RefusedWish | None = None
    popup: bool = True
    """It opens a popup; else a page in a tab of its own."""
    begins: bool = False
    """A group of entries begins with it: first roles, then data, then help."""


@dataclass(frozen=True, kw_only=True)
class MenuFacts:
    """What every menu of the list depends on beside its row."""

    vault: Vault
    base: str
    """Address of the screen, with a slash at its end."""
    may: Mapping[str, bool]
    around: Around
    paused: bool

    @property
    def watched(self) -> bool:
        return self.around.watched

    @property
    def resynchronizing(self) -> bool:
        return wishes.is_replacing([kind for kind, _node in self.around.open])

    @property
    def switching(self) -> bool:
        return self.around.has(OperationKind.SWITCHOVER)

    @property
    def key(self) -> tuple[Hashable, ...]:
        """Everything of it that a menu may show."""
        target = self.vault.intent.get("target", "") if self.vault.intent is not None else None
        wished = (self.watched, frozenset(self.around.open), self.paused)
        return (self.vault.pk, self.vault.primary_id, target, self.base, *self.may.items(), *wished)


def menu_of(row: Row, facts: MenuFacts) -> list[Entry]:
    """What this user may ask for on a row, the possible and the refused; last, what its status means."""
    node, vault, may = row.node, facts.vault, facts.may
    place = f"{facts.base}{quote(node.pk, safe='')}/"
    entries: list[Entry] = []
    if may["resynchronize"]:
        refused = wishes.why_not_resynchronize(vault, node, running=facts.resynchronizing)
        entries.append(_entry("resynchronize", _("Re-synchronize Master"), place + "resynchronize/", refused))
    if may["switchover"] and not row.is_primary:
        refused = wishes.why_not_switch_over(vault, node, watched=facts.watched, running=facts.switching)
        label = _("Fail back to Primary") if row.fails_back else _("Make Master")
        entries.append(_entry("switchover", label, place + "switchover/", refused))
    if may["change"] and node.active:
        refused = wishes.why_not_take_out(vault, node)
        entries.append(_entry("active", _("Make inactive"), place + "change/?active=0", refused))
    elif may["change"]:
        entries.append(Entry("active", _("Make active"), place + "change/?active=1"))
    if may["pause"]:
        name, label = (
            ("resume", _("Resume automatic failover")) if facts.paused else ("pause", _("Pause automatic failover"))
        )
        entries.append(Entry(name, label, f"{facts.base}{name}/"))
    for kind, name, permission, words in ON_DATA:
        if may[permission]:
            refused = data_wishes.why_not(kind, vault, node, facts.around)
            begins = bool(entries) and not any(entry.begins for entry in entries)
            entries.append(replace(_entry(name, str(words), f"{place}{name}/", refused), begins=begins))
    if url := _status_help(row.shown):
        entries.append(Entry("help", _("What this status means"), url, popup=False, begins=bool(entries)))
    return entries


def facts_of(vault: Vault, base: str, may: Mapping[str, bool], *, around: Around, paused: bool) -> MenuFacts:
    return MenuFacts(vault=vault, base=base, may=may, around=around, paused=paused)


def _entry(name: str, label: str, url: str, refused: RefusedWish | None) -> Entry:
    return Entry(name, label, refused=refused) if refused is not None else Entry(name, label, url)


@cache
def _status_help(status: NodeStatus) -> str:
    return status_url("node", node_status_heading(status))
