"""What is wrong with the primary: the first rule that holds. Pure; choosing and acting are elsewhere.

The rule ids are stored with events and have headings in docs/runbook/.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from . import limits
from .roles import OrderKind, ProcessState, Witness
from .view import NodeView, VaultView


class Verdict(StrEnum):
    HEALTHY = "healthy"
    WAIT = "wait"
    PRIMARY_LOST = "primary-lost"
    UNCLEAR = "unclear"
    NO_PRIMARY = "no-primary"


@dataclass(frozen=True)
class Rule:
    id: str
    says: str
    holds: Callable[[VaultView], bool]
    verdict: Verdict


def hears_primary(node: NodeView, view: VaultView) -> bool:
    """Whether this replica has heard the primary within the limit; the age of its report counts against it."""
    db, primary = node.database, view.primary
    if not node.answers or db is None or primary is None or db.heard_age is None or node.silence is None:
        return False
    from_primary = (db.source_host, db.source_port) == (primary.ip, primary.database_port)
    return from_primary and db.heard_age + node.silence.total_seconds() < view.thresholds.heard.total_seconds()


def _hearing(view: VaultView) -> bool:
    return any(hears_primary(n, view) for n in view.others)


def _a_replica_answers(view: VaultView) -> bool:
    return any(n.answers for n in view.others)


def _process(view: VaultView, *states: ProcessState) -> bool:
    p = view.primary
    return p is not None and p.answers and p.report is not None and p.report.process in states


def _no_port(view: VaultView) -> bool:
    return view.primary is not None and view.primary.witness in (Witness.REFUSED, Witness.SILENT)


def _refused_everywhere(view: VaultView) -> bool:
    """Agent and port refuse at once and the acker has lost its stream: nobody has to wait for silence."""
    p, acker = view.primary, view.node(view.topology.promotable)
    if p is None or p.link != "refused" or p.witness is not Witness.REFUSED:
        return False
    return acker is not None and acker.up and acker.database is not None and acker.database.receiver != "Yes"


def _disk_error(view: VaultView) -> bool:
    return view.primary is not None and view.primary.report is not None and bool(view.primary.report.disk_error)


def _closed_by_lease(node: NodeView) -> bool:
    return node.report is not None and node.report.closed_by_lease


def read_only_by_hand(node: NodeView | None) -> bool:
    """It has an order to be primary, its database is well, and somebody else closed it."""
    report = node.report if node is not None else None
    if report is None or report.database is None or report.order_kind is OrderKind.NONE or report.verb:
        return False
    return report.database.read_only and not report.closed_by_lease


def connections_full(node: NodeView | None) -> bool:
    db = node.database if node is not None else None
    return db is not None and 0 < db.connections_max <= db.connections


def _silent(view: VaultView) -> bool:
    p = view.primary
    return p is not None and p.silence is not None and p.silence >= view.thresholds.silence


RULES: Final = (
    Rule("D05", "no primary is recorded yet", lambda v: v.primary is None, Verdict.NO_PRIMARY),
    Rule(
        "D10",
        "the primary's own agent says that its database is dead",
        lambda v: _process(v, ProcessState.DEAD, ProcessState.DOWN),
        Verdict.PRIMARY_LOST,
    ),
    Rule(
        "D15",
        "the primary's own agent says that its disk takes no writes",
        lambda v: _process(v, ProcessState.UP, ProcessState.HUNG) and _disk_error(v),
        Verdict.PRIMARY_LOST,
    ),
    Rule(
        "D20",
        "the primary's own agent says that its database hangs, and its port does not answer us",
        lambda v: _process(v, ProcessState.HUNG) and _no_port(v),
        Verdict.PRIMARY_LOST,
    ),
    Rule(
        "D25",
        "the primary's database is starting, or hangs but its port still answers",
        lambda v: _process(v, ProcessState.HUNG, ProcessState.STARTING),
        Verdict.WAIT,
    ),
    Rule(
        "D27",
        "the primary closed itself: neither a controller nor every other agent had vouched for it in time",
        lambda v: _process(v, ProcessState.UP) and v.primary is not None and _closed_by_lease(v.primary),
        Verdict.WAIT,
    ),
    Rule(
        "D28",
        "the primary was set read-only by hand: maintenance, not a failure",
        lambda v: _process(v, ProcessState.UP) and read_only_by_hand(v.primary),
        Verdict.WAIT,
    ),
    Rule(
        "D29",
        "the primary answers, but its connection table is full: it turns clients away",
        lambda v: _process(v, ProcessState.UP) and connections_full(v.primary),
        Verdict.WAIT,
    ),
    Rule("D30", "the primary answers", lambda v: _process(v, ProcessState.UP), Verdict.HEALTHY),
    Rule(
        "D40",
        "the primary's agent does not answer, but its database does",
        lambda v: v.primary is not None and v.primary.witness is Witness.ANSWERS,
        Verdict.WAIT,
    ),
    Rule("D50", "we do not reach the primary, but a replica still hears it", _hearing, Verdict.WAIT),
    Rule(
        "D60",
        "the primary's agent and port refuse connections, and the acker has lost its stream",
        _refused_everywhere,
        Verdict.PRIMARY_LOST,
    ),
    Rule(
        "D70",
        "the primary is silent, its port does not answer, and no replica hears it",
        lambda v: _silent(v) and _no_port(v) and _a_replica_answers(v),
        Verdict.PRIMARY_LOST,
    ),
    Rule("D80", "the primary has been silent for a short time only", lambda v: not _silent(v), Verdict.WAIT),
    Rule("D99", "the primary does not answer and no replica can say whether it lives", lambda v: True, Verdict.UNCLEAR),
)


BY_SILENCE: Final = frozenset({"D60", "D70"})
"""Diagnoses that rest on what was not heard. The others rest on the word of the primary's own agent."""


