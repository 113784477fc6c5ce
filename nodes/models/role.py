from django.db import models


class RoleGrant(models.Model):
    """The memory that a role was given a permission once, so that nobody who takes it away is overruled (nodes/roles.py)."""

    role = models.CharField(max_length=40)
    # "app.codename", as has_perm() takes it.
    permission = models.CharField(max_length=120)

    class Meta:
        ordering = ["role", "permission"]
        constraints = [models.UniqueConstraint(fields=["role", "permission"], name="role_grant_once")]

    def __str__(self) -> str:
        return f"{self.role}: {self.permission}"
