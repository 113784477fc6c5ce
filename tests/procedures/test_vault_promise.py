"""What an agent promises, and to whom: never a lower term or epoch, and one leadership for an epoch."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from replication.core.commands import Command, Verb
from replication.core.errors import StaleEpoch
from replication.core.vault_ports import AgentState, Ports
from replication.procedures.vault.work import Work

VAULT = "f" * 32
HELD = AgentState(vault=VAULT, node="a" * 32, term=3, epoch=8, owner="one:3")


def promised(**command: Any) -> AgentState:
    """The state after a command that reaches a node which has promised epoch 8 to "one:3"."""
    fields = {"vault": VAULT, "node": "a" * 32, "term": 3, "epoch": 8, "operation": "o", "deadline": 1.0, **command}
    ports = cast(Ports, SimpleNamespace(clock=SimpleNamespace(monotonic=lambda: 0.0)))
    return Work(ports, Verb.PROMISE, Command(**fields), "a.example").promised(HELD)


@pytest.mark.parametrize(
    "command",
    [
        pytest.param({"epoch": 7, "owner": "one:3"}, id="a lower epoch"),
        pytest.param({"term": 2, "owner": "one:3"}, id="a lower term"),
        pytest.param(
            {"owner": "two:3"}, id="the same epoch from another leadership: a restored database gave it twice"
        ),
    ],
)
def test_what_is_refused(command: dict[str, Any]) -> None:
    with pytest.raises(StaleEpoch) as refused:
        promised(**command)
    assert (refused.value.promised_term, refused.value.promised_epoch) == (3, 8)


@pytest.mark.parametrize(
    ("command", "owner"),
    [
        pytest.param({"owner": "one:3"}, "one:3", id="the same leadership again"),
        pytest.param({"epoch": 9, "owner": "two:3"}, "two:3", id="another leadership under a higher epoch"),
        pytest.param({}, "one:3", id="a controller that does not say who it is changes nothing of it"),
        pytest.param({"epoch": 9}, "", id="nor does it own a higher epoch"),
    ],
)
def test_who_owns_the_epoch_then(command: dict[str, Any], owner: str) -> None:
    assert promised(**command).owner == owner
