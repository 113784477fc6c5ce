"""System → High Availability → Vault."""

from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import F, OuterRef, Subquery
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.translation import gettext as _

from nodes.choices import OperationKind
from nodes.forms import AddNodeForm, SwitchoverForm, UpdateNodeForm
from nodes.models import AppService, Event, Operation, Vault, VaultNode
from nodes.models.service import SERVICE_NAME
from replication.stores import wishes

from . import dialogs, preflight
from .guards import fences_of, hold_of
from .live import LiveScreen, Snapshot
from .queues import enqueue_resynchronize
from .vault_rows import EVENTS_SHOWN, KINDS_SHOWN, is_news, operation_shown, rows_of, safety_of
from .watch import Watch, lease_annotations


def _service(field: str) -> Subquery:
    return Subquery(AppService.objects.filter(name=SERVICE_NAME).values(field)[:1])


@admin.register(VaultNode)
class VaultNodeAdmin(LiveScreen):
    screen_template = "nodes/vault.html"
    live_template = "nodes/vault_live.html"

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        views = (
            ("change", self.update), ("delete", self.delete), ("resynchronize", self.resynchronize),
            ("switchover", self.switchover),
        )  # fmt: skip
        return [
            path("", wrap(self.changelist_view), name="nodes_vaultnode_changelist"),
            path("add/", wrap(self.add), name="nodes_vaultnode_add"),
            path("hold/clear/", wrap(self.clear_hold), name="nodes_vaultnode_clear_hold"),
            *(path(f"<str:pk>/{name}/", wrap(view), name=f"nodes_vaultnode_{name}") for name, view in views),
        ]

    # --- the screen

    def snapshot(self, request: HttpRequest) -> Snapshot:
        shown = Operation.objects.filter(vault=OuterRef("pk"), kind__in=KINDS_SHOWN)
        # The one that is open, else the one that ended last.
        latest = shown.order_by(F("finished_at").desc(nulls_first=True), "-created_at")
        vault = (
            Vault.objects.annotate(
                **lease_annotations(SERVICE_NAME),
                **{
                    f"service_{f}": _service(f)
                    for f in ("desired_state", "started_on", "run_requested_at", "last_completed_on")
                },
                last_event=Subquery(Event.objects.order_by("-pk").values("pk")[:1]),
                operation_id=Subquery(latest.values("pk")[:1]),
                operation_changed_at=Subquery(shown.order_by("-changed_at").values("changed_at")[:1]),
                operation_finished_at=Subquery(latest.values("finished_at")[:1]),
            )
            .select_related("primary", "promotable")
            .order_by("created_at", "pk")
            .first()
        )
        if vault is None:
            raise Http404("there is no vault: run manage.py migrate")
        watch = Watch.of(vault, prefix="service_")
        nodes = list(VaultNode.objects.present().filter(vault=vault).order_by("ordinal"))
        rows = rows_of(vault, nodes, watch)
        safety = safety_of(vault, nodes, watch)
        fences, hold = fences_of(vault, nodes, watch), hold_of(vault, watch.now)
        # A result goes by itself when it is no news any more: that changes the screen without any row having changed.
        operation = (vault.operation_changed_at, is_news(vault.operation_finished_at, timezone.now()))
        facts = (
            watch.facts, safety, fences and fences.facts, hold, tuple(row.facts for row in rows), vault.last_event,
            vault.operation_id, operation,
        )  # fmt: skip
        ages: dict[str, float | None] = {f"node:{row.node.pk}": watch.answer_age(row.node.pk) for row in rows}
        ages["lease"] = watch.lease_age
        may = {
            name: request.user.has_perm(f"nodes.{name}_vaultnode")
            for name in ("add", "change", "delete", "resynchronize", "switchover")
        }
        context = {
            "vault": vault, "watch": watch, "rows": rows, "safety": safety, "fences": fences, "hold": hold, "may": may
        }  # fmt: skip
        return Snapshot((*facts, tuple(may.items())), ages, context)

    def fill(self, request: HttpRequest, snapshot: Snapshot) -> dict[str, Any]:
        vault = snapshot.context["vault"]
        operation = Operation.objects.filter(pk=vault.operation_id).select_related("node").first()
        running, watched = wishes.open_kinds(vault), snapshot.context["watch"].trusted
        for row in snapshot.context["rows"]:
            resynchronizing, switching = (k in running for k in (OperationKind.RESYNCHRONIZE, OperationKind.SWITCHOVER))
            row.refused = wishes.why_not_resynchronize(vault, row.node, running=resynchronizing)
            row.not_master = wishes.why_not_switch_over(vault, row.node, watched=watched, running=switching)
        return {
            "operation": operation_shown(operation),
            "events": Event.objects.all()[:EVENTS_SHOWN],
        }

    # --- the popups

    def _back(self) -> str:
        return reverse("admin:nodes_vaultnode_changelist")

    def _need(self, request: HttpRequest, permission: str) -> None:
        if not request.user.has_perm(f"nodes.{permission}_vaultnode"):
            raise PermissionDenied

    def _node(self, pk: str) -> VaultNode:
        return get_object_or_404(VaultNode.objects.present().select_related("vault", "vault__primary"), pk=pk)

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
