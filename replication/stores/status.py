"""The state of every vault as one plain structure: for `manage.py vault_status` and whoever watches from outside."""

from datetime import datetime
from typing import Any

from django.utils import timezone

from nodes.choices import status_label
from nodes.models import AppService, ServiceLease, Vault, VaultNode
from nodes.models.service import SERVICE_NAME
from replication.core import limits
from replication.core.roles import NodeStatus

from .topology import topology_of


def vault_status(now: datetime | None = None) -> dict[str, Any]:
    """{"vaults": [...]}; what nobody looks at now is "Unknown". age_seconds: since the node's last answer, or None."""
    now = now or timezone.now()
    lease = ServiceLease.objects.filter(name=SERVICE_NAME).first()
    service = AppService.objects.filter(name=SERVICE_NAME).first()
    lease_age = (now - lease.renewed_at).total_seconds() if lease is not None and lease.renewed_at else None
    live = lease_age is not None and lease_age < limits.LEASE_SILENCE.total_seconds()
    watching = live and service is not None and service.started_on is not None
    answers = lease.answers if lease is not None and live else {}
    vaults = []
    for vault in Vault.objects.select_related("primary", "promotable").order_by("name"):
        row = topology_of(vault)
        nodes = VaultNode.objects.present().filter(vault=vault).order_by("ordinal")
        vaults.append(
            {
                "name": vault.name,
                "state": row.state.value,
                "primary": vault.primary.hostname if vault.primary else None,
                "epoch": row.epoch,
                "acker": vault.promotable.hostname if vault.promotable else None,
                "reason": _reason(vault, service, live=live),
                "nodes": [_node(n, answers.get(n.pk), lease_age or 0.0, watching=watching) for n in nodes],
            }
        )
    return {"vaults": vaults}


def _reason(vault: Vault, service: AppService | None, *, live: bool) -> str:
    if not live:
        return "no service worker runs: what is shown is what was last recorded"
    if service is None or service.started_on is None:
        return "the service is stopped"
    return vault.reason


def _node(node: VaultNode, answer: float | None, lease_age: float, *, watching: bool) -> dict[str, Any]:
    known = watching or node.status == NodeStatus.INACTIVE
    return {
        "hostname": node.hostname,
        "ip": node.ip_address,
        "system_role": str(node.get_system_role_display()),
        "current_role": node.current_role,
        "status": status_label(node.status if known else NodeStatus.UNKNOWN, node.status_detail),
        "active": node.active,
        "age_seconds": round(answer + lease_age, 2) if answer is not None else None,
    }
