"""The notice on the Vault screen while nobody has dealt with lost transactions. No query of its own."""

from dataclasses import dataclass
from typing import Any

from django.db.models import Count, OuterRef, Subquery
from django.db.models.functions import Coalesce
from django.urls import reverse

from nodes.models import LossReport, Vault


@dataclass(frozen=True)
class LossNotice:
    count: int
    """Reports that are open."""
    hostname: str
    """Of the newest."""
    transactions: int
    url: str


def loss_annotations() -> dict[str, Any]:
    """For the query that reads the vault."""
    still = LossReport.objects.filter(vault=OuterRef("pk"), handled_at__isnull=True).order_by("-made_at")
    counted = still.order_by().values("vault").annotate(n=Count("pk")).values("n")
    return {
        "losses_open": Coalesce(Subquery(counted), 0),
        "loss_id": Subquery(still.values("pk")[:1]),
        "loss_hostname": Subquery(still.values("hostname")[:1]),
        "loss_transactions": Subquery(still.values("transaction_count")[:1]),
    }


def notice_of(vault: Vault) -> LossNotice | None:
    """vault: read with `loss_annotations`."""
    if not vault.losses_open:  # type: ignore[attr-defined]  # an annotation
        return None
    one = reverse("admin:nodes_lossreport_detail", args=[vault.loss_id])  # type: ignore[attr-defined]  # an annotation
    return LossNotice(
        count=vault.losses_open,  # type: ignore[attr-defined]  # an annotation
        hostname=vault.loss_hostname,  # type: ignore[attr-defined]  # an annotation
        transactions=vault.loss_transactions,  # type: ignore[attr-defined]  # an annotation
        url=one if vault.losses_open == 1 else reverse("admin:nodes_lossreport_changelist"),  # type: ignore[attr-defined]
    )
