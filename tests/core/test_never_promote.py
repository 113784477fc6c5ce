"""Never two masters, as properties over every combination of what may be seen of a small vault (some ten thousand views).

A failover picks the published acker or nobody; it is never begun while an intent is open, while the primary is healthy, or
by a stopped service; and an intent is finished only on the node that is entitled.
"""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from functools import cache
from itertools import product

from replication.core.diagnosis import Verdict, diagnose
from replication.core.plan import ActionKind, plan
from replication.core.roles import OrderKind, ProcessState, Witness
from replication.core.view import NodeView, VaultView
from tests.builders import LONG, id_of, intent, node, primary, task, vault

SEEN = ("answers", "refused", "silent", "late")
PROCESSES = (ProcessState.UP, ProcessState.HUNG, ProcessState.DEAD, ProcessState.DOWN)
TROUBLES = ({}, {"tainted": True}, {"quarantine": "extra transactions"}, {"task": task()})
ROWS = (
    {"promotable": "b"},
    {"promotable": "c"},
    {"promotable": "", "may_ack": {"b"}},
    {"promotable": "b", "may_ack": {"b", "c"}},
    {"intent": intent("b", "a", "b", "c")},
)


def seen(node: NodeView, link: str) -> NodeView:
    if link == "answers":
        return node
    silence = {"refused": timedelta(), "silent": LONG, "late": timedelta(milliseconds=300)}[link]
    return replace(node, link="refused" if link == "refused" else "silent", silence=silence)


def _views() -> Iterator[VaultView]:
    for link, process, witness, solo in product(SEEN, PROCESSES, Witness, (False, True)):
        a = seen(primary(solo=solo, witness=witness, says={"process": process}), link)
        for b_link, b_process, trouble, hears, row, running in product(
            ("answers", "silent"), (ProcessState.UP, ProcessState.DEAD), TROUBLES, (True, False), ROWS, (True, False)
        ):
            if "task" in trouble and not (running and hears):
                continue  # for the time that it takes
            heard = {"db": {"heard_age": 0.1 if hears else LONG.total_seconds()}}
            b = seen(node("b", says={"process": b_process, **trouble, **heard}), b_link)
            yield vault(a, b, node("c", says=heard), running=running, **row)


@cache
def all_views() -> tuple[VaultView, ...]:
    return tuple(_views())


def test_never_promote_by_mistake() -> None:
    failovers = finishes = 0
    for view in all_views():
        action, row = plan(view), view.topology
        if action is None:
            continue
        target = view.node(action.node)
        assert target is not None
        if action.kind is ActionKind.FAILOVER:
            failovers += 1
            assert action.node == row.promotable, view
            assert row.intent is None, view
            assert view.running, view
            assert diagnose(view).verdict is Verdict.PRIMARY_LOST, view
        if action.kind is ActionKind.FINISH:
            finishes += 1
            assert row.intent is not None, view
            assert action.node == row.intent.entitled, view
        if action.kind in (ActionKind.FAILOVER, ActionKind.FINISH):
            assert target.up, view
            assert target.report is not None, view
            assert not target.report.tainted, view
            assert not target.report.quarantine, view
            assert not target.replacing, view
        if action.kind in (ActionKind.REOPEN, ActionKind.BOOTSTRAP):
            assert action.node == row.primary, view
        if row.intent is not None:
            assert action.kind in (ActionKind.FINISH, ActionKind.ROLL_BACK), view
    assert failovers, "the enumeration must contain failovers"
    assert finishes


def test_a_primary_that_is_well_or_in_doubt_is_never_lost() -> None:
    for view in all_views():
        p = view.primary
        assert p is not None
        if p.up or (p.witness is Witness.ANSWERS and not p.answers):
            assert diagnose(view).verdict is not Verdict.PRIMARY_LOST, view


def test_the_primary_is_never_told_to_acknowledge_alone_while_an_acker_is_published_and_it_is_well() -> None:
    """Going solo has a reason each time: the acker is gone, the row is wrong, or the service is stopped."""
    for view in all_views():
        action, row, p = plan(view), view.topology, view.primary
        if action is None or action.kind is not ActionKind.GO_SOLO or not row.promotable:
            continue
        assert p is not None
        assert p.report is not None
        acker = view.node(row.promotable)
        gone = acker is not None and (not acker.up or (acker.report is not None and acker.report.tainted))
        wrong = p.report.order_kind is not OrderKind.LOSSLESS
        assert gone or wrong or not view.running, view


def test_who_has_no_order_and_no_row_is_never_opened_beside_a_primary() -> None:
    for view in all_views():
        action = plan(view)
        opened = action is not None and action.kind in (ActionKind.BOOTSTRAP, ActionKind.REOPEN, ActionKind.ROLL_BACK)
        if opened and action is not None:
            assert action.node == id_of("a"), view
