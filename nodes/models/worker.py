from django.db import models


class ServiceWorker(models.Model):
    """A process that leads a service or stands by to lead it, by its own heartbeat. Who leads is in ServiceLease.holder."""

    id = models.CharField(primary_key=True, max_length=64, editable=False)
    service = models.CharField(max_length=80, db_index=True)
    host = models.CharField(max_length=253)
    process = models.CharField(max_length=80)
    started_at = models.DateTimeField()
    seen_at = models.DateTimeField()

    class Meta:
        ordering = ["service", "host", "process"]

    def __str__(self) -> str:
        return f"{self.service}: {self.host} {self.process}"
