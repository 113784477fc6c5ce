"""The published row of a vault: compare-and-set under the leader's lease, in one statement."""

import contextlib
from typing import Any

from django.db import Error
from django.db.models import Exists, QuerySet
from django.db.models.functions import Now

from nodes.models import ServiceLease, Vault
from replication.core.errors import ClaimLost
from replication.core.view import Intent, Topology

from .highwater import HighWater
from .leases import RenewingLease
from .threads import DatabaseThread


def topology_of(vault: Vault) -> Topology:
    """The row as the core sees it."""
    return Topology(
        vault=vault.pk,
        epoch=vault.epoch,
        owner=vault.owner,
        primary=vault.primary_id or "",
        may_ack=frozenset(vault.may_ack),
        promotable=vault.promotable_id or "",
        intent=Intent.from_json(vault.intent),
    )


def _columns(changes: dict[str, Any]) -> dict[str, Any]:
    columns = dict(changes)
    for name in ("primary", "promotable"):
        if name in columns:
            columns[f"{name}_id"] = columns.pop(name) or None
    if "may_ack" in columns:
        columns["may_ack"] = sorted(columns["may_ack"])
    if "promotable_id" in columns:
        columns["lossless_since"] = Now() if columns["promotable_id"] else None
    if columns.get("intent") is not None:
        columns["intent"] = columns["intent"].to_json()
    return columns


def led(lease: RenewingLease) -> "QuerySet[ServiceLease]":
    """The lease's row while this leadership holds it, by the database's clock."""
    return ServiceLease.objects.filter(
        name=lease.lease_name, holder=lease.holder.id, term=lease.term, expires_at__gt=Now()
    )


def remember_epochs(marks: HighWater) -> None:
    """What a standby does: it must know of the epochs that the leader takes before a restored database hides them."""
    for vault, epoch in Vault.objects.values_list("pk", "epoch"):
        with contextlib.suppress(OSError):  # a claim says it, and is not made
            marks.reach(vault, epoch)


class TopologyStore:
    """Adapter of core.ports.Topologies. Claims have a thread of their own."""

    def __init__(self, lease: RenewingLease, marks: HighWater) -> None:
        self._lease, self._marks = lease, marks
        self._thread = DatabaseThread("claims")

    @property
    def term(self) -> int:
        return self._lease.term

    async def lead_above(self, term: int) -> None:
        def change() -> int:
            return led(self._lease).update(term=term + 1)

        try:
            raised = await self._thread.run(change)
        except Error as error:
            raise ClaimLost(f"the metadata database did not take a higher term: {error}") from error
        if not raised:
            raise ClaimLost("this process no longer leads")
        self._lease.term = term + 1

    def high_water(self, vault: str) -> int:
        return self._marks.of(vault)

    async def claim(self, known: Topology, *, at_least: int, **changes: Any) -> Topology:
        epoch = max(known.epoch, at_least) + 1
        return await self._change(
            known, {"epoch": known.epoch}, {**changes, "epoch": epoch, "owner": self._lease.owner}
        )

    async def amend(self, known: Topology, **changes: Any) -> Topology:
        return await self._change(known, {"epoch": known.epoch, "owner": self._lease.owner}, changes)

    async def _change(self, known: Topology, where: dict[str, Any], changes: dict[str, Any]) -> Topology:
        def change() -> Topology | None:
            rows = Vault.objects.filter(Exists(led(self._lease)), pk=known.vault, **where)
            if not rows.update(**_columns(changes)):
                return None
            row = topology_of(Vault.objects.get(pk=known.vault))
            self._marks.reach(row.vault, row.epoch)
            return row

        try:
            row = await self._thread.run(change)
        except OSError as error:
            says = f"the high-water mark of epochs cannot be written: {error}; make room, or mend the disk of this host"
            raise ClaimLost(says) from error
        except Error as error:
            raise ClaimLost(f"the metadata database did not take the change: {error}") from error
        if row is None:
            raise ClaimLost(f"epoch {known.epoch} was no longer the current one, or this process no longer leads")
        if row.epoch != changes.get("epoch", known.epoch) or row.owner != self._lease.owner:
            raise ClaimLost("the row was changed again at once by another leader")
        return row

    def close(self) -> None:
        self._thread.close()
