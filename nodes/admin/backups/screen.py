"""System → High Availability → Backups: which there are, how old, how good; make one, check one, remove one, have one back."""

from collections.abc import Callable

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Max
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.translation import gettext as _

from nodes.admin import dialogs
from nodes.admin.live import LiveScreen, Record, Snapshot
from nodes.admin.operations.shown import operation_shown
from nodes.admin.queues import enqueue
from nodes.choices import OperationKind
from nodes.forms import BackUpForm, LeaveForm
from nodes.models import Backup, Operation, Vault
from nodes.models.operation import OPEN_STATES
from replication.stores import backups, data_wishes
from replication.stores.wishes import RefusedWish, default_vault

from .shown import backup_shown, commands

SHOWN = 200
"""Rows of the list. Retention keeps fewer; what is removed by hand only may be more."""


@admin.register(Backup)
class BackupAdmin(Record, LiveScreen):
    screen_template = "nodes/backups.html"
    live_template = "nodes/backups_live.html"

    def get_urls(self) -> list[URLPattern]:
        def at(address: str, view: Callable[..., HttpResponse], name: str) -> URLPattern:
            return path(address, self.admin_site.admin_view(view), name=f"nodes_backup_{name}")

        return [
            at("", self.changelist_view, "changelist"),
            at("make/", self.make, "make"),
            at("look/", self.look, "look"),
            at("<str:pk>/", self.detail, "detail"),
            at("<str:pk>/check/", self.check_file, "check"),
            at("<str:pk>/remove/", self.remove, "remove"),
        ]

    # --- the list

    def snapshot(self, request: HttpRequest) -> Snapshot:
        now, vault = timezone.now(), _vault()
        rows = list(Backup.objects.filter(vault=vault).order_by("-taken_at")[:SHOWN])
        work = Operation.objects.filter(vault=vault, kind=OperationKind.BACKUP)
        running = list(work.filter(state__in=OPEN_STATES).select_related("node", "vault"))
        last = work.aggregate(at=Max("changed_at"))["at"]
        late = backups.overdue(vault, now)
        may = request.user.has_perm("nodes.backup_vault")
        facts = (
            tuple((b.pk, b.fault, b.checked_at, b.path, b.size) for b in rows), last, late is not None, may,
            vault.backup_every_hours, vault.backups_kept, len(running),
        )  # fmt: skip
        ages: dict[str, float | None] = {f"b:{b.pk}": (now - b.taken_at).total_seconds() for b in rows}
        good = next((b for b in rows if not b.fault), None)
        ages["good"] = (now - good.taken_at).total_seconds() if good is not None else None
        context = {
            "vault": vault, "rows": [backup_shown(b) for b in rows], "late": late, "may": may, "good": good,
            "running": [operation_shown(o, now) for o in running],
        }  # fmt: skip
        return Snapshot(facts, ages, context)

    # --- one of them

    def detail(self, request: HttpRequest, pk: str) -> HttpResponse:
        """What is known of it, and how to have it back."""
        self.need_view(request)
        backup = get_object_or_404(Backup.objects.select_related("node", "vault"), pk=pk)
        context = {
            **self.admin_site.each_context(request), "opts": self.opts, "title": _("Backup of %(name)s") % {"name": backup.hostname},
            "shown": backup_shown(backup), "backup": backup, "commands": commands(backup),
            "may": request.user.has_perm("nodes.backup_vault"),
        }  # fmt: skip
        return TemplateResponse(request, "nodes/backup.html", context)

    # --- wishes

    def make(self, request: HttpRequest) -> HttpResponse:
        self._need(request)
        vault, form = _vault(), BackUpForm(request.POST if request.method == "POST" else None)
        kind = OperationKind.BACKUP.value
        refused = data_wishes.why_not(kind, vault, None, data_wishes.around(vault))
        if request.method == "POST" and refused is None and form.is_valid():
            arguments = {"allow_primary": form.cleaned_data["allow_primary"]}
            answer = data_wishes.request(
                kind, vault, request.user, reason=form.cleaned_data["reason"], arguments=arguments, enqueue=enqueue
            )
            if not isinstance(answer, RefusedWish):
                messages.info(request, _("The backup has been started."))
                return dialogs.done(request, self._back())
            refused = answer
        text = _(
            "A fallback that follows writes its data to a file on its own host, compressed, at the rate of the vault's setting."
            " Afterwards the newest %(kept)d stay there, and older ones are removed."
        )
        return dialogs.show(
            request, self, "nodes/confirm.html", title=_("Back up now?"), back=self._back(),
            text=text % {"kept": vault.backups_kept}, refused=refused, form=form,
        )  # fmt: skip

    def look(self, request: HttpRequest) -> HttpResponse:
        """Ask every host which files are there."""
        self._need(request)
        vault = _vault()
        refused = backups.why_not(vault, None)
        if request.method == "POST" and refused is None:
            answer = backups.request(backups.LOOK, vault, None, request.user, enqueue)
            if not isinstance(answer, RefusedWish):
                messages.info(request, _("Every host is asked which backups it has."))
                return dialogs.done(request, self._back())
            refused = answer
        text = _("Every host is asked which backups it has. One whose file is gone is shown as gone.")
        return self._confirm(request, _("Look again?"), text, refused)

    def check_file(self, request: HttpRequest, pk: str) -> HttpResponse:
        self._need(request)
        backup = self._backup(pk)
        refused = backups.why_not(backup.vault, backup)
        if request.method == "POST" and refused is None:
            answer = backups.request(backups.CHECK, backup.vault, backup, request.user, enqueue)
            if not isinstance(answer, RefusedWish):
                messages.info(request, _("The backup is being read through."))
                return dialogs.done(request, self._back())
            refused = answer
        text = _("Its host reads the file through and compares the checksum with that of when it was written.")
        return self._confirm(request, _("Check this backup?"), text, refused)

    def remove(self, request: HttpRequest, pk: str) -> HttpResponse:
        """With the hostname typed: what is removed is gone for good."""
        self._need(request)
        backup = self._backup(pk)
        refused = backups.why_not(backup.vault, backup)
        form = LeaveForm(request.POST if request.method == "POST" else None, hostname=backup.hostname)
        if request.method == "POST" and refused is None and form.is_valid():
            said = form.cleaned_data
            answer = backups.request(
                backups.REMOVE,
                backup.vault,
                backup,
                request.user,
                enqueue,
                typed=said["confirm"],
                reason=said["reason"],
            )
            if not isinstance(answer, RefusedWish):
                messages.info(request, _("The backup is being removed."))
                return dialogs.done(request, self._back())
            if answer.field in form.fields:
                form.add_error(answer.field, answer.says)
            else:
                refused = answer
        text = _("The file is removed from %(name)s for good.") % {"name": backup.hostname}
        last = backups.last_good_backup(backup.vault)
        if last is not None and last.pk == backup.pk:
            others = Backup.objects.filter(vault=backup.vault, fault="").exclude(pk=backup.pk).exists()
            text += " " + (
                _("It is the newest good one.") if others else _("It is the only good one: none is left then.")
            )
        return dialogs.show(
            request, self, "nodes/confirm.html", title=_("Remove this backup?"), back=self._back(), text=text,
            refused=refused, form=form, dangerous=True,
        )  # fmt: skip

    def _confirm(self, request: HttpRequest, title: str, text: str, refused: RefusedWish | None) -> HttpResponse:
        return dialogs.show(
            request, self, "nodes/confirm.html", title=title, back=self._back(), text=text, refused=refused
        )

    def _need(self, request: HttpRequest) -> None:
        if not request.user.has_perm("nodes.backup_vault"):
            raise PermissionDenied("nodes.backup_vault")

    @staticmethod
    def _backup(pk: str) -> Backup:
        return get_object_or_404(Backup.objects.select_related("node", "vault"), pk=pk)

    @staticmethod
    def _back() -> str:
        return reverse("admin:nodes_backup_changelist")


def _vault() -> Vault:
    vault = default_vault()
    if vault is None:
        raise Http404("there is no vault: run manage.py migrate")
    return vault
