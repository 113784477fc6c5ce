"""How an operation is shown: its title, its progress, its result and whether that is news."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from django.utils import timezone
from django.utils.translation import gettext as _

from nodes.choices import OperationKind, OperationState
from nodes.models import Operation

RESULT_STAYS: Final = timedelta(minutes=10)
KINDS_SHOWN: Final = (
    OperationKind.RESYNCHRONIZE,
    OperationKind.SWITCHOVER,
    OperationKind.FAILOVER,
    OperationKind.ADOPT,
)
"""What an operator asked for, or must not miss; the rest is in the events."""


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
