"""What a row of Events is in CSV and JSON."""

from datetime import UTC
from typing import Any, Final

from django.http import HttpResponseBase
from django.utils import timezone

from nodes.admin.export import Export
from nodes.admin.filtering import Filter
from nodes.models import Event, Vault

from .filter import ORDER

COLUMNS: Final = (
    "id", "at", "vault", "vault_name", "node", "epoch", "level", "rule", "diagnosis", "text", "operation", "actor", "evidence",
)  # fmt: skip


def export(kind: str, chosen: Filter) -> HttpResponseBase:
    names = dict(Vault.objects.values_list("pk", "name"))

    def as_row(event: Event) -> dict[str, Any]:
        return {
            "id": event.pk,
            "at": event.at.astimezone(UTC).isoformat(timespec="microseconds"),
            "vault": event.vault_id or "",
            "vault_name": names.get(event.vault_id or "", ""),
            "node": event.node_name,
            "epoch": event.epoch,
            "level": event.level,
            "rule": event.rule,
            "diagnosis": event.diagnosis,
            "text": event.text,
            "operation": event.operation,
            "actor": event.actor,
            "evidence": event.evidence,
        }

    return Export("events", "events", COLUMNS, ORDER, as_row).answer(kind, Event.objects.all(), chosen, timezone.now())
