"""Failover: revoke, drain, record, open. And its two ends by a later leader: finish, or roll back.

Two-step promotion (rule 9'): the target stays closed, revoked and drained, until `primary := target` is recorded; only then
is it opened. Up to the record a roll back never needs the target; after it, the target is the primary.
Crash between any two steps: the intent is in the row, P10 and P15 of plan.py resolve it under a new epoch.
"""

import asyncio
from collections.abc import Coroutine
from datetime import timedelta
from typing import Any

from replication.core import limits
from replication.core.commands import Answer, Verb
from replication.core.errors import ReplicationError
from replication.core.roles import IntentKind
from replication.core.view import Intent

from .opening import open_args
from .procedure import Procedure

FENCE_PATIENCE = timedelta(seconds=0.2)
"""How long the end of a failover waits for the old primary's answer to the fence; safety does not rest on it."""


async def fail_over(p: Procedure, target: str) -> None:
    """1 claim: nobody promotable, intent published; then `finish`. The old primary is fenced beside it if it answers."""
    former = p.row.primary
    must_revoke = tuple(sorted(p.row.may_ack | {target}))
    intent = Intent(
        kind=IntentKind.FAILOVER,
        target=target,
        entitled=p.row.promotable,
        former_primary=former,
        must_revoke=must_revoke,
        operation=p.operation,
    )
    await p.claim(promotable="", intent=intent)
    await _finish_beside_fence(p)


async def finish(p: Procedure) -> None:
    """Finish what an earlier leader, or an earlier try, began: under a claim of our own."""
    await p.claim()
    await _finish_beside_fence(p)


async def _finish_beside_fence(p: Procedure) -> None:
    intent = p.row.intent
    if intent is None:
        raise ReplicationError("there is no open intent to finish")
    fence = asyncio.ensure_future(_fence(p, intent.former_primary))
    try:
        await promote(p, intent)
        await asyncio.wait({fence}, timeout=FENCE_PATIENCE.total_seconds())
        fenced = fence.result() if fence.done() else "no answer yet"
        target, former = p.node(intent.target).hostname, p.view.node(intent.former_primary)
        await p.event(
            f"failover: {target} is Master now{f', {former.hostname} was lost' if former else ''}",
            node=intent.target,
            level="warning",
            fence=fenced,
            writable_after_ms=p.steps.get(f"open {target}"),
        )
    finally:
        fence.cancel()


async def promote(
    p: Procedure, intent: Intent, *, revoke: timedelta = limits.STEP_DEADLINE, drain: timedelta = limits.DRAIN_DEADLINE
) -> None:
    """Revoke every node that may acknowledge for the former primary, drain the target, record it, open it.

    revoke: how long a node may take to stop receiving; drain: how long the target may take to apply what it has received. Raises ReplicationError; then nobody was opened, or
    the record is done and opening it is an ordinary reopen.
    """
    target = p.node(intent.target).hostname
    revoking = (f"{Verb.REVOKE.value} {p.node(node).hostname}" for node in intent.must_revoke)
    p.track.expect(*revoking, f"{Verb.DRAIN.value} {target}", "recorded", f"{Verb.OPEN.value} {target}")
    revocations = [p.order(node, Verb.REVOKE, deadline=revoke) for node in intent.must_revoke]
    await _all(*revocations)
    await p.order(intent.target, Verb.DRAIN, deadline=drain)
    p.track.begins("recorded")
    await p.amend(primary=intent.target, may_ack=frozenset(), promotable="", intent=None)
    p.note("recorded")
    await p.order(intent.target, Verb.OPEN, deadline=limits.START_DEADLINE, args=open_args(p, jump=True))


async def _all(*orders: Coroutine[Any, Any, Answer]) -> None:
    """Wait for every order, then raise the first failure: a step must not end while a command of it is under way."""
    outcomes = await asyncio.gather(*orders, return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome


async def _fence(p: Procedure, node: str) -> str:
    try:
        await p.order(node, Verb.FENCE, deadline=timedelta(seconds=2))
    except ReplicationError as error:
        return str(error)
    return "fenced"


async def roll_back(p: Procedure) -> None:
    """Give the vault back to the former primary: 1 it answers now, 2 claim, 3 clear the intent, 4 only then open it solo
    (rule 8). After 3 nobody can be promoted any more, so it must not be done for a host that died a moment ago."""
    intent = p.row.intent
    if intent is None:
        raise ReplicationError("there is no open intent to roll back")
    await p.refresh(intent.former_primary)
    former = p.node(intent.former_primary)
    if intent.kind is IntentKind.SWITCHOVER and not former.up:
        raise ReplicationError(f"the database of {former.hostname} has died meanwhile")
    await p.claim()
    await p.amend(intent=None)
    await p.order(intent.former_primary, Verb.OPEN, deadline=limits.START_DEADLINE, args=open_args(p, jump=False))
    await p.event(
        f"the {intent.kind.value} was not finished: {p.node(intent.former_primary).hostname} is Master again",
        node=intent.former_primary,
        level="error",
    )
