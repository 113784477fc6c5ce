"""System → System Status → App Services."""

from django.contrib import admin
from django.http import HttpRequest
from django.urls import URLPattern, path

from nodes.admin.live import FixedRows, Snapshot
from nodes.admin.watch import lease_annotations_of_row
from nodes.models import AppService, ServiceWorker

from .log import PERMISSION, ServiceLogScreen
from .rows import rows_of
from .setting import SettingPopup
from .wishes import ServiceWishes


@admin.register(AppService)
class AppServiceAdmin(FixedRows, ServiceWishes, SettingPopup, ServiceLogScreen):
    screen_template = "nodes/services.html"
    live_template = "nodes/services_live.html"

    def get_urls(self) -> list[URLPattern]:
        screen = path("", self.admin_site.admin_view(self.changelist_view), name="nodes_appservice_changelist")
        return [screen, *self.service_urls()]

    def snapshot(self, request: HttpRequest) -> Snapshot:
        rows = rows_of(AppService.objects.annotate(**lease_annotations_of_row()), ServiceWorker.objects.all())
        ages: dict[str, float | None] = {}
        for row in rows:
            ages |= row.ages
        may = {name: request.user.has_perm(f"nodes.{name}_appservice") for name in ("start_stop", "run", "change")}
        may["log"] = request.user.has_perm(PERMISSION)
        return Snapshot(tuple(row.facts for row in rows), ages, {"rows": rows, "may": may})
