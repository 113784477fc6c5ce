"""The report of a change of Master: each figure from what was recorded, or "not recorded"; never 0 rows at risk without the proof."""

from collections.abc import Callable
from copy import deepcopy
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from nodes.admin.operations.report import report_of
from nodes.choices import OperationKind, OperationState
from nodes.models import Event, Operation, VaultNode

Pair = tuple[VaultNode, VaultNode]
K, S = OperationKind, OperationState
OLD, NEW = "alpha.example", "beta.example"
POSITION = "0-1-4711"
SEEN: dict[str, Any] = {
    "diagnosis": {
        "rule": "D10",
        "says": "the primary's own agent says that its database is dead",
        "verdict": "primary-lost",
    },
    "choice": {"node": NEW},
    "row": {"state": "lossless", "epoch": 7, "primary": OLD, "may_ack": [NEW], "promotable": NEW, "intent": None},
    "service_runs": True,
    "silence_limit_s": 1.5,
    "nodes": [
        {"node": OLD, "link": "answers", "silence_s": 0.025, "active": True, "primary": True, "process": "dead"},
        {"node": NEW, "link": "answers", "silence_s": 0.2, "active": True, "process": "up", "received": POSITION},
    ],
    "witness": {"node": OLD, "port": 3307, "says": "refused"},
}
FAILOVER: list[dict[str, Any]] = [
    {"name": "claimed", "state": "done", "began_ms": 0.0, "ms": 6.0},
    {"name": f"revoke {NEW}", "state": "done", "began_ms": 6.0, "ms": 20.0},
    {"name": f"drain {NEW}", "state": "done", "began_ms": 20.0, "ms": 45.0, "position": POSITION},
    {"name": "recorded", "state": "done", "began_ms": 45.0, "ms": 50.0},
    {"name": f"open {NEW}", "state": "done", "began_ms": 50.0, "ms": 90.0, "position": "0-2-1004712"},
]
SWITCHOVER = [
    FAILOVER[0],
    {"name": f"close {OLD}", "state": "done", "began_ms": 6.0, "ms": 20.0, "position": POSITION},
    {"name": f"received {NEW}", "state": "done", "began_ms": 20.0, "ms": 22.0, "position": POSITION},
    *FAILOVER[1:],
]
FIRST_WRITE = {"first_write": {"after_open_ms": 310.0, "position": "0-2-1004713"}}


@pytest.fixture
def make(pair: Pair) -> Callable[..., Operation]:
    """A failover that has ended, with the event that told of it."""

    def made(
        kind: str = K.FAILOVER,
        state: str = S.SUCCEEDED,
        *,
        steps: Any = None,
        seen: Any = None,
        fence: Any = "fenced",
        result: Any = None,
    ) -> Operation:
        now = timezone.now()
        operation = Operation.objects.create(
            kind=kind, state=state, vault=pair[0].vault, node=pair[1], started_at=now - timedelta(seconds=2),
            finished_at=now, steps=FAILOVER if steps is None else steps, result=FIRST_WRITE if result is None else result,
        )  # fmt: skip
        evidence = {"seen": SEEN if seen is None else seen, "operation": operation.pk, "fence": fence}
        Event.objects.create(
            vault=pair[0].vault, text="it is over", operation=operation.pk, evidence=evidence, rule="P30", epoch=8
        )
        return operation

    return made


@pytest.fixture
def viewer(user: Callable[..., User], enter: Callable[..., Client]) -> Client:
    return enter(user("view_operation", "view_event"))


def page(client: Client, operation: Operation) -> str:
    response = client.get(f"/admin/nodes/operation/{operation.pk}/report/")
    assert response.status_code == 200
    return str(response.content.decode())


