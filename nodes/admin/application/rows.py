"""What the Application screen says of each host: what it does now, how long ago that was heard, and what it shares with the Master."""

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Count, DateTimeField, Max, Min, Subquery
from django.db.models.functions import Now
from django.utils.translation import gettext as _

from nodes.choices import ApplicationRole
from nodes.models import ApplicationNode, ServiceLease, Vault
from nodes.models.service import SERVICE_NAME
from replication.core import limits
from replication.core.version import VERSION
from replication.stores.application_wishes import SEEN_LATELY


@dataclass(frozen=True)
class Part:
    """A part that a host plays at this moment."""

    name: str
    label: str
    level: str
    age_key: str
    word: str
    """Its heading on the help page of the words, as an anchor."""


@dataclass(frozen=True)
class Row:
    host: ApplicationNode
    parts: tuple[Part, ...]
    seen: bool
    """A program of it was heard lately."""
    shares: bool
    """It leads or could lead, and dies with the Master."""

    @property
    def never(self) -> bool:
        return self.host.last_seen is None

    @property
    def address(self) -> str:
        return self.host.ip_address or ", ".join(self.host.addresses)

    @property
    def also_heard(self) -> list[str]:
        """Addresses that it gives itself, besides the one that an operator entered."""
        return [each for each in self.host.addresses if each != self.host.ip_address] if self.host.ip_address else []

    @property
    def other_version(self) -> bool:
        return bool(self.host.version) and self.host.version != VERSION

    @property
    def unlike_role(self) -> bool:
        """Entered as Web, and service workers run there."""
        working = {part.name for part in self.parts} & {"leader", "standby", "inactive"}
        return self.host.system_role == ApplicationRole.WEB and bool(working)

    @property
    def facts(self) -> tuple[Any, ...]:
        h = self.host
        parts = tuple((part.name, part.level) for part in self.parts)
        fixed = (h.pk, h.hostname, h.ip_address, h.system_role, h.active, h.version, tuple(h.addresses))
        return (*fixed, parts, self.seen, self.never, self.shares)


@dataclass(frozen=True)
class Primary:
    """Where the current Master lives; an empty address when there is none."""

    hostname: str = ""
    ip_address: str = ""


def hosts_now() -> list[Any]:
    """All hosts, each with the lease, the Master and the database's clock, in one query."""
    lease = ServiceLease.objects.filter(name=SERVICE_NAME).exclude(holder="")
    vault = Vault.objects.order_by("created_at", "pk")
    return list(
        ApplicationNode.objects.annotate(
            database_now=Now(output_field=DateTimeField()),
            lease_host=Subquery(lease.values("host")[:1]),
            lease_renewed_at=Subquery(lease.values("renewed_at")[:1]),
            primary_name=Subquery(vault.values("primary__hostname")[:1]),
            primary_address=Subquery(vault.values("primary__ip_address")[:1]),
        ).order_by("hostname")
    )


def primary_of(hosts: list[Any]) -> Primary:
    return Primary(hosts[0].primary_name or "", hosts[0].primary_address or "") if hosts else Primary()


def rows_of(hosts: list[Any]) -> list[Row]:
    return [_row(host, primary_of(hosts)) for host in hosts]


def _row(host: Any, primary: Primary) -> Row:
    now = host.database_now
    parts = []
    leads = bool(host.lease_host) and host.lease_host.lower() == host.hostname.lower()
    if leads and host.lease_renewed_at and now - host.lease_renewed_at <= limits.LEASE_SILENCE:
        parts.append(Part("leader", _("Leader"), "ok", "lease", "leader"))
    elif lately(host.service_seen, now):
        key = f"service:{host.pk}"
        parts.append(
            Part("standby", _("Standby"), "ok2", key, "standby")
            if host.active
            else Part("inactive", _("Inactive"), "off", key, "inactive")
        )
    if lately(host.web_seen, now):
        parts.append(Part("web", _("Web"), "ok2", f"web:{host.pk}", "web"))
    if lately(host.ops_seen, now):
        parts.append(Part("ops", _("Data work"), "ok2", f"ops:{host.pk}", "data-work"))
    return Row(host, tuple(parts), lately(host.last_seen, now), _could_lead(host) and shares_host(host, primary))


def lately(at: datetime | None, now: datetime) -> bool:
    return at is not None and now - at <= SEEN_LATELY


def ages_of(hosts: list[Any]) -> dict[str, float | None]:
    ages: dict[str, float | None] = {}
    for host in hosts:
        for name, at in (
            ("host", host.last_seen),
            ("service", host.service_seen),
            ("web", host.web_seen),
            ("ops", host.ops_seen),
        ):
            ages[f"{name}:{host.pk}"] = max(0.0, (host.database_now - at).total_seconds()) if at else None
        if host.lease_renewed_at:
            ages["lease"] = max(0.0, (host.database_now - host.lease_renewed_at).total_seconds())
    return ages


def _could_lead(host: ApplicationNode) -> bool:
    return host.service_seen is not None or host.system_role == ApplicationRole.CONTROLLER


def able_annotations(now: datetime) -> dict[str, Any]:
    """What tells whether shared_host_sentence may have changed: for another screen's one query. now: aware."""
    able = ApplicationNode.objects.filter(active=True, service_seen__gte=now - SEEN_LATELY).order_by().values("active")
    found = {"hosts_able": Count("pk"), "hosts_first": Min("hostname"), "hosts_last": Max("hostname")}
    return {
        name: Subquery(able.annotate(**{f"of_{name}": value}).values(f"of_{name}")) for name, value in found.items()
    }


def shares_host(host: ApplicationNode, primary: Primary) -> bool:
    """Whether this host and the current Master are one machine, as far as names and addresses tell.

    A Master on a loopback address is on the machine of whoever reaches it: everything runs on one host then.
    """
    theirs = _address(primary.ip_address)
    if theirs is None:
        return False
    if theirs.is_loopback or host.hostname.lower() == primary.hostname.lower():
        return True
    return any(_address(each) == theirs for each in (host.ip_address or "", *host.addresses))


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return None
    return found.ipv4_mapped or found if isinstance(found, ipaddress.IPv6Address) else found


def shared_host_sentence(hosts: Iterable[ApplicationNode], primary: Primary, now: datetime) -> str:
    """What it means that every host that could lead now shares the Master's machine; "" when one does not, or none is there."""
    able = [host for host in hosts if host.active and lately(host.service_seen, now)]
    if not able or not all(shares_host(host, primary) for host in able):
        return ""
    address = _address(primary.ip_address)
    if address is not None and address.is_loopback:
        text = _(
            "The Master's address %(address)s is on this machine only, so the controllers run beside it: if the machine dies,"
            " nothing fails over. Fine for a demonstration; otherwise run service workers on another host."
        )
        return text % {"address": primary.ip_address}
    names = ", ".join(host.hostname for host in able)
    text = _(
        "Every controller (%(names)s) runs on the Master's own host %(host)s: if that host dies, nothing fails over."
        " Run service workers on another host."
    )
    return text % {"names": names, "host": primary.hostname}
