"""What the service asks for by itself, as a reckoning over rows: what is due, what is not, and that nothing loops.

Pure: the rows are in no database.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from nodes.choices import OperationKind, OperationState, RebuildPolicy
from nodes.models import Operation, Vault, VaultNode
from replication.core.roles import NodeStatus
from replication.stores.schedule import LOOKED_BACK, Past, due

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
K, S = OperationKind, OperationState
DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)
EXTRA, PURGED = "extra transactions 0-1-7", "the primary no longer has the binary logs that it needs"
DIVERGED = {"status": NodeStatus.DIVERGED, "report": {"quarantine": EXTRA}}
LACKING = {"status": NodeStatus.ERROR, "report": {"needs_rebuild": PURGED}}
KEPT = {"report": {"kept": {"operation": "k" * 32, "since": (NOW - 30 * HOUR).isoformat(), "bytes": 5}}}


def node(name: str = "b", **fields: Any) -> VaultNode:
    values = {"hostname": f"{name}.example", "status": NodeStatus.WAITING, "created_at": NOW - HOUR, "report": {}}
    return VaultNode(id=name * 32, **{**values, **fields})


def vault(**fields: Any) -> Vault:
    return Vault(id="v" * 32, name="Vault", primary_id="a" * 32, **fields)


def done(
    kind: str, *, on: str | None = "b", state: str = S.SUCCEEDED, ago: timedelta = MINUTE, **more: Any
) -> Operation:
    ended = None if state in (S.QUEUED, S.RUNNING) else NOW - ago
    made = Operation(kind=kind, state=state, node_id=on and on * 32, finished_at=ended, **more)
    made.created_at = NOW - ago
    return made


EQUAL = {"result": {"nodes": [{"hostname": "b.example", "differences": []}]}}
NOT_COMPARED = {"result": {"nodes": [{"hostname": "b.example", "differences": None}]}}
LISTED = frozenset({("b" * 32, EXTRA)})


@dataclass(frozen=True)
class Case:
    expected: tuple[str, ...]
    node: dict[str, Any]
    vault: dict[str, Any]
    past: Past


def case(*expected: str, on: dict[str, Any] | None = None, past: Past | None = None, **policy: Any) -> Case:
    return Case(expected, on or {}, policy, past or Past())


NEVER, ALWAYS = RebuildPolicy.NEVER.value, RebuildPolicy.ALWAYS.value
CAUSE = {"arguments": {"cause": PURGED}}
CASES = {
    "a young pair": case(),
    "a day after it was added": case("verify", "backup", on={"created_at": NOW - DAY}),
    "a day after it was added, on MySQL": case(
        on={"created_at": NOW - DAY, "report": {"database": {"version": "9.7.4-2"}}}
    ),
    "compared since": case("backup", on={"created_at": NOW - DAY, "verified_at": NOW - HOUR}),
    "another pace": case("verify", on={"verified_at": NOW - 3 * HOUR}, verify_every_hours=2),
    "no schedule at all": case(
        on={"created_at": NOW - 9 * DAY}, verify_every_hours=None, backup_every_hours=None
    ),
    "backed up since": case(
        on={"created_at": NOW - DAY, "verified_at": NOW}, past=Past(last_backup=NOW - HOUR)
    ),
    "it does not follow": case(on={"created_at": NOW - DAY, "status": NodeStatus.UNREACHABLE}),
    "it is inactive": case(on={**LACKING, "active": False, "created_at": NOW - DAY}),
    "a failover is under way": case(on=LACKING, intent={"target": "b" * 32}),
    # --- full copies
    "its logs are purged": case("rebuild", on=LACKING),
    "its logs are purged, and a person decides": case(on=LACKING, rebuild_policy=NEVER),
    "it has diverged: exported, whatever the policy": case("export", on=DIVERGED, rebuild_policy=NEVER),
    "it has diverged and is listed": case(on=DIVERGED, past=Past(lists=LISTED)),
    "it has diverged, always": case("export", on=DIVERGED, rebuild_policy=ALWAYS),
    "it has diverged and is listed, always": case(
        "rebuild", on=DIVERGED, rebuild_policy=ALWAYS, past=Past(lists=LISTED)
    ),
    "it has diverged and not all of it is listed: perhaps the Master has lost its data": case(
        on=DIVERGED, rebuild_policy=ALWAYS, past=Past(lists=LISTED, partial=LISTED)
    ),
    "it has diverged, and says so in more words than a list keeps": case(
        "rebuild",
        on={**DIVERGED, "report": {"quarantine": "x" * 600}},
        rebuild_policy=ALWAYS,
        past=Past(lists=frozenset({("b" * 32, "x" * 500)})),
    ),
    "its logs are purged, and what is kept there is on no list": case(
        on={**LACKING, "report": {**LACKING["report"], **KEPT["report"]}},
        past=Past(operations=[done(K.REBUILD, ago=DAY, id="k" * 32, arguments={"without_list": True})]),
    ),
    "listed for another reason": case(
        "export", on=DIVERGED, rebuild_policy=ALWAYS, past=Past(lists=frozenset({("b" * 32, "another")}))
    ),
    "the rebuild is open": case(on=LACKING, past=Past(operations=[done(K.REBUILD, state=S.RUNNING)])),
    "it failed a minute ago": case(on=LACKING, past=Past(operations=[done(K.REBUILD, state=S.FAILED, **CAUSE)])),
    "it failed a while ago": case(
        "rebuild", on=LACKING, past=Past(operations=[done(K.REBUILD, state=S.FAILED, ago=11 * MINUTE, **CAUSE)])
    ),
    "it failed twice": case(
        on=LACKING,
        past=Past(operations=[done(K.REBUILD, state=S.FAILED, ago=ago * MINUTE, **CAUSE) for ago in (11, 22)]),
    ),
    "it failed for another reason": case(
        "rebuild", on=LACKING, past=Past(operations=[done(K.REBUILD, state=S.FAILED, arguments={"cause": "another"})])
    ),
    "it failed a minute ago, and was in order after that": case(
        "rebuild", on=LACKING,
        past=Past(operations=[done(K.RESYNCHRONIZE), done(K.REBUILD, state=S.FAILED, ago=2 * MINUTE)]),
    ),
    "it failed a minute ago, and all were in order after that": case(
        "rebuild", on=LACKING,
        past=Past(operations=[done(K.RESYNCHRONIZE, on="a"), done(K.REBUILD, state=S.FAILED, ago=2 * MINUTE)]),
    ),
    "it failed a minute ago, and so did what a person tried after that": case(
        on=LACKING,
        past=Past(operations=[done(K.RESYNCHRONIZE, state=S.FAILED), done(K.REBUILD, state=S.FAILED, ago=2 * MINUTE)]),
    ),
    "a person cancelled it": case(
        on=LACKING, past=Past(operations=[done(K.REBUILD, state=S.CANCELLED, ago=9 * DAY, **CAUSE)])
    ),
    "a person put the old data back": case(on=LACKING, past=Past(operations=[done(K.UNDO, ago=9 * DAY)])),
    "a person rebuilt it after that": case(
        "rebuild", on=LACKING, past=Past(operations=[done(K.REBUILD, ago=DAY), done(K.UNDO, ago=9 * DAY)])
    ),
    "the export failed a minute ago": case(
        on=DIVERGED, past=Past(operations=[done(K.EXPORT, state=S.FAILED, arguments={"cause": EXTRA})])
    ),
    # --- routine that failed
    "the comparison failed a minute ago": case(
        "backup", on={"created_at": NOW - DAY}, past=Past(operations=[done(K.VERIFY, state=S.FAILED)])
    ),
    "the comparison of all failed two hours ago": case(
        "verify", "backup",
        on={"created_at": NOW - DAY}, past=Past(operations=[done(K.VERIFY, on=None, state=S.FAILED, ago=2 * HOUR)]),
    ),
    # --- old data
    "kept, and never compared": case(on=KEPT),
    "kept, compared before the copy": case(on={**KEPT, "verified_at": NOW - 40 * HOUR}, verify_every_hours=None),
    "kept, compared an hour ago": case(on={**KEPT, "verified_at": NOW - HOUR}),
    "kept, compared a day after": case("remove-kept", on={**KEPT, "verified_at": NOW - 25 * HOUR}, verify_every_hours=None),
    "kept, compared again and again": case(
        "remove-kept",
        on={**KEPT, "verified_at": NOW - HOUR}, past=Past(operations=[done(K.VERIFY), done(K.REBUILD, ago=29 * HOUR, **EQUAL)]),
    ),
    "kept, and the copy was made without a comparison": case(
        on={**KEPT, "verified_at": NOW - HOUR}, past=Past(operations=[done(K.REBUILD, ago=29 * HOUR, **NOT_COMPARED)]),
    ),
    "kept, and its host's clock is hours behind": case(
        on={**KEPT, "verified_at": NOW - 25 * HOUR}, verify_every_hours=None,
        past=Past(operations=[done(K.REBUILD, ago=23 * HOUR, id="k" * 32, started_at=NOW - 24 * HOUR, **NOT_COMPARED)]),
    ),
    "kept, and nobody has dealt with what only it had": case(
        on={**KEPT, "verified_at": NOW - 25 * HOUR}, verify_every_hours=None, past=Past(open_lists=frozenset({"b" * 32})),
    ),
    "kept, and what only it had is on no list": case(
        on={**KEPT, "verified_at": NOW - 25 * HOUR}, verify_every_hours=None,
        past=Past(operations=[done(K.REBUILD, ago=29 * HOUR, id="k" * 32, arguments={"without_list": True}, **EQUAL)]),
    ),
    "kept, and it differs": case(
        on={**KEPT, "verified_at": NOW - 25 * HOUR, "drift": ["vault.accounts: 3 rows differ"]}, verify_every_hours=None
    ),
    "kept for no time": case("remove-kept", on={**KEPT, "verified_at": NOW - MINUTE}, keep_old_hours=0),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_what_is_due(name: str) -> None:
    case = CASES[name]
    wishes = due(vault(**case.vault), [node("a", created_at=NOW - 9 * DAY), node("b", **case.node)], case.past, NOW)
    assert tuple(wish.kind for wish in wishes) == case.expected
    assert all(wish.by and (wish.node is None) == (wish.kind == K.BACKUP) for wish in wishes)


def test_failures_that_go_on_are_tried_ever_less_often_and_never_given_up() -> None:
    tries: list[Operation] = []
    now = NOW
    for _ in range(3 * 24 * 60):  # every minute of three days
        past = Past(operations=tries[:LOOKED_BACK])
        for wish in due(vault(verify_every_hours=None), [node("b", **LACKING)], past, now):
            failed = Operation(
                kind=wish.kind, state=S.FAILED, node_id="b" * 32, arguments=wish.arguments, finished_at=now
            )
            failed.created_at = now
            tries.insert(0, failed)
        now += MINUTE
    assert 8 <= len(tries) <= 11
    gaps = [later.created_at - earlier.created_at for later, earlier in pairwise(tries)]
    assert gaps[-1] == 10 * MINUTE
    assert max(gaps) == DAY


def test_without_a_master_nothing_is_due() -> None:
    lone = vault()
    lone.primary_id = None
    assert due(lone, [node("b", **LACKING, created_at=NOW - 9 * DAY)], Past(), NOW) == []
