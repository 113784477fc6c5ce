"""+ Add Node: nothing is saved before the host itself was asked. It can be asked before Save too, by Check or while typing."""

from typing import Any

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.loader import render_to_string
from django.urls import URLPattern, reverse
from django.utils.translation import gettext as _

from nodes.admin import dialogs
from nodes.forms import AddNodeForm
from nodes.models import Vault, VaultNode
from replication.stores import wishes

from . import preflight
from .checklist import Checklist, nothing_asked
from .popup import VaultPopups

WHILE_TYPING = "typing"
"""The name of a field that only static/nodes/vault.js sends: nobody has pressed anything."""


class AddNode(VaultPopups):
    def popup_urls(self) -> list[URLPattern]:
        return [
            self._popup("add/", self.add, "add"),
            self._popup("add/check/", self.check_new, "add_check"),
            *super().popup_urls(),
        ]

    def add(self, request: HttpRequest) -> HttpResponse:
        self._need(request, "add")
        vault = self._vault()
        if request.method != "POST":
            return self._form(request, AddNodeForm(vault=vault))
        form, found = AddNodeForm(request.POST, vault=vault), None
        if form.is_valid():
            verdict = preflight.check(form.new_node(), vault.pk, request.user)
            if self._add_checked(request, vault, form, verdict):
                return dialogs.done(request, self._back())
            found = verdict.shown if verdict.checks else None  # what kept it from being checked stands above the form
        return self._form(request, form, found)

    def check_new(self, request: HttpRequest) -> HttpResponse:
        """Ask the host and show what was found; nothing is saved. The fields are not touched: somebody may be typing."""
        self._need(request, "add")
        if request.method != "POST":
            return HttpResponseRedirect(reverse("admin:nodes_vaultnode_add"))
        vault = self._vault()
        form = AddNodeForm(request.POST, vault=vault)
        typing = dialogs.in_dialog(request) and WHILE_TYPING in request.POST
        if form.is_valid():
            found = preflight.check(form.new_node(), vault.pk, request.user).shown
        elif typing:
            found = nothing_asked(f"{self._label(form, name)}: {says}" for name, says in form.sentences())
        else:
            response = self._form(request, form)
            if dialogs.in_dialog(request):  # sentences at their fields need the whole form
                response["HX-Retarget"], response["HX-Reswap"] = "#dialog-body", "innerHTML"
            return response
        if not dialogs.in_dialog(request):
            return self._form(request, form, found)
        return HttpResponse(
            render_to_string("nodes/vault/_checks.html", {"checks": found, "alone": True}, request=request)
        )

    @staticmethod
    def _label(form: AddNodeForm, name: str) -> str:
        return str(form.fields[name].label) if name in form.fields else _("Node")

    @staticmethod
    def _vault() -> Vault:
        vault = wishes.default_vault()
        if vault is None:
            raise Http404("there is no vault: run manage.py migrate")
        return vault

    def _form(self, request: HttpRequest, form: AddNodeForm, found: Checklist | None = None) -> HttpResponse:
        context: dict[str, Any] = {
            "form": form,
            "checks": found or nothing_asked(),
            "form_url": reverse("admin:nodes_vaultnode_add"),
            "check_url": reverse("admin:nodes_vaultnode_add_check"),
        }
        return dialogs.show(
            request, self, "nodes/add_node.html", title=_("Add Node"), back=self._back(), **context
        )  # fmt: skip

    def _add_checked(self, request: HttpRequest, vault: Vault, form: AddNodeForm, verdict: preflight.Verdict) -> bool:
        for field, text in verdict.errors:
            form.refuse(field, text)
        if verdict.errors:
            return False
        added = wishes.add_node(vault, form.new_node(agent_id=verdict.agent_id), request.user)
        if isinstance(added, list):
            for refused in added:
                form.refuse(refused.field, refused.says)
            return False
        messages.success(request, _("%(name)s was added.") % {"name": added.hostname})
        for warning in verdict.warnings:
            messages.warning(request, warning, extra_tags=dialogs.STICKY)
        if not VaultNode.objects.present().filter(vault=vault, system_role="primary").exists():
            text = _("There is no node with system role Primary yet: the vault opens when one is added.")
            messages.warning(request, text, extra_tags=dialogs.STICKY)
        return True
