from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Lower
from django.utils.translation import gettext_lazy as _

from nodes.choices import SystemRoleChoices
from replication.core import limits
from replication.core.roles import NodeStatus

from .ids import new_id

PORT_RANGE = [
    MinValueValidator(1, _("A port is a number from 1 to 65535.")),
    MaxValueValidator(65535, _("A port is a number from 1 to 65535.")),
]


class NodeQuerySet(models.QuerySet):
    def present(self) -> "NodeQuerySet":
        """Nodes that an operator has not deleted. A deleted one stays as a row until the service has taken it out."""
        return self.filter(removed_at__isnull=True)


class VaultNode(models.Model):
    """A vault host: what the operator wishes (upper half), and what the service saw and did (lower half, its own)."""

    id = models.CharField(primary_key=True, max_length=32, default=new_id, editable=False)
    vault = models.ForeignKey("nodes.Vault", on_delete=models.PROTECT, related_name="nodes")
    hostname = models.CharField(_("hostname"), max_length=253)
    port = models.PositiveIntegerField(_("port"), default=limits.AGENT_PORT, validators=PORT_RANGE)
    database_port = models.PositiveIntegerField(_("database port"), default=limits.DATABASE_PORT, validators=PORT_RANGE)
    system_role = models.CharField(
        _("system role"), max_length=10, choices=SystemRoleChoices, default=SystemRoleChoices.FALLBACK
    )
    ip_address = models.GenericIPAddressField(_("IP address"), unpack_ipv4=True)
    active = models.BooleanField(_("active"), default=True)
    ordinal = models.PositiveIntegerField(default=1, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    removed_at = models.DateTimeField(null=True, blank=True, editable=False)
    resync_requested_at = models.DateTimeField(null=True, blank=True, editable=False)

    # A full copy of it is wanted: replication.core.view.RebuildWish.to_json(). The leader takes it.
    rebuild_wish = models.JSONField(null=True, blank=True, editable=False)

    # Written by the service only.
    agent_id = models.CharField(max_length=64, default="", blank=True, editable=False)
    detached = models.BooleanField(default=False, editable=False)
    joined = models.BooleanField(default=False, editable=False)
    locked_out = models.BooleanField(default=False, editable=False)
    status = models.CharField(
        max_length=30, default=NodeStatus.UNKNOWN, choices=[(s.value, s.value) for s in NodeStatus], editable=False
    )
    status_detail = models.CharField(max_length=500, default="", blank=True, editable=False)
    # Why it cannot be made the primary now, "R50 · sentence"; "" when it can.
    not_primary = models.CharField(max_length=300, default="", blank=True, editable=False)
    current_role = models.CharField(_("current role"), max_length=20, default="", blank=True, editable=False)
    report = models.JSONField(null=True, blank=True, editable=False)
    # The last comparison with the primary that went through all its tables, and what it found: ["vault.accounts: 3 rows differ", …].
    verified_at = models.DateTimeField(null=True, blank=True, editable=False)
    verified_position = models.CharField(max_length=500, default="", blank=True, editable=False)
    drift = models.JSONField(default=list, blank=True, editable=False)
    changed_at = models.DateTimeField(auto_now=True)

    objects = NodeQuerySet.as_manager()

    class Meta:
        verbose_name = _("vault node")
        verbose_name_plural = _("vault nodes")
        ordering = ["-system_role", "ordinal", "hostname"]
        permissions = [
            ("resynchronize_vaultnode", "Can re-synchronize vault nodes"),
            ("switchover_vaultnode", "Can make another vault node the Master"),
            ("rebuild_vaultnode", "Can rebuild vault nodes and undo it"),
            ("verify_vaultnode", "Can compare vault nodes with the Master"),
        ]
        constraints = [
            models.UniqueConstraint(Lower("hostname"), name="node_hostname_once", condition=Q(removed_at__isnull=True)),
            models.UniqueConstraint(
                fields=["ip_address"], name="node_address_once", condition=Q(removed_at__isnull=True)
            ),
            models.UniqueConstraint(
                fields=["agent_id"], name="node_agent_once", condition=Q(removed_at__isnull=True) & ~Q(agent_id="")
            ),
            models.UniqueConstraint(
                fields=["vault"],
                name="node_one_primary_per_vault",
                condition=Q(removed_at__isnull=True, system_role=SystemRoleChoices.PRIMARY),
            ),
            models.CheckConstraint(name="node_port_in_range", condition=Q(port__gte=1, port__lte=65535)),
            models.CheckConstraint(
                name="node_database_port_in_range", condition=Q(database_port__gte=1, database_port__lte=65535)
            ),
            models.CheckConstraint(name="node_ports_differ", condition=~Q(port=F("database_port"))),
            models.CheckConstraint(
                name="node_system_role_known", condition=Q(system_role__in=SystemRoleChoices.values)
            ),
            models.CheckConstraint(name="node_hostname_not_empty", condition=~Q(hostname="")),
        ]

    def __str__(self) -> str:
        return self.hostname
