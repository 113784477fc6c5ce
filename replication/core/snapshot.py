"""The inventory at one moment, and what is written back for the screen."""

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from . import limits
from .roles import NodeStatus
from .view import NodeView, SwitchoverWish, Thresholds, Topology, VaultView


@dataclass(frozen=True, kw_only=True)
class VaultConfig:
    """One vault: its published row, its policy, and its nodes with the wishes on them (never seen yet)."""

    topology: Topology
    stay_writable: bool = True
    nodes: tuple[NodeView, ...] = ()
    silence_hold: timedelta = timedelta()
    """Left of the time for which a failover on silence is held back, as of this reading."""
    paused: str = ""
    """Until when, by whom and why automatic failover is paused, as of this reading; "" when it is not."""
    switchover: SwitchoverWish | None = None
    failovers: tuple[float, ...] = ()
    """Seconds from the decision to the open new primary of the last failovers, the newest first; as of a minute ago."""

    @property
    def work_is_waiting(self) -> bool:
        """Whether even a stopped service has something to do here: a wish, or the end of what was begun."""
        row = self.topology
        if row.promotable or row.intent is not None:
            return True
        return any(_waits(n, row.primary) for n in self.nodes)


def _waits(node: NodeView, primary: str) -> bool:
    if node.wish is not None:
        return True
    if node.id == primary:
        return False
    if node.removed or not node.active:
        return not node.detached
    return bool(primary) and (node.detached or node.resync_wanted)


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    vaults: tuple[VaultConfig, ...] = ()
    running: bool = False
    """The service is to run."""
    noted_running: bool = False
    """The screen says that it runs."""
    interval: timedelta = limits.HELLO_INTERVAL
    run_wanted: bool = False
    """An operator pressed Run Now."""
    fresh: bool = True
    """False when the metadata database did not answer: what was read earlier, so the published rows may be out of date."""


@dataclass(frozen=True, kw_only=True)
class NodeRow:
    """Live columns of one row."""

    status: NodeStatus
    detail: str
    current_role: str
    report: dict[str, Any] | None = field(compare=False, default=None)
    """Last report in full; written along when anything else changed, or when `stable` did."""
    not_primary: str = ""
    """Why it cannot be made the primary now, as "R50 · sentence"; "" when it can."""
    stable: tuple[Any, ...] = ()
    """The parts of the report that the screen shows and that do not change with every write."""


def view_of(
    config: VaultConfig,
    nodes: tuple[NodeView, ...],
    snapshot: Snapshot,
    *,
    acker_missing_for: timedelta,
    high_water: int,
) -> VaultView:
    """Put together what decisions look at. The silence limit is never less than three hello intervals."""
    return VaultView(
        topology=config.topology,
        nodes=nodes,
        running=snapshot.running,
        stay_writable=config.stay_writable,
        acker_missing_for=acker_missing_for,
        high_water=high_water,
        silence_hold=config.silence_hold,
        paused=config.paused,
        switchover=config.switchover,
        thresholds=Thresholds(silence=max(limits.SILENCE_LIMIT, 3 * snapshot.interval)),
    )
