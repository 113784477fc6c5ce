from django.db import models


class LogLine(models.Model):
    """A line of a service's log, so that it can be read and searched in the console wherever the worker runs."""

    service = models.CharField(max_length=80)
    at = models.DateTimeField()
    host = models.CharField(max_length=253)
    process = models.CharField(max_length=80)
    # As in logging: 10 debug, 20 info, 30 warning, 40 error.
    level = models.PositiveSmallIntegerField()
    text = models.TextField(max_length=8000)

    class Meta:
        ordering = ["-pk"]
        indexes = [models.Index(fields=["service", "-id"], name="log_line_of_service"), models.Index(fields=["at"])]

    def __str__(self) -> str:
        return self.text
