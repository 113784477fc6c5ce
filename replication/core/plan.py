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
from .errors import PositionsNotComparable
from .positions import parse
from .roles import IntentKind, OrderKind, ProcessState, SystemRole
from .tasks import REPLACES_DATA
from .view import Intent, NodeView, VaultView

Pick = Callable[[VaultView], str | None]
CANNOT_CONNECT: Final = range(2000, 3000)
"""Errors of a receiver that did not reach its source. It goes on trying by itself: one that has stopped was stopped, as by a
REVOKE whose promotion was given up, behind whose cut it could not connect."""


class ActionKind(StrEnum):
    BOOTSTRAP = "bootstrap"
    ADOPT = "adopt"
    FAILOVER = "failover"
    SWITCHOVER = "switchover"
    FINISH = "finish"
    ROLL_BACK = "roll-back"
    REOPEN = "reopen"
    GO_SOLO = "go-solo"
    BECOME_ACKER = "become-acker"
    FOLLOW = "follow"
    DETACH = "detach"
    FORGET = "forget"
    REBUILD = "rebuild"
    UNDO = "undo"


@dataclass(frozen=True)
class Action:
    kind: ActionKind
    node: str
    rule: str
    says: str
    operation: str = ""
    """Id of the operation that it goes on with; "" when it is a new one."""


@dataclass(frozen=True)
class PlanRule:
    id: str
    kind: ActionKind
    says: str
    pick: Pick
    always: bool = False


def outdated(view: VaultView) -> bool:
    """Whether the row is older than what is known elsewhere: the metadata database was restored, or edited by hand (rule 16).

    A row that was merely read late looks the same; the claim of the adoption then changes nothing.
    """
    return _overtaken(view) or _contradicted(view)


def _overtaken(view: VaultView) -> bool:
    promised = max((n.report.epoch for n in view.nodes if n.report is not None and belongs(view, n)), default=0)
    return view.topology.epoch < max(view.high_water, promised)


def belongs(view: VaultView, node: NodeView) -> bool:
    """Whether its agent says that it is a member of this vault; epochs of another vault mean nothing here."""
    return node.report is not None and node.report.vault == view.topology.vault


def _contradicted(view: VaultView) -> bool:
    """The recorded primary itself follows another node that has an order to be primary."""
    primary = view.primary
    if primary is None or not primary.up or primary.report is None or primary.database is None:
        return False
    if primary.report.order_kind is not OrderKind.NONE or primary.report.primary_order_kind is not OrderKind.NONE:
        return False
    source = next((n for n in view.others if n.ip == primary.database.source_host), None)
    return (
        source is not None
        and source.up
        and source.report is not None
        and source.report.order_kind is not OrderKind.NONE
    )


def _adopt(view: VaultView) -> str | None:
    """At once when the row is outdated, so that nothing else is done by it; then again when everybody can be asked."""
    intent = view.topology.intent
    adopting = intent is not None and intent.kind is IntentKind.ADOPT
    asked = to_be_asked(view)
    again = _overtaken(view) or all(n.answers and not n.blocked for n in asked)
    if not asked or not (again if adopting else outdated(view)):
        return None
    return asked[0].id if not asked[0].blocked else None


def to_be_asked(view: VaultView) -> tuple[NodeView, ...]:
    """Who has to say what it was told before an outdated row may be believed again (rule 16): everybody in the list now.

    Not who was deleted and does not answer: a person has named it dead. Nor who never was a member, and has nothing to say;
    one that has lost its memory is held back, and may have been the primary.
    """
    return tuple(n for n in view.nodes if not (n.removed and not n.answers) and not _never_member(n))


def _never_member(node: NodeView) -> bool:
    return node.report is not None and not node.report.vault and not node.report.quarantine


def _finish(view: VaultView) -> str | None:
    intent = view.topology.intent
    target = view.node(intent.target) if intent else None
    former = view.node(intent.former_primary) if intent else None
    switching = intent is not None and intent.kind is IntentKind.SWITCHOVER and former is not None
    if switching and former is not None and (_usable(former) or not (former.answers or gone_silent(former, view))):
        return None  # both live, as far as is known: giving the vault back costs nobody a restart
    if target is None or not target.up or target.report is None or target.blocked:
        return None
    return None if target.report.tainted or target.report.quarantine or target.replacing else target.id


