"""The housekeeping as programs of a controller: leads, clears up, obeys, hands over, and gives up jobs whose worker died.

No vault takes part: the two need nothing of each other.
"""

import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stack import Controller, controller
from tests.waiting import wait_for

HOUSEKEEPING = "SystemHousekeepingService"
SOON = 20
OLD_ROWS = """
from datetime import timedelta
from django.utils import timezone
from nodes.admin.queues import enqueue_preflight
from nodes.models import *
long_ago, silent = timezone.now() - timedelta(days=30), timezone.now() - timedelta(minutes=11)
LogLine.objects.bulk_create(LogLine(service="s", at=long_ago, host="h", process="p", level=20, text="old") for _ in range(1200))
for name in ("waits", "lost"):
    Operation.objects.create(pk=name, kind="preflight")
Operation.objects.update(changed_at=silent)
enqueue_preflight("waits")
"""


@pytest.fixture
def stack(clean_directory: Path) -> Iterator[Controller]:
    with controller(clean_directory) as made:
        yield made


def test_the_life_of_the_housekeeping(stack: Controller) -> None:
    def service() -> dict[str, object]:
        return stack.rows("SELECT * FROM nodes_appservice WHERE name = ?", HOUSEKEEPING)[0]

    def wish(**changes: object) -> None:
        fields = ", ".join(f"{name} = ?" for name in changes)
        stack.execute(f"UPDATE nodes_appservice SET {fields} WHERE name = ?", *changes.values(), HOUSEKEEPING)

    def logged(text: str) -> bool:
        return bool(
            stack.rows("SELECT 1 FROM nodes_logline WHERE service = ? AND text LIKE ?", HOUSEKEEPING, f"%{text}%")
        )

    def logs() -> str:
        return f"{stack.log('housekeeping-a')}\n{stack.log('housekeeping-b')}"

    stack.manage("shell", "-v0", "-c", OLD_ROWS)
    for slot in ("a", "b"):
        stack.housekeeping(slot)

    # 1. One of them leads, makes its first pass and says so; the other stands by.
    wait_for(lambda: service()["last_completed_on"], SOON, logs)
    assert service()["started_on"]
    assert stack.rows("SELECT count(*) AS n FROM nodes_logline WHERE text = 'old'")[0]["n"] == 0
    states = {row["id"]: row["state"] for row in stack.rows("SELECT id, state FROM nodes_operation")}
    assert states == {"waits": "queued", "lost": "failed"}, "a job that still waits for a worker is not lost"
    wait_for(lambda: logged("1200 log lines"), SOON, "what was removed is in its log")
    wait_for(lambda: len(stack.rows("SELECT * FROM nodes_serviceworker")) == 2, SOON, logs)

    # 2. Stopped, it makes no pass; the wish to run comes through when it is started.
    wish(desired_state="stopped")
    wait_for(lambda: service()["started_on"] is None, SOON, logs)
    before = service()["last_completed_on"]
    wish(desired_state="started", run_requested_at="2026-01-01 00:00:00")
    wait_for(lambda: service()["last_completed_on"] != before, SOON, logs)
    assert service()["run_requested_at"] is None

    # 3. Told to end, it hands over at once, and is no longer counted as a worker.
    leader = stack.leader(HOUSEKEEPING)
    slot = str(leader["process"])[0]
    stack.kill(f"housekeeping-{slot}", signal.SIGTERM)
    wait_for(lambda: stack.leader(HOUSEKEEPING)["holder"] not in ("", leader["holder"]), SOON, logs)
    assert stack.leader(HOUSEKEEPING)["term"] == leader["term"] + 1
    (left,) = stack.rows("SELECT id FROM nodes_serviceworker")
    assert left["id"] == stack.leader(HOUSEKEEPING)["holder"]
    assert logged(f"worker {slot} of controller-1 ended")

    # 4. The vault's own word knows nothing of it.
    told = json.loads(stack.manage("vault_status", "--json"))["vaults"][0]
    assert not re.search("housekeeping", json.dumps(told), re.IGNORECASE)