def without(steps: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    return [step for step in steps if not str(step["name"]).startswith(name)]


def test_a_failover_from_the_last_sign_of_life_to_the_first_write(make: Callable[..., Operation]) -> None:
    report = report_of(make())
    told = [(p.name, p.began_ms, p.ended_ms) for p in report.phases]
    assert told == [
        ("detected", -25.0, 0.0),
        ("claimed", 0.0, 6.0),
        ("revoked", 6.0, 20.0),
        ("drained", 20.0, 45.0),
        ("recorded", 45.0, 50.0),
        ("opened", 50.0, 90.0),
        ("first-write", 90.0, 400.0),
    ]
    assert [p.name for p in report.phases if p.latest] == ["first-write"]
    assert report.whole_ms == 425.0
    assert (report.rule, report.epoch_before, report.epoch_after) == ("D10", 7, 8)


def test_nothing_was_lost_and_why(make: Callable[..., Operation], pair: Pair) -> None:
    since = timezone.now() - timedelta(hours=3)
    Operation.objects.create(
        kind=K.BECOME_ACKER, state=S.SUCCEEDED, vault=pair[0].vault, node=pair[1], started_at=since, finished_at=since
    )
    risk = report_of(make()).risk
    assert risk.rows == 0
    told = " ".join(risk.because)
    for words in (
        "lossless",
        f"since {since:%Y-%m-%d %H:%M}",
        f"received up to {POSITION}",
        "for good",
        f"up to {POSITION}, before",
    ):
        assert words in told, words


@pytest.mark.parametrize(
    ("steps", "seen", "words"),
    [
        pytest.param(without(FAILOVER, "revoke"), None, "stopped receiving", id="nobody says that it was revoked"),
        pytest.param(without(FAILOVER, "drain"), None, "up to where", id="nobody says how far it applied"),
        pytest.param(
            None, {**SEEN, "row": {**SEEN["row"], "state": "solo", "promotable": ""}}, "lossless", id="it was solo"
        ),
        pytest.param(None, {"diagnosis": {}}, "lossless", id="what was seen is not kept"),
        pytest.param(
            None,
            {**SEEN, "row": {**SEEN["row"], "promotable": "gamma.example"}},
            "not the acker",
            id="another was promoted",
        ),
        pytest.param(
            None,
            {**SEEN, "row": {**SEEN["row"], "may_ack": [NEW, "gamma.example"]}},
            "gamma.example",
            id="one was left out",
        ),
    ],
)
def test_without_the_proof_it_never_says_zero(
    make: Callable[..., Operation], steps: Any, seen: Any, words: str
) -> None:
    risk = report_of(make(steps=steps, seen=seen)).risk
    assert risk.rows is None
    assert any(words in missing for missing in risk.missing), risk.missing


def test_a_later_leader_that_finishes_it_knows_why_it_was_safe(make: Callable[..., Operation]) -> None:
    intent = {"kind": "failover", "target": NEW, "former_primary": OLD, "must_revoke": [NEW]}
    seen = {**SEEN, "row": {**SEEN["row"], "state": "changing", "promotable": "", "may_ack": [NEW], "intent": intent}}
    report = report_of(make(seen=seen))
    assert report.risk.rows == 0
    assert any("earlier leader" in reason for reason in report.risk.because)


def test_of_two_tries_the_one_that_succeeded_counts(make: Callable[..., Operation]) -> None:
    first = [FAILOVER[0], {**FAILOVER[1], "state": "failed", "says": "busy"}]
    again = [{**step, "began_ms": step["began_ms"] + 700, "ms": step["ms"] + 700} for step in FAILOVER]
    report = report_of(make(steps=[*first, *again]))
    assert [p.ended_ms for p in report.phases][1:3] == [706.0, 720.0]
    assert report.risk.rows == 0


@pytest.mark.parametrize(
    ("rule", "silence", "words"),
    [("D10", 0.025, "Its own agent said so"), ("D70", 1.55, "Its last answer was 1.6 s old"), ("D60", 0.4, "400 ms")],
)
def test_detection_says_what_it_rests_on(make: Callable[..., Operation], rule: str, silence: float, words: str) -> None:
    seen = deepcopy(SEEN)
    seen["diagnosis"]["rule"], seen["nodes"][0]["silence_s"] = rule, silence
    report = report_of(make(seen=seen))
    assert report.detect_ms == pytest.approx(1000 * silence)
    assert words in report.detect_says


def test_a_switchover_closes_first(make: Callable[..., Operation]) -> None:
    report = report_of(make(K.SWITCHOVER, steps=SWITCHOVER))
    names = ["claimed", "closed", "received", "revoked", "drained", "recorded", "opened", "first-write"]
    assert [p.name for p in report.phases] == names
    assert report.risk.rows == 0
    assert report.detect_ms is None
    assert report.fence == ""


@pytest.mark.parametrize("lost", ["close", "received", "drain", "revoke"])
def test_a_switchover_without_the_proof_is_not_zero_either(make: Callable[..., Operation], lost: str) -> None:
    assert report_of(make(K.SWITCHOVER, steps=without(SWITCHOVER, lost))).risk.rows is None


def test_a_target_that_applied_less_than_was_closed_is_not_zero(make: Callable[..., Operation]) -> None:
    steps = [{**s, "position": "0-1-4000"} if str(s["name"]).startswith("drain") else s for s in SWITCHOVER]
    assert report_of(make(K.SWITCHOVER, steps=steps)).risk.rows is None


def test_what_was_given_back_lost_nothing(make: Callable[..., Operation]) -> None:
    report = report_of(make(K.SWITCHOVER, S.FAILED, steps=SWITCHOVER[:2], result={}))
    assert report.risk.rows == 0
    assert report.former.kind == "unchanged"


def test_an_adoption_does_not_pretend_to_know(make: Callable[..., Operation]) -> None:
    assert report_of(make(K.ADOPT)).risk.rows is None


class TestFormer:
    @pytest.fixture
    def failover(self, make: Callable[..., Operation]) -> Operation:
        return make()

    def _later(self, kind: str, state: str, node: VaultNode, message: str = "") -> Operation:
        now = timezone.now()
        return Operation.objects.create(
            kind=kind, state=state, vault=node.vault, node=node, started_at=now, finished_at=now, message=message
        )

    def test_it_is_away(self, failover: Operation) -> None:
        assert report_of(failover).former.kind == "away"

    def test_it_has_returned_clean(self, failover: Operation, pair: Pair) -> None:
        returned = self._later(K.FOLLOW, S.SUCCEEDED, pair[0])
        former = report_of(failover).former
        assert (former.kind, former.at) == ("clean", returned.finished_at)

    def test_it_is_held_with_what_it_has(self, failover: Operation, pair: Pair) -> None:
        self._later(K.FOLLOW, S.NEEDS_PERSON, pair[0], "extra transactions 0-1-4712")
        former = report_of(failover).former
        assert former.kind == "held"
        assert "0-1-4712" in former.says

    def test_what_came_after_the_next_change_is_not_of_this_one(self, failover: Operation, pair: Pair) -> None:
        self._later(K.FAILOVER, S.SUCCEEDED, pair[0])
        self._later(K.FOLLOW, S.SUCCEEDED, pair[0])
        assert report_of(failover).former.kind == "away"


class TestPage:
    def test_it_says_it_all(self, make: Callable[..., Operation], viewer: Client) -> None:
        text = page(viewer, make())
        for said in (
            "Rows at risk: 0",
            "D10",
            "refused the connection",
            "beta.example open for writes",
            "≤ 310 ms",
            "425 ms",
            "epoch 7 → 8",
            "was ended",
            "What was seen",
        ):
            assert said in text, said

    def test_what_is_missing_is_called_not_recorded(self, pair: Pair, viewer: Client) -> None:
        now = timezone.now()
        bare = Operation.objects.create(
            kind=K.FAILOVER, state=S.SUCCEEDED, vault=pair[0].vault, node=pair[1], started_at=now, finished_at=now
        )
        text = page(viewer, bare)
        assert "Rows at risk: 0" not in text
        assert text.count("not recorded") >= 6
        assert "Not recorded: no event of this operation with evidence is kept." in text

    @pytest.mark.parametrize(
        "evidence", [{"seen": []}, {"seen": {"row": 7, "nodes": 7}}, {"seen": {"nodes": ["x"]}}, [], 7]
    )
    def test_strange_evidence_is_no_error(self, make: Callable[..., Operation], viewer: Client, evidence: Any) -> None:
        operation = make()
        Event.objects.update(evidence=evidence)
        assert "Rows at risk: 0" not in page(viewer, operation)

    @pytest.mark.parametrize("path", ["report/", "report.json"])
    @pytest.mark.parametrize(("kind", "state"), [(K.FAILOVER, S.RUNNING), (K.FOLLOW, S.SUCCEEDED)])
    def test_there_is_none_of_what_runs_or_changes_no_master(
        self, pair: Pair, viewer: Client, kind: str, state: str, path: str
    ) -> None:
        ended = None if state == S.RUNNING else timezone.now()
        operation = Operation.objects.create(
            kind=kind, state=state, vault=pair[0].vault, started_at=timezone.now(), finished_at=ended
        )
        assert viewer.get(f"/admin/nodes/operation/{operation.pk}/{path}").status_code == 404

    def test_as_json(self, make: Callable[..., Operation], viewer: Client) -> None:
        operation = make()
        response = viewer.get(f"/admin/nodes/operation/{operation.pk}/report.json")
        assert response["Content-Type"] == "application/json"
        assert "attachment" in response["Content-Disposition"]
        told = response.json()
        assert (told["rows_at_risk"], told["former_primary"], told["primary"]) == (0, OLD, NEW)
        assert [p["name"] for p in told["phases"]][-1] == "first-write"
        assert told["seen"] == SEEN

    def test_reading_changes_nothing(self, make: Callable[..., Operation], viewer: Client) -> None:
        operation = make()
        before = list(Operation.objects.values())
        page(viewer, operation)
        assert list(Operation.objects.values()) == before
        assert viewer.post(f"/admin/nodes/operation/{operation.pk}/report/").status_code == 405
