"""The inventory as the service sees it: models → core views, and the service's own notes back."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

from django.db import Error
from django.utils import timezone

from nodes.choices import DesiredState
from nodes.models import AppService, Event, Vault, VaultNode
from nodes.models.service import SERVICE_NAME
from replication.core.errors import ReplicationError
from replication.core.roles import SystemRole
from replication.core.snapshot import NodeRow, Snapshot, VaultConfig
from replication.core.view import NodeView

from .threads import DatabaseThread
from .topology import topology_of

log = logging.getLogger(__name__)


def node_view(node: VaultNode) -> NodeView:
    """The wishes on one row; nothing seen yet."""
    return NodeView(
        id=node.pk,
        hostname=node.hostname,
        ip=node.ip_address,
        port=node.port,
        database_port=node.database_port,
        system_role=SystemRole(node.system_role),
        ordinal=node.ordinal,
        active=node.active,
        removed=node.removed_at is not None,
        detached=node.detached,
        joined=node.joined,
        locked_out=node.locked_out,
        resync_wanted=node.resync_requested_at is not None,
    )


def load_snapshot() -> Snapshot:
    """Three queries, whatever the number of vaults and nodes."""
    service = AppService.objects.filter(name=SERVICE_NAME).first()
    nodes: dict[str, list[NodeView]] = {}
    for node in VaultNode.objects.order_by("ordinal", "created_at").defer("report"):
        nodes.setdefault(node.vault_id, []).append(node_view(node))
    vaults = tuple(
        VaultConfig(topology=topology_of(v), stay_writable=v.stay_writable, nodes=tuple(nodes.get(v.pk, ())))
        for v in Vault.objects.all()
    )
    if service is None:
        return Snapshot(vaults=vaults)
    return Snapshot(
        vaults=vaults,
        running=service.desired_state == DesiredState.STARTED,
        noted_running=service.started_on is not None,
        interval=timedelta(seconds=service.trigger_interval),
        run_wanted=service.run_requested_at is not None,
    )


class InventoryStore:
    """Adapter of core.ports.Inventory. Reads have their own thread; notes share one with the events."""

    def __init__(self, reads: DatabaseThread, notes: DatabaseThread) -> None:
        self._reads, self._notes = reads, notes
        self._last = Snapshot()

    async def load(self) -> Snapshot:
        """The inventory now; the last one that could be read while the metadata database does not answer."""
        try:
            self._last = await self._reads.run(load_snapshot)
        except Error as error:
            log.warning("the inventory could not be read, going on with what is known: %s", error)
            return replace(self._last, fresh=False)
        return self._last

    async def mark(self, node: str, **fields: Any) -> None:
        def write() -> None:
            VaultNode.objects.filter(pk=node).update(**fields, changed_at=timezone.now())

        await self._note(write)

    async def forget(self, node: str) -> None:
        def delete() -> None:
            VaultNode.objects.filter(pk=node, removed_at__isnull=False).delete()

        await self._note(delete)

    async def _note(self, write: Callable[[], None]) -> None:
        try:
            await self._notes.run(write)
        except Error as error:
            raise ReplicationError(f"the metadata database did not take a note: {error}") from error

    async def publish(self, vault: str, reason: str, rows: Mapping[str, NodeRow]) -> None:
        def write() -> None:
            Vault.objects.filter(pk=vault).update(reason=reason[:500])
            for id, row in rows.items():
                VaultNode.objects.filter(pk=id).update(
                    status=row.status,
                    status_detail=row.detail[:500],
                    current_role=row.current_role,
                    changed_at=timezone.now(),
                    **({"report": row.report} if row.report is not None else {}),
                )

        try:
            await self._notes.run(write)
        except Error as error:
            log.warning("the live state could not be written: %s", error)

    async def note_service(self, *, started: bool, pass_done: bool) -> None:
        def write() -> None:
            service = AppService.objects.get(name=SERVICE_NAME)
            changed = []  # only these: an operator may press Run Now at this very moment
            if started != (service.started_on is not None):
                service.started_on = timezone.now() if started else None
                changed.append("started_on")
                Event.objects.create(text=f"{SERVICE_NAME} {'started' if started else 'stopped'}", rule="S10")
            if pass_done:
                service.run_requested_at = None
                service.last_completed_on = timezone.now()
                changed += ["run_requested_at", "last_completed_on"]
            service.save(update_fields=changed)

        try:
            await self._notes.run(write)
        except Error as error:
            log.warning("the state of the service could not be written: %s", error)
