"""The inventory as the service sees it: models → core views, and the service's own notes back."""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

from django.db import Error
from django.db.models import DateTimeField, Exists
from django.db.models.functions import Now
from django.utils import timezone

from nodes.choices import DesiredState, OperationKind, OperationState
from nodes.models import AppService, Event, Operation, Vault, VaultNode
from nodes.models.service import SERVICE_NAME
from replication.core import limits
from replication.core.errors import ReplicationError
from replication.core.foresight import RESTS_ON, Foresight
from replication.core.roles import NodeStatus, SystemRole
from replication.core.snapshot import NodeRow, Snapshot, VaultConfig
from replication.core.view import NodeView, RebuildWish, SwitchoverWish

from .cancelling import end_forsaken
from .highwater import HighWater
from .leases import RenewingLease
from .operations import end
from .pausing import paused
from .threads import DatabaseThread
from .topology import led, topology_of

log = logging.getLogger(__name__)
FAILOVERS_EVERY: Final = timedelta(minutes=1)
"""How often the durations of the last failovers are read when no epoch has moved; they only say how long the next one would take."""


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
        rebuild=RebuildWish.from_json(node.rebuild_wish),
        differs=bool(node.drift),
    )


def load_snapshot() -> Snapshot:
    """Four queries, whatever the number of vaults and nodes."""
    service = AppService.objects.filter(name=SERVICE_NAME).first()
    nodes: dict[str, list[NodeView]] = {}
    for node in VaultNode.objects.order_by("ordinal", "created_at").defer("report"):
        nodes.setdefault(node.vault_id, []).append(node_view(node))
    wishes = _switchover_wishes()
    vaults = tuple(
        VaultConfig(
            topology=topology_of(v),
            stay_writable=v.stay_writable,
            nodes=tuple(nodes.get(v.pk, ())),
            silence_hold=hold_left(v, v.database_now),
            paused=paused(v, v.database_now),
            switchover=wishes.get(v.pk),
        )
        for v in Vault.objects.annotate(database_now=Now(output_field=DateTimeField()))
    )
    if service is None:
        return Snapshot(vaults=vaults)
    return Snapshot(
        vaults=vaults,
        running=service.desired_state == DesiredState.STARTED,
        noted_running=service.started_on is not None,
        interval=_interval_of(service),
        run_wanted=service.run_requested_at is not None,
    )


def _interval_of(service: AppService) -> timedelta:
    """Whatever stands in the row: the column also holds the slower services' intervals, and a hello a day watches nobody."""
    wanted = timedelta(seconds=service.trigger_interval)
    return min(max(wanted, limits.HELLO_INTERVAL_MIN), limits.HELLO_INTERVAL_MAX)


def _switchover_wishes() -> dict[str, SwitchoverWish]:
    """Vault id → what an operator asked for a moment ago. An older wish nobody carries out any more: see `expire_wishes`."""
    queued = Operation.objects.filter(kind=OperationKind.SWITCHOVER, state=OperationState.QUEUED, node__isnull=False)
    fresh = queued.filter(created_at__gt=timezone.now() - limits.SWITCHOVER_BEGIN)
    return {
        vault: SwitchoverWish(operation=id, node=node) for id, vault, node in fresh.values_list("pk", "vault", "node")
    }


def expire_wishes() -> None:
    """End switchovers that nobody has begun in time, for instance because no worker runs the service."""
    too_old = timezone.now() - limits.SWITCHOVER_BEGIN
    queued = Operation.objects.filter(kind=OperationKind.SWITCHOVER, state=OperationState.QUEUED)
    for wish in queued.filter(created_at__lte=too_old).values_list("pk", flat=True):
        end(wish, OperationState.FAILED, "it was not begun in time, so nothing was done", {})


def failover_seconds() -> dict[str, tuple[float, ...]]:
    """Vault id → seconds from the decision to the open new primary, of its last failovers that succeeded, the newest first."""
    done = Operation.objects.filter(kind=OperationKind.FAILOVER, state=OperationState.SUCCEEDED)
    found: dict[str, tuple[float, ...]] = {}
    for vault, result in done.order_by("-finished_at").values_list("vault", "result")[:100]:
        steps = result.get("steps_ms") if isinstance(result, dict) else None
        opened = [ms for step, ms in steps.items() if step.startswith("open ")] if isinstance(steps, dict) else []
        if opened and isinstance(opened[-1], int | float) and len(found.get(vault, ())) < RESTS_ON:
            found[vault] = (*found.get(vault, ()), opened[-1] / 1000)
    return found


def hold_left(vault: Vault, now: datetime) -> timedelta:
    """How much longer a failover on silence is held back: until the vault has been lossless for the whole hold.

    A failover that is longer ago than SILENCE_HOLD_FORGET holds nothing back, however often the acker has changed since.
    """
    if vault.silence_failover_at is None or now - vault.silence_failover_at >= limits.SILENCE_HOLD_FORGET:
        return timedelta()
    hold = timedelta(seconds=vault.silence_hold_seconds)
    calm = now - vault.lossless_since if vault.lossless_since is not None else timedelta()
    return max(timedelta(), hold - calm)


