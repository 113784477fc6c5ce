"""System → High Availability → Operations: what was done, what runs, what of it can be cancelled."""

from datetime import datetime
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Max
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.translation import gettext as _

from nodes.admin import dialogs
from nodes.admin.filtering import short_address
from nodes.admin.live import LiveScreen, Record, Snapshot
from nodes.admin.paging import addresses, page_of
from nodes.choices import OperationKind
from nodes.forms.operation import CancelForm
from nodes.models import Operation, VaultNode
from nodes.models.operation import DATA_KINDS, OPEN_STATES
from replication.stores.cancelling import Cancelled, is_forsaken, request_cancel, why_not_cancel

from .filter import ORDER, PAGE, READERS, STATES, read_filter
from .page import OperationPage
from .report_page import report, report_json
from .shown import operation_shown, title_of


@admin.register(Operation)
class OperationAdmin(Record, LiveScreen):
    screen_template = "nodes/operations.html"
    live_template = "nodes/operations_live.html"

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        page = OperationPage(self.model, self.admin_site)
        return [
            path("", wrap(self.changelist_view), name="nodes_operation_changelist"),
            path("<str:pk>/", wrap(page.view), name="nodes_operation_detail"),
            path("<str:pk>/cancel/", wrap(self.cancel), name="nodes_operation_cancel"),
            path("<str:pk>/report/", wrap(self.report), name="nodes_operation_report"),
            path("<str:pk>/report.json", wrap(self.report_json), name="nodes_operation_report_json"),
        ]

    # --- the list

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        short = short_address(request, READERS)
        return super().changelist_view(request, extra_context) if short is None else short

    def snapshot(self, request: HttpRequest) -> Snapshot:
        now = timezone.now()
        newest = Operation.objects.aggregate(at=Max("changed_at"))["at"]
        running = Operation.objects.filter(state__in=OPEN_STATES).order_by("pk").defer("steps", "result", "arguments")
        may = request.user.has_perm("nodes.cancel_operation")
        facts = (newest, tuple((row.pk, is_forsaken(row, now)) for row in running), may)
        return Snapshot(facts, {f"op:{row.pk}": _age(row, now) for row in running}, {"may_cancel": may})

    def fill(self, request: HttpRequest, snapshot: Snapshot) -> dict[str, Any]:
        now, chosen = timezone.now(), read_filter(request.GET)
        before, after = (ORDER.read(request.GET.get(name, "")) for name in ("before", "after"))
        rows = Operation.objects.filter(chosen.where).select_related("node", "requested_by")
        page = page_of(rows, ORDER, before, after, PAGE)
        here = reverse("admin:nodes_operation_changelist")
        return {
            "rows": [operation_shown(operation, now) for operation in page.rows],
            "chosen": chosen,
            "values": chosen.values,
            "here": here,
            "first": page.first,
            "is_live": page.first,
            **addresses(here, chosen.query, page),
            "kinds": OperationKind.choices,
            "states": STATES,
            "nodes": list(VaultNode.objects.present().order_by("hostname").values_list("pk", "hostname")),
        }

    # --- cancel

    def cancel(self, request: HttpRequest, pk: str) -> HttpResponse:
        if not request.user.has_perm("nodes.cancel_operation"):
            raise PermissionDenied("nodes.cancel_operation")
        operation = get_object_or_404(Operation.objects.select_related("node", "vault"), pk=pk)
        form = CancelForm(request.POST if request.method == "POST" else None)
        refused = why_not_cancel(operation)
        if request.method == "POST" and refused is None and form.is_valid():
            answer = request_cancel(operation, request.user, reason=form.cleaned_data["reason"])
            if isinstance(answer, Cancelled):
                says = _("%(title)s was cancelled.") if answer.ended else _("%(title)s is asked to end.")
                messages.info(request, says % {"title": title_of(operation)})
                return dialogs.done(request, self._back(operation))
            refused = answer
        return dialogs.show(
            request, self, "nodes/operation_cancel.html", title=_("Cancel %(title)s?") % {"title": title_of(operation)},
            back=self._back(operation), refused=refused, form=form, shown=operation_shown(operation),
            leaves=_leaves(operation),
        )  # fmt: skip

    @staticmethod
    def _back(operation: Operation) -> str:
        return reverse("admin:nodes_operation_detail", args=[operation.pk])

    # --- the report

    def report(self, request: HttpRequest, pk: str) -> HttpResponse:
        return report(self, request, pk)

    def report_json(self, request: HttpRequest, pk: str) -> HttpResponse:
        return report_json(self, request, pk)


def _age(operation: Operation, now: datetime) -> float:
    return (now - (operation.started_at or operation.created_at)).total_seconds()


def _leaves(operation: Operation) -> str:
    """What cancelling leaves behind."""
    if operation.kind == OperationKind.SWITCHOVER:
        return _("Nobody has begun it: the present Master stays Master, and nothing was touched.")
    if operation.kind == OperationKind.PREFLIGHT:
        return _("The check only looks. Nothing was changed on the host, and no node is saved.")
    if operation.kind in (OperationKind.REBUILD, OperationKind.UNDO) or operation.arguments.get("copies"):
        return _(
            "Until the copy is put in the place of the data the node stays as it is, and what has arrived is thrown away. From then"
            " on there is no way back: the operation says so and goes on. When the copy is in place already, it stays."
        )
    if operation.kind in DATA_KINDS and operation.kind != OperationKind.RESYNCHRONIZE:
        return _("What is half done is thrown away. The data of the vault is not touched, and you may start it again.")
    return _(
        "Only the watching ends. Fallbacks that follow go on to catch up by themselves; what the service was asked for and"
        " has not begun is taken back. No data is lost, and you may start it again."
    )
