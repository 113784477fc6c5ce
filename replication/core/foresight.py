"""What would happen if the primary were lost this second: asked of the very functions that would decide then. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from statistics import median
from typing import Any, Final

from . import limits
from .candidates import Refusal, choose_candidate
from .diagnosis import diagnose
from .plan import ActionKind, plan
from .recovery import outdated
from .roles import IntentKind, ProcessState, VaultState, Witness
from .view import NodeView, Topology, VaultView

RESTS_ON: Final = 5
"""How many of the last failovers a figure rests on: the median of their durations."""
LAG_COUNTS_FROM: Final = 1.0
"""Seconds a candidate must be behind before they are added: it applies what it has received before it opens."""


@dataclass(frozen=True, kw_only=True)
class Loss:
    """One way to lose the primary, and what would follow."""

    node: str = ""
    """Id of the node that would be promoted; "" when nobody would."""
    rule: str = ""
    """The rule that holds everybody back; "" when somebody would be promoted, or when it could not be found out."""
    says: str = ""
    seconds: float | None = None
    """Until it is writable again; None when nobody would be promoted. Without a failover to measure: until it is noticed."""


@dataclass(frozen=True, kw_only=True)
class Foresight:
    """Holds for this row only: as soon as another is published it is out of date."""

    epoch: int
    primary: str
    promotable: str
    died: Loss
    """The primary's database dies, and its agent says so."""
    silent: Loss
    """The primary's host falls silent."""
    measured: int = 0
    """Failovers of this vault that the seconds rest on; 0: only the time until the loss is noticed is known."""

    @property
    def candidate(self) -> str:
        """Who would be promoted whatever the loss; "" when nobody, or not in every case."""
        return self.died.node if self.died.node == self.silent.node else ""

    def holds_for(self, row: Topology) -> bool:
        return (self.epoch, self.primary, self.promotable) == (row.epoch, row.primary, row.promotable)

    def to_json(self) -> dict[str, Any]:
        return {**self.__dict__, "died": dict(self.died.__dict__), "silent": dict(self.silent.__dict__)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any] | None) -> "Foresight | None":
        """None when there is none, or when it is of a version that this one does not read."""
        if not data:
            return None
        try:
            return cls(**{**data, "died": Loss(**data["died"]), "silent": Loss(**data["silent"])})
        except (KeyError, TypeError):
            return None


def foresee(view: VaultView, durations: Sequence[float] = ()) -> Foresight:
    """durations: seconds from the decision to the open new primary of the vault's last failovers, the newest first.

    Never raises: what is shown must not stop the loop that saves the vault.
    """
    row = view.topology
    measured = list(durations[:RESTS_ON])
    promoting = median(measured) if measured else 0.0
    try:
        # A death is seen by the agent's next look; its long poll answers at once.
        died = _lost(_with_dead_database(view), limits.PROCESS_TICK + limits.TICK, promoting)
        unheard = max(view.thresholds.silence, view.thresholds.heard)
        silent = _lost(_with_silent_host(view), unheard + limits.WITNESS_DEADLINE + limits.TICK, promoting)
    except Exception as error:
        died = silent = Loss(says=f"it could not be foreseen: {type(error).__name__}: {error}"[:300])
    return Foresight(
        epoch=row.epoch,
        primary=row.primary,
        promotable=row.promotable,
        died=died,
        silent=silent,
        measured=len(measured),
    )


def _lost(view: VaultView, noticed: timedelta, promoting: float) -> Loss:
    action = plan(view)
    if action is None or action.kind not in (ActionKind.FAILOVER, ActionKind.FINISH):
        rule, says = _why_nobody(view)
        return Loss(rule=rule, says=says)
    node = view.node(action.node)
    behind = node.database.seconds_behind if node is not None and node.database is not None else None
    catching_up = round(behind) if behind is not None and behind >= LAG_COUNTS_FROM else 0
    return Loss(node=action.node, seconds=round(noticed.total_seconds() + promoting + catching_up, 2))


def _why_nobody(view: VaultView) -> tuple[str, str]:
    """The rule and the sentence. Without figures that run: what is shown changes only when the answer does."""
    row = view.topology
    if row.state is VaultState.NEW:
        return "D05", "no primary is recorded yet"
    if row.intent is not None:
        adopting = row.intent.kind is IntentKind.ADOPT
        return "P05" if adopting else "P15", f"a {row.intent.kind.value} is under way and not resolved yet"
    if outdated(view):
        return "P05", "the metadata database is older than what is known elsewhere, so nothing is done by it"
    if not view.running:
        return "S10", "the service is stopped"
    choice = choose_candidate(view)
    if isinstance(choice, Refusal):
        held = "a failover was decided on silence not long ago, and another one is held back for a while"
        return choice.rule, held if choice.rule == "C70" else choice.says
    found = diagnose(view)
    return found.id, found.says


def _with_dead_database(view: VaultView) -> VaultView:
    def died(n: NodeView) -> NodeView:
        if n.id != view.topology.primary or n.report is None:
            return n
        report = replace(n.report, process=ProcessState.DEAD)
        return replace(n, link="answers", silence=timedelta(), report=report)

    return replace(view, nodes=tuple(died(n) for n in view.nodes))


def _with_silent_host(view: VaultView) -> VaultView:
    """Long enough for every limit, also for what the replicas heard of it last."""
    limit = view.thresholds

    def seen(n: NodeView) -> NodeView:
        if n.id == view.topology.primary:
            return replace(n, link="silent", silence=limit.silence, witness=Witness.SILENT)
        if n.report is None or n.database is None or n.database.heard_age is None:
            return n
        database = replace(n.database, heard_age=n.database.heard_age + limit.heard.total_seconds())
        return replace(n, report=replace(n.report, database=database))

    return replace(view, nodes=tuple(seen(n) for n in view.nodes))
