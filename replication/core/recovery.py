"""Which node a vault that was interrupted goes on with: one without a primary, a switch that was begun, a row that is out of date,
a primary that came back closed. Picks for rows of plan.py; each gives None when there is nothing of the kind to do. Pure."""

from datetime import timedelta

from .roles import IntentKind, OrderKind, ProcessState, SystemRole
from .view import Intent, NodeView, VaultView


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


def adopt(view: VaultView) -> str | None:
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


def finish(view: VaultView) -> str | None:
    intent = view.topology.intent
    target = view.node(intent.target) if intent else None
    former = view.node(intent.former_primary) if intent else None
    switching = intent is not None and intent.kind is IntentKind.SWITCHOVER and former is not None
    if switching and former is not None and (_usable(former) or not (former.answers or gone_silent(former, view))):
        return None  # both live, as far as is known: giving the vault back costs nobody a restart
    if target is None or not target.up or target.report is None or target.blocked:
        return None
    return None if target.report.tainted or target.report.quarantine or target.replacing else target.id


def roll_back(view: VaultView) -> str | None:
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


def bootstrap(view: VaultView) -> str | None:
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


def closed_primary(view: VaultView) -> str | None:
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
