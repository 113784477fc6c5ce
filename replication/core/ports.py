"""The doors through which procedures reach the world. The product wires real adapters; the simulator wires its own.

Controller side here; the vault side is in replication/core/vault_ports.py.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Protocol

from .commands import Answer, Command, Verb
from .report import NodeReport
from .view import NodeView, Topology


class Clock(Protocol):
    def monotonic(self) -> float:
        """Seconds; only differences mean anything."""
        ...

    async def sleep(self, duration: timedelta) -> None: ...


class Agents(Protocol):
    """The controller's side of the agent protocol."""

    async def hello(self, node: NodeView, *, since: int, wait: timedelta) -> NodeReport:
        """Raises NodeUnreachable."""
        ...

    async def command(self, node: NodeView, verb: Verb, command: Command) -> Answer:
        """Raises NodeUnreachable (outcome unknown when it was silent), StaleEpoch or StepFailed."""
        ...


class Topologies(Protocol):
    """The published rows. Every change needs the leader's lease in the same transaction."""

    async def claim(
        self, known: Topology, *, at_least: int, **changes: Any
    ) -> Topology:
        """Compare-and-set on `known.epoch` to max(known.epoch, at_least) + 1 with this leadership as owner.

        Raises ClaimLost when nothing changed, also when the outcome is unknown (rule 1).
        """
        ...

    async def amend(self, known: Topology, **changes: Any) -> Topology:
        """Compare-and-set on `known.epoch` and owner, epoch unchanged: publish and record. Raises ClaimLost."""
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