def _roll_back(view: VaultView) -> str | None:
    intent = view.topology.intent
    if intent is None:
        return None
    target, former = view.node(intent.target), view.node(intent.former_primary)
    if former is None or not former.answers or former.report is None:
        return None
    if intent.kind is IntentKind.SWITCHOVER and _usable(former):  # never needs the target, so it never waits for it
        return former.id if not former.blocked else None
    if target is not None and not target.answers and not gone_silent(target, view):
        return None  # it may only be late: this leader has perhaps just begun to look
    if not _usable(former) and not _cannot_finish(intent, view):
        return None  # a try failed a moment ago: the next one is better than a vault without a living primary
    return former.id if not former.report.quarantine and not former.blocked else None


def _usable(former: NodeView) -> bool:
    """Whether the vault can be given back to it at once, and writes go on there."""
    report = former.report
    return former.up and report is not None and not report.disk_error and not report.quarantine


def gone_silent(node: NodeView | None, view: VaultView) -> bool:
    """Whether it is gone, or has not answered for the silence limit; one that was not heard yet may only be late."""
    return node is None or (not node.answers and (node.silence or timedelta()) >= view.thresholds.silence)


def _cannot_finish(intent: Intent, view: VaultView) -> bool:
    """Whether trying again will not help: the target cannot be promoted, or a node that must revoke is gone."""
    target = view.node(intent.target)
    if target is None or target.report is None or any(gone_silent(view.node(id), view) for id in intent.must_revoke):
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


def _switchover(view: VaultView) -> str | None:
    return view.switchover.node if view.switchover is not None else None


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
    if view.paused and diagnose(view).verdict is Verdict.PRIMARY_LOST:
        return None  # its stream ended with the primary: it has to be there to take over when the pause is over
    lost = acker_dead(view) or commits_stuck(view) or view.acker_missing_for >= view.thresholds.acker_lost
    p = view.primary
    return p.id if lost and p is not None and p.answers else None


def _not_waiting(view: VaultView) -> str | None:
    return view.topology.primary if not_waiting(view) else None


def _left_waiting(view: VaultView) -> str | None:
    p = view.primary
    if p is None or not p.up or p.report is None or p.database is None or view.topology.promotable:
        return None
    # Also one whose agent ended between writing down that it is solo and switching the waiting off.
    waits = p.report.order_kind is OrderKind.LOSSLESS or p.database.semisync_primary
    return p.id if waits and p.report.order_kind is not OrderKind.NONE and not p.blocked else None


def _closed_primary(view: VaultView) -> str | None:
    p = view.primary
    if p is None or not p.answers or p.report is None or p.report.quarantine or p.blocked:
        return None
    if not belongs(view, p) and any(_may_remember(view, n, bool(p.report.restored)) for n in view.others):
        return None  # it forgot the vault: its data may be gone too, and an empty one must not open
    if p.up and p.database is not None and p.database.source_host:
        return None  # it follows somebody who may be the real primary and only has not answered yet: see _contradicted
    settled = p.report.process in (ProcessState.UP, ProcessState.DOWN, ProcessState.DEAD)
    return p.id if settled and p.report.order_kind is OrderKind.NONE else None


def _may_remember(view: VaultView, node: NodeView, restored: bool) -> bool:
    """Whether this node belongs to the vault that the primary forgot, or may: a leader that has only begun to look has not heard
    of it yet. Of a primary that was restored from a backup a person has confirmed that what the silent ones hold is lost."""
    if restored and gone_silent(node, view):
        return False
    if node.report is None:
        return node.joined and not node.removed
    lost_its_memory = not node.report.vault and bool(node.report.quarantine)  # not its data
    return belongs(view, node) or lost_its_memory


def open_primary(view: VaultView) -> NodeView | None:
    p = view.primary
    usable = p is not None and p.up and p.report is not None and p.report.order_kind is not OrderKind.NONE
    return p if usable and p is not None and p.database is not None and not p.database.read_only else None


def judged_by_another(node: NodeView, primary: NodeView) -> bool:
    """Whether this node was held back before the present primary got its order: what it was compared with then may since have
    been replaced, or have cut its own tail off. It is compared again, once for each order. Not one that lost its memory."""
    mine, theirs = node.report, primary.report
    if mine is None or theirs is None or mine.vault != theirs.vault:
        return False
    return 0 < mine.order_epoch < theirs.primary_order_epoch


