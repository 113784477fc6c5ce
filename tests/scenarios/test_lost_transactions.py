"""A node comes back with a password that the vault does not have, under a whole controller with real hosts.

Proves: it is held, exported and reported by itself, whatever the policy; the report names the row and its account, the alarm names
the table and the count; the secret is in the file on the host and nowhere in the console's database; the file outlives a rebuild;
and a second export of the same operation adds no second report.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.scenarios.rebuilds import Place, place
from tests.waiting import wait_for

A, B = "127.0.83.61", "127.0.83.62"
SECRET = "Tr0ub4dor-of-the-fallback"


@pytest.fixture(scope="module")
def pair() -> Iterator[Place]:
    with place(A, B) as found:
        found.stack.execute("UPDATE nodes_vault SET rebuild_policy = 'never', verify_every_hours = NULL")
        found.primary.sql("CREATE TABLE vault.accounts (id INT PRIMARY KEY, account VARCHAR(50), password VARCHAR(99))")
        yield found


def test_what_only_one_node_has_is_exported_and_reported_by_itself(pair: Place) -> None:
    pair.wait_lossless()
    node = pair.fallback
    wait_for(lambda: node.sql("SHOW TABLES IN vault LIKE 'accounts'"), 20, "the table arrives")
    node.sql("INSERT INTO vault.accounts VALUES (7, 'root@db1', %s)", SECRET)
    node.kill_database()
    wait_for(lambda: pair.stack.status_of(node.hostname)[0] == "diverged", 60, lambda: str(node.report()))

    def reports() -> list[dict[str, object]]:
        return [dict(row) for row in pair.stack.rows("SELECT * FROM nodes_lossreport")]

    wait_for(reports, 60, lambda: f"a report; {pair.latest('export')}\n{pair.stack.log('ops')}")
    (report,) = reports()
    assert (report["hostname"], report["transaction_count"], report["handled_at"]) == (node.hostname, 1, None)
    (rotation,) = json.loads(str(report["rotate"]))
    assert (rotation["table"], rotation["key"], rotation["name"]) == ("vault.accounts", {"id": "7"}, "root@db1")
    assert report["why"] == node.report().quarantine
    begun = pair.latest("export")
    assert begun is not None
    ended = pair.wait_ended(begun["id"])
    assert (ended["state"], ended["id"]) == ("needs-person", report["id"])
    (event,) = pair.stack.events("W110")
    assert event["level"] == "error"
    assert "1 transactions" in event["text"]
    assert "vault.accounts" in event["text"]
    for table in ("nodes_lossreport", "nodes_event", "nodes_operation"):
        assert SECRET not in str([dict(row) for row in pair.stack.rows(f"SELECT * FROM {table}")])
    sql = Path(str(report["path"])) / "transactions.txt"
    assert SECRET in sql.read_text()

    ended = pair.wait_ended(
        pair.command("rebuild", node.hostname, "--confirm", node.hostname, "--reason", "listed", "--rate", "500")
    )
    assert ended["state"] == "succeeded", ended
    assert SECRET in sql.read_text(), "a rebuild leaves it alone"
    assert len(reports()) == 1
    pair.wait_lossless()
