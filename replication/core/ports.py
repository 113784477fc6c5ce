"""The doors through which procedures reach the world. The product wires real adapters; the simulator wires its own.

Controller side here; the vault side is in replication/core/vault_ports.py.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from enum import StrEnum
from typing import Any, Protocol

from .commands import Answer, Command, Verb
from .foresight import Foresight
from .report import NodeReport
from .roles import Witness
from .snapshot import NodeRow, Snapshot
from .steps import Step
from .view import NodeView, RebuildWish, Topology


class OperationEnd(StrEnum):
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    NEEDS_PERSON = "needs-person"


class Clock(Protocol):
    def monotonic(self) -> float:
        """Seconds; only differences mean anything."""
        ...

    async def sleep(self, duration: timedelta) -> None: ...


class Agents(Protocol):
    """The controller's side of the agent protocol."""

    async def hello(self, node: NodeView, *, since: int, wait: timedelta, echo: str = "", term: int = 0) -> NodeReport:
        """echo: the challenge of an earlier answer, given back; with a term that is not outdated it renews a primary's
        lease. Raises NodeUnreachable."""
        ...

    async def command(self, node: NodeView, verb: Verb, command: Command) -> Answer:
        """Raises NodeUnreachable (outcome unknown when it was silent), StaleEpoch or StepFailed."""
        ...

    async def cancel_task(self, node: NodeView, operation: str) -> bool:
        """Whether this operation's long work ends there, or has ended; False when there is no way back, or it is not there.
        Raises NodeUnreachable."""
        ...


class Topologies(Protocol):
    """The published rows. Every change needs the leader's lease in the same transaction."""

    @property
    def term(self) -> int:
        """Term of this leadership; goes with every command."""
        ...

    async def lead_above(self, term: int) -> None:
        """Make the term of this leadership higher than `term`, which an agent has promised. Raises ClaimLost."""
        ...

    def high_water(self, vault: str) -> int:
        """Highest epoch of this vault that this host has read or written, whatever the database says now (rule 16)."""
        ...

    async def claim(self, known: Topology, *, at_least: int, **changes: Any) -> Topology:
        """Compare-and-set on `known.epoch` to max(known.epoch, at_least) + 1 with this leadership as owner.

        The new epoch is in this host's high-water mark, durably, before this returns. Raises ClaimLost when nothing
        changed, also when the outcome is unknown (rule 1).
        """
        ...

    async def amend(self, known: Topology, **changes: Any) -> Topology:
        """Compare-and-set on `known.epoch` and owner, epoch unchanged: publish and record. Raises ClaimLost."""
        ...


class Witnesses(Protocol):
    """The second opinion on a primary that does not answer well."""

    async def ask(self, node: NodeView) -> Witness:
        """Whether the database port greets within WITNESS_DEADLINE. Never raises."""
        ...


class Leadership(Protocol):
    """The lease of this process, judged by its own monotonic clock (with a margin) between renewals."""

    @property
    def held(self) -> bool: ...


class Inventory(Protocol):
    """The operators' wishes, and what the service notes beside them: lock-outs, wishes carried out, live status."""

    async def load(self) -> Snapshot:
        """Everything the service acts on, as of now."""
        ...

    async def publish(self, vault: str, reason: str, rows: Mapping[str, NodeRow], if_lost: Foresight) -> None:
        """Write the live state of a vault; called only when it changed. `rows` by node id."""
        ...

    async def note_service(self, *, started: bool, pass_done: bool) -> None:
        """Note that the leader has taken up, or put down, the service; `pass_done` also answers Run Now."""
        ...

    async def mark(self, node: str, **fields: Any) -> None:
        """Set fields of the node's row, durably before it returns; needs the leader's lease in the same statement. Raises
        ReplicationError when nothing was set."""
        ...

    async def answer_rebuild(self, node: str, operation: str, wish: RebuildWish | None) -> bool:
        """Put `wish` in the place of the wish of this operation on the node's row, durably; None takes it away. False when
        that wish is no longer there: an operator has withdrawn it. Raises ReplicationError when this process no longer leads.
        """
        ...

    async def forget(self, node: str) -> None:
        """Delete the row of a node that was deleted by an operator and is out of the vault."""
        ...

    async def note_silence_failover(self, vault: str) -> None:
        """A failover was decided on silence: the next such one is held back, each time for longer. Never raises."""
        ...


class Operations(Protocol):
    """The rows that show what is being done, each with exactly one terminal state. Never raises: a lost row must not stop
    what it tells of."""

    async def begin(self, operation: str, *, vault: str, kind: str, node: str, says: str) -> None:
        """Make the row, or take up the one with this id: an operator's wish, or what an earlier leader began."""
        ...

    async def take_up(self, operation: str) -> bool:
        """Whether a wish is still to be carried out; from this moment on it can no longer be cancelled. False also when that
        cannot be found out."""
        ...

    async def progress(self, operation: str, says: str) -> None: ...

    async def steps(self, operation: str, steps: Sequence[Step]) -> None:
        """What this leader has done of it so far; behind what earlier leaders did."""
        ...

    async def note(self, operation: str, facts: Mapping[str, Any]) -> None:
        """Add to its result, also after it has ended."""
        ...

    async def end(self, operation: str, state: OperationEnd, says: str, result: Mapping[str, Any]) -> None: ...

    async def end_orphans(self, vault: str, keep: str) -> None:
        """End what earlier leaders began here and left open, except `keep` and wishes that nobody has begun yet."""
        ...


class Journal(Protocol):
    """One event per change, with evidence. Never raises: a lost event must not stop a failover."""

    async def record(
        self,
        *,
        vault: str,
        node: str,
        epoch: int,
        rule: str,
        text: str,
        level: str,
        evidence: Mapping[str, Any],
    ) -> None: ...
