"""What an entry of the audit log is in CSV and JSON."""

from datetime import UTC
from typing import Any, Final

from django.utils.translation import override

from nodes.admin.export import Export

from .entry import ACTION_NAMES, shown, written
from .filter import ORDER

COLUMNS: Final = (
    "id", "at", "who", "remote_addr", "via", "action", "what", "kind", "object_pk", "object", "changes", "reason",
)  # fmt: skip


def _row(entry: Any) -> dict[str, Any]:
    """In English, for whoever it is sent to."""
    with override("en"):
        return _as_written(entry)


def _as_written(entry: Any) -> dict[str, Any]:
    row = shown(entry)
    return {
        "id": entry.pk,
        "at": entry.timestamp.astimezone(UTC).isoformat(timespec="microseconds"),
        "who": row.who,
        "remote_addr": entry.remote_addr or "",
        "via": row.via,
        "action": str(ACTION_NAMES[entry.action]),
        "what": written(entry) or row.what,
        "kind": row.kind,
        "object_pk": entry.object_pk,
        "object": entry.object_repr,
        "changes": {change.field: [change.before, change.after] for change in row.changes},
        "reason": row.reason,
    }


AUDIT: Final = Export("audit", "entries", COLUMNS, ORDER, _row)
