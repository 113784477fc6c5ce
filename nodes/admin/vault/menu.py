"""The Action menu of a row of the Vault screen: everything that is possible now, and what is not with its reason.

Pure: made of the rows that the screen has read already, so that 200 menus cost no query. Each popup asks the same questions
again, and each wish once more under the lock.
"""

from collections.abc import Collection, Hashable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Final
from urllib.parse import quote

from django.utils.translation import gettext as _

from nodes.choices import OperationKind
from nodes.help import help_url, node_status_heading, status_url
from nodes.models import Vault
from replication.core.roles import NodeStatus
from replication.stores import wishes
from replication.stores.wishes import RefusedWish

from .rows import Row

FOLLOWS: Final = frozenset(
    {
        NodeStatus.WAITING,
        NodeStatus.CATCHING_UP,
        NodeStatus.CONNECTING,
        NodeStatus.RESYNCHRONIZING,
        NodeStatus.NOT_FOLLOWING,
    }
)
"""It follows the Master, or will by itself."""


@dataclass(frozen=True)
class Entry:
    name: str
    label: str
    url: str = ""
    """Where it leads; of a refused one: what explains the way by hand, or ""."""
    refused: RefusedWish | None = None
    popup: bool = True
    """It opens a popup; else a page in a tab of its own."""


@dataclass(frozen=True, kw_only=True)
class MenuFacts:
    """What every menu of the list depends on beside its row."""

    vault: Vault
    base: str
    """Address of the screen, with a slash at its end."""
    may: Mapping[str, bool]
    watched: bool
    resynchronizing: bool
    switching: bool
    paused: bool

    @property
    def key(self) -> tuple[Hashable, ...]:
        """Everything of it that a menu may show."""
        target = self.vault.intent.get("target", "") if self.vault.intent is not None else None
        wished = (self.watched, self.resynchronizing, self.switching, self.paused)
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
    if may["resynchronize"]:
        entries.append(_by_hand("rebuild", _("Rebuild (full copy)"), why_no_rebuild(row)))
        entries.append(_by_hand("export", _("Export lost transactions"), why_no_export(row)))
    if url := _status_help(row.shown):
        entries.append(Entry("help", _("What this status means"), url, popup=False))
    return entries


def why_no_rebuild(row: Row) -> RefusedWish:
    """This version makes no full copy: why none is needed here, or what to do instead."""
    if row.is_primary:
        return RefusedWish("W64", _("It is the Master: the other nodes are copies of it."))
    if not row.node.active:
        return RefusedWish("W64", _("It is inactive: make it active, and it catches up by itself."))
    if row.shown in FOLLOWS:
        return RefusedWish("W64", _("It follows the Master: there is nothing to rebuild."))
    if row.shown in (NodeStatus.DIVERGED, NodeStatus.ERROR):
        return RefusedWish("W65", _("This version cannot make a full copy yet."))
    return RefusedWish("W66", _("Whether it needs one is not known: it has to answer first."))


def why_no_export(row: Row) -> RefusedWish:
    """This version exports nothing: why nothing is lost here, or where the transactions are."""
    if row.is_primary:
        return RefusedWish("W67", _("Nothing is lost here: it is the Master."))
    if row.shown is NodeStatus.DIVERGED:
        return RefusedWish("W68", _("Not in this version: they are in the binary logs on its host."))
    if row.shown in FOLLOWS:
        return RefusedWish("W67", _("Nothing is lost here: it follows the Master."))
    return RefusedWish("W66", _("Whether it has any is not known: it has to follow the Master first."))


def facts_of(
    vault: Vault, base: str, may: Mapping[str, bool], *, watched: bool, running: Collection[str], paused: bool
) -> MenuFacts:
    """running: the kinds of operation that are open."""
    return MenuFacts(
        vault=vault,
        base=base,
        may=may,
        watched=watched,
        resynchronizing=wishes.is_replacing(running),
        switching=OperationKind.SWITCHOVER in running,
        paused=paused,
    )


def _entry(name: str, label: str, url: str, refused: RefusedWish | None) -> Entry:
    return Entry(name, label, refused=refused) if refused is not None else Entry(name, label, url)


def _by_hand(name: str, label: str, refused: RefusedWish) -> Entry:
    """Never possible in this version; where something is to be done all the same, the help says how."""
    return Entry(name, label, help_url(refused.rule) if refused.rule in ("W65", "W68") else "", refused)


@cache
def _status_help(status: NodeStatus) -> str:
    return status_url("node", node_status_heading(status))
