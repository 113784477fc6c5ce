"""+ Add Node: nothing is saved before the host itself was asked."""

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import URLPattern
from django.utils.translation import gettext as _

from nodes.forms import AddNodeForm
from nodes.models import Vault, VaultNode
from replication.stores import wishes

from . import dialogs, preflight
from .vault_popup import VaultPopups


class AddNode(VaultPopups):
    def popup_urls(self) -> list[URLPattern]:
        return [self._popup("add/", self.add, "add"), *super().popup_urls()]

    def add(self, request: HttpRequest) -> HttpResponse:
        """Nothing is saved before the host itself was asked."""
        self._need(request, "add")
        vault = wishes.default_vault()
        if vault is None:
            raise Http404("there is no vault: run manage.py migrate")
        form = AddNodeForm(request.POST if request.method == "POST" else None, vault=vault)
        if request.method == "POST" and form.is_valid() and self._add_checked(request, vault, form):
            return dialogs.done(request, self._back())
        return dialogs.show(
            request, self, "nodes/node_form.html", title=_("Add Node"), back=self._back(), form=form, button=_("Save")
        )

    def _add_checked(self, request: HttpRequest, vault: Vault, form: AddNodeForm) -> bool:
        verdict = preflight.check(form.new_node(), vault.pk, request.user)
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
