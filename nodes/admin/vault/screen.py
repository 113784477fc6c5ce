"""System → High Availability → Vault."""

from typing import Any

from django.contrib import admin
from django.db.models import OuterRef, Subquery
from django.http import Http404, HttpRequest
from django.urls import URLPattern, path
from django.utils import timezone

from nodes.admin.application.rows import able_annotations
from nodes.admin.application.screen import shared_host_warning
from nodes.admin.live import Snapshot
from nodes.admin.losses.notice import loss_annotations, notice_of
from nodes.admin.operations.shown import on_vault, vault_annotations, vault_facts
from nodes.admin.watch import Watch, lease_annotations
from nodes.models import AppService, Event, Vault, VaultNode
from nodes.models.service import SERVICE_NAME
from replication.stores import backups, data_wishes
from replication.stores.data_wishes import Around
from replication.stores.pausing import pause_of

from .actions import RowActions
from .add import AddNode
from .data_actions import DataActions
from .guards import fences_of, hold_of
from .lag import LagChart
from .menu import facts_of
from .policy import VaultPolicy
from .rows import EVENTS_SHOWN, rows_of
from .safety import safety_of, silence_limit
from .table import rendered
from .topology import picture_of, workers_annotations, workers_of


def _service(field: str) -> Subquery:
    return Subquery(AppService.objects.filter(name=SERVICE_NAME).values(field)[:1])


@admin.register(VaultNode)
class VaultNodeAdmin(AddNode, RowActions, DataActions, VaultPolicy, LagChart):
    screen_template = "nodes/vault.html"
    live_template = "nodes/vault_live.html"

    def get_urls(self) -> list[URLPattern]:
        screen = path("", self.admin_site.admin_view(self.changelist_view), name="nodes_vaultnode_changelist")
        return [screen, *self.lag_urls(), *self.popup_urls()]

    # --- the screen

    def snapshot(self, request: HttpRequest) -> Snapshot:
        now = timezone.now()
        vault = (
            Vault.objects.annotate(
                **lease_annotations(SERVICE_NAME),
                **{
                    f"service_{f}": _service(f)
                    for f in (
                        "desired_state",
                        "started_on",
                        "run_requested_at",
                        "last_completed_on",
                        "trigger_interval",
                    )
                },
                **workers_annotations(SERVICE_NAME),
                last_backup_at=backups.newest_good(OuterRef("pk")),
                last_event=Subquery(Event.objects.order_by("-pk").values("pk")[:1]),
                **vault_annotations(now),
                **able_annotations(now),
                **loss_annotations(),
            )
            .select_related("primary", "promotable")
            .order_by("created_at", "pk")
            .first()
        )
        if vault is None:
            raise Http404("there is no vault: run manage.py migrate")
        watch = Watch.of(vault, prefix="service_")
        nodes = list(VaultNode.objects.present().filter(vault=vault).order_by("ordinal"))
        rows = rows_of(vault, nodes, watch)
        keys = {row.node.pk: row.age_key for row in rows}
        silence, known_until = silence_limit(vault.service_trigger_interval), vault.lease_last_pass_at
        late = backups.overdue_since(vault, vault.last_backup_at, watch.now)
        safety = safety_of(vault, nodes, watch, silence=silence, known_until=known_until, keys=keys, late=late)
        fences, hold = fences_of(vault, nodes, watch), hold_of(vault, watch.now)
        pause = pause_of(vault, watch.now)
        loss = notice_of(vault)
        facts = (
            watch.facts, safety, fences and fences.facts, hold, tuple(row.facts for row in rows), vault.last_event,
            vault_facts(vault, now), pause, loss, vault.workers, vault.workers_since,
            vault.hosts_able, vault.hosts_first, vault.hosts_last,
        )  # fmt: skip
        ages: dict[str, float | None] = {row.age_key: watch.answer_age(row.node.pk) for row in rows}
        ages["lease"] = watch.lease_age
        if vault.promotable_id:
            ages["heard"] = watch.answer_age(f"heard:{vault.promotable_id}")
        may = {
            name: request.user.has_perm(f"nodes.{name}_vaultnode")
            for name in ("add", "change", "delete", "resynchronize", "switchover", "rebuild", "verify")
        }
        own = {"pause": "pause", "policy": "change", "clear_hold": "clear_hold", "backup": "backup"}
        may |= {name: request.user.has_perm(f"nodes.{permission}_vault") for name, permission in own.items()}
        context = {
            "vault": vault, "watch": watch, "rows": rows, "safety": safety, "fences": fences, "hold": hold, "pause": pause, "loss": loss, "may": may
        }  # fmt: skip
        return Snapshot((*facts, tuple(may.items())), ages, context)

    def fill(self, request: HttpRequest, snapshot: Snapshot) -> dict[str, Any]:
        vault = snapshot.context["vault"]
        shown = snapshot.context
        menus = facts_of(
            vault,
            self._back(),
            shown["may"],
            around=Around(watched=shown["watch"].trusted, open=data_wishes.open_operations(vault)),
            paused=shown["pause"] is not None,
        )
        return {
            "picture": picture_of(
                vault, shown["rows"], shown["watch"], workers_of(SERVICE_NAME) if vault.workers else ()
            ),
            # A full answer only: what it depends on is in the stamp.
            "shared": shared_host_warning(vault) if vault.hosts_able else "",
            "table": rendered(shown["rows"], menus, snapshot.ages),
            "operations": on_vault(vault, timezone.now()),
            "events": Event.objects.all()[:EVENTS_SHOWN],
        }
