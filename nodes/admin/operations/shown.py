"""How an operation is shown: its title, its progress, its step, its result and whether that is news."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from django.db.models import Count, OuterRef, Q, QuerySet, Subquery
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _

from nodes.choices import OperationKind, OperationState
from nodes.models import Operation, Vault
from nodes.models.operation import DATA_KINDS, OPEN_STATES
from nodes.sentences import said
from replication.core import pace
from replication.core.steps import StepState
from replication.stores import backups
from replication.stores.cancelling import FORSAKEN_AFTER, is_forsaken, why_not_cancel
from replication.stores.wishes import RefusedWish

from . import words

RESULT_STAYS: Final = timedelta(minutes=10)
SHOWN_AT_ONCE: Final = 3
"""Running operations on the Vault screen; of more only how many."""
KINDS_SHOWN: Final = (
    OperationKind.RESYNCHRONIZE,
    OperationKind.SWITCHOVER,
    OperationKind.FAILOVER,
    OperationKind.ADOPT,
    OperationKind.REBUILD,
    OperationKind.UNDO,
    OperationKind.VERIFY,
    OperationKind.EXPORT,
    OperationKind.BACKUP,
)
"""What an operator asked for, or must not miss; the rest is in the events."""
ROUTINE: Final = (OperationKind.PREFLIGHT, OperationKind.FOLLOW, OperationKind.BECOME_ACKER)
"""What comes by itself, and is over in a moment when all is well."""
ROUTINE_SHOWN_AFTER: Final = timedelta(seconds=5)
"""A routine operation that takes longer than this is worth a line on the Vault screen."""
REPORTED: Final = (OperationKind.FAILOVER, OperationKind.SWITCHOVER, OperationKind.ADOPT)
LEVELS: Final = {
    OperationState.QUEUED.value: "off",
    OperationState.RUNNING.value: "ok2",
    OperationState.SUCCEEDED.value: "ok",
    OperationState.FAILED.value: "bad",
    OperationState.CANCELLED.value: "off",
    OperationState.NEEDS_PERSON.value: "warn",
}


@dataclass(frozen=True)
class Progress:
    percent: int | None
    """None: only that it goes on is known."""
    amount: str
    rate: str
    left: str


@dataclass(frozen=True)
class OperationShown:
    operation: Operation
    running: bool
    level: str
    text: str
    progress: Progress | None = None
    step: str = ""
    """What it is at now."""
    not_cancelled: RefusedWish | None = None
    """Why it cannot be cancelled now."""
    forsaken: bool = False
    """Its worker has not been heard of for a while."""

    @property
    def title(self) -> str:
        return title_of(self.operation)

    @property
    def url(self) -> str:
        return reverse("admin:nodes_operation_detail", args=[self.operation.pk])

    @property
    def report_url(self) -> str:
        return report_url(self.operation)

    @property
    def took(self) -> str:
        """How long it took; "–" while it runs."""
        ended, begun = self.operation.finished_at, self.operation.started_at
        return words.duration((ended - begun).total_seconds() if ended and begun else None)

    @property
    def announce(self) -> str:
        """For who hears the screen: what it is at and in tenths how far, so that not every percent is read out."""
        so_far = f"{self.progress.percent // 10 * 10} %" if self.progress and self.progress.percent is not None else ""
        state = str(self.operation.get_state_display())
        return ", ".join(part for part in (f"{self.title}: {state}", self.step or self.text, so_far) if part)

    @property
    def asked_to_end(self) -> bool:
        return self.running and self.operation.cancel_requested_at is not None


def title_of(operation: Operation) -> str:
    """A change of Master names who it makes Master; what is about one node names it."""
    node, kind = operation.node, _kind_of(operation)
    if node is None:
        asked = operation.arguments.get("hostname") if operation.kind == OperationKind.PREFLIGHT else None
        return f"{kind}: {asked}" if asked else kind
    if operation.kind in (OperationKind.SWITCHOVER, OperationKind.FAILOVER):
        return _("%(kind)s to %(name)s") % {"kind": kind, "name": node.hostname}
    if operation.kind == OperationKind.RESYNCHRONIZE:
        return kind  # it may be about all nodes
    return f"{kind}: {node.hostname}"


def _kind_of(operation: Operation) -> str:
    """What is done with a backup that is there goes by the same kind as making one."""
    action = operation.arguments.get("action") if operation.kind == OperationKind.BACKUP else None
    words_of = {
        backups.CHECK: _("Check of a backup"), backups.REMOVE: _("Removal of a backup"), backups.LOOK: _("Look at the backups"),
    }  # fmt: skip
    return words_of.get(action, "") or str(operation.get_kind_display())


def report_url(operation: Operation) -> str:
    """Of a change of Master that has ended; "" for everything else."""
    ended = operation.finished_at is not None and operation.started_at is not None
    return reverse("admin:nodes_operation_report", args=[operation.pk]) if ended and is_reported(operation) else ""


def is_reported(operation: Operation) -> bool:
    return operation.kind in REPORTED


def progress_of(operation: Operation) -> Progress:
    """Percent, rate and time left, from what was written last. Rate and time are those of the last seconds."""
    done, total, unit = operation.done, operation.total, operation.unit
    if done is None or not total:
        measured = operation.kind in DATA_KINDS and operation.percent
        return Progress(operation.percent if measured else None, "", "", "")
    samples = words.samples_of(operation.result)
    return Progress(
        percent=min(100, 100 * done // total),
        amount=words.of_amount(done, total, unit),
        rate=words.rate(pace.rate(samples), unit),
        left=words.time_left(pace.seconds_left(samples, done, total)),
    )


def operation_shown(operation: Operation, now: datetime | None = None) -> OperationShown:
    now = now or timezone.now()
    level = LEVELS.get(operation.state, "off")
    summary = operation.result.get("summary", "") if isinstance(operation.result, dict) else ""
    if operation.finished_at is not None:
        return OperationShown(operation, False, level, said(str(summary) or operation.message))
    running = operation.state == OperationState.RUNNING
    return OperationShown(
        operation,
        True,
        level,
        said(operation.message),
        progress=progress_of(operation) if running else None,
        step=_step_of(operation),
        not_cancelled=why_not_cancel(operation, now),
        forsaken=is_forsaken(operation, now) and operation.kind in DATA_KINDS,
    )


def _step_of(operation: Operation) -> str:
    """What it is at, and the how manieth of its steps that is: each has a progress of its own."""
    steps = [s for s in operation.steps if isinstance(s, dict)] if isinstance(operation.steps, list) else []
    begun = [number for number, step in enumerate(steps, 1) if step.get("state") == StepState.RUNNING]
    if not begun:
        return ""
    what = words.step_label(str(steps[begun[-1] - 1].get("name", "")))
    if len(steps) < 2 or operation.kind not in DATA_KINDS:
        return what
    values = {"number": begun[-1], "count": len(steps), "what": what}
    return _("Step %(number)d of %(count)d: %(what)s") % values


# --- on the Vault screen


@dataclass(frozen=True)
class OnVault:
    running: tuple[OperationShown, ...]
    more: int
    """Running ones that are not shown."""
    last: OperationShown | None
    """The one that ended last, while its result is news."""


def _open_rows(now: datetime) -> "QuerySet[Operation]":
    """What is under way and worth a line."""
    slow = Q(started_at__lt=now - ROUTINE_SHOWN_AFTER) & ~Q(kind=OperationKind.PREFLIGHT)
    return Operation.objects.filter(Q(kind__in=KINDS_SHOWN) | ~Q(kind__in=ROUTINE) | slow, state__in=OPEN_STATES)


def _news(now: datetime) -> "QuerySet[Operation]":
    """What has ended a short while ago, the last one first."""
    ended = Operation.objects.filter(finished_at__gte=now - RESULT_STAYS, kind__in=KINDS_SHOWN)
    return ended.order_by("-finished_at")


def vault_annotations(now: datetime) -> dict[str, Any]:
    """What tells whether the operations on the Vault screen have changed: for its one query of the vault."""
    running = _open_rows(now).filter(vault=OuterRef("pk"))
    heard = running.filter(state=OperationState.RUNNING, kind__in=DATA_KINDS).order_by("-created_at")
    return {
        "operations_open": Subquery(running.order_by().values("vault").annotate(n=Count("pk")).values("n")),
        "operations_changed_at": Subquery(running.order_by("-changed_at").values("changed_at")[:1]),
        "operations_news": Subquery(_news(now).filter(vault=OuterRef("pk")).values("changed_at")[:1]),
        "operations_heard_at": Subquery(heard.values("changed_at")[:1]),
    }


def vault_facts(vault: Any, now: datetime) -> tuple[Any, ...]:
    """A result goes by itself when it is no news any more: that changes the screen without any row having changed. So does a
    worker that is not heard of."""
    heard = vault.operations_heard_at
    silent = heard is not None and now - heard > FORSAKEN_AFTER
    return (vault.operations_open, vault.operations_changed_at, vault.operations_news, silent)


def on_vault(vault: Vault, now: datetime) -> OnVault:
    running = list(_open_rows(now).filter(vault=vault).select_related("node").order_by("created_at"))
    last = _news(now).filter(vault=vault).select_related("node").first()
    return OnVault(
        tuple(operation_shown(operation, now) for operation in running[:SHOWN_AT_ONCE]),
        max(0, len(running) - SHOWN_AT_ONCE),
        operation_shown(last, now) if last is not None else None,
    )
