"""System → System Status → App Services."""

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import URLPattern, path, reverse
from django.utils.translation import gettext as _

from nodes.forms import ServiceSettingForm
from nodes.models import AppService
from replication.stores import wishes

from . import dialogs
from .live import FixedRows, Snapshot
from .watch import Watch, lease_annotations_of_row


@admin.register(AppService)
class AppServiceAdmin(FixedRows):
    screen_template = "nodes/services.html"
    live_template = "nodes/services_live.html"

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        own = [
            path(f"<int:pk>/{name}/", wrap(view), name=f"nodes_appservice_{name}")
            for name, view in (("start", self.start), ("stop", self.stop), ("run", self.run), ("setting", self.setting))
        ]
        return [*own, path("", wrap(self.changelist_view), name="nodes_appservice_changelist")]

    def snapshot(self, request: HttpRequest) -> Snapshot:
        rows = AppService.objects.annotate(**lease_annotations_of_row()).select_related("changed_by").order_by("name")
        shown = [(service, Watch.of(service)) for service in rows]
        facts = tuple(
            (s.pk, s.description, s.trigger_interval, s.changed_at, w.facts, bool(w.last_completed_on))
            for s, w in shown
        )
        ages: dict[str, float | None] = {}
        for service, watch in shown:
            ages[f"lease:{service.pk}"] = watch.lease_age
            done = service.lease_last_pass_at or service.last_completed_on
            ages[f"pass:{service.pk}"] = (watch.now - done).total_seconds() if done else None
        may = {name: request.user.has_perm(f"nodes.{name}_appservice") for name in ("start_stop", "run", "change")}
        return Snapshot(facts, ages, {"services": shown, "may": may})

    def _back(self) -> str:
        return reverse("admin:nodes_appservice_changelist")

    def _wish(self, request: HttpRequest, permission: str) -> None:
        if not request.user.has_perm(f"nodes.{permission}_appservice"):
            raise PermissionDenied

    def start(self, request: HttpRequest, pk: int) -> HttpResponse:
        return self._switch(request, pk, start=True)

    def stop(self, request: HttpRequest, pk: int) -> HttpResponse:
        return self._switch(request, pk, start=False)

    def _switch(self, request: HttpRequest, pk: int, *, start: bool) -> HttpResponse:
        self._wish(request, "start_stop")
        service = get_object_or_404(AppService, pk=pk)
        if request.method != "POST":
            text = (
                _("It begins to watch the vaults and fails over by itself.")
                if start
                else _(
                    "Nothing fails over while it is stopped. The vault stays writable, without waiting for a fallback."
                )
            )
            question = _("Start %(name)s?") if start else _("Stop %(name)s?")
            return dialogs.show(
                request,
                self,
                "nodes/confirm.html",
                title=question % {"name": service.name},
                back=self._back(),
                text=text,
            )
        (wishes.start_service if start else wishes.stop_service)(service, request.user)
        text = _("%(name)s is asked to start.") if start else _("%(name)s is asked to stop.")
        messages.info(request, text % {"name": service.name})
        return dialogs.done(request, self._back())

    def run(self, request: HttpRequest, pk: int) -> HttpResponse:
        self._wish(request, "run")
        service = get_object_or_404(AppService, pk=pk)
        if request.method != "POST":
            title = _("Run %(name)s now?") % {"name": service.name}
            text = _("One full pass over all vaults, at once.")
            return dialogs.show(request, self, "nodes/confirm.html", title=title, back=self._back(), text=text)
        refused = wishes.run_service_now(service, request.user)
        if refused is not None:
            messages.error(request, refused.says)
        else:
            messages.info(request, _("%(name)s runs once more now.") % {"name": service.name})
        return dialogs.done(request, self._back())

    def setting(self, request: HttpRequest, pk: int) -> HttpResponse:
        self._wish(request, "change")
        service = get_object_or_404(AppService.objects.select_related("changed_by"), pk=pk)
        initial = {"trigger_interval": service.trigger_interval}
        form = ServiceSettingForm(request.POST if request.method == "POST" else None, initial=initial)
        if request.method == "POST" and form.is_valid():
            wishes.set_interval(service, form.cleaned_data["trigger_interval"], request.user)
            messages.success(request, _("The trigger interval was changed."))
            return dialogs.done(request, self._back())
        return dialogs.show(
            request, self, "nodes/setting.html", title=_("Setting"), back=self._back(), form=form, service=service,
            default_interval=AppService._meta.get_field("trigger_interval").default,
        )  # fmt: skip
