"""Start, Stop and Run Now of a service: each asks first, and says what it means for the vaults."""

from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from nodes.admin import dialogs
from nodes.models import AppService
from nodes.models.service import HOUSEKEEPING_NAME
from replication.stores import wishes

from .popup import ServicePopups


@dataclass(frozen=True)
class Meaning:
    start: Any
    stop: Any
    run: Any


VITAL = Meaning(
    start=gettext_lazy("It begins to watch the vaults and fails over by itself."),
    stop=gettext_lazy(
        "Nothing fails over while it is stopped. The vault stays writable, without waiting for a fallback."
    ),
    run=gettext_lazy("One full pass over all vaults, at once."),
)
MEANING = {
    HOUSEKEEPING_NAME: Meaning(
        start=gettext_lazy("It throws away what is older than it is to be kept."),
        stop=gettext_lazy(
            "What is old stays while it is stopped, and the console's database grows. The vaults do not depend on it."
        ),
        run=gettext_lazy("What is older than it is to be kept is thrown away now."),
    )
}


class ServiceWishes(ServicePopups):
    def service_urls(self) -> list[URLPattern]:
        views = (("start", self.start), ("stop", self.stop), ("run", self.run))
        return [*super().service_urls(), *(self._address(name, view, name) for name, view in views)]

    def start(self, request: HttpRequest, pk: int) -> HttpResponse:
        return self._switch(request, pk, start=True)

    def stop(self, request: HttpRequest, pk: int) -> HttpResponse:
        return self._switch(request, pk, start=False)

    def _switch(self, request: HttpRequest, pk: int, *, start: bool) -> HttpResponse:
        self._need(request, "start_stop")
        service = self._service(pk)
        if request.method != "POST":
            question = _("Start %(name)s?") if start else _("Stop %(name)s?")
            means = _meaning(service)
            return self._ask(request, question % {"name": service.name}, means.start if start else means.stop)
        (wishes.start_service if start else wishes.stop_service)(service, request.user)
        text = _("%(name)s is asked to start.") if start else _("%(name)s is asked to stop.")
        messages.info(request, text % {"name": service.name})
        return dialogs.done(request, self._back())

    def run(self, request: HttpRequest, pk: int) -> HttpResponse:
        self._need(request, "run")
        service = self._service(pk)
        if request.method != "POST":
            return self._ask(request, _("Run %(name)s now?") % {"name": service.name}, _meaning(service).run)
        refused = wishes.run_service_now(service, request.user)
        if refused is not None:
            messages.error(request, refused.says)
        else:
            messages.info(request, _("%(name)s runs once more now.") % {"name": service.name})
        return dialogs.done(request, self._back())

    def _ask(self, request: HttpRequest, title: str, text: Any) -> HttpResponse:
        return dialogs.show(request, self, "nodes/confirm.html", title=title, back=self._back(), text=text)


def _meaning(service: AppService) -> Meaning:
    return MEANING.get(service.name, VITAL)
