"""From which node a full copy is made, or why a node cannot be rebuilt now. Pure.

A copy reads all of the source's data and, for a moment at its end, holds back its commits. So a fallback is better than the
primary, and one that no write waits for is better than the acker. Between the two that are left the acker is the lesser evil:
its acknowledgements come from the receiver, which a copy does not hold back; on the primary every client would wait.
docs/runbook/sources.md has a heading per rule id.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from .candidates import Refusal
from .followers import behind, open_primary
from .recovery import belongs
from .view import NodeView, RebuildWish, VaultView


@dataclass(frozen=True)
class Source:
    """The node to copy from, by which rule, and why this one."""

    node: str
    rule: str
    says: str


@dataclass(frozen=True)
class Asked:
    """One node, looked at for one wish: as the target, or as a source."""

    view: VaultView
    node: NodeView
    wish: RebuildWish
    target: str


@dataclass(frozen=True)
class Rule:
    id: str
    says: str
    holds: Callable[[Asked], bool]


def _out(a: Asked) -> bool:
    return not a.node.active or a.node.removed or a.node.detached


def _busy(a: Asked) -> bool:
    """With something else than this very wish: what a leader had begun is gone on with."""
    task = a.node.task
    return task is not None and task.active and task.operation != a.wish.operation


def _of_another_vault(a: Asked) -> bool:
    return a.node.report is not None and bool(a.node.report.vault) and not belongs(a.view, a.node)


def _no_open_master(a: Asked) -> bool:
    """While the primary is away, what this node holds may be all that is left of its writes; the undoing of a copy removes it."""
    task = a.node.task
    begun = task is not None and task.operation == a.wish.operation
    return open_primary(a.view) is None and not begun


def _nothing_kept(a: Asked) -> bool:
    if not a.wish.undo or a.node.report is None:
        return False
    task = a.node.task
    begun = task is not None and task.operation == a.wish.operation
    return a.node.report.kept is None and not begun


def _in_doubt(a: Asked) -> bool:
    r = a.node.report
    return r is None or a.node.differs or bool(r.quarantine or r.tainted or r.needs_rebuild or r.disk_error)


def _follows_nobody(a: Asked) -> bool:
    primary, db = a.view.primary, a.node.following
    if primary is None:
        return True
    return a.node.id != primary.id and (
        db is None or (db.source_host, db.source_port) != (primary.ip, primary.database_port)
    )


def _far_behind(a: Asked) -> bool:
    primary = a.view.primary
    if primary is None or a.node.id == primary.id:
        return False
    return not_applied(a.node, primary) > a.view.thresholds.acker_behind


TARGET: Final = (
    Rule("K10", "it is the Master: make another node the Master first", lambda a: a.node.id == a.view.topology.primary),
    Rule(
        "K12",
        "the Master is not open: what this node holds may be nowhere else, so its data is not replaced before the Master is back",
        _no_open_master,
    ),
    Rule(
        "K15",
        "it is inactive or deleted: make it active first",
        lambda a: (
            not a.node.active or a.node.removed
        ),  # one that could not follow when it was made active is `detached` still
    ),
    Rule("K20", "its agent does not answer: start it, the database itself need not run", lambda a: not a.node.answers),
    Rule("K25", "it belongs to another vault: delete it there first, or purge it", _of_another_vault),
    Rule("K30", "its host is at other long work: wait until that has ended, or cancel it", _busy),
    Rule("K35", "no data of before a full copy is kept there, so there is nothing to go back to", _nothing_kept),
)
"""Why a node cannot be rebuilt, nor its rebuild undone. Asked before anything is touched."""

NO_ROOM: Final = Rule("K40", "its disk has no room for a copy beside the data that is there", lambda a: True)

SOURCE: Final = (
    Rule("K50", "it is the node that is to be rebuilt", lambda a: a.node.id == a.target),
    Rule("K52", "it is inactive or deleted", _out),
    Rule("K54", "its agent does not answer, or its database does not run", lambda a: not a.node.up),
    Rule("K56", "it is to be rebuilt itself", lambda a: a.node.rebuilding),
    Rule("K58", "its data are in doubt: its row says why", _in_doubt),
    Rule("K60", "its host is at other long work", _busy),
    Rule("K62", "it does not follow the Master", _follows_nobody),
    Rule("K64", "it is too far behind the Master", _far_behind),
)
"""Why a node is no source."""

ANY: Callable[[Asked], bool] = lambda a: True  # noqa: E731
ASKED_FOR: Final = Rule("K70", "it was asked for", ANY)
SPARE: Final = Rule("K75", "a fallback that keeps up, and that no write waits for", ANY)
ACKER: Final = Rule("K80", "the fallback that acknowledges: better than the Master, and no other one is in order", ANY)
MASTER: Final = Rule("K85", "the Master: no fallback is in order", ANY)
NOBODY: Final = Rule("K90", "no node to copy from is in order", ANY)
RULES: Final = (*TARGET, NO_ROOM, *SOURCE, ASKED_FOR, SPARE, ACKER, MASTER, NOBODY)


def why_not_rebuild(view: VaultView, target: NodeView, wish: RebuildWish) -> Refusal | None:
    """Why the data of this node cannot be replaced now, whatever the source; None when it can."""
    return _first(TARGET, Asked(view, target, wish, target.id))


def why_no_source(view: VaultView, source: NodeView, target: str, wish: RebuildWish) -> Refusal | None:
    """Why this node cannot be copied from; None when it can."""
    return _first(SOURCE, Asked(view, source, wish, target))


def choose_source(view: VaultView, target: NodeView, wish: RebuildWish) -> Source | Refusal:
    """The node to copy from, or why there is none. A wished one is taken or refused, never exchanged for another.

    Ties among the spare fallbacks: who has applied most, then who was added first, so that every leader picks the same.
    """
    if wish.source:
        return _wished(view, target, wish)
    able = [n for n in view.nodes if why_no_source(view, n, target.id, wish) is None]
    best = min(able, key=lambda n: (_weight(view, n), _behind(view, n), n.ordinal, n.id), default=None)
    if best is None:
        whys = [(n, why_no_source(view, n, target.id, wish)) for n in view.nodes if n.id != target.id]
        told = "; ".join(f"{n.hostname}: {why.says}" for n, why in whys if why is not None)
        return Refusal(NOBODY.id, f"{NOBODY.says}{': ' + told if told else ''}")
    rule = (SPARE, ACKER, MASTER)[_weight(view, best)]
    return _with_room(target, best) or Source(best.id, rule.id, rule.says)


def _wished(view: VaultView, target: NodeView, wish: RebuildWish) -> Source | Refusal:
    source = view.node(wish.source)
    if source is None:
        return Refusal(NOBODY.id, "the node to copy from is no longer in the list")
    why = why_no_source(view, source, target.id, wish)
    if why is not None:
        return Refusal(why.rule, f"{source.hostname} cannot be copied from: {why.says}")
    return _with_room(target, source) or Source(source.id, ASKED_FOR.id, ASKED_FOR.says)


def _with_room(target: NodeView, source: NodeView) -> Refusal | None:
    """The agent has the last word on its disk; what is known here already need not cost a step."""
    there, here = target.report, source.report
    if there is None or here is None or not here.data_bytes:
        return None
    free = there.disk_free_bytes + (there.kept.bytes if there.kept is not None else 0)
    if free >= here.data_bytes:
        return None
    return Refusal(NO_ROOM.id, f"{NO_ROOM.says}: {_gib(here.data_bytes)} are needed, {_gib(free)} are free")


def not_applied(node: NodeView, primary: NodeView) -> int:
    """How many transactions of the primary a copy of this node would lack: what was only received is not in its data."""
    db = node.database
    if node.report is None or db is None:
        return 0
    applied = replace(db, gtid_io_pos=db.gtid_slave_pos)
    return behind(replace(node, report=replace(node.report, database=applied)), primary)


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"


def _weight(view: VaultView, node: NodeView) -> int:
    """0 a spare fallback, 1 the acker, 2 the primary."""
    return 2 if node.id == view.topology.primary else 1 if node.id == view.topology.promotable else 0


def _behind(view: VaultView, node: NodeView) -> int:
    primary = view.primary
    return not_applied(node, primary) if primary is not None and node.id != primary.id else 0


def _first(rules: tuple[Rule, ...], asked: Asked) -> Refusal | None:
    broken = next((rule for rule in rules if rule.holds(asked)), None)
    return Refusal(broken.id, broken.says) if broken is not None else None
