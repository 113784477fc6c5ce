"""What every popup of the Vault screen shares."""

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest
from django.shortcuts import get_object_or_404
from django.urls import reverse

from nodes.models import VaultNode


class VaultPopups(admin.ModelAdmin):
    def _back(self) -> str:
        return reverse("admin:nodes_vaultnode_changelist")

    def _need(self, request: HttpRequest, permission: str) -> None:
        if not request.user.has_perm(f"nodes.{permission}_vaultnode"):
            raise PermissionDenied

    def _node(self, pk: str) -> VaultNode:
        return get_object_or_404(VaultNode.objects.present().select_related("vault", "vault__primary"), pk=pk)
