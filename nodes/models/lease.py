from django.db import models


class ServiceLease(models.Model):
    """Who leads a service. Judged by the database's own clock, see stores/leases.py. Ages of answers ride on its renewal."""

    name = models.CharField(primary_key=True, max_length=80)
    holder = models.CharField(max_length=64, default="", blank=True)
    term = models.PositiveBigIntegerField(default=0)
    expires_at = models.DateTimeField()
    renewed_at = models.DateTimeField(null=True)
    host = models.CharField(max_length=253, default="", blank=True)
    process = models.CharField(max_length=80, default="", blank=True)
    last_pass_at = models.DateTimeField(null=True)
    # {node id: seconds since its last answer at renewed_at}; null for a node that never answered this leader.
    answers = models.JSONField(default=dict)

    def __str__(self) -> str:
        return f"{self.name}: {self.host} {self.process}, term {self.term}"
