"""What can be asked for on a row of the Vault screen: update, delete, and the entries of its Action menu."""

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import URLPattern
from django.utils.translation import gettext as _

from nodes.choices import OperationKind
from nodes.forms import SwitchoverForm, UpdateNodeForm
from nodes.models import VaultNode
from replication.stores import wishes

from . import dialogs
from .queues import enqueue_resynchronize
from .vault_popup import VaultPopups


class RowActions(VaultPopups):
    def popup_urls(self) -> list[URLPattern]:
        rows = (
            ("change", self.update),
            ("delete", self.delete),
            ("resynchronize", self.resynchronize),
            ("switchover", self.switchover),
        )
        return [
            self._popup("hold/clear/", self.clear_hold, "clear_hold"),
            *super().popup_urls(),
            *(self._popup(f"<str:pk>/{name}/", view, name) for name, view in rows),
        ]

    def update(self, request: HttpRequest, pk: str) -> HttpResponse:
        self._need(request, "change")
        node = self._node(pk)
        form = UpdateNodeForm(request.POST if request.method == "POST" else None, initial={"active": node.active})
        if request.method == "POST" and form.is_valid():
            refused = wishes.set_active(node, form.cleaned_data["active"], request.user)
            if refused is None:
                messages.success(request, _("%(name)s was updated.") % {"name": node.hostname})
                return dialogs.done(request, self._back())
            form.add_error("active", refused.says)
        return dialogs.show(
            request, self, "nodes/node_form.html", title=node.hostname, back=self._back(), form=form, button=_("Update"),
            node=node,
        )  # fmt: skip

    def delete(self, request: HttpRequest, pk: str) -> HttpResponse:
        self._need(request, "delete")
        node = self._node(pk)
        refused = wishes.why_not_take_out(node.vault, node)
        if request.method == "POST" and refused is None:
            refused = wishes.remove_node(node, request.user)
            if refused is None:
                messages.success(request, _("%(name)s was deleted.") % {"name": node.hostname})
                messages.info(request, _purge_notice(node), extra_tags=dialogs.STICKY)
                return dialogs.done(request, self._back())
        text = _("Replication to this vault stops. Its data stays on its own disk until it is purged there.")
        if node.vault.promotable_id == node.pk:
            text += " " + _(
                "It is the fallback that would take over: until another one has, a lost Master is not replaced."
            )
        return dialogs.show(
            request, self, "nodes/confirm.html", title=_("Delete %(name)s?") % {"name": node.hostname}, back=self._back(),
            text=text, refused=refused, dangerous=True,
        )  # fmt: skip

    def resynchronize(self, request: HttpRequest, pk: str) -> HttpResponse:
        self._need(request, "resynchronize")
        node = self._node(pk)
        running = OperationKind.RESYNCHRONIZE in wishes.open_kinds(node.vault)
        refused = wishes.why_not_resynchronize(node.vault, node, running=running)
        if request.method == "POST" and refused is None:
            answer = wishes.request_resynchronize(node, request.user, enqueue_resynchronize)
            refused = answer if isinstance(answer, wishes.RefusedWish) else None
            if refused is None:
                messages.info(request, _("Re-synchronization has been started."))
                return dialogs.done(request, self._back())
        text = (
            _("Every active fallback is brought to the position that the Master has now.")
            if node.vault.primary_id == node.pk
            else _("%(name)s is brought to the position that the Master has now.") % {"name": node.hostname}
        )
        return dialogs.show(
            request, self, "nodes/confirm.html", title=_("Re-synchronize Master?"), back=self._back(), text=text,
            refused=refused,
        )  # fmt: skip

    def switchover(self, request: HttpRequest, pk: str) -> HttpResponse:
        """Make Master, and Fail back to Primary."""
        self._need(request, "switchover")
        node = self._node(pk)
        vault, form = node.vault, SwitchoverForm(request.POST if request.method == "POST" else None)
        running = OperationKind.SWITCHOVER in wishes.open_kinds(vault)
        refused = wishes.why_not_switch_over(vault, node, watched=wishes.is_watched(), running=running)
        if request.method == "POST" and refused is None and form.is_valid():
            answer = wishes.request_switchover(node, request.user, reason=form.cleaned_data["reason"])
            refused = answer if isinstance(answer, wishes.RefusedWish) else None
            if refused is None:
                messages.info(request, _("%(name)s is to become Master.") % {"name": node.hostname})
                return dialogs.done(request, self._back())
        return dialogs.show(
            request, self, "nodes/confirm.html", title=_("Make %(name)s the Master?") % {"name": node.hostname},
            back=self._back(), text=_switchover_text(node) if refused is None else "", refused=refused, form=form,
        )  # fmt: skip

    def clear_hold(self, request: HttpRequest) -> HttpResponse:
        self._need(request, "change")
        vault = wishes.default_vault()
        if vault is None:
            raise Http404("there is no vault: run manage.py migrate")
        if request.method == "POST":
            wishes.clear_silence_hold(vault, request.user)
            messages.info(request, _("The next failover on silence is no longer held back."))
            return dialogs.done(request, self._back())
        text = _(
            "If the Master falls silent again, its fallback takes over at once. Clear it when the cause of the last"
            " silence is known and gone; a Master that comes and goes would otherwise be replaced again and again."
        )
        return dialogs.show(
            request, self, "nodes/confirm.html", title=_("Clear the hold?"), back=self._back(), text=text
        )


def _switchover_text(node: VaultNode) -> str:
    text = _(
        "Writes pause for about a tenth of a second. Nothing that was acknowledged is lost. Transactions that are open"
        " at that moment get an error and have to be repeated. Afterwards %(old)s follows %(new)s."
    )
    text = text % {"old": node.vault.primary or "–", "new": node.hostname}
    return text + " " + _("If it cannot be done within seconds, the present Master is opened again.")


def _purge_notice(node: VaultNode) -> str:
    command = (node.report or {}).get("purge_command") or "vault-agent purge --home …"
    text = _("To remove its data, keys and certificates as well, type on %(name)s: %(command)s")
    return text % {"name": node.hostname, "command": command}
