"""From which node a full copy is made, or why not: a case per rule, the first that holds, and the same choice for every leader."""

from dataclasses import replace

import pytest

from replication.core.candidates import Refusal
from replication.core.roles import ProcessState
from replication.core.sources import RULES, SOURCE, TARGET, Source, choose_source, why_no_source, why_not_rebuild
from replication.core.tasks import KeptData, TaskKind, TaskPhase
from replication.core.view import NodeView, RebuildWish, VaultView
from tests.builders import LONG, id_of, node, primary, task, vault

COPY, BACK = RebuildWish(operation="copy"), RebuildWish(operation="copy", undo=True)
OF_ANOTHER = task(TaskKind.BACKUP, operation="nightly")
KEPT = KeptData(operation="earlier", since="2026-01-01T00:00:00+00:00", bytes=10)
C = node("c")

TARGETS = [
    pytest.param(primary(), COPY, "K10", id="the primary"),
    pytest.param(C, COPY, "K12", id="the Master is away"),
    pytest.param(node("c", says={"kept": KEPT}), BACK, "K12", id="the Master is away, and an undoing removes the copy"),
    pytest.param(node("c", active=False), COPY, "K15", id="inactive"),
    pytest.param(node("c", removed=True), COPY, "K15", id="deleted"),
    pytest.param(node("c", silent=LONG), COPY, "K20", id="silent"),
    pytest.param(node("c", says={"vault": "e" * 32}), COPY, "K25", id="a member of another vault"),
    pytest.param(node("c", says={"task": OF_ANOTHER}), COPY, "K30", id="busy with a backup"),
    pytest.param(node("c", says={"task": task(TaskKind.SEND, operation="other")}), COPY, "K30", id="it is copied from"),
    pytest.param(C, BACK, "K35", id="nothing to go back to"),
    # What is no reason.
    pytest.param(node("c", says={"vault": ""}), COPY, None, id="a member of no vault yet"),
    pytest.param(node("c", says={"process": ProcessState.DEAD}), COPY, None, id="its database is dead"),
    pytest.param(node("c", says={"quarantine": "extra"}), COPY, None, id="it has diverged"),
    pytest.param(node("c", says={"disk_error": "Read-only"}), COPY, None, id="the agent has the last word on its disk"),
    pytest.param(node("c", locked_out=True), COPY, None, id="it is locked out"),
    pytest.param(
        node("c", detached=True, says={"needs_rebuild": "purged"}), COPY, None, id="made active, and its logs are gone"
    ),
    pytest.param(node("c", says={"task": task()}), COPY, None, id="this very copy, begun by an earlier leader"),
    pytest.param(node("c", says={"task": replace(OF_ANOTHER, phase=TaskPhase.DONE)}), COPY, None, id="a backup that ended"),
    pytest.param(node("c", says={"kept": KEPT}), BACK, None, id="there is something to go back to"),
    pytest.param(node("c", says={"task": task()}), COPY, None, id="begun before the Master went away"),
    pytest.param(node("c", says={"task": task(TaskKind.UNDO)}), BACK, None, id="this very undoing, begun"),
]  # fmt: skip


@pytest.mark.parametrize(("target", "wish", "rule"), TARGETS)
def test_the_target(target: NodeView, wish: RebuildWish, rule: str | None, request: pytest.FixtureRequest) -> None:
    away = "the Master is away" in request.node.name or "went away" in request.node.name
    master = primary(silent=LONG) if away else primary()
    view = vault(target, node("b")) if target.id == id_of("a") else vault(master, node("b"), target)
    refusal = why_not_rebuild(view, target, wish)
    assert (refusal.rule if refusal is not None else None) == rule


SOURCES = [
    pytest.param(node("c"), "K50", id="the target itself"),
    pytest.param(node("d", active=False), "K52", id="inactive"),
    pytest.param(node("d", detached=True), "K52", id="not taken in again yet"),
    pytest.param(node("d", silent=LONG), "K54", id="silent"),
    pytest.param(node("d", says={"process": ProcessState.DEAD}), "K54", id="its database is dead"),
    pytest.param(node("d", rebuild=RebuildWish(operation="other")), "K56", id="to be rebuilt itself"),
    pytest.param(node("d", says={"task": task(operation="other")}), "K56", id="being rebuilt itself"),
    pytest.param(node("d", says={"quarantine": "extra"}), "K58", id="diverged"),
    pytest.param(node("d", says={"tainted": True}), "K58", id="tainted"),
    pytest.param(node("d", says={"needs_rebuild": "purged"}), "K58", id="only a copy helps"),
    pytest.param(node("d", says={"disk_error": "Read-only"}), "K58", id="its disk takes no writes"),
    pytest.param(node("d", differs=True), "K58", id="rows differ from the primary's"),
    pytest.param(node("d", says={"task": OF_ANOTHER}), "K60", id="busy with a backup"),
    pytest.param(node("d", says={"db": {"source": ""}}), "K62", id="it follows nobody"),
    pytest.param(node("d", says={"db": {"source": "b"}}), "K62", id="it follows somebody else"),
    pytest.param(node("d", says={"db": {"applier": False}}), "K62", id="it does not apply"),
    pytest.param(node("d", says={"db": {"receiver": "Connecting"}}), "K62", id="it has no stream"),
    pytest.param(node("d", says={"db": {"gtid_slave_pos": "0-1-1"}}), "K64", id="it has received all, and applied little"),
    pytest.param(node("d"), None, id="a fallback in step"),
    pytest.param(node("d", says={"task": task(TaskKind.SEND)}), None, id="it sends this very copy already"),
    pytest.param(node("d", rebuild=RebuildWish(operation="other", refused="no room")), None, id="its own wish was refused"),
    pytest.param(primary(says={"db": {"gtid_binlog_pos": "0-1-5000"}}), None, id="the primary is behind nobody"),
]  # fmt: skip


