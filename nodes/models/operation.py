from django.conf import settings
from django.core.validators import MaxValueValidator
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from nodes.choices import OperationKind, OperationState, OperationUnit

from .ids import new_id

OPEN_STATES = [OperationState.QUEUED, OperationState.RUNNING]
DATA_KINDS = [
    OperationKind.RESYNCHRONIZE,
    OperationKind.REBUILD,
    OperationKind.UNDO,
    OperationKind.VERIFY,
    OperationKind.EXPORT,
    OperationKind.BACKUP,
    OperationKind.REMOVE_KEPT,
]
JOB_KINDS = [*DATA_KINDS, OperationKind.PREFLIGHT]
"""Carried out by ops workers; everything else by the leading service itself."""
REPLACING_KINDS = [OperationKind.RESYNCHRONIZE, OperationKind.REBUILD, OperationKind.UNDO]
"""They may replace a node's data: one of them at a time in a vault."""


class Operation(models.Model):
    """A piece of long work with a row, progress and exactly one terminal state. RQ only carries its id."""

    id = models.CharField(primary_key=True, max_length=32, default=new_id, editable=False)
    kind = models.CharField(_("operation"), max_length=20, choices=OperationKind)
    state = models.CharField(_("state"), max_length=15, choices=OperationState, default=OperationState.QUEUED)
    vault = models.ForeignKey("nodes.Vault", null=True, blank=True, on_delete=models.CASCADE, related_name="operations")
    # The row it was asked on; null for a check of a node that does not exist yet.
    node = models.ForeignKey("nodes.VaultNode", null=True, blank=True, on_delete=models.SET_NULL, related_name="+")
    arguments = models.JSONField(default=dict, blank=True)
    percent = models.PositiveSmallIntegerField(_("percent"), default=0, validators=[MaxValueValidator(100)])
    # [{"name", "state": "done" | "running" | "failed" | "waiting", "ms": since the beginning or null, "says"}], in order.
    steps = models.JSONField(default=list, blank=True)
    # How much of how much, in `unit`; null while that is not known. Rate and time left follow from it and started_at.
    done = models.PositiveBigIntegerField(null=True, blank=True)
    total = models.PositiveBigIntegerField(null=True, blank=True)
    unit = models.CharField(max_length=12, default="", blank=True, choices=OperationUnit)
    # A wish: whoever carries the operation out ends it as cancelled at the next step where that loses nothing.
    cancel_requested_at = models.DateTimeField(null=True, blank=True)
    reason = models.CharField(_("reason"), max_length=200, default="", blank=True)
    message = models.CharField(_("message"), max_length=500, default="", blank=True)
    result = models.JSONField(default=dict, blank=True)
    requested_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    created_at = models.DateTimeField(auto_now_add=True)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    changed_at = models.DateTimeField(auto_now=True)

    class Meta:
        verbose_name = _("operation")
        verbose_name_plural = _("operations")
        ordering = ["-created_at"]
        permissions = [("cancel_operation", "Can cancel operations")]
        # A year of them is tens of thousands: what every poll of an open screen asks for must not read them all.
        indexes = [
            models.Index(fields=["state", "vault"], name="operation_by_state"),
            models.Index(fields=["vault", "finished_at"], name="operation_by_end"),
            models.Index(fields=["changed_at"], name="operation_by_change"),
            models.Index(fields=["created_at", "id"], name="operation_by_beginning"),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["vault"],
                name="operation_one_resynchronize_per_vault",
                condition=Q(kind__in=REPLACING_KINDS, state__in=OPEN_STATES),
            ),
            models.UniqueConstraint(
                fields=["vault"],
                name="operation_one_verify_per_vault",
                condition=Q(kind=OperationKind.VERIFY, state__in=OPEN_STATES),
            ),
            models.UniqueConstraint(
                fields=["vault"],
                name="operation_one_backup_per_vault",
                condition=Q(kind=OperationKind.BACKUP, state__in=OPEN_STATES),
            ),
            models.UniqueConstraint(
                fields=["node"],
                name="operation_one_export_per_node",
                condition=Q(kind=OperationKind.EXPORT, state__in=OPEN_STATES),
            ),
            models.UniqueConstraint(
                fields=["vault"],
                name="operation_one_switchover_per_vault",
                condition=Q(kind=OperationKind.SWITCHOVER, state__in=OPEN_STATES),
            ),
            models.CheckConstraint(name="operation_percent_in_range", condition=Q(percent__lte=100)),
            models.CheckConstraint(name="operation_state_known", condition=Q(state__in=OperationState.values)),
            models.CheckConstraint(
                name="operation_finished_has_a_time",
                condition=Q(state__in=OPEN_STATES, finished_at__isnull=True)
                | (~Q(state__in=OPEN_STATES) & Q(finished_at__isnull=False)),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} ({self.get_state_display()})"
