"""What the Update popup knows of a node beside its row: what its agent said, each only when it did, and how old that is; and what
is known of its data."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from nodes.admin.operations import words
from nodes.choices import OperationUnit
from nodes.models import VaultNode
from nodes.sentences import said
from replication.stores.data_wishes import kept_of

EXPIRES_SOON: Final = timedelta(days=30)
ADDRESS_KINDS: Final = {
    "static": gettext_lazy("static"),
    "loopback": gettext_lazy("loopback, this host only"),
    "dynamic": gettext_lazy("dynamic (DHCP): it may change, and the vault would lose the node"),
    "ppp": gettext_lazy("dynamic (PPP): it may change, and the vault would lose the node"),
    "missing": gettext_lazy("on no interface of the host"),
}


@dataclass(frozen=True)
class Fact:
    label: str
    values: tuple[Any, ...]
    """Text, or a datetime."""
    level: str = ""
    """"warn" or "bad" when somebody has to do something."""


@dataclass(frozen=True)
class Known:
    facts: tuple[Fact, ...]
    age: float | None
    """Seconds since the agent said so; None when nobody wrote down when."""
    age_key: str

    @property
    def ages(self) -> dict[str, float | None]:
        return {self.age_key: self.age}


def known_of(node: VaultNode, now: datetime) -> Known | None:
    """From the last report that was written down; None when the node has never answered."""
    report = node.report
    if not isinstance(report, Mapping) or not report:
        return None
    at = parse_datetime(str(report.get("recorded_at") or ""))
    age = max(0.0, (now - at).total_seconds()) if at is not None else None
    found = (_version(report), _server_id(report), _address(report), _certificate(report, now), _disk(report))
    facts = tuple(fact for fact in (*found, *_settings(report)) if fact is not None)
    return Known(facts, age, f"said-{node.pk}-{at.timestamp() if at is not None else 0:.0f}") if facts else None


def _database(report: Mapping[str, Any]) -> Mapping[str, Any]:
    found = report.get("database")
    return found if isinstance(found, Mapping) else {}


def _version(report: Mapping[str, Any]) -> Fact | None:
    database, agent = _database(report).get("version"), report.get("agent_version")
    said = [str(database)] if database else []
    if agent:
        said.append(_("agent %(version)s") % {"version": agent})
    return Fact(_("Version"), (" · ".join(said),)) if said else None


def _server_id(report: Mapping[str, Any]) -> Fact | None:
    id = _database(report).get("server_id")
    return Fact(_("Server id"), (str(id),)) if id else None


def _address(report: Mapping[str, Any]) -> Fact | None:
    kind = str(report.get("address_kind") or "")
    if not kind:
        return None
    level = "" if kind in ("static", "loopback") else "warn"
    return Fact(_("Its address"), (str(ADDRESS_KINDS.get(kind, kind)),), level)


def _certificate(report: Mapping[str, Any], now: datetime) -> Fact | None:
    try:
        at = parse_datetime(str(report.get("certificate_expires") or ""))
    except ValueError:
        return None
    if at is None or at.tzinfo is None:
        return None
    left = at - now
    if left <= timedelta():
        return Fact(_("Certificate"), (_("expired"), at), "bad")
    days = ngettext("valid for %(days)d more day", "valid for %(days)d more days", left.days) % {"days": left.days}
    return Fact(_("Certificate"), (days, at), "warn" if left < EXPIRES_SOON else "")


def _disk(report: Mapping[str, Any]) -> Fact | None:
    error, free = report.get("disk_error"), report.get("disk_free_bytes")
    if error:
        return Fact(_("Disk"), (_("takes no writes: %(error)s") % {"error": said(str(error))},), "bad")
    if not isinstance(free, int) or isinstance(free, bool):
        return None
    return Fact(_("Disk"), (_("%(size)s free") % {"size": words.amount(free, OperationUnit.BYTES)},))


def data_of(node: VaultNode) -> list[Fact]:
    """When it was compared with the Master last, and all that differed; the old data that a rebuild could be undone with."""
    return [*_compared(node), *(_kept(node) if isinstance(node.report, Mapping) else ())]


def _kept(node: VaultNode) -> list[Fact]:
    kept = kept_of(node)
    if kept is None:
        return []
    since = parse_datetime(str(kept.get("since") or ""))
    size = words.amount(int(kept.get("bytes") or 0), OperationUnit.BYTES)
    return [Fact(_("Old data kept since its rebuild"), (size, *((since,) if since is not None else ())))]


def _compared(node: VaultNode) -> list[Fact]:
    is_primary = node.vault is not None and node.vault.primary_id == node.pk
    if is_primary and not node.drift:
        return []
    if node.verified_at is None:
        return [Fact(_("Compared with the Master"), (_("never"),))]
    if not node.drift:
        return [Fact(_("Compared with the Master"), (_("equal"), node.verified_at))]
    label = _("Before it became Master it differed") if is_primary else _("Differs from the Master")
    return [Fact(label, (*(said(str(one)) for one in node.drift), node.verified_at), "bad")]


def _settings(report: Mapping[str, Any]) -> list[Fact]:
    """Settings that were or are not as they must be."""
    repaired, drift = (_database(report).get(name) for name in ("repaired", "drift"))
    facts = []
    if isinstance(drift, list) and drift:
        facts.append(Fact(_("Wrong until a restart"), tuple(str(one) for one in drift), "warn"))
    if isinstance(repaired, list) and repaired:
        facts.append(Fact(_("Set right by the agent"), tuple(str(one) for one in repaired)))
    return facts
