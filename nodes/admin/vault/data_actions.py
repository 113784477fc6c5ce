"""Popups of what works on a node's data: rebuild, undo, compare, export, back up, remove old data; and the setting of all that.

Each says beforehand what will happen, how much it is and how long it takes, and asks for the hostname where something could be
lost.
"""

from collections.abc import Sequence
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern
from django.utils.translation import gettext as _

from nodes.admin import dialogs
from nodes.admin.queues import enqueue
from nodes.choices import OperationKind
from nodes.forms import ConfirmForm, DataPolicyForm, RebuildForm
from nodes.models import VaultNode
from replication.stores import data_wishes, policy
from replication.stores.wishes import RefusedWish

from .copy_plan import copy_facts, old_data_text
from .popup import VaultPopups


class DataActions(VaultPopups):
    def popup_urls(self) -> list[URLPattern]:
        rows = (
            ("rebuild", self.rebuild),
            ("undo", self.undo),
            ("compare", self.compare),
            ("export", self.export),
            ("backup", self.backup),
            ("remove-kept", self.remove_kept),
        )
        return [
            self._popup("data-policy/", self.data_policy, "data_policy"),
            *super().popup_urls(),
            *(self._popup(f"<str:pk>/{name}/", view, name.replace("-", "_")) for name, view in rows),
        ]

    def rebuild(self, request: HttpRequest, pk: str) -> HttpResponse:
        self._need(request, "rebuild")
        node = self._node(pk)
        others = VaultNode.objects.present().filter(vault=node.vault, active=True).exclude(pk=node.pk)
        form = RebuildForm(
            request.POST if request.method == "POST" else None,
            initial={"mib_per_second": node.vault.copy_mib_per_second},
            sources=[(other.pk, other.hostname) for other in others.order_by("ordinal")],
            may_lose=node.status not in data_wishes.FOLLOWS,
            typed=data_wishes.needs_hostname(OperationKind.REBUILD, node),
            hostname=node.hostname,
        )
        title = _("Rebuild %(name)s by a full copy?") % {"name": node.hostname}
        started = _("%(name)s is to be rebuilt.") % {"name": node.hostname}
        return self._ask(
            request, OperationKind.REBUILD, node, title, "", started, form, facts=copy_facts(node), dangerous=True
        )

    def undo(self, request: HttpRequest, pk: str) -> HttpResponse:
        self._need(request, "rebuild")
        node = self._node(pk)
        title = _("Put the old data of %(name)s back?") % {"name": node.hostname}
        text = old_data_text(node) + " " + _(
            "It takes the place of the copy, which is removed. If the node could not follow the Master with it before, it cannot"
            " afterwards either."
        )  # fmt: skip
        started = _("The old data of %(name)s is to be put back.") % {"name": node.hostname}
        form = self._confirm_form(request, OperationKind.UNDO, node)
        return self._ask(request, OperationKind.UNDO, node, title, text, started, form, dangerous=True)

    def remove_kept(self, request: HttpRequest, pk: str) -> HttpResponse:
        self._need(request, "rebuild")
        node = self._node(pk)
        title = _("Remove the old data of %(name)s?") % {"name": node.hostname}
        text = old_data_text(node) + " " + _("Without it the rebuild cannot be undone, and what only it has is gone.")
        started = _("The old data of %(name)s is to be removed.") % {"name": node.hostname}
        form = self._confirm_form(request, OperationKind.REMOVE_KEPT, node)
        return self._ask(request, OperationKind.REMOVE_KEPT, node, title, text, started, form, dangerous=True)

    def compare(self, request: HttpRequest, pk: str) -> HttpResponse:
        self._need(request, "verify")
        node = self._node(pk)
        name = {"name": node.hostname}
        title = (
            _("Compare all fallbacks with the Master?")
            if node.vault.primary_id == node.pk
            else _("Compare %(name)s with the Master?") % name
        )
        text = _(
            "Every row of every table is compared by checksums, in small pieces and with pauses. Nothing is changed. What differs"
            " is named table by table, as an alarm."
        )
        form = self._confirm_form(request, OperationKind.VERIFY, node)
        return self._ask(request, OperationKind.VERIFY, node, title, text, _("The comparison has been started."), form)

    def export(self, request: HttpRequest, pk: str) -> HttpResponse:
        self._need(request, "rebuild")
        node = self._node(pk)
        title = _("Export what only %(name)s has?") % {"name": node.hostname}
        text = _(
            "The transactions that the Master does not have are written to a file on that host, and listed here with values masked:"
            " which passwords have to be changed. The node stays as it is."
        )
        form = self._confirm_form(request, OperationKind.EXPORT, node)
        return self._ask(request, OperationKind.EXPORT, node, title, text, _("The export has been started."), form)

    def backup(self, request: HttpRequest, pk: str) -> HttpResponse:
        self._need(request, "backup", "vault")
        node = self._node(pk)
        title = (
            _("Back the vault up now?")
            if node.vault.primary_id == node.pk
            else _("Make a backup on %(name)s now?") % {"name": node.hostname}
        )
        text = _("A physical backup is written to a file on the vault host, at the rate of the vault's setting.")
        form = self._confirm_form(request, OperationKind.BACKUP, node)
        return self._ask(request, OperationKind.BACKUP, node, title, text, _("The backup has been started."), form)

    def data_policy(self, request: HttpRequest) -> HttpResponse:
        self._need(request, "change", "vault")
        vault = self._vault()
        initial = {name: getattr(vault, name) for name in policy.DATA_POLICY}
        form = DataPolicyForm(request.POST if request.method == "POST" else None, initial=initial)
        if request.method == "POST" and form.is_valid():
            said = dict(form.cleaned_data)
            if policy.set_data_policy(vault, said, request.user, reason=said.pop("reason")):
                messages.success(request, _("The setting was changed."))
            return dialogs.done(request, self._back())
        return dialogs.show(
            request, self, "nodes/vault/data_policy.html", title=_("Copies and backups"), back=self._back(), form=form,
            button=_("Update"),
        )  # fmt: skip

    # --- what they share

    @staticmethod
    def _confirm_form(request: HttpRequest, kind: str, node: VaultNode) -> ConfirmForm:
        typed = data_wishes.needs_hostname(kind, node)
        return ConfirmForm(request.POST if request.method == "POST" else None, typed=typed, hostname=node.hostname)

    def _ask(
        self,
        request: HttpRequest,
        kind: str,
        node: VaultNode,
        title: str,
        text: str,
        started: str,
        form: ConfirmForm,
        *,
        facts: Sequence[tuple[str, str]] = (),
        dangerous: bool = False,
    ) -> HttpResponse:
        """The question, or the reason why not; after Yes the wish. started: the message when it was granted. facts: label and
        sentence, in place of a text or below it."""
        refused = data_wishes.why_not(kind, node.vault, node, data_wishes.around(node.vault))
        if request.method == "POST" and refused is None and form.is_valid():
            refused = self._wish(request, kind, node, form)
            if refused is None:
                messages.info(request, started)
                return dialogs.done(request, self._back())
            if refused.field in form.fields:
                form.add_error(refused.field, refused.says)
                refused = None
        return dialogs.show(
            request, self, "nodes/confirm.html", title=title, back=self._back(), text=text, refused=refused, form=form,
            facts=facts, dangerous=dangerous,
        )  # fmt: skip

    @staticmethod
    def _wish(request: HttpRequest, kind: str, node: VaultNode, form: ConfirmForm) -> RefusedWish | None:
        said: dict[str, Any] = form.cleaned_data
        on_all = kind in data_wishes.ON_THE_VAULT and node.vault.primary_id == node.pk
        asked = data_wishes.request(
            kind, node.vault if on_all else node, request.user, reason=said["reason"], typed=said.get("confirm", ""),
            arguments=form.arguments if isinstance(form, RebuildForm) else None, enqueue=enqueue,
        )  # fmt: skip
        return asked if isinstance(asked, RefusedWish) else None
