from typing import Any

from django.apps import AppConfig
from django.apps import apps as installed
from django.db.models.signals import post_migrate
from django.utils.translation import gettext_lazy as _


class NodesConfig(AppConfig):
    name = "nodes"
    verbose_name = _("High Availability")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        # Permissions are rows that Django makes after the migrations, app by app in the order of INSTALLED_APPS: those
        # whose permissions a role holds come before this one.
        post_migrate.connect(_fill_roles, sender=self, dispatch_uid="nodes.roles")


def _fill_roles(apps: Any = installed, **_kwargs: Any) -> None:
    """After every `migrate`: see nodes/roles.py. Nobody's doing, hence nothing for the audit log."""
    from auditlog.context import disable_auditlog

    from .roles import grant_what_is_new

    try:
        models = [apps.get_model(*name) for name in (("auth", "Group"), ("auth", "Permission"), ("nodes", "RoleGrant"))]
    except LookupError:
        return  # migrated back to before there were roles
    with disable_auditlog():
        grant_what_is_new(*models)
