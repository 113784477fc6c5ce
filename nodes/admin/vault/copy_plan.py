"""What a copy or a re-synchronization will do, said before it is asked for: to whom, why, how much, how long. As far as it is known."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.utils.dateparse import parse_datetime
from django.utils.timezone import localtime
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from nodes.admin.operations import words
from nodes.choices import OperationUnit
from nodes.models import Vault, VaultNode
from nodes.sentences import said
from replication.core.errors import PositionsNotComparable
from replication.core.positions import parse
from replication.core.resync import transactions_between
from replication.core.roles import NodeStatus
from replication.stores.data_wishes import has_diverged, kept_of

MIB = 2**20


@dataclass(frozen=True)
class Planned:
    """What Re-synchronize Master will do with one fallback."""

    hostname: str
    says: str
    copy: bool = False
    diverged: bool = False
    """Its own transactions are exported and its data replaced: that has to be confirmed."""


def resync_plan(vault: Vault, node: VaultNode) -> list[Planned]:
    """For the row that was clicked: of the Master every active fallback, else that one."""
    fallbacks = VaultNode.objects.present().filter(vault=vault, active=True).exclude(pk=vault.primary_id)
    meant = fallbacks if node.pk == vault.primary_id else fallbacks.filter(pk=node.pk)
    return [_planned(vault, one) for one in meant.order_by("ordinal")]


def _planned(vault: Vault, node: VaultNode) -> Planned:
    report = node.report or {}
    name, database = node.hostname, _database(node)
    if node.status in (NodeStatus.UNREACHABLE, NodeStatus.UNKNOWN) or not report:
        return Planned(name, _("it does not answer: nothing can be done for it until it does"))
    if has_diverged(node):
        why = said(str(report.get("quarantine") or node.status_detail))
        text = _(
            "full copy, because it has diverged (%(why)s). What only it has is exported first, its old data is kept. %(much)s"
        )
        return Planned(name, text % {"why": why, "much": how_much(vault)}, copy=True, diverged=True)
    if lacks := report.get("needs_rebuild"):
        text = _("full copy, because %(why)s. Its old data is kept. %(much)s")
        return Planned(name, text % {"why": said(str(lacks)), "much": how_much(vault)}, copy=True)
    if report.get("process") != "up" or database is None:
        return Planned(
            name,
            _("its database does not run: a full copy, if it does not start. %(much)s") % {"much": how_much(vault)},
        )
    if database.get("applier_errno"):
        text = _("its replication is started afresh; where it stops again at its error, it gets a full copy. %(much)s")
        return Planned(name, text % {"much": how_much(vault)})
    behind = _behind(vault, database)
    if behind is None:
        return Planned(name, _("incremental: it goes on from where it is"))
    if not behind:
        return Planned(name, _("incremental: nothing is missing"))
    text = ngettext("incremental: %(count)d transaction", "incremental: %(count)d transactions", behind)
    return Planned(name, text % {"count": behind})


def _database(node: VaultNode) -> Mapping[str, Any] | None:
    found = (node.report or {}).get("database")
    return found if isinstance(found, Mapping) else None


def _behind(vault: Vault, database: Mapping[str, Any]) -> int | None:
    """As of the reports that were written down last."""
    theirs = _database(vault.primary) if vault.primary is not None else None
    if theirs is None:
        return None
    try:
        mine = parse(str(database.get("gtid_slave_pos") or ""))
        return transactions_between(mine, parse(str(theirs.get("gtid_binlog_pos") or "")))
    except (ValueError, PositionsNotComparable):
        return None


def how_much(vault: Vault, rate: int | None = None) -> str:
    """Bytes of a copy, and how long they take at the rate (MiB a second; the vault's without one). "" when that is not known."""
    primary = vault.primary
    size = (primary.report or {}).get("data_bytes") if primary is not None else None
    if not isinstance(size, int) or size <= 0:
        return _("How much it is is not known yet.")
    rate, much = rate or vault.copy_mib_per_second, words.amount(size, OperationUnit.BYTES)
    if rate is None:
        return _("About %(size)s, as fast as it goes.") % {"size": much}
    text = _("About %(size)s: some %(time)s at %(rate)d MiB per second.")
    return text % {"size": much, "time": words.duration(size / MIB / rate), "rate": rate}


def copy_facts(node: VaultNode) -> list[tuple[str, str]]:
    """What a rebuild does with this node: what is asked about it at three in the morning, and the answer."""
    facts = [
        (_("What happens"), _("All data of %(name)s is replaced by a copy.") % {"name": node.hostname}),
        (
            _("What is kept"),
            _(
                "Its old data is kept beside the copy, so that this can be undone, until a comparison has found the copy equal."
            ),
        ),
        (_("How much"), how_much(node.vault)),
    ]
    if has_diverged(node):
        facts.insert(1, (_("Before that"), _("It has diverged: what only it has is exported and listed first.")))
    if kept_of(node) is not None:
        facts.append((_("What is lost"), _("The old data of an earlier rebuild, which is still kept, is removed.")))
    meanwhile = (
        _("It is the fallback that would take over now: the vault goes solo, unless another one can.")
        if node.vault.promotable_id == node.pk
        else _("Until it follows again it is no fallback that could take over.")
    )
    return [*facts, (_("Meanwhile"), meanwhile)]


def old_data_text(node: VaultNode) -> str:
    kept = kept_of(node)
    if kept is None:
        return ""
    since = parse_datetime(str(kept.get("since") or ""))
    at = localtime(since).strftime("%Y-%m-%d %H:%M %Z") if since is not None else "–"
    text = _("The data of before the rebuild of %(at)s (%(size)s).")
    return text % {"at": at, "size": words.amount(int(kept.get("bytes") or 0), OperationUnit.BYTES)}


def to_confirm(planned: Sequence[Planned]) -> str:
    """The hostnames that have to be typed, as one text; "" when nothing of anybody could be lost."""
    return ", ".join(one.hostname for one in planned if one.diverged)
