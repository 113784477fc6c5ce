"""Compare with the Master, from the command line to the row, under a whole controller with real hosts.

Proves: equal is written down with its position; what somebody changed by hand on the fallback is an operation that needs a person, an
alarm and a row that names it; a switchover to it is refused; a rebuild ends it with its own comparison; without a fallback that
follows the operation fails and what was found stays.
"""

import json
import signal
from collections.abc import Iterator

import pytest

from tests.scenarios.rebuilds import Place, place, write
from tests.waiting import wait_for

A, B = "127.0.84.61", "127.0.84.62"
DIFFERENCE = "vault.passwords: 1 row differs (other content: id=5)"


@pytest.fixture(scope="module")
def pair() -> Iterator[Place]:
    with place(A, B) as found:
        found.stack.execute("UPDATE nodes_vault SET rebuild_policy = 'never', verify_every_hours = NULL")
        yield found


def drift(pair: Place) -> list[str]:
    (row,) = pair.stack.rows("SELECT drift FROM nodes_vaultnode WHERE hostname = ?", pair.fallback.hostname)
    return list(json.loads(row["drift"]))


def test_an_equal_fallback(pair: Place) -> None:
    pair.wait_lossless()
    ended = pair.wait_ended(pair.command("compare", pair.fallback.hostname))
    assert ended["state"] == "succeeded", ended
    assert "vault-b is equal to the Master" in ended["result"]["summary"]
    (node,) = ended["result"]["nodes"]
    assert node["rows"] >= 200
    (row,) = pair.stack.rows("SELECT verified_at, verified_position FROM nodes_vaultnode WHERE hostname = 'vault-b'")
    assert row["verified_at"]
    assert row["verified_position"] == node["position"]


def test_a_row_that_was_changed_by_hand_is_an_alarm_and_a_rebuild_ends_it(pair: Place) -> None:
    pair.wait_lossless()
    pair.fallback.sql("SET STATEMENT sql_log_bin = 0 FOR UPDATE vault.passwords SET secret = 'wrong' WHERE id = 5")
    ended = pair.wait_ended(pair.command("compare"))
    assert ended["state"] == "needs-person", ended
    assert drift(pair) == [DIFFERENCE]
    assert [event["level"] for event in pair.stack.events("W115")] == ["error"]

    def refused() -> bool:
        (row,) = pair.stack.rows("SELECT not_primary FROM nodes_vaultnode WHERE hostname = 'vault-b'")
        return str(row["not_primary"]).startswith("R47")

    wait_for(refused, 20, "nobody makes it the Master by hand")

    ended = pair.wait_ended(
        pair.command("rebuild", "vault-b", "--rate", "500", "--confirm", "vault-b", "--reason", "a test")
    )
    assert ended["state"] == "succeeded", ended
    assert drift(pair) == []
    pair.wait_lossless()


def test_a_fallback_that_does_not_answer_is_not_compared_and_what_was_found_stays(pair: Place) -> None:
    pair.wait_lossless()
    node = pair.fallback
    pair.stack.execute("UPDATE nodes_vaultnode SET drift = ? WHERE hostname = 'vault-b'", json.dumps([DIFFERENCE]))
    assert node.agent is not None
    node.agent.send_signal(signal.SIGSTOP)
    try:
        id = pair.command("compare")
        ended = pair.wait_ended(id, 120)
    finally:
        node.agent.send_signal(signal.SIGCONT)
    assert ended["state"] == "failed", ended
    assert "vault-b does not answer" in ended["result"]["summary"]
    assert drift(pair) == [DIFFERENCE]
    assert pair.stack.events("W117")
    pair.wait_lossless()
    write(pair.primary, "afterwards")
    assert pair.wait_ended(pair.command("compare"))["state"] == "succeeded"
    assert drift(pair) == []
