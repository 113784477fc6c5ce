"""A primary's lease: how long it may stay open without hearing of a controller, as pure functions over a frozen value.

The second line of defence (docs/design/fences.md). A moment is seconds on the host's boot clock, which also runs while the
host sleeps. What the agent does because of `next_step` is in lease_keeper.py.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final

from replication.core import limits
from replication.core.roles import OrderKind
from replication.core.vault_ports import AgentState

CHALLENGES_MAX: Final = 1024
"""So many are answered; beyond that the oldest do not count, which shortens a lease and never makes it longer."""
ASK_AGAIN: Final = 0.25
"""Seconds from one round of asking to the next while not everybody grants."""

_LEASE: Final = limits.PRIMARY_LEASE.total_seconds()
_MARGIN: Final = limits.PRIMARY_LEASE_MARGIN.total_seconds()
_GRANT: Final = limits.GRANT.total_seconds()
_GRACE: Final = limits.RESTART_GRACE.total_seconds()


class Closed(StrEnum):
    """How the fence closed the primary."""

    NO = ""
    READ_ONLY = "read-only"
    DOWN = "down"


class Step(StrEnum):
    """What is to be done now."""

    REST = "rest"
    ASK = "ask"
    CLOSE = "close"
    REOPEN = "reopen"


@dataclass(frozen=True, kw_only=True)
class Lease:
    """It belongs to one order to be primary."""

    kind: OrderKind = OrderKind.NONE
    epoch: int = 0
    until: float | None = None
    """None: not armed; no controller has given back a challenge since the order. Such a primary is never closed."""
    refused: float | None = None
    """Beginning of the last round of asking in which not everybody granted; None after a renewal."""
    closed: Closed = Closed.NO
    renewed_since: float | None = None
    """Since when it has been renewed without a break."""

    @property
    def binds(self) -> bool:
        """Beside a solo primary nobody can be promoted: closing it would protect nothing."""
        return self.kind is OrderKind.LOSSLESS and self.until is not None

    def over(self, now: float) -> bool:
        return self.binds and self.until is not None and now >= self.until

    def left(self, now: float) -> float | None:
        return None if self.until is None else round(self.until - now, 3)

    def may_be_open(self, now: float) -> bool:
        """Whether the agent may open the database by itself, by the order that it remembers."""
        return self.closed is Closed.NO and not self.over(now)


def ordered(lease: Lease, state: AgentState, now: float) -> Lease:
    """The lease under the order that stands now. A controller that gives a new order to a primary without a running lease has
    taken it up again: it counts anew from that controller's first challenge."""
    kind, epoch = state.order_kind, state.order_epoch
    if kind is OrderKind.NONE:
        return Lease()
    if (lease.kind, lease.epoch) == (kind, epoch):
        return lease
    runs = lease.kind is not OrderKind.NONE and lease.closed is Closed.NO and lease.until is not None
    until = lease.until if runs and lease.until is not None and lease.until > now else None
    return replace(lease, kind=kind, epoch=epoch, until=until, refused=None)


def renewed(lease: Lease, issued: float, now: float) -> Lease:
    """A controller gave back a challenge issued then. Counted from that moment, never from receipt: a hello that was under way
    for a while, in the network or before a stopped agent, must not renew a lease that its sender believes to be over."""
    until = issued + _LEASE
    if lease.kind is OrderKind.NONE or until <= now or (lease.until is not None and until <= lease.until):
        return lease
    unbroken = lease.until is not None and lease.until > now
    return replace(lease, until=until, refused=None, renewed_since=lease.renewed_since if unbroken else now)


def granted(lease: Lease, asked_for: Lease, asked: float) -> Lease:
    """All other nodes have said, after `asked`, that they know of no later primary."""
    same = (lease.kind, lease.epoch) == (asked_for.kind, asked_for.epoch)
    if not same or lease.until is None or lease.closed is not Closed.NO:
        return lease
    return replace(lease, until=max(lease.until, asked + _GRANT), refused=None)


def refused(lease: Lease, asked: float) -> Lease:
    return replace(lease, refused=asked)


