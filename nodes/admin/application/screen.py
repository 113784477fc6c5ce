"""System → High Availability → Application: our own hosts, as an operator entered them or as they register themselves."""

from collections.abc import Iterable
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.translation import gettext as _

from nodes.admin import dialogs
from nodes.admin.live import LiveScreen, Snapshot
from nodes.forms.application import AddApplicationForm, UpdateApplicationForm
from nodes.models import ApplicationNode, ServiceLease, Vault
from nodes.models.service import SERVICE_NAME
from replication.core.version import VERSION
from replication.stores import application_wishes as wishes

from .rows import Primary, ages_of, hosts_now, primary_of, rows_of, shared_host_sentence


def shared_host_warning(vault: Vault, hosts: Iterable[ApplicationNode] | None = None) -> str:
    """One sentence when every controller that could lead runs on the Master's own host, else "".

    hosts: rows that the caller has already; without them this is one query. `vault.primary` should be loaded.
    """
    if vault.primary is None:
        return ""
    primary = Primary(vault.primary.hostname, vault.primary.ip_address)
    found = ApplicationNode.objects.filter(service_seen__isnull=False) if hosts is None else hosts
    return shared_host_sentence(found, primary, timezone.now())


@admin.register(ApplicationNode)
class ApplicationNodeAdmin(LiveScreen):
    screen_template = "nodes/applications.html"
    live_template = "nodes/applications_live.html"

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        return [
            path("", wrap(self.changelist_view), name="nodes_applicationnode_changelist"),
            path("add/", wrap(self.add), name="nodes_applicationnode_add"),
            path("<int:pk>/change/", wrap(self.update), name="nodes_applicationnode_change"),
            path("<int:pk>/delete/", wrap(self.delete), name="nodes_applicationnode_delete"),
        ]

    def snapshot(self, request: HttpRequest) -> Snapshot:
        hosts = hosts_now()
        rows = rows_of(hosts)
        shared = shared_host_sentence(hosts, primary_of(hosts), hosts[0].database_now) if hosts else ""
        may = {name: request.user.has_perm(f"nodes.{name}_applicationnode") for name in ("add", "change", "delete")}
        facts = (tuple(row.facts for row in rows), shared)
        return Snapshot(facts, ages_of(hosts), {"rows": rows, "our_version": VERSION, "shared": shared, "may": may})

    def _back(self) -> str:
        return reverse("admin:nodes_applicationnode_changelist")

    def _need(self, request: HttpRequest, permission: str) -> None:
        if not request.user.has_perm(f"nodes.{permission}_applicationnode"):
            raise PermissionDenied(f"nodes.{permission}_applicationnode")

    def add(self, request: HttpRequest) -> HttpResponse:
        self._need(request, "add")
        form = AddApplicationForm(request.POST if request.method == "POST" else None)
        if request.method == "POST" and form.is_valid():
            added = wishes.add_host(form.wish(), request.user)
            if isinstance(added, ApplicationNode):
                messages.success(request, _("%(name)s was added.") % {"name": added.hostname})
                return dialogs.done(request, self._back())
            form.refuse(added)
        return self._form(request, form, _("Add Node"), _("Save"))

    def update(self, request: HttpRequest, pk: int) -> HttpResponse:
        self._need(request, "change")
        host = get_object_or_404(ApplicationNode, pk=pk)
        now = {"system_role": host.system_role, "ip_address": host.ip_address or "", "active": host.active}
        form = UpdateApplicationForm(request.POST if request.method == "POST" else None, initial=now, host=host)
        if request.method == "POST" and form.is_valid():
            refused = wishes.update_host(host, form.wish(), request.user)
            if not refused:
                messages.success(request, _("%(name)s was updated.") % {"name": host.hostname})
                return dialogs.done(request, self._back())
            form.refuse(refused)
        return self._form(request, form, host.hostname, _("Update"), host=host, leads=_leads(host))

    def delete(self, request: HttpRequest, pk: int) -> HttpResponse:
        self._need(request, "delete")
        host = get_object_or_404(ApplicationNode, pk=pk)
        refused = None
        if request.method == "POST":
            refused = wishes.remove_host(host, request.user)
            if refused is None:
                messages.success(request, _("%(name)s was deleted.") % {"name": host.hostname})
                return dialogs.done(request, self._back())
        return dialogs.show(
            request, self, "nodes/confirm.html", title=_("Delete %(name)s?") % {"name": host.hostname},
            back=self._back(), text=_what_deleting_means(host), refused=refused, dangerous=True,
        )  # fmt: skip

    def _form(self, request: HttpRequest, form: Any, title: str, button: str, **context: Any) -> HttpResponse:
        return dialogs.show(
            request,
            self,
            "nodes/application_form.html",
            title=title,
            back=self._back(),
            form=form,
            button=button,
            **context,
        )


def _leads(host: ApplicationNode) -> bool:
    lease = ServiceLease.objects.filter(name=SERVICE_NAME).exclude(holder="").first()
    return lease is not None and lease.host.lower() == host.hostname.lower()


def _what_deleting_means(host: ApplicationNode) -> str:
    text = _("Only the entry goes: nothing is stopped. A host whose programs run enters itself again within seconds.")
    if not host.active:
        text += " " + _("It is active then: stop its programs first if it is to stay out.")
    if _leads(host):
        text += " " + _("It leads at this moment, and goes on leading.")
    return text
