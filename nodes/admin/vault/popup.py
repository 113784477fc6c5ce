"""What every popup of the Vault screen shares."""

from collections.abc import Callable

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import URLPattern, path, reverse

from nodes.models import Vault, VaultNode
from replication.stores import wishes


class VaultPopups(admin.ModelAdmin):
    """Each part of the screen brings its popups and their addresses: see `popup_urls`."""

    def popup_urls(self) -> list[URLPattern]:
        """Fixed addresses before those with a node's id in them, which would match them too."""
        return []

    def _popup(self, address: str, view: Callable[..., HttpResponse], name: str) -> URLPattern:
        return path(address, self.admin_site.admin_view(view), name=f"nodes_vaultnode_{name}")

    def _back(self) -> str:
        return reverse("admin:nodes_vaultnode_changelist")

    def _need(self, request: HttpRequest, permission: str, model: str = "vaultnode") -> None:
        if not request.user.has_perm(f"nodes.{permission}_{model}"):
            raise PermissionDenied(f"nodes.{permission}_{model}")

    def _vault(self) -> Vault:
        vault = wishes.default_vault()
        if vault is None:
            raise Http404("there is no vault: run manage.py migrate")
        return vault

    def _node(self, pk: str) -> VaultNode:
        return get_object_or_404(VaultNode.objects.present().select_related("vault", "vault__primary"), pk=pk)
