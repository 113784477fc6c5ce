"""What the Vault screen says of each node and of the vault: only what is known now, with its age."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from django.utils import timezone
from django.utils.translation import gettext as _

from nodes.choices import STATUS_LEVELS, OperationState, status_label
from nodes.models import Operation, Vault, VaultNode
from replication.core.roles import NodeStatus, VaultState
from replication.stores.topology import topology_of
from replication.stores.wishes import RefusedWish

from .watch import Watch

EVENTS_SHOWN: Final = 12
RESULT_STAYS: Final = timedelta(minutes=10)


@dataclass
class Row:
    node: VaultNode
    role: str
    status: str
    level: str
    is_primary: bool
    known: bool
    last_seen: str
    """The status it had when somebody still looked; "" while somebody does, or when it never had one."""
    refused: RefusedWish | None = field(default=None)
    """Why Re-synchronize Master is not possible now; filled in for a full answer only."""

    @property
    def facts(self) -> tuple[Any, ...]:
        n = self.node
        return (
            n.pk,
            n.hostname,
            n.ip_address,
            n.port,
            n.system_role,
            n.active,
            self.role,
            self.status,
            self.last_seen,
            self.is_primary,
        )


def rows_of(vault: Vault, nodes: list[VaultNode], watch: Watch) -> list[Row]:
    """One per present node, the current primary first. What nobody looks at now is Unknown."""
    rows = []
    for node in nodes:
        status = NodeStatus(node.status)
        known = watch.trusted or status is NodeStatus.INACTIVE
        shown = status if known else NodeStatus.UNKNOWN
        rows.append(
            Row(
                node=node,
                role=node.current_role,
                status=status_label(shown, node.status_detail),
                level=STATUS_LEVELS[shown],
                is_primary=vault.primary_id == node.pk,
                known=known,
                last_seen=""
                if known or status is NodeStatus.UNKNOWN
                else str(status_label(status, node.status_detail)),
            )
        )
    return sorted(rows, key=lambda row: (not row.is_primary, row.node.ordinal))


@dataclass(frozen=True)
class Safety:
    """The line on top of the table."""

    level: str
    word: str
    text: str


def safety_of(vault: Vault, nodes: list[VaultNode], watch: Watch) -> Safety:
    """Lossless, solo, changing or new; "unknown" as soon as nobody watches. Never green when not known."""
    if not watch.led and watch.wanted:
        return Safety(
            "bad", _("Unknown"), _("no worker runs the service, so nothing is known and nothing would fail over")
        )
    if not watch.wanted:
        return Safety(
            "off", _("Not watched"), _("SystemHighAvailabilityService is stopped, so nothing would fail over")
        )
    state = topology_of(vault).state
    reason = vault.reason
    if state is VaultState.LOSSLESS:
        healthy = any(n.pk == vault.primary_id and n.status == NodeStatus.MASTER for n in nodes)
        return Safety("ok" if healthy else "warn", _("Lossless"), reason)
    if state is VaultState.SOLO:
        return Safety("warn", _("Solo"), reason)
    if state is VaultState.CHANGING:
        return Safety("warn", _("Failing over"), reason)
    return Safety("off", _("No primary yet"), _("add a node with system role Primary"))


@dataclass(frozen=True)
class OperationShown:
    operation: Operation
    running: bool
    level: str
    text: str


def is_news(finished_at: datetime | None, now: datetime) -> bool:
    """Whether an operation is shown: it runs, or it has ended a short while ago."""
    return finished_at is None or now - finished_at <= RESULT_STAYS


def operation_shown(operation: Operation | None) -> OperationShown | None:
    """The one that runs, or the last one while its result is news."""
    if operation is None:
        return None
    if operation.finished_at is None:
        return OperationShown(operation, True, "ok2", operation.message)
    if not is_news(operation.finished_at, timezone.now()):
        return None
    level = "ok" if operation.state == OperationState.SUCCEEDED else "bad"
    return OperationShown(operation, False, level, str(operation.result.get("summary", "")) or operation.message)
