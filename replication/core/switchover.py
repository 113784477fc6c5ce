"""Whether another node can be made the primary while both live: the first rule that speaks against it. Pure.

Refused before anything is touched; docs/runbook/switchover.md has a heading per rule id.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from . import limits
from .candidates import Refusal
from .diagnosis import Verdict, diagnose, read_only_by_hand
from .followers import behind, may_become_acker
from .recovery import outdated
from .view import NodeView, VaultView

TABLE_FULL: Final = "D29"
"""The one diagnosis that is a reason for a switchover, so none against it."""


@dataclass(frozen=True)
class Pair:
    view: VaultView
    primary: NodeView
    target: NodeView


def _sick(p: Pair) -> bool:
    found = diagnose(p.view)
    return found.verdict is not Verdict.HEALTHY and found.id != TABLE_FULL


def _threads_broken(p: Pair) -> bool:
    db = p.target.database
    return db is not None and (p.target.following is None or bool(db.applier_errno or db.receiver_errno))


def _held(p: Pair) -> bool:
    report, db = p.target.report, p.target.database
    if report is None or db is None:
        return True
    return bool(report.tainted or report.quarantine or report.needs_rebuild or report.disk_error or db.drift)


def _not_acker(p: Pair) -> bool:
    return p.view.topology.promotable != p.target.id and not may_become_acker(p.view, p.target, p.primary)


def _lags(p: Pair) -> bool:
    db = p.target.database
    late = db is not None and (db.seconds_behind or 0) > limits.SWITCHOVER_MAX_LAG.total_seconds()
    return late or behind(p.target, p.primary) > limits.ACKER_MAX_BEHIND


def _long_transaction(p: Pair) -> bool:
    db = p.primary.database
    return db is not None and db.oldest_transaction > limits.SWITCHOVER_MAX_TRANSACTION.total_seconds()


def _stuck(p: Pair) -> bool:
    db = p.primary.database
    return db is not None and db.commits_stuck_for > limits.PING_DEADLINE.total_seconds()


@dataclass(frozen=True)
class Rule:
    id: str
    says: str
    holds: Callable[[Pair], bool]


RULES: Final = (
    Rule("R10", "it is the Master already", lambda p: p.target.id == p.primary.id),
    Rule("R15", "it is inactive or deleted", lambda p: not p.target.active or p.target.removed or p.target.detached),
    Rule(
        "R20",
        "a change of this vault is under way: wait until it has ended",
        lambda p: p.view.topology.intent is not None or outdated(p.view),
    ),
    Rule(
        "R25", "the Master is set read-only by hand: end the maintenance first", lambda p: read_only_by_hand(p.primary)
    ),
    Rule("R30", "the Master is not well: a failover decides then, not a switchover", _sick),
    Rule("R33", "it is being rebuilt: wait until its full copy has ended", lambda p: p.target.rebuilding),
    Rule("R35", "its agent does not answer, or its database does not run", lambda p: not p.target.up),
    Rule("R40", "its replication has stopped with an error, or does not run", _threads_broken),
    Rule("R45", "it is held back: its row says why", _held),
    Rule(
        "R47",
        "its data differs from the Master's: rebuild it first, its row names the tables",
        lambda p: p.target.differs,
    ),
    Rule("R50", "it is too far behind the Master: wait until it has caught up", _lags),
    Rule("R55", "it is not the fallback that holds every write, and cannot become it yet", _not_acker),
    Rule("R60", "writes are waiting for a fallback at this moment: wait until they go on", _stuck),
    Rule(
        "R65",
        "a transaction has been open on the Master for a long time: it would be lost, so end it first",
        _long_transaction,
    ),
)


def why_not(view: VaultView, node: str) -> Refusal | None:
    """Why this node cannot be made the primary by a switchover now; None when it can."""
    primary, target = view.primary, view.node(node)
    if primary is None or target is None:
        return Refusal("R05", "there is no Master yet, or this node is no longer in the list")
    pair = Pair(view, primary, target)
    broken = next((rule for rule in RULES if rule.holds(pair)), None)
    return Refusal(broken.id, broken.says) if broken is not None else None
