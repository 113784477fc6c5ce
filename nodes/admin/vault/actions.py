"""What can be asked for on a row of the Vault screen: update, delete, and the entries of its Action menu."""

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern
from django.utils import timezone
from django.utils.translation import gettext as _

from nodes.admin import dialogs
from nodes.admin.queues import enqueue_resynchronize
from nodes.choices import OperationKind
from nodes.forms import ConfirmForm, LeaveForm, SwitchoverForm, UpdateNodeForm
from nodes.models import VaultNode
from replication.stores import leaving, wishes

from .copy_plan import resync_plan, to_confirm
from .known import data_of, known_of
from .popup import VaultPopups


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
        """Active or not, and what is known of the node. What would take safety away is asked once more, with the hostname."""
        self._need(request, "change")
        node = self._node(pk)
        posted = request.POST if request.method == "POST" else None
        wanted = bool(posted.get("active")) if posted is not None else request.GET.get("active", "") != "0"
        leaves = node.active and wishes.why_not_take_out(node.vault, node) is None
        meaning = leaving.meaning_of(node) if leaves else None
        typed = meaning is not None and meaning.typed and not wanted
        asked = posted is not None and typed and "confirm" not in posted
        initial = {"active": wanted if "active" in request.GET or asked else node.active}
        form = UpdateNodeForm(None if asked else posted, initial=initial, typed=typed, hostname=node.hostname)
        if posted is not None and not asked and form.is_valid():
            refused = _set_active(node, form, request.user)
            if refused is None:
                messages.success(request, _("%(name)s was updated.") % {"name": node.hostname})
                return dialogs.done(request, self._back())
            form.add_error(refused.field if refused.field in form.fields else "active", refused.says)
        return dialogs.show(
            request, self, "nodes/vault/node.html", title=node.hostname, back=self._back(), form=form, button=_("Update"),
            node=node, known=known_of(node, timezone.now()), data=data_of(node), meaning=meaning, dangerous=typed,
        )  # fmt: skip

    def delete(self, request: HttpRequest, pk: str) -> HttpResponse:
        self._need(request, "delete")
        node = self._node(pk)
        posted = request.POST if request.method == "POST" else None
        refused = wishes.why_not_take_out(node.vault, node)
        meaning = leaving.meaning_of(node) if refused is None else None
        form = LeaveForm(posted, hostname=node.hostname) if meaning is not None and meaning.typed else None
        if posted is not None and refused is None and (form is None or form.is_valid()):
            said = form.cleaned_data if form is not None else {"confirm": "", "reason": ""}
            refused = leaving.delete(node, request.user, typed=said["confirm"], reason=said["reason"])
            if refused is None:
                messages.success(request, _("%(name)s was deleted.") % {"name": node.hostname})
                messages.info(request, _purge_notice(node), extra_tags=dialogs.STICKY)
                return dialogs.done(request, self._back())
            if form is not None and refused.field in form.fields:
                form.add_error(refused.field, refused.says)
                refused = None
        text = _("Replication to this vault stops. Its data stays on its own disk until it is purged there.")
        return dialogs.show(
            request, self, "nodes/confirm.html", title=_("Delete %(name)s?") % {"name": node.hostname}, back=self._back(),
            text=text, refused=refused, dangerous=True, meaning=meaning, form=form,
        )  # fmt: skip

    def resynchronize(self, request: HttpRequest, pk: str) -> HttpResponse:
        """Says beforehand what it will do with each fallback. Where a diverged one would be replaced its hostname is typed."""
        self._need(request, "resynchronize")
        node = self._node(pk)
        vault, posted = node.vault, request.POST if request.method == "POST" else None
        refused = wishes.why_not_resynchronize(vault, node, running=wishes.is_replacing(wishes.open_kinds(vault)))
        planned = resync_plan(vault, node) if refused is None else []
        names = to_confirm(planned)
        form = ConfirmForm(posted, typed=True, hostname=names) if names else None
        if posted is not None and refused is None and (form is None or form.is_valid()):
            said = form.cleaned_data if form is not None else {"confirm": "", "reason": ""}
            refused = _not_confirmed(names, **said)
            if refused is None:
                refused = self._resynchronize(request, node, names, said["reason"])
            if refused is None:
                messages.info(request, _("Re-synchronization has been started."))
                return dialogs.done(request, self._back())
            if form is not None and refused.field in form.fields:
                form.add_error(refused.field, refused.says)
                refused = None
        text = (
            _("Every active fallback is brought to the position that the Master has now.")
            if vault.primary_id == node.pk
            else _("%(name)s is brought to the position that the Master has now.") % {"name": node.hostname}
        )
        return dialogs.show(
            request, self, "nodes/confirm.html", title=_("Re-synchronize Master?"), back=self._back(), text=text,
            refused=refused, planned=planned, form=form, dangerous=form is not None,
        )  # fmt: skip

    @staticmethod
    def _resynchronize(request: HttpRequest, node: VaultNode, names: str, reason: str) -> wishes.RefusedWish | None:
        replace = VaultNode.objects.present().filter(vault=node.vault, hostname__in=names.split(", ")) if names else ()
        answer = wishes.request_resynchronize(
            node, request.user, enqueue_resynchronize, replace=list(replace), reason=reason
        )
        return answer if isinstance(answer, wishes.RefusedWish) else None

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
        self._need(request, "clear_hold", "vault")
        vault = self._vault()
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


def _not_confirmed(names: str, confirm: str, reason: str) -> wishes.RefusedWish | None:
    """names: hostnames that have to be typed, in any order; "" for none."""
    if not names:
        return None
    if sorted(confirm.lower().replace(",", " ").split()) != sorted(names.lower().split(", ")):
        text = _("Type %(name)s here to confirm that you mean this node.")
        return wishes.RefusedWish("W62", text % {"name": names}, "confirm")
    if not reason:
        return wishes.RefusedWish("W63", _("Say why: it is kept with the event and in the audit log."), "reason")
    return None


def _set_active(node: VaultNode, form: UpdateNodeForm, actor: Any) -> wishes.RefusedWish | None:
    said = form.cleaned_data
    if said["active"]:
        return wishes.set_active(node, True, actor)
    return leaving.make_inactive(node, actor, typed=said.get("confirm", ""), reason=said.get("reason", ""))


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
