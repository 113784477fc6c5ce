"""Every address of the console, who may go there, and what it answers. A new URL needs a row here: a test fails without.

A row names the permission that opens the door; which role has it is the business of nodes/roles.py. `get` and `post` are the
answers for who may, to a request without any field: a 422 is a form that wants something, a 302 goes back to the list.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from django.urls import URLPattern, URLResolver, get_resolver, reverse

from nodes import language

PUBLIC = "public"
"""Everybody, also without a login."""
STAFF = "staff"
"""Everybody who has logged in."""


@dataclass(frozen=True)
class Door:
    need: str
    get: int = 200
    post: int = 302
    to_post: str = ""
    """Another permission than for looking; "" for the same."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """What fills the converters: names of things in the tests' world (`{node}`), or values."""
    but: Mapping[str, int] = field(default_factory=dict)
    """What somebody gets in place of 403, 302 or these, whatever he sends."""


NODE, HOST, SERVICE = {"pk": "{node}"}, {"pk": "{host}"}, {"pk": "{service}"}
OPERATION = {"pk": "{operation}"}
BACKUP = {"pk": "{backup}"}
USER, GROUP, JOB = {"object_id": "{user}"}, {"object_id": "{group}"}, {"job_id": "some-job"}

DOORS: dict[str, Door] = {
    "": Door(PUBLIC, 302, 302),
    "healthz": Door(PUBLIC, 200, 200),
    "readyz": Door(PUBLIC, 503, 503),
    "language": Door(PUBLIC, 405, 302),
    "language-words": Door(PUBLIC, 200, 405, arguments={"language": "de", "version": language.version_of("de")}),
    "admin:login": Door(PUBLIC, 302, 200, but={"anonymous": 200}),
    "admin:index": Door(STAFF, 302, but={"no role": 200}),
    "admin:logout": Door(STAFF, 405, 200),
    "admin:password_change": Door(STAFF, 200, 200),
    "admin:password_change_done": Door(STAFF, 200, 405),
    "admin:jsi18n": Door(STAFF, 200, 405),
    "admin:autocomplete": Door(STAFF, 403, 405),
    "admin/(?P<url>.*)$": Door(STAFF, 404, 404, arguments={"url": "there/is/no/such/page"}),
    "help-index": Door(STAFF, 200, 200),
    "help-page": Door(STAFF, 200, 200, arguments={"page": "wishes"}),
    # High Availability → Vault
    "admin:nodes_vaultnode_changelist": Door("nodes.view_vaultnode", 200, 200),
    "admin:nodes_vaultnode_add": Door("nodes.add_vaultnode", 200, 422),
    "admin:nodes_vaultnode_add_check": Door("nodes.add_vaultnode", 302, 422),
    "admin:nodes_vaultnode_change": Door("nodes.change_vaultnode", 200, 200, arguments=NODE),
    "admin:nodes_vaultnode_delete": Door("nodes.delete_vaultnode", 200, 422, arguments=NODE),
    "admin:nodes_vaultnode_resynchronize": Door("nodes.resynchronize_vaultnode", 200, 200, arguments=NODE),
    "admin:nodes_vaultnode_switchover": Door("nodes.switchover_vaultnode", 200, 200, arguments=NODE),
    "admin:nodes_vaultnode_rebuild": Door("nodes.rebuild_vaultnode", 200, 200, arguments=NODE),
    "admin:nodes_vaultnode_undo": Door("nodes.rebuild_vaultnode", 200, 200, arguments=NODE),
    "admin:nodes_vaultnode_remove_kept": Door("nodes.rebuild_vaultnode", 200, 200, arguments=NODE),
    "admin:nodes_vaultnode_export": Door("nodes.rebuild_vaultnode", 200, 200, arguments=NODE),
    "admin:nodes_vaultnode_compare": Door("nodes.verify_vaultnode", arguments=NODE),
    "admin:nodes_vaultnode_backup": Door("nodes.backup_vault", arguments=NODE),
    "admin:nodes_vaultnode_data_policy": Door("nodes.change_vault", 200, 422),
    "admin:nodes_vaultnode_lag": Door("nodes.view_vaultnode", 200, 200),
    "admin:nodes_vaultnode_clear_hold": Door("nodes.clear_hold_vault"),
    "admin:nodes_vaultnode_pause": Door("nodes.pause_vault", 200, 422),
    "admin:nodes_vaultnode_resume": Door("nodes.pause_vault"),
    "admin:nodes_vaultnode_policy": Door("nodes.change_vault", 200, 422),
    # High Availability → Application
    "admin:nodes_applicationnode_changelist": Door("nodes.view_applicationnode", 200, 200),
    "admin:nodes_applicationnode_add": Door("nodes.add_applicationnode", 200, 422),
    "admin:nodes_applicationnode_change": Door("nodes.change_applicationnode", 200, 422, arguments=HOST),
    "admin:nodes_applicationnode_delete": Door("nodes.delete_applicationnode", 200, 302, arguments=HOST),
    # System Status → App Services
    "admin:nodes_appservice_changelist": Door("nodes.view_appservice", 200, 200),
    "admin:nodes_appservice_start": Door("nodes.start_stop_appservice", arguments=SERVICE),
    "admin:nodes_appservice_stop": Door("nodes.start_stop_appservice", arguments=SERVICE),
    "admin:nodes_appservice_run": Door("nodes.run_appservice", arguments=SERVICE),
    "admin:nodes_appservice_setting": Door("nodes.change_appservice", 200, 422, arguments=SERVICE),
    "admin:nodes_appservice_log": Door("nodes.view_logline", 200, 200, arguments=SERVICE),
    "admin:nodes_appservice_log_download": Door("nodes.view_logline", 200, 200, arguments=SERVICE),
    # Events
    "admin:nodes_event_changelist": Door("nodes.view_event", 200, 405),
    "admin:nodes_event_csv": Door("nodes.view_event", 200, 405),
    "admin:nodes_event_json": Door("nodes.view_event", 200, 405),
    "admin:nodes_event_detail": Door("nodes.view_event", 200, 405, arguments={"pk": "{event}"}),
    # Backups
    "admin:nodes_backup_changelist": Door("nodes.view_backup", 200, 200),
    "admin:nodes_backup_detail": Door("nodes.view_backup", 200, 200, arguments=BACKUP),
    "admin:nodes_backup_make": Door("nodes.backup_vault"),
    "admin:nodes_backup_look": Door("nodes.backup_vault"),
    "admin:nodes_backup_check": Door("nodes.backup_vault", arguments=BACKUP),
    "admin:nodes_backup_remove": Door("nodes.backup_vault", 200, 422, arguments=BACKUP),
    # Operations
    "admin:nodes_operation_changelist": Door("nodes.view_operation", 200, 200),
    "admin:nodes_operation_detail": Door("nodes.view_operation", 200, 200, arguments=OPERATION),
    "admin:nodes_operation_cancel": Door("nodes.cancel_operation", arguments=OPERATION),
    "admin:nodes_operation_report": Door("nodes.view_operation", 200, 405, arguments={"pk": "{failover}"}),
    "admin:nodes_operation_report_json": Door("nodes.view_operation", 200, 405, arguments={"pk": "{failover}"}),
    # Lost transactions
    "admin:nodes_lossreport_changelist": Door("nodes.view_lossreport", 200, 200),
    "admin:nodes_lossreport_detail": Door("nodes.view_lossreport", 200, 405, arguments={"pk": "{loss}"}),
    "admin:nodes_lossreport_deal_with": Door("nodes.change_lossreport", 200, 422, arguments={"pk": "{loss}"}),
    "admin:nodes_lossreport_download": Door(
        "nodes.download_lossreport", 405, 200, arguments={"pk": "{loss}", "kind": "csv"}
    ),
    # Administration → Users, Groups
    "admin:app_list": Door(STAFF, 404, 404, arguments={"app_label": "auth"}, but={"Administrator": 200}),
    "admin:auth_user_changelist": Door("auth.view_user", 200, 200),
    "admin:auth_user_add": Door("auth.add_user", 200, 200),
    "admin:auth_user_change": Door("auth.view_user", 200, 200, arguments=USER),
    "admin:auth_user_delete": Door("auth.delete_user", 200, 200, arguments=USER),
    "admin:auth_user_history": Door("auth.view_user", 200, 200, arguments=USER),
    "admin:auth_user_password_change": Door("auth.change_user", 200, 200, arguments={"id": "{user}"}),
    "admin/auth/user/<path:object_id>/": Door(STAFF, 302, 302, arguments=USER),
    "admin:auth_group_changelist": Door("auth.view_group", 200, 200),
    "admin:auth_group_add": Door("auth.add_group", 200, 200),
    "admin:auth_group_change": Door("auth.view_group", 200, 200, arguments=GROUP),
    "admin:auth_group_delete": Door("auth.delete_group", 200, 200, arguments=GROUP),
    "admin:auth_group_history": Door("auth.view_group", 200, 200, arguments=GROUP),
    "admin/auth/group/<path:object_id>/": Door(STAFF, 302, 302, arguments=GROUP),
    # Administration → Audit log
    "admin:auditlog_logentry_changelist": Door("auditlog.view_logentry", 200, 200),
    "admin:auditlog_logentry_entry": Door("auditlog.view_logentry", 200, 200, arguments={"pk": "{entry}"}),
    "admin:auditlog_logentry_export": Door("auditlog.view_logentry", 200, 200, arguments={"kind": "csv"}),
    # Administration → Work queues; in these tests Redis does not answer, and the pages say so
    "admin:django_rq_dashboard_changelist": Door("django_rq.admin", 200, 200),
    "admin:django_rq_dashboard_jobs": Door("django_rq.admin", 200, 200, arguments={"name": "ops", "state": "failed"}),
    "admin:django_rq_dashboard_job": Door("django_rq.admin", 200, 200, arguments=JOB),
    "admin:django_rq_dashboard_empty": Door("django_rq.admin", arguments={"name": "ops"}),
    "admin:django_rq_dashboard_requeue": Door("django_rq.admin", arguments=JOB),
    "admin:django_rq_dashboard_delete": Door("django_rq.admin", arguments=JOB),
}


@dataclass(frozen=True)
class Address:
    key: str
    """Its name, or its route where it has none."""
    route: str
    parameters: frozenset[str]


def addresses() -> list[Address]:
    """All of them, as the resolver knows them."""
    return list(_walk(get_resolver(), "", ""))


def _walk(resolver: Any, route: str, namespace: str) -> Iterator[Address]:
    for entry in resolver.url_patterns:
        here = route + str(entry.pattern)
        if isinstance(entry, URLResolver):
            yield from _walk(entry, here, f"{entry.namespace}:" if entry.namespace else namespace)
        elif isinstance(entry, URLPattern):
            groups = entry.pattern.regex.groupindex
            yield Address(namespace + entry.name if entry.name else here, here, frozenset(groups))


def url_of(address: Address, things: Mapping[str, Any]) -> str:
    """The address with its samples in place."""
    samples = {
        name: things[value[1:-1]] if isinstance(value, str) and value.startswith("{") else value
        for name, value in DOORS[address.key].arguments.items()
    }
    if address.key != address.route:
        return reverse(address.key, kwargs=samples)
    route = address.route
    for name, value in samples.items():
        route = route.replace(f"<path:{name}>", str(value)).replace(f"(?P<{name}>.*)$", str(value))
    return f"/{route}"