@pytest.mark.parametrize(("source", "rule"), SOURCES)
def test_a_source(source: NodeView, rule: str | None) -> None:
    ahead = {"db": {"gtid_binlog_pos": "0-1-1101"}} if rule == "K64" else {}
    others = (source,) if source.id == id_of("a") else (primary(says=ahead), source)
    refusal = why_no_source(vault(*others, node("b")), source, id_of("c"), COPY)
    assert (refusal.rule if refusal is not None else None) == rule


def test_every_rule_has_a_case() -> None:
    assert {case.values[2] for case in TARGETS} - {None} == {rule.id for rule in TARGET}
    assert {case.values[1] for case in SOURCES} - {None} == {rule.id for rule in SOURCE}


def test_the_table_is_well_formed() -> None:
    ids = [rule.id for rule in RULES]
    assert ids == sorted(set(ids))


LATE = {"db": {"gtid_slave_pos": "0-1-90"}}
CHOICES = [
    pytest.param(vault(primary(), node("b"), C, node("d")), COPY, ("d", "K75"), id="a spare fallback, not the acker"),
    pytest.param(vault(primary(), node("b"), C), COPY, ("b", "K80"), id="the acker, not the primary"),
    pytest.param(vault(primary(), C), COPY, ("a", "K85"), id="the primary when there is nobody else"),
    pytest.param(vault(primary(solo=True), node("b", says=LATE), C, solo=True), COPY, ("b", "K75"), id="solo: no write waits for b"),
    pytest.param(vault(primary(), node("b"), C, node("d", says=LATE), node("e")), COPY, ("e", "K75"), id="who has applied most"),
    pytest.param(vault(primary(), node("b"), C, node("e"), node("d")), COPY, ("d", "K75"), id="as much: who was added first"),
    pytest.param(vault(primary(), node("b"), C, node("d", differs=True)), COPY, ("b", "K80"), id="the spare one is in doubt"),
    pytest.param(vault(primary(), node("b"), C, node("d")), replace(COPY, source=id_of("a")), ("a", "K70"), id="the primary was asked for"),
    pytest.param(vault(primary(), node("b"), C, node("d", silent=LONG)), replace(COPY, source=id_of("d")), "K54", id="asked for, and not exchanged for another"),
    pytest.param(vault(primary(), node("b"), C), replace(COPY, source=id_of("c")), "K50", id="itself was asked for"),
    pytest.param(vault(primary(), node("b"), C), replace(COPY, source=id_of("x")), "K90", id="who was asked for is gone"),
    pytest.param(vault(primary(silent=LONG), C), COPY, "K90", id="nobody answers"),
    pytest.param(vault(C, primary="", promotable=""), COPY, "K90", id="no primary yet"),
    pytest.param(vault(primary(), node("b", says={"data_bytes": 20 * 10**9}), C), COPY, "K40", id="no room"),
    pytest.param(vault(primary(), node("b", says={"data_bytes": 9 * 10**9}), C), COPY, ("b", "K80"), id="room enough"),
    pytest.param(
        vault(primary(), node("b", says={"data_bytes": 15 * 10**9}), node("c", says={"kept": replace(KEPT, bytes=6 * 10**9)})),
        COPY, ("b", "K80"), id="the kept data of an earlier copy makes room",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("view", "wish", "chosen"), CHOICES)
def test_the_choice(view: VaultView, wish: RebuildWish, chosen: tuple[str, str] | str) -> None:
    target = view.node(id_of("c"))
    assert target is not None
    choice = choose_source(view, target, wish)
    if isinstance(choice, Refusal):
        assert choice.rule == chosen
        assert len(choice.says) > 20
    else:
        assert isinstance(choice, Source)
        assert (choice.node, choice.rule) == (id_of(chosen[0]), chosen[1])


@pytest.mark.parametrize(("view", "wish", "chosen"), CHOICES)
def test_every_leader_chooses_the_same(view: VaultView, wish: RebuildWish, chosen: object) -> None:
    target = view.node(id_of("c"))
    assert target is not None
    turned = replace(view, nodes=tuple(reversed(view.nodes)))
    first, second = choose_source(view, target, wish), choose_source(turned, target, wish)
    assert first.rule == second.rule
    assert isinstance(first, Refusal) or first == second


def test_a_refusal_says_what_is_wrong_with_each() -> None:
    choice = choose_source(vault(primary(silent=LONG), node("b", says={"tainted": True}), C), C, COPY)
    assert choice.says == (
        "no node to copy from is in order: a.example: its agent does not answer, or its database does not run; "
        "b.example: its data are in doubt: its row says why"
    )
