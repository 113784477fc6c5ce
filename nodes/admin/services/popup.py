"""What every address below a service shares."""

from collections.abc import Callable

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import get_object_or_404
from django.urls import URLPattern, path, reverse

from nodes.models import AppService


class ServicePopups(admin.ModelAdmin):
    def service_urls(self) -> list[URLPattern]:
        return []

    def _address(self, route: str, view: Callable[..., HttpResponseBase], name: str) -> URLPattern:
        return path(f"<int:pk>/{route}/", self.admin_site.admin_view(view), name=f"nodes_appservice_{name}")

    def _back(self) -> str:
        return reverse("admin:nodes_appservice_changelist")

    def _service(self, pk: int) -> AppService:
        return get_object_or_404(AppService.objects.select_related("changed_by"), pk=pk)

    def _need(self, request: HttpRequest, permission: str) -> None:
        if not request.user.has_perm(f"nodes.{permission}_appservice"):
            raise PermissionDenied(f"nodes.{permission}_appservice")
