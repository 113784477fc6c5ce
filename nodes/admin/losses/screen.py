"""System → High Availability → Lost transactions: the reports, what to rotate, and that it was done."""

from typing import Any, Final

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Max
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, HttpResponseNotAllowed
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.translation import gettext as _

from nodes.admin import dialogs
from nodes.admin.events.page import operation_url
from nodes.admin.export import KINDS
from nodes.admin.filtering import for_input, short_address
from nodes.admin.live import LiveScreen, Record, Snapshot
from nodes.admin.operations.words import amount
from nodes.admin.paging import addresses, page_of
from nodes.choices import OperationUnit
from nodes.forms.loss import DealtWithForm
from nodes.models import LossReport
from nodes.sentences import said
from replication.stores import losses

from .download import answer
from .filter import DEALT, OPEN, ORDER, READERS, STATES, read_filter
from .shown import page_of_changes, read_command, replay_command, rotations, row_of

ROWS: Final = 50
"""Reports on a page, and open ones above it."""
CHANGE, DOWNLOAD = "nodes.change_lossreport", "nodes.download_lossreport"


@admin.register(LossReport)
class LossReportAdmin(Record, LiveScreen):
    screen_template = "nodes/losses.html"
    live_template = "nodes/losses_live.html"

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        return [
            path("", wrap(self.changelist_view), name="nodes_lossreport_changelist"),
            path("<str:pk>/", wrap(self.detail), name="nodes_lossreport_detail"),
            path("<str:pk>/dealt-with/", wrap(self.deal_with), name="nodes_lossreport_deal_with"),
            path("<str:pk>/download/<str:kind>/", wrap(self.download), name="nodes_lossreport_download"),
        ]

    # --- the list

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        short = short_address(request, READERS)
        return super().changelist_view(request, extra_context) if short is None else short

    def snapshot(self, request: HttpRequest) -> Snapshot:
        newest = LossReport.objects.aggregate(made=Max("made_at"), handled=Max("handled_at"))
        return Snapshot((newest["made"], newest["handled"]), {}, {})

    def fill(self, request: HttpRequest, snapshot: Snapshot) -> dict[str, Any]:
        """What is open stands above, whatever page of the others is shown."""
        chosen = read_filter(request.GET)
        before, after = (ORDER.read(request.GET.get(name, "")) for name in ("before", "after"))
        rows = LossReport.objects.filter(chosen.where).select_related("handled_by")
        page = page_of(rows.filter(handled_at__isnull=False), ORDER, before, after, ROWS)
        still = ORDER.sort(rows.filter(handled_at__isnull=True))[:ROWS]
        here = reverse("admin:nodes_lossreport_changelist")
        return {
            "open": [row_of(report) for report in still],
            "rows": [row_of(report) for report in page.rows],
            "show_open": chosen.values.get("state") != DEALT,
            "show_others": chosen.values.get("state") != OPEN,
            "chosen": chosen,
            "values": chosen.values,
            "states": STATES,
            "since": for_input(chosen.values.get("from", "")),
            "until": for_input(chosen.values.get("to", ""), end=True),
            "first": page.first,
            "here": here,
            **addresses(here, chosen.query, page),
        }

    # --- a report

    def detail(self, request: HttpRequest, pk: str) -> HttpResponse:
        self.need_view(request)
        if request.method not in ("GET", "HEAD"):
            return HttpResponseNotAllowed(["GET", "HEAD"])
        report = get_object_or_404(LossReport.objects.select_related("vault", "node", "handled_by"), pk=pk)
        asked = request.GET.get("from", "")
        shown, before, after = page_of_changes(report, int(asked) if asked.isdecimal() and len(asked) < 9 else 0)
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": _("Lost transactions of %(name)s") % {"name": report.hostname},
            "report": report,
            "row": row_of(report),
            "rotations": rotations(report),
            "changes": shown,
            "before": before,
            "after": after,
            "notes": [said(note) for note in report.notes],
            "size": amount(report.size, OperationUnit.BYTES),
            "read_command": read_command(report),
            "replay_command": replay_command(report),
            "operation_url": operation_url(report.operation),
            "never_acknowledged": all(entry.get("cut") for entry in report.transactions),
            "may_download": request.user.has_perm(DOWNLOAD),
            "may_change": request.user.has_perm(CHANGE),
        }
        response = TemplateResponse(request, "nodes/loss.html", context)
        response["Cache-Control"] = "no-store"
        return response

    def download(self, request: HttpRequest, pk: str, kind: str) -> HttpResponseBase:
        """By POST: each is an entry of the audit log."""
        if not request.user.has_perm(DOWNLOAD):
            raise PermissionDenied(DOWNLOAD)
        if kind not in KINDS:
            raise Http404("a list of lost transactions is downloaded as csv or json")
        report = get_object_or_404(LossReport.objects.select_related("handled_by"), pk=pk)
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        losses.downloaded(report, kind, request.user)
        return answer(report, kind, timezone.now())

    def deal_with(self, request: HttpRequest, pk: str) -> HttpResponse:
        if not request.user.has_perm(CHANGE):
            raise PermissionDenied(CHANGE)
        report = get_object_or_404(LossReport, pk=pk)
        form = DealtWithForm(request.POST if request.method == "POST" else None)
        refused = None
        if report.handled_at is not None:
            refused = losses.handled_before(report)
        elif request.method == "POST" and form.is_valid():
            refused = losses.deal_with(report, request.user, note=form.cleaned_data["note"])
            if refused is None:
                says = _("The lost transactions of %(name)s are dealt with.") % {"name": report.hostname}
                messages.info(request, says)
                return dialogs.done(request, self._back(report))
        return dialogs.show(
            request, self, "nodes/confirm.html", title=_("Are these lost transactions dealt with?"), back=self._back(report),
            refused=refused, form=form,
            text=_("Say so when every credential of the checklist has been rotated, or needs not be."),
        )  # fmt: skip

    @staticmethod
    def _back(report: LossReport) -> str:
        return reverse("admin:nodes_lossreport_detail", args=[report.pk])
