"""Who may take over without a person: the published acker or nobody, and why nobody."""

from datetime import timedelta

import pytest

from replication.core.candidates import Candidate, Refusal, choose_candidate
from replication.core.roles import ProcessState, Witness
from replication.core.tasks import TaskKind, TaskPhase
from replication.core.view import RebuildWish, VaultView
from tests.builders import LONG, id_of, node, primary, task, vault

HELD = timedelta(seconds=30)
SILENT = primary(silent=LONG, witness=Witness.SILENT)
GONE = primary(refused=True, witness=Witness.REFUSED)
DEAF = node("b", says={"db": {"heard_age": 60.0}})
CUT_OFF = node("b", says={"db": {"heard_age": 60.0, "receiver": "Connecting"}})

REFUSALS = [
    pytest.param(vault(solo=True), "C10", id="solo: nobody is known to have everything"),
    pytest.param(vault(primary(), node("b", silent=LONG)), "C20", id="the acker does not answer"),
    pytest.param(vault(primary()), "C20", id="the acker is gone from the inventory"),
    pytest.param(vault(primary(), node("b", never=True)), "C20", id="the acker has never answered this leader"),
    pytest.param(vault(primary(), node("b", says={"process": ProcessState.DEAD})), "C30", id="its database is dead"),
    pytest.param(vault(primary(), node("b", says={"task": task()})), "C35", id="its data is being replaced"),
    pytest.param(
        vault(primary(), node("b", says={"task": task(TaskKind.UNDO)})), "C35", id="its old data is being put back"
    ),
    pytest.param(vault(primary(), node("b", says={"vault": ""})), "C37", id="it was restored from a backup"),
    pytest.param(vault(primary(), node("b", says={"tainted": True})), "C40", id="it restarted and may lack writes"),
    pytest.param(vault(primary(), node("b", says={"quarantine": "extra 0-2-7"})), "C50", id="it is held back"),
    pytest.param(
        vault(primary(), node("b"), node("c", silent=LONG), may_ack={"b", "c"}),
        "C60",
        id="another node might still acknowledge and does not answer",
    ),
    pytest.param(
        vault(primary(), node("b", says={"disk_error": "Read-only file system"})), "C55", id="its disk takes no writes"
    ),
    pytest.param(vault(SILENT, DEAF, silence_hold=HELD), "C70", id="held back after a failover on silence"),
    pytest.param(vault(GONE, CUT_OFF, silence_hold=HELD), "C70", id="held back although everything refuses"),
    pytest.param(
        vault(primary(), node("b"), may_ack={"b", "d"}), "C60", id="a node that nobody knows might still acknowledge"
    ),
]


@pytest.mark.parametrize(("view", "rule"), REFUSALS)
def test_nobody_may(view: VaultView, rule: str) -> None:
    choice = choose_candidate(view)
    assert isinstance(choice, Refusal)
    assert choice.rule == rule
    assert len(choice.says) > 20, "a refusal is a sentence"


@pytest.mark.parametrize(
    "view",
    [
        pytest.param(vault(), id="the acker answers"),
        pytest.param(vault(primary(silent=LONG), node("b")), id="whatever the primary does"),
        pytest.param(
            vault(primary(), node("b", rebuild=RebuildWish(operation="copy"))), id="a rebuild of it is only wanted"
        ),
        pytest.param(vault(primary(), node("b", says={"task": task(TaskKind.SEND)})), id="it is copied from"),
        pytest.param(
            vault(primary(), node("b", says={"task": task(phase=TaskPhase.FAILED)})), id="its copy has failed"
        ),
        pytest.param(
            vault(primary(), node("b"), node("c"), may_ack={"b", "c"}), id="all that might acknowledge answer"
        ),
        pytest.param(
            vault(primary(), node("b"), node("c", silent=LONG)), id="a node that cannot acknowledge may be away"
        ),
        pytest.param(vault(SILENT, DEAF), id="silent, and nothing is held back"),
        pytest.param(
            vault(primary(says={"process": ProcessState.DEAD}), node("b"), silence_hold=HELD),
            id="held back, but the primary's agent says that its database is dead",
        ),
        pytest.param(
            vault(primary(says={"disk_error": "No space left on device"}), node("b"), silence_hold=HELD),
            id="held back, but the primary's agent says that its disk takes no writes",
        ),
        pytest.param(
            vault(primary(says={"process": ProcessState.HUNG}, witness=Witness.SILENT), node("b"), silence_hold=HELD),
            id="held back, but the primary's agent says that its database hangs",
        ),
    ],
)
def test_the_published_acker_may(view: VaultView) -> None:
    assert choose_candidate(view) == Candidate(id_of("b"))


def test_how_long_it_is_still_held_back_is_said() -> None:
    choice = choose_candidate(vault(SILENT, DEAF, silence_hold=timedelta(seconds=29.6)))
    assert isinstance(choice, Refusal)
    assert "30 s more, or until cleared" in choice.says
