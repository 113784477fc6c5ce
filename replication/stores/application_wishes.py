"""What operators wish of the hosts of High Availability → Application: one short transaction each, with its entries.

The hosts themselves write only when they were seen (stores/applications.py). All changes hold the lock of every row, because
the question whether anybody could still lead is about all of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from auditlog.models import LogEntry
from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from nodes.models import ApplicationNode
from nodes.sentences import written

from . import audit
from .wishes import RefusedWish

SEEN_LATELY: Final = timedelta(seconds=30)
"""Programs of a host write their heartbeat every 5 to 10 s."""


@dataclass(frozen=True, kw_only=True)
class HostWish:
    """A host as an operator described it, already normalised (nodes/forms/application.py). ip_address: None if not given."""

    hostname: str
    system_role: str
    ip_address: str | None
    active: bool


def check_host(wish: HostWish, *, pk: int | None = None) -> list[RefusedWish]:
    """Why a host may not be entered or changed so: every reason at once. pk: of the host itself, when it is there already."""
    others = ApplicationNode.objects.exclude(pk=pk)
    found = []
    if twin := others.filter(hostname__iexact=wish.hostname).first():
        text = _("%(name)s is already in the list: open it there to change it.")
        found.append(RefusedWish("W90", text % {"name": twin.hostname}, "hostname"))
    if wish.ip_address and (twin := others.filter(ip_address=wish.ip_address).first()):
        text = _("%(address)s is already the address of %(name)s.")
        found.append(RefusedWish("W91", text % {"address": wish.ip_address, "name": twin.hostname}, "ip_address"))
    return found


def add_host(wish: HostWish, actor: Any) -> ApplicationNode | list[RefusedWish]:
    """Enter a host, also one that was never heard. Nothing is half saved."""
    try:
        with transaction.atomic():
            _lock()
            if refused := check_host(wish):
                return refused
            host = ApplicationNode.objects.create(
                hostname=wish.hostname, ip_address=wish.ip_address, system_role=wish.system_role, active=wish.active
            )
            text = f"application host added as {written(host.get_system_role_display)}, {host.ip_address or '–'}"
            made = {name: (None, getattr(host, name)) for name in _WISHED}
            _note(host, text, made, actor, action=LogEntry.Action.CREATE)
            return host
    except IntegrityError:  # its own heartbeat may have been quicker
        text = _("Another change came in between: look at the list and try again.")
        return check_host(wish) or [RefusedWish("W24", text)]


def why_not_inactive(host: ApplicationNode, hosts: list[ApplicationNode]) -> RefusedWish | None:
    """Why a host has to stay active: when no other one is there that could lead."""
    others = [each for each in hosts if each.pk != host.pk and each.active]
    if any(leads_or_could(each) for each in others):
        return None
    if not leads_or_could(host) and others:
        return None  # it cannot lead either, and it is not the last one that may
    text = _(
        "%(name)s is the only active host whose service workers were seen lately: without it nothing would fail over."
        " Start the workers of another host first, or make it active."
    )
    return RefusedWish("W93", text % {"name": host.hostname}, "active")


def leads_or_could(host: ApplicationNode) -> bool:
    """Whether its service workers gave a sign of life lately."""
    return host.service_seen is not None and timezone.now() - host.service_seen <= SEEN_LATELY


def update_host(host: ApplicationNode, wish: HostWish, actor: Any, *, reason: str = "") -> list[RefusedWish]:
    """Change what an operator may: address, system role, active. Saying the same again changes nothing and is no entry."""
    with transaction.atomic():
        hosts = _lock()
        now = next((each for each in hosts if each.pk == host.pk), None)
        if now is None:
            return [_gone(host)]
        refused = check_host(wish, pk=host.pk)
        if now.active and not wish.active and (staying := why_not_inactive(now, hosts)):
            refused.append(staying)
        if refused:
            return refused
        changes = {
            name: (getattr(now, name), getattr(wish, name))
            for name in ("ip_address", "system_role", "active")
            if getattr(now, name) != getattr(wish, name)
        }
        if changes:
            ApplicationNode.objects.filter(pk=host.pk).update(
                **{name: after for name, (_before, after) in changes.items()}
            )
            _note(now, _what_changed(changes), changes, actor, reason=reason)
    return []


def remove_host(host: ApplicationNode, actor: Any, *, reason: str = "") -> RefusedWish | None:
    """Take a host out of the list. While its programs run, it enters itself again."""
    with transaction.atomic():
        hosts = _lock()
        now = next((each for each in hosts if each.pk == host.pk), None)
        if now is None:
            return _gone(host)
        ApplicationNode.objects.filter(pk=host.pk).delete()
        was = {name: (getattr(now, name), None) for name in _WISHED}
        _note(now, "application host deleted", was, actor, reason=reason, action=LogEntry.Action.DELETE)
    return None


_WISHED = ("hostname", "ip_address", "system_role", "active")


def _lock() -> list[ApplicationNode]:
    """All rows, locked until the transaction ends (SQLite: the transaction itself is the lock)."""
    return list(ApplicationNode.objects.select_for_update().order_by("pk"))


def _gone(host: ApplicationNode) -> RefusedWish:
    return RefusedWish("W92", _("%(name)s has been deleted meanwhile.") % {"name": host.hostname})


def _what_changed(changes: Mapping[str, tuple[Any, Any]]) -> str:
    if "active" not in changes:
        return "application host changed"
    return "application host made active" if changes["active"][1] else "application host made inactive"


def _note(
    host: ApplicationNode,
    text: str,
    changes: Mapping[str, tuple[Any, Any]],
    actor: Any,
    *,
    reason: str = "",
    action: int = LogEntry.Action.UPDATE,
) -> None:
    """The event for everybody, and the entry of the audit log."""
    audit.tell(host, text, changes, actor=actor, reason=reason, action=action, node_name=host.hostname)
