from dataclasses import dataclass
from typing import Any

from django.contrib.admin import AdminSite
from django.contrib.auth import get_user_model
from django.db.models import Q
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.translation import gettext_lazy as _

from nodes.roles import ADMINISTRATOR, ROLES

from .login import LoginForm


@dataclass(frozen=True)
class Item:
    label: str
    url: str
    current: bool


MENU = (
    (
        _("System"),
        (
            (_("System Status"), ((_("App Services"), "nodes.appservice"),)),
            (
                _("High Availability"),
                (
                    (_("Vault"), "nodes.vaultnode"),
                    (_("Application"), "nodes.applicationnode"),
                    (_("Backups"), "nodes.backup"),
                    (_("Operations"), "nodes.operation"),
                    (_("Events"), "nodes.event"),
                    (_("Lost transactions"), "nodes.lossreport"),
                ),
            ),
        ),
    ),
    (
        _("Administration"),
        (
            (_("Access"), ((_("Users"), "auth.user"), (_("Groups"), "auth.group"))),
            (
                _("Records"),
                ((_("Audit log"), "auditlog.logentry"), (_("Work queues"), "django_rq.dashboard", "django_rq.admin")),
            ),
        ),
    ),
)
"""(label, model) for who may view it; a third value names the permission where it is another one."""


class ConsoleSite(AdminSite):
    login_form = LoginForm
    site_header = _("Vault High Availability")
    site_title = _("Vault HA")
    index_title = _("Overview")
    site_url = None
    enable_nav_sidebar = True

    def each_context(self, request: HttpRequest) -> dict[str, Any]:
        return {**super().each_context(request), "menu": self._menu(request)}

    def get_urls(self) -> list[Any]:
        """Without "view on site": nothing of ours has a public page, and it tells anybody on the staff which rows exist."""
        return [entry for entry in super().get_urls() if getattr(entry, "name", "") != "view_on_site"]

    def index(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        """There is no overview: the Vault screen is it, else the first that this user may see, else a page that says none."""
        if request.user.has_perm("nodes.view_vaultnode"):
            return HttpResponseRedirect(reverse("admin:nodes_vaultnode_changelist"))
        context = self.each_context(request)
        first = [items[0].url for _section, groups in context["menu"] for _group, items in groups]
        if first:
            return HttpResponseRedirect(first[0])
        may_give = Q(groups__name=ADMINISTRATOR) | Q(is_superuser=True)
        users = get_user_model().objects.filter(may_give, is_active=True, is_staff=True).order_by("username")
        administrators = users.values_list("username", flat=True).distinct()[:5]
        context.update(title=_("Nothing to see yet"), administrators=list(administrators), roles=ROLES)
        return TemplateResponse(request, "nodes/no_role.html", context)

    def login(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        """A poll or popup whose session has ended reloads the whole page: its answer would be shown inside the list."""
        if getattr(request, "htmx", False):
            return HttpResponse(headers={"HX-Refresh": "true"})
        return super().login(request, extra_context)

    @staticmethod
    def _menu(request: HttpRequest) -> list[tuple[Any, list[tuple[Any, list[Item]]]]]:
        """The left menu with what this user may see; empty groups are left out."""
        menu = []
        for section, groups in MENU:
            shown = []
            for group, items in groups:
                links = []
                for label, model, *permission in items:
                    app, _dot, name = model.partition(".")
                    if request.user.has_perm(*permission or (f"{app}.view_{name}",)):
                        url = reverse(f"admin:{app}_{name}_changelist")
                        links.append(Item(str(label), url, request.path.startswith(url)))
                if links:
                    shown.append((group, links))
            if shown:
                menu.append((section, shown))
        return menu
