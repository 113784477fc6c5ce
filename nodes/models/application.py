from django.db import models
from django.utils.translation import gettext_lazy as _


class ApplicationNode(models.Model):
    """A host of our own application (web and workers). Hosts register themselves by their heartbeat."""

    hostname = models.CharField(_("hostname"), max_length=253, unique=True)
    version = models.CharField(_("version"), max_length=40)
    addresses = models.JSONField(_("addresses"), default=list)
    last_seen = models.DateTimeField(_("last seen"))

    class Meta:
        verbose_name = _("application node")
        verbose_name_plural = _("application nodes")
        ordering = ["hostname"]
        constraints = [
            models.CheckConstraint(name="application_hostname_not_empty", condition=~models.Q(hostname="")),
        ]

    def __str__(self) -> str:
        return self.hostname
