from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

from .ids import new_id


class LossReport(models.Model):
    """The transactions that one node had and the vault does not: exported to a file on its host, listed here with values masked.

    Stays when its node is deleted or rebuilt: a lost transaction is a lost password until somebody has rotated it.
    """

    id = models.CharField(primary_key=True, max_length=32, default=new_id, editable=False)
    vault = models.ForeignKey("nodes.Vault", on_delete=models.CASCADE, related_name="loss_reports")
    node = models.ForeignKey("nodes.VaultNode", null=True, blank=True, on_delete=models.SET_NULL, related_name="+")
    hostname = models.CharField(_("hostname"), max_length=253)
    # Why it was made: what the agent said when it was held back.
    why = models.CharField(_("reason"), max_length=500, default="", blank=True)
    made_at = models.DateTimeField(_("made"), auto_now_add=True)
    operation = models.CharField(max_length=32, default="", blank=True)
    # The files on the vault host that hold everything, unmasked.
    path = models.CharField(_("file"), max_length=500)
    size = models.PositiveBigIntegerField(_("size"), default=0)
    first_at = models.DateTimeField(null=True, blank=True)
    last_at = models.DateTimeField(null=True, blank=True)
    transaction_count = models.PositiveIntegerField(_("transactions"), default=0)
    # The first thousands: [{"gtid", "at", "whole", "cut", "changes": [{"table", "verb", "key", "shown", "changed", "says"}]}]; see
    # replication.core.losses.Change. "cut": a start had cut it off, so that nobody ever got an OK for it.
    transactions = models.JSONField(default=list, blank=True)
    # What to rotate: [{"table", "key", "name", "columns", "last_at", "times"}].
    rotate = models.JSONField(default=list, blank=True)
    # Sentences: what the list leaves out, and what is not known.
    notes = models.JSONField(default=list, blank=True)
    handled_at = models.DateTimeField(_("dealt with"), null=True, blank=True)
    handled_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    note = models.CharField(_("note"), max_length=500, default="", blank=True)

    class Meta:
        verbose_name = _("lost transactions")
        verbose_name_plural = _("lost transactions")
        ordering = ["-made_at"]
        permissions = [("download_lossreport", "Can download lists of lost transactions")]

    def __str__(self) -> str:
        return f"{self.hostname}, {self.transaction_count}"
