"""The safety panel: whether the vault is safe now. Never green when not known."""

from dataclasses import dataclass

from django.utils.translation import gettext as _

from nodes.models import Vault, VaultNode
from replication.core.roles import IntentKind, NodeStatus, VaultState
from replication.stores.topology import topology_of

from .watch import Watch


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