def diagnose(view: VaultView) -> Rule:
    """Return the first rule that holds. The last always holds and never promotes."""
    return next(rule for rule in RULES if rule.holds(view))


def in_doubt(view: VaultView) -> bool:
    """Whether the second witness should be asked: anything but the primary's own good word."""
    p = view.primary
    if p is None:
        return False
    late = p.silence is not None and p.silence * 2 > view.thresholds.silence
    return not p.up or late  # a primary that has never answered this leader is in doubt as well


def acker_missing(view: VaultView) -> bool:
    """Whether the published acker gives no sign of acknowledging, by its own word or by the primary's."""
    acker, primary = view.node(view.topology.promotable), view.primary
    if not view.topology.promotable:
        return False
    if acker is None:
        return True
    db = acker.database
    if acker.answers and (not acker.up or db is None or db.receiver != "Yes"):
        return True
    return primary is not None and primary.up and primary.database is not None and primary.database.ack_clients == 0


def acker_dead(view: VaultView) -> bool:
    """The acker's own agent says that its database is dead, or it no longer holds the role: nothing to wait for."""
    acker = view.node(view.topology.promotable)
    if acker is None or not acker.answers or acker.report is None:
        return False
    return acker.report.process in (ProcessState.DEAD, ProcessState.DOWN) or acker.report.tainted


def commits_stuck(view: VaultView) -> bool:
    """Commits have waited for an acknowledgement beyond the limit; the age of the report is added.

    At most one default hello interval of it: with a long trigger interval a report may be old because all is well, and
    every busy moment looks like a short wait.
    """
    p = view.primary
    if p is None or not p.answers or p.database is None or p.silence is None or p.database.commits_stuck_for <= 0:
        return False
    age = min(p.silence, limits.HELLO_INTERVAL)
    return p.database.commits_stuck_for + age.total_seconds() >= view.thresholds.acker_lost.total_seconds()


def not_waiting(view: VaultView) -> bool:
    """The primary acknowledges alone although an acker is published: the row must be corrected at once."""
    p = view.primary
    if not view.topology.promotable or p is None or not p.up or p.report is None or p.database is None:
        return False
    return p.report.order_kind is not OrderKind.LOSSLESS or not p.database.semisync_primary
