"""Who follows the primary, who is told to, and who acknowledges for it or no longer does: picks for rows of plan.py. Pure."""

from typing import Final

from .diagnosis import Verdict, acker_dead, commits_stuck, diagnose, not_waiting
from .errors import PositionsNotComparable
from .positions import parse
from .roles import OrderKind, ProcessState, SystemRole
from .tasks import REPLACES_DATA
from .view import NodeView, VaultView

CANNOT_CONNECT: Final = range(2000, 3000)
"""Errors of a receiver that did not reach its source. It goes on trying by itself: one that has stopped was stopped, as by a
REVOKE whose promotion was given up, behind whose cut it could not connect."""


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


def follow(view: VaultView, *, wished_only: bool) -> str | None:
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


def become_acker(view: VaultView) -> str | None:
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


def acker_lost(view: VaultView) -> str | None:
    if not view.topology.promotable or not view.stay_writable:
        return None
    if view.paused and diagnose(view).verdict is Verdict.PRIMARY_LOST:
        return None  # its stream ended with the primary: it has to be there to take over when the pause is over
    lost = acker_dead(view) or commits_stuck(view) or view.acker_missing_for >= view.thresholds.acker_lost
    p = view.primary
    return p.id if lost and p is not None and p.answers else None


def no_longer_waiting(view: VaultView) -> str | None:
    return view.topology.primary if not_waiting(view) else None


def left_waiting(view: VaultView) -> str | None:
    p = view.primary
    if p is None or not p.up or p.report is None or p.database is None or view.topology.promotable:
        return None
    # Also one whose agent ended between writing down that it is solo and switching the waiting off.
    waits = p.report.order_kind is OrderKind.LOSSLESS or p.database.semisync_primary
    return p.id if waits and p.report.order_kind is not OrderKind.NONE and not p.blocked else None
