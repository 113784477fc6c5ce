"""A pause of automatic failover refuses the choice of a candidate, whatever the primary's state, and nothing else."""

from dataclasses import replace

import pytest

from replication.core import limits
from replication.core.candidates import Candidate, Refusal, choose_candidate
from replication.core.diagnosis import Verdict, diagnose
from replication.core.plan import ActionKind, plan
from replication.core.roles import ProcessState, Witness
from replication.core.status import vault_reason
from replication.core.switchover import why_not
from replication.core.view import SwitchoverWish, VaultView
from tests.builders import LONG, id_of, intent, node, primary, vault

PAUSED = "until 2030-01-01 12:00:00 UTC, by anna: moving the racks"
DEAF = node("b", says={"db": {"heard_age": 60.0}})
WISH = SwitchoverWish(operation="e" * 32, node=id_of("b"))

LOST = [
    pytest.param(vault(primary(says={"process": ProcessState.DEAD}), node("b")), id="its agent says: database dead"),
    pytest.param(vault(primary(says={"disk_error": "No space left"}), node("b")), id="its agent says: disk"),
    pytest.param(vault(primary(says={"process": ProcessState.HUNG}, witness=Witness.SILENT), node("b")), id="it hangs"),
    pytest.param(vault(primary(silent=LONG, witness=Witness.SILENT), DEAF), id="silent, and the replica hears nothing"),
]


@pytest.mark.parametrize("view", LOST)
def test_nobody_is_promoted_while_it_lasts_and_the_diagnosis_goes_on(view: VaultView) -> None:
    action = plan(view)
    assert action is not None
    assert action.kind is ActionKind.FAILOVER, "without the pause it would be replaced"
    held = replace(view, paused=PAUSED)
    assert diagnose(held) == diagnose(view)
    assert diagnose(held).verdict is Verdict.PRIMARY_LOST
    action = plan(held)
    assert action is None or action.kind not in (ActionKind.FAILOVER, ActionKind.FINISH)
    for gone in (held, replace(held, acker_missing_for=LONG)):
        after = plan(gone)
        assert after is None or after.kind is not ActionKind.GO_SOLO, (
            "the acker stays published for the end of the pause"
        )
    assert f"nobody is promoted: automatic failover is paused {PAUSED}" in vault_reason(held)


@pytest.mark.parametrize(
    "view",
    [
        pytest.param(vault(), id="the acker could"),
        pytest.param(vault(solo=True), id="nobody could: the pause is said first, for it is what a person can end"),
        pytest.param(vault(primary(), node("b", silent=LONG)), id="the acker is silent"),
    ],
)
def test_the_refusal_says_until_when_by_whom_and_why(view: VaultView) -> None:
    choice = choose_candidate(replace(view, paused=PAUSED))
    assert choice == Refusal("C05", f"automatic failover is paused {PAUSED}")


def test_without_a_pause_the_acker_may() -> None:
    assert choose_candidate(vault(paused="")) == Candidate(id_of("b"))


@pytest.mark.parametrize(
    ("view", "kind"),
    [
        pytest.param(
            vault(acker_missing_for=limits.ACKER_LOST_AFTER), ActionKind.GO_SOLO, id="the acker is lost: stay writable"
        ),
        pytest.param(
            vault(primary(), node("b", says={"process": ProcessState.DEAD})), ActionKind.GO_SOLO, id="the acker is dead"
        ),
        pytest.param(vault(switchover=WISH), ActionKind.SWITCHOVER, id="a switchover that an operator wants"),
        pytest.param(
            vault(primary(says={"process": ProcessState.DEAD}), node("b"), intent=intent()),
            ActionKind.FINISH,
            id="a failover that was begun before",
        ),
        pytest.param(vault(running=False), ActionKind.GO_SOLO, id="the service is stopped"),
        pytest.param(
            vault(primary(), node("b", active=False)), ActionKind.DETACH, id="a node is made inactive"
        ),
    ],
)  # fmt: skip
def test_everything_else_goes_on(view: VaultView, kind: ActionKind) -> None:
    for seen in (view, replace(view, paused=PAUSED)):
        action = plan(seen)
        assert action is not None
        assert action.kind is kind


def test_a_switchover_by_hand_is_not_refused_by_it() -> None:
    assert why_not(vault(paused=PAUSED), id_of("b")) is None