def _said(row: NodeRow, now: datetime) -> dict[str, Any]:
    """The report with the time at which it was said: the screen shows how old it is. Not of a node that does not answer: its
    last one is in the row already."""
    if row.report is None or row.status in (NodeStatus.UNREACHABLE, NodeStatus.UNKNOWN):
        return {}
    return {"report": {**row.report, "recorded_at": now.isoformat()}}


class InventoryStore:
    """Adapter of core.ports.Inventory. Reads have their own thread; notes share one with the events.

    What a procedure notes of a node is written under the lease, as its changes of the row are: one that was stopped in the
    middle and wakes up when somebody else leads must not say that a node is no longer locked out.
    """

    def __init__(self, reads: DatabaseThread, notes: DatabaseThread, marks: HighWater, lease: RenewingLease) -> None:
        self._reads, self._notes, self._marks, self._lease = reads, notes, marks, lease
        self._last = Snapshot()
        self._failovers: dict[str, tuple[float, ...]] = {}
        self._look_at_failovers = 0.0
        self._epochs: dict[str, int] = {}

    async def load(self) -> Snapshot:
        """The inventory now; the last one that could be read while the metadata database does not answer."""
        try:
            self._last = await self._reads.run(self._load)
        except (Error, OSError) as error:
            log.warning("the inventory could not be read, going on with what is known: %s", error)
            return replace(self._last, fresh=False)
        return self._last

    def _load(self) -> Snapshot:
        expire_wishes()
        end_forsaken()
        snapshot = load_snapshot()
        for config in snapshot.vaults:
            self._marks.reach(config.topology.vault, config.topology.epoch)
        now, epochs = time.monotonic(), {v.topology.vault: v.topology.epoch for v in snapshot.vaults}
        if now >= self._look_at_failovers or epochs != self._epochs:
            self._look_at_failovers, self._epochs = now + FAILOVERS_EVERY.total_seconds(), epochs
            self._failovers = failover_seconds()
        measured = (replace(v, failovers=self._failovers.get(v.topology.vault, ())) for v in snapshot.vaults)
        return replace(snapshot, vaults=tuple(measured))

    async def note_silence_failover(self, vault: str) -> None:
        def write() -> None:
            now = timezone.now()
            row = Vault.objects.get(pk=vault)
            last = row.silence_failover_at
            again = last is not None and now - last < limits.SILENCE_HOLD_FORGET
            hold = timedelta(seconds=2 * row.silence_hold_seconds) if again else limits.SILENCE_HOLD
            seconds = int(min(max(hold, limits.SILENCE_HOLD), limits.SILENCE_HOLD_MAX).total_seconds())
            Vault.objects.filter(pk=vault).update(silence_failover_at=now, silence_hold_seconds=seconds)

        try:
            await self._notes.run(write)
        except Error as error:
            log.warning("the hold after a failover on silence could not be noted: %s", error)

    async def mark(self, node: str, **fields: Any) -> None:
        def write() -> bool:
            row = VaultNode.objects.filter(Exists(led(self._lease)), pk=node)
            return bool(row.update(**fields, changed_at=timezone.now()))

        await self._note(write)

    async def answer_rebuild(self, node: str, operation: str, wish: RebuildWish | None) -> bool:
        stood = False

        def write() -> bool:
            nonlocal stood
            row = VaultNode.objects.filter(Exists(led(self._lease)), pk=node)
            of_it = row.filter(rebuild_wish__operation=operation)
            answer = wish.to_json() if wish is not None else None
            stood = bool(of_it.update(rebuild_wish=answer, changed_at=timezone.now()))
            return stood or row.exists()

        await self._note(write)
        return stood

    async def forget(self, node: str) -> None:
        def delete() -> bool:
            VaultNode.objects.filter(pk=node, removed_at__isnull=False).delete()
            return True

        await self._note(delete)

    async def _note(self, write: Callable[[], bool]) -> None:
        try:
            written = await self._notes.run(write)
        except Error as error:
            raise ReplicationError(f"the metadata database did not take a note: {error}") from error
        if not written:
            raise ReplicationError("the note was not taken: this process no longer leads, or the node's row is gone")

    async def publish(self, vault: str, reason: str, rows: Mapping[str, NodeRow], if_lost: Foresight) -> None:
        def write() -> None:
            now = timezone.now()
            Vault.objects.filter(pk=vault).update(reason=reason[:500], if_lost=if_lost.to_json())
            for id, row in rows.items():
                VaultNode.objects.filter(pk=id).update(
                    status=row.status,
                    status_detail=row.detail[:500],
                    current_role=row.current_role,
                    not_primary=row.not_primary[:300],
                    changed_at=now,
                    **_said(row, now),
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
