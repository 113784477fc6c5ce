from django.db import models


class LagSample(models.Model):
    """How far a fallback was behind at one moment, as the leading service saw it. Null: not known, for instance silent."""

    node = models.ForeignKey("nodes.VaultNode", on_delete=models.CASCADE, related_name="lag")
    at = models.DateTimeField()
    seconds = models.FloatField(null=True)
    transactions = models.PositiveBigIntegerField(null=True)

    class Meta:
        ordering = ["at"]
        indexes = [models.Index(fields=["node", "at"], name="lag_of_node"), models.Index(fields=["at"])]

    def __str__(self) -> str:
        return f"{self.node_id} at {self.at:%H:%M:%S}: {self.seconds} s"
