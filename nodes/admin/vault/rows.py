"""What the Vault screen says of each node: only what is known now, with its age."""

from dataclasses import dataclass
from typing import Any, Final

from nodes.admin.watch import Watch
from nodes.choices import STATUS_LEVELS, status_label
from nodes.models import Vault, VaultNode
from nodes.sentences import said
from replication.core.roles import NodeStatus, SystemRole
from replication.stores.data_wishes import has_diverged, kept_of

from .drift import differs

EVENTS_SHOWN: Final = 12
FINE: Final = frozenset({"ok", "ok2"})
"""Levels of a status that is in order by itself."""


@dataclass
class Row:
    node: VaultNode
    role: str
    shown: NodeStatus
    """Its status as far as it is known now."""
    status: str
    level: str
    is_primary: bool
    known: bool
    detail: str
    """What the words of its status leave out, such as the transactions that only it has; "" when they say all."""
    last_seen: str
    """The status it had when somebody still looked; "" while somebody does, or when it never had one."""
    differs: str = ""
    """How its data differs from the Master's, as far as a comparison found."""
    age_key: str = ""
    """Of its last answer among the ages of this very list: short, for they travel in a header with every poll."""

    @property
    def fails_back(self) -> bool:
        """It was configured as the Primary, and another node is Master."""
        return self.node.system_role == SystemRole.PRIMARY and not self.is_primary

    @property
    def facts(self) -> tuple[Any, ...]:
        """Everything that is shown of it: part of the version stamp, and the key under which its HTML is kept."""
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
            self.detail,
            self.last_seen,
            self.differs,
            self.is_primary,
            n.not_primary,
            has_diverged(n),
            bool(kept_of(n)),
            n.report is None,
        )


def rows_of(vault: Vault, nodes: list[VaultNode], watch: Watch) -> list[Row]:
    """One per present node, the current primary first. What nobody looks at now is Unknown."""
    rows = []
    for node in nodes:
        status = NodeStatus(node.status)
        is_primary = vault.primary_id == node.pk
        different = differs(node, is_primary=is_primary)
        known = watch.trusted or status is NodeStatus.INACTIVE
        shown = status if known else NodeStatus.UNKNOWN
        rows.append(
            Row(
                node=node,
                role=node.current_role,
                shown=shown,
                status=status_label(shown, node.status_detail),
                level="warn" if different and STATUS_LEVELS[shown] in FINE else STATUS_LEVELS[shown],
                is_primary=is_primary,
                known=known,
                detail=said(node.status_detail) if shown is NodeStatus.DIVERGED else "",
                last_seen=""
                if known or status is NodeStatus.UNKNOWN
                else str(status_label(status, node.status_detail)),
                differs=different,
            )
        )
    rows.sort(key=lambda row: (not row.is_primary, row.node.ordinal))
    for number, row in enumerate(rows):
        row.age_key = f"n{number}"
    return rows
