"""What to do next with a vault: the first row of the table that picks a node. Pure.

One action at a time per vault. Rows marked `always` are followed even while the service is stopped: they carry out an
operator's wish, or end what was begun. docs/runbook/ has a heading per rule id.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from .candidates import Candidate, choose_candidate
from .diagnosis import Verdict, diagnose
from .followers import acker_lost, become_acker, follow, left_waiting, no_longer_waiting
from .recovery import adopt, bootstrap, closed_primary, finish, gone_silent, outdated, roll_back
from .roles import IntentKind
from .view import VaultView

Pick = Callable[[VaultView], str | None]


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
        "P05", K.ADOPT, "the metadata database is older than what is known elsewhere: the agents say what is", adopt
    ),
    PlanRule(
        "P10", K.FINISH, "a failover was begun: finish it on the node that is entitled", _intent_open(finish), True
    ),
    PlanRule(
        "P15",
        K.ROLL_BACK,
        "a failover or switchover is not finished: give the vault back",
        _intent_open(roll_back),
        True,
    ),
    PlanRule("P20", K.BOOTSTRAP, "the vault has no primary yet: open one", _settled(bootstrap)),
    PlanRule("P30", K.FAILOVER, "the primary is lost: promote the acker", _settled(_failover)),
    PlanRule("P35", K.SWITCHOVER, "an operator wants another Master", _settled(_switchover)),
    PlanRule("P40", K.DETACH, "a node was made inactive or deleted: take it out", _settled(_wish_to_leave), True),
    PlanRule("P42", K.FORGET, "a deleted node is back: tell it to forget the vault", _settled(_gone), True),
    PlanRule("P45", K.GO_SOLO, "the service is stopped: commits must not wait for anybody", _settled(_stopped), True),
    PlanRule("P50", K.GO_SOLO, "the acker is lost: stay writable without it", _settled(acker_lost)),
    PlanRule(
        "P52", K.GO_SOLO, "the primary no longer waits for its acker: correct the record", _settled(no_longer_waiting)
    ),
    PlanRule("P55", K.GO_SOLO, "commits wait although no acker is proven: release them", _settled(left_waiting), True),
    PlanRule("P60", K.REOPEN, "the primary is closed: open it", _settled(closed_primary), True),
    PlanRule(
        "P65",
        K.FOLLOW,
        "a node was made active or rebuilt, or its re-synchronization was asked for: let it follow",
        _settled(lambda v: follow(v, wished_only=True)),
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
    PlanRule("P70", K.FOLLOW, "a node does not follow the primary", _settled(lambda v: follow(v, wished_only=False))),
    PlanRule("P80", K.BECOME_ACKER, "a fallback keeps up: make the vault lossless", _settled(become_acker)),
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
