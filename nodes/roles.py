"""Viewer, Operator, Administrator: which permission belongs to which role. docs/reference/roles.md shows the same table.

A role is an ordinary group. Every `migrate` gives each role what this table lists and it was never given before, and
remembers that (RoleGrant). So a new version brings its new permissions along, and what an administrator took away, or
added, stays as he left it. A group that he deleted or renamed is his own: it is neither made again nor filled up.
"""

from dataclasses import dataclass
from typing import Any, Final

from django.utils.translation import gettext_lazy as _


@dataclass(frozen=True)
class Role:
    name: str
    """Name of its group; never translated, since it is a row."""
    says: Any
    permissions: tuple[str, ...]


ADMINISTRATOR: Final = "Administrator"
_VIEW: Final = (
    "nodes.view_vault",
    "nodes.view_vaultnode",
    "nodes.view_appservice",
    "nodes.view_applicationnode",
    "nodes.view_event",
    "nodes.view_operation",
    "nodes.view_logline",
    "nodes.view_lossreport",
    "nodes.view_backup",
)
_OPERATE: Final = (
    "nodes.start_stop_appservice",
    "nodes.run_appservice",
    "nodes.resynchronize_vaultnode",
    "nodes.switchover_vaultnode",
    "nodes.pause_vault",
    "nodes.clear_hold_vault",
    "nodes.cancel_operation",
    "nodes.rebuild_vaultnode",
    "nodes.verify_vaultnode",
    "nodes.backup_vault",
)
_ADMINISTER: Final = (
    "nodes.add_vaultnode",
    "nodes.change_vaultnode",
    "nodes.delete_vaultnode",
    "nodes.add_applicationnode",
    "nodes.change_applicationnode",
    "nodes.delete_applicationnode",
    "nodes.change_appservice",
    "nodes.change_vault",
    "nodes.change_lossreport",
    "nodes.download_lossreport",
    "auth.view_user",
    "auth.add_user",
    "auth.change_user",
    "auth.delete_user",
    "auth.view_group",
    "auth.add_group",
    "auth.change_group",
    "auth.delete_group",
    "auditlog.view_logentry",
    "django_rq.admin",
)
ROLES: Final = (
    Role("Viewer", _("sees vault, services, hosts, events and operations; changes nothing"), _VIEW),
    Role(
        "Operator",
        _(
            "also starts and stops services, hands the Master over, re-synchronizes, rebuilds, compares, backs up, pauses and cancels"
        ),
        (*_VIEW, *_OPERATE),
    ),
    Role(
        ADMINISTRATOR,
        _("also adds and removes hosts, changes settings and policy, manages users, reads the audit log"),
        (*_VIEW, *_OPERATE, *_ADMINISTER),
    ),
)
"""From least to most; each has everything of the one before it."""


def grant_what_is_new(group_model: Any, permission_model: Any, grant_model: Any) -> None:
    """Give every role what it was never given before. Handed the models, since a migration has versions of its own."""
    known = {(grant.role, grant.permission) for grant in grant_model.objects.all()}
    there = {
        f"{permission.content_type.app_label}.{permission.codename}": permission
        for permission in permission_model.objects.select_related("content_type")
    }
    for role in ROLES:
        new = [name for name in role.permissions if (role.name, name) not in known and name in there]
        if not new:
            continue
        first = not any(name == role.name for name, _permission in known)
        group = group_model.objects.filter(name=role.name).first()
        if group is None and first:
            group = group_model.objects.create(name=role.name)
        if group is not None:
            group.permissions.add(*(there[name] for name in new))
        grant_model.objects.bulk_create(grant_model(role=role.name, permission=name) for name in new)
