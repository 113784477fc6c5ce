"""What holds the Master back when it must not write, in an operator's words, and what holds a failover back."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from nodes.admin.watch import Watch
from nodes.choices import FENCES
from nodes.models import Vault, VaultNode
from replication.stores.inventory import hold_left


@dataclass(frozen=True)
class Fence:
    name: str
    armed: bool
    label: str
    text: str
    """What it does when it is armed, else what its absence means and needs."""


@dataclass(frozen=True)
class Fences:
    hostname: str
    all: tuple[Fence, ...]

    @property
    def armed(self) -> list[Fence]:
        return [fence for fence in self.all if fence.armed]

    @property
    def missing(self) -> list[Fence]:
        return [fence for fence in self.all if not fence.armed]

    @property
    def facts(self) -> tuple[Any, ...]:
        return (self.hostname, tuple(fence.name for fence in self.armed))


def fences_of(vault: Vault, nodes: list[VaultNode], watch: Watch) -> Fences | None:
    """Of the current Master, as its agent says; None when that is not known now."""
    primary = next((node for node in nodes if node.pk == vault.primary_id), None)
    armed = (primary.report or {}).get("fences") if primary is not None and watch.trusted else None
    if primary is None or not isinstance(armed, list):
        return None
    return Fences(
        primary.hostname,
        tuple(
            Fence(name, name in armed, str(words.label), str(words.armed if name in armed else words.missing))
            for name, words in FENCES.items()
        ),
    )


@dataclass(frozen=True)
class Hold:
    until: datetime | None
    """When it ends if the vault stays lossless; None while it is not lossless, for then its clock has not begun."""
    seconds: int
    """How long the vault must have been lossless."""


def hold_of(vault: Vault, now: datetime) -> Hold | None:
    """Why the next failover on silence would be held back; None when it would not be. now: by the database's clock."""
    if not hold_left(vault, now):
        return None
    hold = timedelta(seconds=vault.silence_hold_seconds)
    return Hold(vault.lossless_since + hold if vault.lossless_since else None, vault.silence_hold_seconds)
