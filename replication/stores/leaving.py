"""A node is made inactive or deleted: what that means for the vault's safety now, and the wish with its typed confirmation.

Who takes the last other copy of the data away, or the acker of a lossless vault, types the node's hostname and says why.
Everything else is one click, as in the manual.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from django.db import transaction
from django.utils.translation import gettext as _

from nodes.models import Vault, VaultNode
from replication.core.roles import NodeStatus

from . import wishes
from .wishes import RefusedWish

COPIES: Final = frozenset({NodeStatus.WAITING, NodeStatus.CATCHING_UP})
"""Statuses of a fallback that has, or is about to have, everything."""


@dataclass(frozen=True)
class Meaning:
    says: str
    typed: bool
    """It has to be confirmed by typing the hostname, with a reason."""


def what_leaving_means(vault: Vault, nodes: Sequence[VaultNode], node: VaultNode, *, watched: bool) -> Meaning:
    """For a node that may leave (see wishes.why_not_take_out). nodes: all present ones of the vault. Pure.

    watched: see wishes.is_watched; else what follows is not known, and nothing is said to be safe.
    """
    if vault.primary_id is None:
        return Meaning(_("The vault has no Master yet: nothing rests on this node."), False)
    if not node.active or not node.joined:
        return Meaning(_("It takes no part in the vault now: its safety stays as it is."), False)
    others = [n for n in nodes if n.pk not in (node.pk, vault.primary_id) and n.active]
    copies = [n.hostname for n in others if watched and n.status in COPIES]
    if vault.promotable_id == node.pk:
        return _without_acker(copies)
    if vault.promotable_id is not None:
        acker = next((n.hostname for n in nodes if n.pk == vault.promotable_id), "–")
        text = (
            _("The vault stays lossless: every acknowledged write is also on %(acker)s.")
            if watched
            else _("%(acker)s was to take over when somebody looked last; nobody does now.")
        )
        return Meaning(text % {"acker": acker}, False)
    if copies:
        text = _("The vault is solo, and stays so for now. Still following the Master: %(names)s.")
        return Meaning(text % {"names": ", ".join(copies)}, False)
    if not watched and others:
        text = _(
            "Nobody watches the vault now, so it is not known whether another node follows the Master: this may be the last"
            " other copy of the data."
        )
        return Meaning(text, True)
    return Meaning(_("The vault loses its last other copy of the data. %(danger)s") % {"danger": _danger()}, True)


def _without_acker(copies: Sequence[str]) -> Meaning:
    if not copies:
        text = _("The vault goes solo and loses its last other copy of the data. %(danger)s")
        return Meaning(text % {"danger": _danger()}, True)
    text = _(
        "The vault goes solo: this is the fallback that would take over. It becomes lossless again when another one is"
        " proven to have every write (%(names)s), most often within seconds; a Master that is lost before is not replaced."
    )
    return Meaning(text % {"names": ", ".join(copies)}, True)


def _danger() -> str:
    return _("Whatever is written from then on exists once only: a Master that is lost is not replaced.")


def meaning_of(node: VaultNode) -> Meaning:
    """What it would mean at this moment. Three queries."""
    nodes = list(VaultNode.objects.present().filter(vault=node.vault_id).defer("report"))
    return what_leaving_means(node.vault, nodes, node, watched=wishes.is_watched())


def make_inactive(node: VaultNode, actor: Any, *, typed: str, reason: str) -> RefusedWish | None:
    return _leave(node, actor, typed=typed, reason=reason, delete=False)


def delete(node: VaultNode, actor: Any, *, typed: str, reason: str) -> RefusedWish | None:
    return _leave(node, actor, typed=typed, reason=reason, delete=True)


def _leave(node: VaultNode, actor: Any, *, typed: str, reason: str, delete: bool) -> RefusedWish | None:
    """Judged again under the lock: between the question and the answer it may have become the acker."""
    reason = " ".join(reason.split())
    with transaction.atomic():
        vault = Vault.objects.select_for_update().get(pk=node.vault_id)
        found = VaultNode.objects.present().filter(pk=node.pk).first()
        if found is not None and wishes.why_not_take_out(vault, found) is None:
            found.vault = vault
            if refused := _not_confirmed(found, typed, reason):
                return refused
        if delete:
            return wishes.remove_node(node, actor, reason=reason)
        return wishes.set_active(node, False, actor, reason=reason)


def _not_confirmed(node: VaultNode, typed: str, reason: str) -> RefusedWish | None:
    if not meaning_of(node).typed:
        return None
    if typed.strip().lower() != node.hostname.lower():
        text = _("Type %(name)s here to confirm that you mean this node.")
        return RefusedWish("W62", text % {"name": node.hostname}, "confirm")
    if not reason:
        return RefusedWish("W63", _("Say why: it is kept with the event and in the audit log."), "reason")
    return None