def closed(lease: Lease, closed_for: Lease, how: Closed, now: float) -> Lease:
    """The fence has closed it, because of the lease `closed_for`; a new order may have come in the meantime."""
    if lease.kind is OrderKind.NONE:
        return lease
    same = (lease.kind, lease.epoch) == (closed_for.kind, closed_for.epoch)
    return replace(lease, closed=how, until=lease.until if same else None, renewed_since=now)


def opened(lease: Lease) -> Lease:
    return replace(lease, closed=Closed.NO)


def kept(lease: Lease, *, same_boot: bool) -> Lease:
    """The lease that an earlier agent wrote down: the old deadline, never a fresh one. The boot clock of an earlier boot says
    nothing, but time has passed, and the database is down."""
    if same_boot:
        return replace(lease, refused=None)
    if not lease.binds:
        return Lease(kind=lease.kind, epoch=lease.epoch)
    return replace(lease, until=0.0, refused=None, closed=Closed.DOWN, renewed_since=None)


def unreadable(state: AgentState) -> Lease:
    """What an earlier agent wrote down cannot be read: over, as far as anybody knows."""
    return Lease(kind=state.order_kind, epoch=state.order_epoch, until=0.0)


def next_step(lease: Lease, now: float) -> Step:
    """What a primary has to do now. First match."""
    if lease.closed is not Closed.NO:
        return Step.REOPEN if _may_reopen(lease, now) else Step.REST
    if not lease.binds or lease.until is None or now < lease.until - _MARGIN:
        return Step.REST
    if lease.refused is not None and lease.refused >= lease.until - _MARGIN:
        if now >= lease.until:
            return Step.CLOSE
        if now < lease.refused + ASK_AGAIN:
            return Step.REST
    return Step.ASK


def _may_reopen(lease: Lease, now: float) -> bool:
    if lease.until is None:
        return True  # an order has come since it closed
    if now >= lease.until or lease.renewed_since is None:
        return False
    # Restarted at once it would keep a tail that nobody acknowledged: its controller may be about to let it follow.
    return lease.closed is Closed.READ_ONLY or now >= lease.renewed_since + _GRACE


class Challenges:
    """Nonces that went out with answers to hellos. Not safe to use from several threads."""

    def __init__(self, fresh: Callable[[], str]) -> None:
        """fresh: a text that nobody can guess."""
        self._fresh = fresh
        self._issued: dict[str, float] = {}

    def issue(self, now: float) -> str:
        for nonce, moment in list(self._issued.items()):
            if moment + _LEASE > now and len(self._issued) < CHALLENGES_MAX:
                break
            del self._issued[nonce]
        nonce = self._fresh()
        self._issued[nonce] = now
        return nonce

    def issued(self, nonce: str) -> float | None:
        """When; None when it is not one of ours, or too old to renew anything."""
        return self._issued.get(nonce)


# --- grants ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class GrantRequest:
    """A primary that hears no controller asks the other nodes of its vault."""

    vault: str
    node: str
    epoch: int
    """The highest that the asking node has promised."""

    def to_json(self) -> dict[str, Any]:
        return {"vault": self.vault, "node": self.node, "epoch": self.epoch}

    @classmethod
    def from_json(cls, data: Any) -> "GrantRequest":
        """Raises ValueError with what is wrong."""
        if not isinstance(data, Mapping):
            raise ValueError("an object was expected")
        vault, node, epoch = data.get("vault"), data.get("node"), data.get("epoch")
        if not isinstance(vault, str) or not isinstance(node, str) or not vault or not node:
            raise ValueError("vault and node must be texts")
        if not isinstance(epoch, int) or isinstance(epoch, bool):
            raise ValueError("epoch must be a whole number")
        return cls(vault=vault, node=node, epoch=epoch)


def grant_refusal(state: AgentState, request: GrantRequest) -> str:
    """Why this node does not grant, as a sentence; "" when it does. A grant binds this node to nothing: a revocation is
    never held up by one.

    A revocation comes under an epoch of its own, which this node has promised and the asking one has not.
    """
    if state.vault != request.vault:
        return "it belongs to another vault" if state.vault else "it belongs to no vault"
    if state.order_kind is not OrderKind.NONE:
        return "it is ordered to be primary itself"
    if state.epoch > request.epoch:
        return f"it has promised epoch {state.epoch}, which the asking node does not know: there may be a new primary"
    return ""
