"""What can be asked for the vault as a whole: pause and resume automatic failover, and its policy."""

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern
from django.utils.translation import gettext as _

from nodes.admin import dialogs
from nodes.forms import PauseForm, PolicyForm
from replication.stores import pausing, policy
from replication.stores.wishes import RefusedWish

from .popup import VaultPopups


class VaultPolicy(VaultPopups):
    def popup_urls(self) -> list[URLPattern]:
        views = (("pause", self.pause), ("resume", self.resume), ("policy", self.policy))
        return [*(self._popup(f"{name}/", view, name) for name, view in views), *super().popup_urls()]

    def pause(self, request: HttpRequest) -> HttpResponse:
        self._need(request, "pause", "vault")
        vault, form = self._vault(), PauseForm(request.POST if request.method == "POST" else None)
        if request.method == "POST" and form.is_valid():
            said = form.cleaned_data
            refused = pausing.pause_failover(vault, said["span"], request.user, reason=said["reason"])
            if refused is None:
                messages.warning(request, _("Automatic failover is paused."))
                return dialogs.done(request, self._back())
            form.add_error(refused.field, refused.says)
        return dialogs.show(
            request, self, "nodes/vault/pause.html", title=_("Pause automatic failover"), back=self._back(), form=form,
            pause=pausing.pause_now(vault),
        )  # fmt: skip

    def resume(self, request: HttpRequest) -> HttpResponse:
        self._need(request, "pause", "vault")
        vault = self._vault()
        if request.method == "POST":
            pausing.resume_failover(vault, request.user)
            messages.success(request, _("Automatic failover is on again."))
            return dialogs.done(request, self._back())
        refused = (
            None if pausing.pause_now(vault) else RefusedWish("W69", _("Automatic failover is not paused: it is on."))
        )
        text = _(
            "A Master that is lost is replaced by itself again. If it is lost already, its fallback takes over at once."
        )
        return dialogs.show(
            request, self, "nodes/confirm.html", title=_("Resume automatic failover?"), back=self._back(), text=text,
            refused=refused,
        )  # fmt: skip

    def policy(self, request: HttpRequest) -> HttpResponse:
        self._need(request, "change", "vault")
        vault = self._vault()
        initial = {"if_lost": PolicyForm.WRITABLE if vault.stay_writable else PolicyForm.BLOCK}
        form = PolicyForm(request.POST if request.method == "POST" else None, initial=initial)
        if request.method == "POST" and form.is_valid():
            said = form.cleaned_data
            writable = said["if_lost"] == PolicyForm.WRITABLE
            if policy.set_stay_writable(vault, writable, request.user, reason=said["reason"]):
                messages.success(request, _("The policy was changed."))
            return dialogs.done(request, self._back())
        return dialogs.show(
            request, self, "nodes/vault/policy.html", title=_("Setting of the vault"), back=self._back(), form=form,
            button=_("Update"), vault=vault,
        )  # fmt: skip
