from django.db import models
from django.utils.translation import gettext_lazy as _

from .ids import new_id


class Backup(models.Model):
    """A physical backup: a file on a vault host. The row goes when the file was removed, or its host was deleted."""

    id = models.CharField(primary_key=True, max_length=32, default=new_id, editable=False)
    vault = models.ForeignKey("nodes.Vault", on_delete=models.CASCADE, related_name="backups")
    node = models.ForeignKey("nodes.VaultNode", null=True, blank=True, on_delete=models.SET_NULL, related_name="+")
    hostname = models.CharField(_("hostname"), max_length=253)
    operation = models.CharField(max_length=32, default="", blank=True)
    taken_at = models.DateTimeField(_("taken"))
    position = models.CharField(_("position"), max_length=500, default="", blank=True)
    path = models.CharField(_("file"), max_length=500)
    size = models.PositiveBigIntegerField(_("size"), default=0)
    seconds = models.FloatField(_("duration"), default=0)
    checksum = models.CharField("SHA-256", max_length=64, default="", blank=True)
    # When the file was last read through and its checksum was right, and what was wrong with it.
    checked_at = models.DateTimeField(null=True, blank=True)
    fault = models.CharField(max_length=500, default="", blank=True)

    class Meta:
        verbose_name = _("backup")
        verbose_name_plural = _("backups")
        ordering = ["-taken_at"]

    def __str__(self) -> str:
        return f"{self.hostname}, {self.taken_at:%Y-%m-%d %H:%M}"
