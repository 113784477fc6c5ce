"""The state of every vault as one plain structure: for `manage.py vault_status` and whoever watches from outside."""

from datetime import datetime
from typing import Any

from django.utils import timezone

from nodes.choices import FENCES, status_label
from nodes.models import AppService, Operation, ServiceLease, Vault, VaultNode
from nodes.models.operation import OPEN_STATES
from nodes.models.service import SERVICE_NAME
from replication.core import limits
from replication.core.roles import NodeStatus

from .backups import last_good_backup, overdue
from .inventory import hold_left
from .pausing import pause_of
from .topology import topology_of


def vault_status(now: datetime | None = None) -> dict[str, Any]:
    """{"vaults": [...]}; what nobody looks at now is "Unknown". age_seconds: since the node's last answer, or None.

    operation: the open one, else the last one that ended; None when there was none. hold: None when a failover on silence is
    not held back; `until` is None as long as the vault is not lossless. pause: None when automatic failover is not paused;
    `until` is None for a pause that somebody has to end. fences: of the current primary, None when not known. backup: see _backup.
    """
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
        nodes = list(VaultNode.objects.present().filter(vault=vault).order_by("ordinal"))
        vaults.append(
            {
                "name": vault.name,
                "state": row.state.value,
                "primary": vault.primary.hostname if vault.primary else None,
                "epoch": row.epoch,
                "acker": vault.promotable.hostname if vault.promotable else None,
                "reason": _reason(vault, service, live=live),
                "operation": _operation(vault),
                "hold": _hold(vault, now),
                "pause": _pause(vault, now),
                "fences": _fences(vault, nodes) if watching else None,
                "backup": _backup(vault, now),
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


def _operation(vault: Vault) -> dict[str, Any] | None:
    rows = Operation.objects.filter(vault=vault).select_related("node")
    open_now = rows.filter(state__in=OPEN_STATES).order_by("-created_at").first()
    shown = open_now or rows.filter(finished_at__isnull=False).order_by("-finished_at").first()
    if shown is None:
        return None
    return {
        "id": shown.pk,
        "kind": shown.kind,
        "state": shown.state,
        "node": shown.node.hostname if shown.node else None,
        "message": str(shown.result.get("summary", "")) or shown.message,
        "finished_at": shown.finished_at.isoformat() if shown.finished_at else None,
    }


def _hold(vault: Vault, now: datetime) -> dict[str, Any] | None:
    left = hold_left(vault, now)
    if not left:
        return None
    running = vault.lossless_since is not None
    return {
        "seconds_left": round(left.total_seconds(), 1),
        "until": (now + left).isoformat() if running else None,
    }


def _pause(vault: Vault, now: datetime) -> dict[str, Any] | None:
    pause = pause_of(vault, now)
    if pause is None:
        return None
    return {
        "since": pause.at.isoformat() if pause.at else None,
        "until": pause.until.isoformat() if pause.until else None,
        "by": pause.by,
        "reason": pause.reason,
    }


def _backup(vault: Vault, now: datetime) -> dict[str, Any]:
    """taken_at: of the last good one, None when there is none. late: it is older than two intervals."""
    last = last_good_backup(vault)
    return {
        "taken_at": last.taken_at.isoformat() if last is not None else None,
        "hostname": last.hostname if last is not None else None,
        "position": last.position if last is not None else None,
        "late": overdue(vault, now) is not None,
    }


def _fences(vault: Vault, nodes: list[VaultNode]) -> dict[str, list[str]] | None:
    primary = next((node for node in nodes if node.pk == vault.primary_id), None)
    if primary is None or primary.report is None:
        return None
    armed = primary.report.get("fences") or []
    return {"armed": list(armed), "not_armed": [name for name in FENCES if name not in armed]}


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
        "compared_at": node.verified_at.isoformat() if node.verified_at else None,
        "differences": list(node.drift),
    }
