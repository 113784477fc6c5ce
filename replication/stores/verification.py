"""What comparisons of fallbacks with the Master came to: on the node's row, and as an event that says which tables differ."""

from typing import Final

from django.db import transaction
from django.utils import timezone

from nodes.choices import EventLevel
from nodes.models import Event, Vault, VaultNode
from replication.core.comparison import Comparison

POSITION_MAX: Final = 500
TEXT_MAX: Final = 1000
DIFFERS: Final = "W115"
EQUAL: Final = "W116"
NOT_COMPARED: Final = "W117"


def record(node: str, comparison: Comparison, operation: str) -> None:
    """Of one that went through all tables. node: id. A good one also ends what was said of the Master when it was a fallback:
    both have the same now."""
    with transaction.atomic():
        row = VaultNode.objects.select_for_update().filter(pk=node).first()
        if row is None:
            return
        VaultNode.objects.filter(pk=node).update(
            verified_at=timezone.now(), verified_position=comparison.position[:POSITION_MAX],
            drift=list(comparison.differences), changed_at=timezone.now(),
        )  # fmt: skip
        vault = Vault.objects.get(pk=row.vault_id)
        if comparison.equal:
            VaultNode.objects.filter(pk=vault.primary_id).exclude(drift=[]).update(drift=[], changed_at=timezone.now())
        _tell(
            row,
            vault.epoch,
            EQUAL if comparison.equal else DIFFERS,
            EventLevel.INFO if comparison.equal else EventLevel.ERROR,
            comparison.says,
            operation,
            {
                "position": comparison.position,
                "differences": list(comparison.differences),
                "not_compared": list(comparison.not_compared),
                "figures": dict(comparison.figures),
            },
        )


def not_compared(node: str, why: str, operation: str) -> None:
    """It could not be carried to its end: what the last one found stays. why: a sentence without a full stop."""
    row = VaultNode.objects.select_related("vault").filter(pk=node).first()
    if row is None or row.vault is None:
        return
    text = f"{row.hostname} was not compared with the Master: {why}."
    _tell(row, row.vault.epoch, NOT_COMPARED, EventLevel.WARNING, text, operation, {})


def _tell(
    node: VaultNode, epoch: int, rule: str, level: EventLevel, text: str, operation: str, evidence: dict[str, object]
) -> None:
    Event.objects.create(
        vault_id=node.vault_id, node_name=node.hostname, epoch=epoch, rule=rule, level=level, text=text[:TEXT_MAX],
        operation=operation, evidence=evidence,
    )  # fmt: skip
