"""What to do next with a vault: the first row of the table that picks a node. Pure.

One action at a time per vault. Rows marked `always` are followed even while the service is stopped: they carry out an
operator's wish, or end what was begun. docs/runbook/ has a heading per rule id.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Final

from .candidates import Candidate, choose_candidate
from .diagnosis import Verdict, acker_dead, commits_stuck, diagnose, not_waiting
from .positions import GtidPosition
from .roles import OrderKind, ProcessState, SystemRole
from .view import Intent, NodeView, VaultView

Pick = Callable[[VaultView], str | None]


class ActionKind(StrEnum):
    BOOTSTRAP = "bootstrap"
    FAILOVER = "failover"
    FINISH = "finish"
    ROLL_BACK = "roll-back"
    REOPEN = "reopen"
    GO_SOLO = "go-solo"
    BECOME_ACKER = "become-acker"
    FOLLOW = "follow"
    DETACH = "detach"
    FORGET = "forget"


@dataclass(frozen=True)
class Action:
    kind: ActionKind
    node: str
    rule: str
    says: str


@dataclass(frozen=True)
class PlanRule:
    id: str
    kind: ActionKind
    says: str
    pick: Pick
    always: bool = False


def _finish(view: VaultView) -> str | None:
    intent = view.topology.intent
    target = view.node(intent.target) if intent else None
    if target is None or not target.up or target.report is None or target.blocked:
        return None
    return None if target.report.tainted or target.report.quarantine else target.id


def _roll_back(view: VaultView) -> str | None:
    intent = view.topology.intent
    if intent is None:
        return None
    target, former = view.node(intent.target), view.node(intent.former_primary)
    if former is None or not former.answers or former.report is None:
        return None
    if target is not None and not target.answers and not _gone_silent(target, view):
        return None  # it may only be late: this leader has perhaps just begun to look
    if not former.up and not _cannot_finish(intent, view):
        return None  # a try failed a moment ago: the next one is better than a vault without a living primary
    return former.id if not former.report.quarantine and not former.blocked else None


def _gone_silent(node: NodeView | None, view: VaultView) -> bool:
    return node is None or (not node.answers and (node.silence or timedelta()) >= view.thresholds.silence)


def _cannot_finish(intent: Intent, view: VaultView) -> bool:
    """Whether trying again will not help: the target cannot be promoted, or a node that must revoke is gone."""
    target = view.node(intent.target)
    if target is None or target.report is None or any(_gone_silent(view.node(id), view) for id in intent.must_revoke):
        return True
    stuck = target.database is not None and bool(target.database.applier_errno)
    return target.report.tainted or bool(target.report.quarantine) or not target.up or stuck


def _bootstrap(view: VaultView) -> str | None:
    if view.topology.primary or view.topology.intent:
        return None
    joined = [n for n in view.nodes if n.report is not None and n.report.primary_order_kind is not OrderKind.NONE]
    if joined:  # the agents remember a primary that the row does not: they win, once all of them answer
        if any(not n.answers for n in view.nodes if n.active):
            return None
        pick = max(joined, key=lambda n: n.report.primary_order_epoch if n.report else 0)
    else:
        configured = [n for n in view.nodes if n.system_role is SystemRole.PRIMARY and n.active and not n.removed]
        if not configured:
            return None
        pick = configured[0]
    usable = pick.up and pick.report is not None and not pick.report.quarantine and not pick.blocked
    return pick.id if usable else None


def _failover(view: VaultView) -> str | None:
    if diagnose(view).verdict is not Verdict.PRIMARY_LOST:
        return None
    choice = choose_candidate(view)
    return choice.node if isinstance(choice, Candidate) else None


def _wish_to_leave(view: VaultView) -> str | None:
    for n in view.others:
        wished = (n.removed or not n.active) and not n.detached
        if wished and not n.blocked:
            return n.id
    return None


def _gone(view: VaultView) -> str | None:
    """A removed node that was taken out while it did not answer: tell it to forget the vault when it comes back."""
    return next((n.id for n in view.others if n.removed and n.detached and n.answers and not n.blocked), None)


def _stopped(view: VaultView) -> str | None:
    """Only a primary that answers can be told: until then the acker stays published, for the next start."""
    p = view.primary
    told = p is not None and p.answers and not view.running and bool(view.topology.promotable)
    return p.id if told and p is not None else None


def _acker_lost(view: VaultView) -> str | None:
    if not view.topology.promotable or not view.stay_writable:
        return None
    lost = acker_dead(view) or commits_stuck(view) or view.acker_missing_for >= view.thresholds.acker_lost
    p = view.primary
    return p.id if lost and p is not None and p.answers else None


def _not_waiting(view: VaultView) -> str | None:
    return view.topology.primary if not_waiting(view) else None


def _left_waiting(view: VaultView) -> str | None:
    p = view.primary
    if p is None or not p.up or p.report is None or view.topology.promotable:
        return None
    return p.id if p.report.order_kind is OrderKind.LOSSLESS and not p.blocked else None


def _closed_primary(view: VaultView) -> str | None:
    p = view.primary
    if p is None or not p.answers or p.report is None or p.report.quarantine or p.blocked:
        return None
    settled = p.report.process in (ProcessState.UP, ProcessState.DOWN, ProcessState.DEAD)
    return p.id if settled and p.report.order_kind is OrderKind.NONE else None


def _open_primary(view: VaultView) -> NodeView | None:
    p = view.primary
    usable = p is not None and p.up and p.report is not None and p.report.order_kind is not OrderKind.NONE
    return p if usable and p is not None and p.database is not None and not p.database.read_only else None


def needs_follow(node: NodeView, primary: NodeView) -> bool:
    """Whether this node should be told (again) to follow the primary; errors that a retry cannot mend are left alone."""
    report, db = node.report, node.database
    if not node.answers or report is None or node.blocked or report.verb:
        return False
    if (report.quarantine or report.needs_rebuild) and not node.resync_wanted:
        return False
    if report.process in (ProcessState.DEAD, ProcessState.DOWN):
        # A replica's database is restarted by its agent; a former primary's waits for this order.
        return report.primary_order_kind is not OrderKind.NONE
    if report.process is not ProcessState.UP or db is None:
        return False
    if node.detached or node.locked_out or node.resync_wanted:
        return True  # its errors are of our own making: it was told to stop, or its account is locked
    if report.tainted or report.order_kind is not OrderKind.NONE or not db.read_only:
        return True
    if (db.source_host, db.source_port) != (primary.ip, primary.database_port):
        return True
    return not db.receiver_errno and not db.applier_errno and (db.receiver in ("", "No") or not db.applier)


def _follow(view: VaultView, *, wished_only: bool) -> str | None:
    primary = _open_primary(view)
    if primary is None:
        return None
    for n in view.others:
        wished = n.detached or n.resync_wanted
        if n.active and not n.removed and (wished or not wished_only) and needs_follow(n, primary):
            return n.id
    return None


def _become_acker(view: VaultView) -> str | None:
    primary = _open_primary(view)
    if primary is None or view.topology.promotable or primary.report is None or primary.database is None:
        return None
    if primary.report.order_kind is not OrderKind.SOLO:
        return None
    for n in view.others:
        db = n.following
        if db is None or n.report is None or not n.active or n.removed or n.detached or n.locked_out:
            continue
        if n.blocked or n.resting:
            continue
        streams_here = (db.source_host, db.source_port) == (primary.ip, primary.database_port)
        steady = db.receiver_up_for >= view.thresholds.acker_steady.total_seconds()
        received = GtidPosition.parse(db.gtid_io_pos or db.gtid_slave_pos)
        behind = received.missing_from(GtidPosition.parse(primary.database.gtid_binlog_pos))
        clean = not (n.report.tainted or n.report.quarantine or n.report.needs_rebuild or db.drift)
        if streams_here and steady and clean and behind <= view.thresholds.acker_behind:
            return n.id
    return None


def _intent_open(pick: Pick) -> Pick:
    return lambda view: pick(view) if view.topology.intent is not None else None


def _settled(pick: Pick) -> Pick:
    """Everything but finishing and rolling back is refused while an intent is open (rule 7)."""
    return lambda view: pick(view) if view.topology.intent is None else None


K = ActionKind
RULES: Final = (
    PlanRule(
        "P10", K.FINISH, "a failover was begun: finish it on the node that is entitled", _intent_open(_finish), True
    ),
    PlanRule("P15", K.ROLL_BACK, "a failover cannot be finished: give the vault back", _intent_open(_roll_back), True),
    PlanRule("P20", K.BOOTSTRAP, "the vault has no primary yet: open one", _settled(_bootstrap)),
    PlanRule("P30", K.FAILOVER, "the primary is lost: promote the acker", _settled(_failover)),
    PlanRule("P40", K.DETACH, "a node was made inactive or deleted: take it out", _settled(_wish_to_leave), True),
    PlanRule("P42", K.FORGET, "a deleted node is back: tell it to forget the vault", _settled(_gone), True),
    PlanRule("P45", K.GO_SOLO, "the service is stopped: commits must not wait for anybody", _settled(_stopped), True),
    PlanRule("P50", K.GO_SOLO, "the acker is lost: stay writable without it", _settled(_acker_lost)),
    PlanRule("P52", K.GO_SOLO, "the primary no longer waits for its acker: correct the record", _settled(_not_waiting)),
    PlanRule("P55", K.GO_SOLO, "commits wait although no acker is proven: release them", _settled(_left_waiting), True),
    PlanRule("P60", K.REOPEN, "the primary is closed: open it", _settled(_closed_primary)),
    PlanRule(
        "P65",
        K.FOLLOW,
        "a node was made active, or its re-synchronization was asked for: let it follow",
        _settled(lambda v: _follow(v, wished_only=True)),
        True,
    ),
    PlanRule("P70", K.FOLLOW, "a node does not follow the primary", _settled(lambda v: _follow(v, wished_only=False))),
    PlanRule("P80", K.BECOME_ACKER, "a fallback keeps up: make the vault lossless", _settled(_become_acker)),
)


def plan(view: VaultView) -> Action | None:
    """The next action, or None when there is nothing to do."""
    for rule in RULES:
        if view.running or rule.always:
            node = rule.pick(view)
            if node is not None:
                return Action(rule.kind, node, rule.id, rule.says)
    return None
