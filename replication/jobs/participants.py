"""Between whom a job works."""

from nodes.models import Operation, VaultNode
from replication.core.view import NodeView
from replication.stores.inventory import node_view


def primary_and_fallbacks(operation: Operation) -> tuple[NodeView | None, list[NodeView]]:
    """The vault's primary, and the node that the operation was asked on, or all active fallbacks where that is the primary or none."""
    vault = operation.vault
    if vault is None or vault.primary is None:
        return None, []
    present = VaultNode.objects.present().filter(vault=vault, active=True).exclude(pk=vault.primary_id)
    if operation.node_id and operation.node_id != vault.primary_id:
        present = present.filter(pk=operation.node_id)
    return node_view(vault.primary), [node_view(node) for node in present.order_by("ordinal")]
