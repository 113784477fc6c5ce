from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _

from nodes.choices import RebuildPolicy
from replication.core import limits

from .ids import new_id


class Vault(models.Model):
    """A vault and its published facts (epoch … intent), which change only by compare-and-set in stores/topology.py."""

    id = models.CharField(primary_key=True, max_length=32, default=new_id, editable=False)
    name = models.CharField(_("name"), max_length=100, unique=True)
    stay_writable = models.BooleanField(
        _("stay writable"),
        default=True,
        help_text=_("When the acker is lost: go solo and stay writable. Unticked: block writes until it is back."),
    )
    # Policy of copies, comparisons and backups. A rate of null is no limit; a schedule of null is none.
    rebuild_policy = models.CharField(
        _("rebuild without asking"), max_length=15, choices=RebuildPolicy, default=RebuildPolicy.NOTHING_LOST
    )
    copy_mib_per_second = models.PositiveIntegerField(
        _("rate of copies and backups"), null=True, blank=True, default=limits.COPY_MIB_PER_SECOND,
        validators=[MinValueValidator(1, _("At least 1 MiB a second; leave it empty for no limit."))],
    )  # fmt: skip
    keep_old_hours = models.PositiveIntegerField(
        _("keep old data after a rebuild"), default=limits.KEEP_OLD_HOURS, validators=[MaxValueValidator(8760)]
    )
    verify_every_hours = models.PositiveIntegerField(
        _("compare with the Master every"), null=True, blank=True, default=limits.VERIFY_EVERY_HOURS,
        validators=[MinValueValidator(1), MaxValueValidator(8760)],
    )  # fmt: skip
    backup_every_hours = models.PositiveIntegerField(
        _("backup every"), null=True, blank=True, default=limits.BACKUP_EVERY_HOURS,
        validators=[MinValueValidator(1), MaxValueValidator(8760)],
    )  # fmt: skip
    backups_kept = models.PositiveIntegerField(
        _("backups kept"), default=limits.BACKUPS_KEPT, validators=[MinValueValidator(1), MaxValueValidator(1000)]
    )
    created_at = models.DateTimeField(auto_now_add=True)

    epoch = models.PositiveBigIntegerField(default=0, editable=False)
    owner = models.CharField(max_length=64, default="", blank=True, editable=False)
    primary = models.ForeignKey(
        "nodes.VaultNode", null=True, blank=True, editable=False, on_delete=models.PROTECT, related_name="+"
    )
    may_ack = models.JSONField(default=list, blank=True, editable=False)
    promotable = models.ForeignKey(
        "nodes.VaultNode", null=True, blank=True, editable=False, on_delete=models.PROTECT, related_name="+"
    )
    intent = models.JSONField(null=True, blank=True, editable=False)
    # Anti-flapping: since when it is lossless without a break, and how long that must be before the next failover on silence.
    lossless_since = models.DateTimeField(null=True, blank=True, editable=False)
    silence_failover_at = models.DateTimeField(null=True, blank=True, editable=False)
    silence_hold_seconds = models.PositiveIntegerField(default=0, editable=False)
    # Pause of automatic failover: a wish. paused_until null: until it is resumed by hand.
    paused_at = models.DateTimeField(null=True, blank=True, editable=False)
    paused_until = models.DateTimeField(null=True, blank=True, editable=False)
    paused_by = models.CharField(max_length=150, default="", blank=True, editable=False)
    paused_reason = models.CharField(max_length=200, default="", blank=True, editable=False)
    # The leader's answer to "if the primary died this second": replication.core.foresight.Foresight.to_json(); {} before one.
    if_lost = models.JSONField(default=dict, blank=True, editable=False)
    # Why the vault is solo, or what it waits for: the last word of the leader, for the screen and vault_status.
    reason = models.CharField(max_length=500, default="", blank=True, editable=False)

    class Meta:
        verbose_name = _("vault")
        verbose_name_plural = _("vaults")
        ordering = ["name"]
        permissions = [
            ("pause_vault", "Can pause and resume automatic failover"),
            ("clear_hold_vault", "Can clear the hold after a failover on silence"),
            ("backup_vault", "Can make backups"),
        ]
        constraints = [
            models.CheckConstraint(
                name="vault_promotable_is_not_primary",
                condition=Q(promotable__isnull=True) | Q(primary__isnull=True) | ~Q(promotable=F("primary")),
            ),
            models.CheckConstraint(
                name="vault_promotable_needs_primary",
                condition=Q(promotable__isnull=True) | Q(primary__isnull=False),
            ),
            models.CheckConstraint(
                name="vault_open_intent_publishes_nobody",
                condition=Q(intent__isnull=True) | Q(promotable__isnull=True),
            ),
        ]

    def __str__(self) -> str:
        return self.name
