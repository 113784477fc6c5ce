"""Who may take over without a person: the published acker or nobody, and why nobody."""

import pytest

from replication.core.candidates import Candidate, Refusal, choose_candidate
from replication.core.roles import ProcessState
from replication.core.view import VaultView
from tests.builders import LONG, id_of, node, primary, vault

REFUSALS = [
    pytest.param(vault(solo=True), "C10", id="solo: nobody is known to have everything"),
    pytest.param(vault(primary(), node("b", silent=LONG)), "C20", id="the acker does not answer"),
    pytest.param(vault(primary()), "C20", id="the acker is gone from the inventory"),
    pytest.param(vault(primary(), node("b", never=True)), "C20", id="the acker has never answered this leader"),
    pytest.param(vault(primary(), node("b", says={"process": ProcessState.DEAD})), "C30", id="its database is dead"),
    pytest.param(vault(primary(), node("b", says={"tainted": True})), "C40", id="it restarted and may lack writes"),
    pytest.param(vault(primary(), node("b", says={"quarantine": "extra 0-2-7"})), "C50", id="it is held back"),
    pytest.param(
        vault(primary(), node("b"), node("c", silent=LONG), may_ack={"b", "c"}),
        "C60",
        id="another node might still acknowledge and does not answer",
    ),
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
            vault(primary(), node("b"), node("c"), may_ack={"b", "c"}), id="all that might acknowledge answer"
        ),
        pytest.param(
            vault(primary(), node("b"), node("c", silent=LONG)), id="a node that cannot acknowledge may be away"
        ),
    ],
)
def test_the_published_acker_may(view: VaultView) -> None:
    assert choose_candidate(view) == Candidate(id_of("b"))
