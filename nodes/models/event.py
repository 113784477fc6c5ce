from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from nodes.choices import EventLevel


class Event(models.Model):
    """One change, with the rule that led to it and what was seen. Written once, never changed."""

    at = models.DateTimeField(_("at"), auto_now_add=True, db_index=True)
    vault = models.ForeignKey("nodes.Vault", null=True, blank=True, on_delete=models.CASCADE, related_name="events")
    # The name stays when the node is gone.
    node_name = models.CharField(_("node"), max_length=253, default="", blank=True)
    epoch = models.PositiveBigIntegerField(_("epoch"), default=0)
    rule = models.CharField(_("rule"), max_length=20, default="", blank=True)
    # Rule of the diagnosis at that moment; "" for what a person did.
    diagnosis = models.CharField(_("diagnosis"), max_length=20, default="", blank=True)
    level = models.CharField(_("level"), max_length=10, choices=EventLevel, default=EventLevel.INFO)
    text = models.CharField(_("what happened"), max_length=1000)
    evidence = models.JSONField(default=dict, blank=True)
    # Id of the operation that it tells of; "" when it belongs to none.
    operation = models.CharField(max_length=32, default="", blank=True, db_index=True)
    actor = models.CharField(_("by"), max_length=150, default="", blank=True)

    class Meta:
        verbose_name = _("event")
        verbose_name_plural = _("events")
        ordering = ["-at", "-pk"]
        # What the Events screen filters by, each read backwards as it pages. There may be a million of them.
        indexes = [
            models.Index(fields=["vault", "at"], name="event_vault_at"),
            models.Index(fields=["node_name", "at"], name="event_node_at"),
            models.Index(fields=["rule", "at"], name="event_rule_at"),
            models.Index(fields=["diagnosis", "at"], name="event_diagnosis_at"),
            models.Index(fields=["level", "at"], name="event_level_at"),
        ]
        constraints = [models.CheckConstraint(name="event_level_known", condition=Q(level__in=EventLevel.values))]

    def __str__(self) -> str:
        return self.text