def needs_follow(node: NodeView, primary: NodeView) -> bool:
    """Whether this node should be told (again) to follow the primary; errors that a retry cannot mend are left alone."""
    report, db = node.report, node.database
    if not node.answers or report is None or node.blocked or report.verb or node.rebuilding:
        return False
    held = report.quarantine or report.needs_rebuild
    if held and not node.resync_wanted and not judged_by_another(node, primary):
        return False
    if report.process in (ProcessState.DEAD, ProcessState.DOWN):
        # A replica's database is restarted by its agent; a former primary's waits for this order, and so does one that was
        # fenced when it was locked out.
        return report.primary_order_kind is not OrderKind.NONE or node.locked_out
    if report.process is not ProcessState.UP or db is None:
        return False
    if node.detached or node.locked_out or node.resync_wanted:
        return True  # its errors are of our own making: it was told to stop, or its account is locked
    if report.tainted or report.order_kind is not OrderKind.NONE or not db.read_only:
        return True
    if (db.source_host, db.source_port) != (primary.ip, primary.database_port):
        return True
    if db.applier_errno or (db.receiver_errno and db.receiver_errno not in CANNOT_CONNECT):
        return False
    return db.receiver in ("", "No") or not db.applier


def _follow(view: VaultView, *, wished_only: bool) -> str | None:
    primary = open_primary(view)
    if primary is None:
        return None
    for n in view.others:
        wished = n.detached or n.resync_wanted or (wished_only and replaced(n))
        needs = needs_follow(n, primary) or (not wished_only and behind_a_cut(view, n, primary))
        if n.active and not n.removed and (wished or not wished_only) and needs:
            return n.id
    return None


def replaced(node: NodeView) -> bool:
    """Whether its data was replaced by a full copy, or by the undoing of one, and it has not followed since."""
    task, report = node.task, node.report
    if task is None or report is None or not (task.replaced and task.kind in REPLACES_DATA) or task.active:
        return False
    never_since = report.primary_order_kind is OrderKind.NONE and not node.detached
    return node.up and never_since and node.database is not None and not node.database.source_host


def behind_a_cut(view: VaultView, node: NodeView, primary: NodeView) -> bool:
    """Whether a promotion that was given up may have left this node behind its own cut: its agent ended between the cut and the
    stop, so its receiver tries for ever. Told once for each order of the primary; never the acker, which reconnects by itself."""
    report, db = node.report, node.database
    if (
        not node.up
        or report is None
        or db is None
        or node.blocked
        or report.verb
        or node.id == view.topology.promotable
    ):
        return False
    if report.quarantine or report.needs_rebuild or node.rebuilding or not judged_by_another(node, primary):
        return False
    here = (db.source_host, db.source_port) == (primary.ip, primary.database_port)
    return here and db.receiver == "Connecting" and db.receiver_errno in CANNOT_CONNECT


def behind(node: NodeView, primary: NodeView) -> int:
    """How many transactions of the primary this node has not received; an upper bound. A server of another engine lacks them all."""
    db, source = node.database, primary.database
    if db is None or source is None:
        return 0
    target = parse(source.gtid_binlog_pos)
    try:
        return parse(db.gtid_io_pos or db.gtid_slave_pos).missing_from(target)
    except PositionsNotComparable:
        return parse("").missing_from(target)


def may_become_acker(view: VaultView, node: NodeView, primary: NodeView) -> bool:
    """Whether this node keeps up, and nothing is wrong with it."""
    db = node.following
    if db is None or node.report is None or not node.active or node.removed or node.detached or node.locked_out:
        return False
    if node.blocked or node.resting or node.rebuilding:
        return False
    streams_here = (db.source_host, db.source_port) == (primary.ip, primary.database_port)
    steady = db.receiver_up_for >= view.thresholds.acker_steady.total_seconds()
    report = node.report
    clean = not (report.tainted or report.quarantine or report.needs_rebuild or report.disk_error or db.drift)
    return streams_here and steady and clean and behind(node, primary) <= view.thresholds.acker_behind


