from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from nodes.choices import ApplicationRole


class ApplicationNode(models.Model):
    """A host of our own application (web and workers): entered by an operator (upper half), or by its own heartbeat."""

    hostname = models.CharField(_("hostname"), max_length=253, unique=True)
    ip_address = models.GenericIPAddressField(_("IP address"), null=True, blank=True, unpack_ipv4=True)
    system_role = models.CharField(
        _("system role"), max_length=12, choices=ApplicationRole, default=ApplicationRole.CONTROLLER
    )
    # Unticked: its service workers stand by and take no leadership, for instance while the host is maintained.
    active = models.BooleanField(_("active"), default=True)

    # Written by the host's own programs only. Null: never heard of.
    version = models.CharField(_("version"), max_length=40, default="", blank=True)
    addresses = models.JSONField(_("addresses"), default=list, blank=True)
    last_seen = models.DateTimeField(_("last seen"), null=True, blank=True)
    service_seen = models.DateTimeField(null=True, blank=True)
    ops_seen = models.DateTimeField(null=True, blank=True)
    web_seen = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name = _("application node")
        verbose_name_plural = _("application nodes")
        ordering = ["hostname"]
        constraints = [
            models.CheckConstraint(name="application_hostname_not_empty", condition=~Q(hostname="")),
            models.CheckConstraint(name="application_role_known", condition=Q(system_role__in=ApplicationRole.values)),
        ]

    def __str__(self) -> str:
        return self.hostname
