"""What the Vault screen says of each node and of the vault: only what is known now, with its age."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from django.utils import timezone
from django.utils.translation import gettext as _

from nodes.choices import STATUS_LEVELS, OperationKind, OperationState, status_label
from nodes.models import Operation, Vault, VaultNode
from replication.core.roles import IntentKind, NodeStatus, SystemRole, VaultState
from replication.stores.topology import topology_of
from replication.stores.wishes import RefusedWish

from .watch import Watch

EVENTS_SHOWN: Final = 12
RESULT_STAYS: Final = timedelta(minutes=10)
KINDS_SHOWN: Final = (
    OperationKind.RESYNCHRONIZE,
    OperationKind.SWITCHOVER,
    OperationKind.FAILOVER,
    OperationKind.ADOPT,
)
"""What an operator asked for, or must not miss; the rest is in the events."""


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
    not_master: RefusedWish | None = field(default=None)
    """Why Make Master is not possible now; likewise."""

    @property
    def fails_back(self) -> bool:
        """It was configured as the Primary, and another node is Master."""
        return self.node.system_role == SystemRole.PRIMARY and not self.is_primary

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
            n.not_primary,
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
    row = topology_of(vault)
    state = row.state
    reason = vault.reason
    if state is VaultState.LOSSLESS:
        healthy = any(n.pk == vault.primary_id and n.status == NodeStatus.MASTER for n in nodes)
        return Safety("ok" if healthy else "warn", _("Lossless"), reason)
    if state is VaultState.SOLO:
        return Safety("warn", _("Solo"), reason)
    if state is VaultState.CHANGING:
        return Safety("warn", _changing(row.intent.kind if row.intent else IntentKind.FAILOVER), reason)
    return Safety("off", _("No primary yet"), _("add a node with system role Primary"))


def _changing(kind: IntentKind) -> str:
    return {
        IntentKind.FAILOVER: _("Failing over"),
        IntentKind.SWITCHOVER: _("Switching over"),
        IntentKind.ADOPT: _("Asking the agents"),
    }[kind]


@dataclass(frozen=True)
class OperationShown:
    operation: Operation
    running: bool
    level: str
    text: str

    @property
    def title(self) -> str:
        """A change of Master names who it makes Master; a re-synchronization may be about all nodes."""
        node = (
            self.operation.node if self.operation.kind in (OperationKind.SWITCHOVER, OperationKind.FAILOVER) else None
        )
        kind = str(self.operation.get_kind_display())
        return _("%(kind)s to %(name)s") % {"kind": kind, "name": node.hostname} if node is not None else kind

    @property
    def measured(self) -> bool:
        """Whether its progress is a figure; else only that it goes on is known."""
        return self.operation.kind == OperationKind.RESYNCHRONIZE


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
    level = {OperationState.SUCCEEDED.value: "ok", OperationState.CANCELLED.value: "off"}.get(operation.state, "bad")
    return OperationShown(operation, False, level, str(operation.result.get("summary", "")) or operation.message)