def _become_acker(view: VaultView) -> str | None:
    """The next acker: one that does not differ from the primary, if there is one; who has received most; then the configured
    Primary, so that it can be given its role back; then the one that was added first."""
    primary = open_primary(view)
    if primary is None or view.topology.promotable or primary.report is None or primary.database is None:
        return None
    if primary.report.order_kind is not OrderKind.SOLO:
        return None
    able = [n for n in view.others if may_become_acker(view, n, primary)]
    best = min(
        able,
        key=lambda n: (n.differs, behind(n, primary), n.system_role is not SystemRole.PRIMARY, n.ordinal, n.id),
        default=None,
    )
    return best.id if best is not None else None


def _rebuild_wished(view: VaultView, *, undo: bool) -> str | None:
    """Also of a node that cannot be rebuilt: the wish is refused with a reason then, and never waits in silence.

    A leader that has only begun to look waits until it knows of everybody: a node that was not heard yet is no worse a source.
    """
    if any(n.active and not n.removed and not n.answers and not gone_silent(n, view) for n in view.nodes):
        return None
    for n in view.nodes:
        if n.wish is not None and n.wish.undo == undo and not n.blocked:
            return n.id
    return None


def _intent_open(pick: Pick) -> Pick:
    """To be finished or rolled back; never by a row that is itself out of date."""

    def picked(view: VaultView) -> str | None:
        intent = view.topology.intent
        begun = intent is not None and intent.kind in (IntentKind.FAILOVER, IntentKind.SWITCHOVER)
        return pick(view) if begun and not outdated(view) else None

    return picked


def _settled(pick: Pick) -> Pick:
    """Everything else is refused while an intent is open (rule 7), and by a row that is out of date (rule 16)."""
    return lambda view: pick(view) if view.topology.intent is None and not outdated(view) else None


K = ActionKind
RULES: Final = (
    PlanRule(
        "P05", K.ADOPT, "the metadata database is older than what is known elsewhere: the agents say what is", _adopt
    ),
    PlanRule(
        "P10", K.FINISH, "a failover was begun: finish it on the node that is entitled", _intent_open(_finish), True
    ),
    PlanRule(
        "P15",
        K.ROLL_BACK,
        "a failover or switchover is not finished: give the vault back",
        _intent_open(_roll_back),
        True,
    ),
    PlanRule("P20", K.BOOTSTRAP, "the vault has no primary yet: open one", _settled(_bootstrap)),
    PlanRule("P30", K.FAILOVER, "the primary is lost: promote the acker", _settled(_failover)),
    PlanRule("P35", K.SWITCHOVER, "an operator wants another Master", _settled(_switchover)),
    PlanRule("P40", K.DETACH, "a node was made inactive or deleted: take it out", _settled(_wish_to_leave), True),
    PlanRule("P42", K.FORGET, "a deleted node is back: tell it to forget the vault", _settled(_gone), True),
    PlanRule("P45", K.GO_SOLO, "the service is stopped: commits must not wait for anybody", _settled(_stopped), True),
    PlanRule("P50", K.GO_SOLO, "the acker is lost: stay writable without it", _settled(_acker_lost)),
    PlanRule("P52", K.GO_SOLO, "the primary no longer waits for its acker: correct the record", _settled(_not_waiting)),
    PlanRule("P55", K.GO_SOLO, "commits wait although no acker is proven: release them", _settled(_left_waiting), True),
    PlanRule("P60", K.REOPEN, "the primary is closed: open it", _settled(_closed_primary), True),
    PlanRule(
        "P65",
        K.FOLLOW,
        "a node was made active or rebuilt, or its re-synchronization was asked for: let it follow",
        _settled(lambda v: _follow(v, wished_only=True)),
        True,
    ),
    PlanRule(
        "P66",
        K.REBUILD,
        "a full copy of a node is wanted: order it",
        _settled(lambda v: _rebuild_wished(v, undo=False)),
        True,
    ),
    PlanRule(
        "P67",
        K.UNDO,
        "a node is to go back to its data of before a full copy: order it",
        _settled(lambda v: _rebuild_wished(v, undo=True)),
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
                return Action(rule.kind, node, rule.id, rule.says, _operation(view, rule.kind, node))
    return None


def _operation(view: VaultView, kind: ActionKind, node: str) -> str:
    if kind is ActionKind.SWITCHOVER and view.switchover is not None:
        return view.switchover.operation
    if kind in (ActionKind.REBUILD, ActionKind.UNDO):
        wish = next((n.wish for n in view.nodes if n.id == node), None)
        return wish.operation if wish is not None else ""
    intent = view.topology.intent
    return intent.operation if intent is not None else ""
