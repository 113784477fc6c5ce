"""Switchover: another node becomes the primary while both live, and no write is lost.

1 look afresh, refuse with a reason; 2 the target is the acker, or is made it by way of solo; 3 claim: nobody promotable, intent published,
the former acker entitled (rule 10); 4 close the primary, bounded; 5 the target has received everything; 6 revoke, drain,
record, open as in a failover. Whatever fails before the record is given back to the former primary under a new epoch (P15),
by this leader or the next; after it, opening the target is an ordinary reopen (P60). Nobody is killed.
"""

from replication.core import limits
from replication.core.commands import Verb
from replication.core.errors import NodeUnreachable, Refused, ReplicationError
from replication.core.roles import IntentKind
from replication.core.switchover import why_not
from replication.core.view import Intent

from .failover import promote
from .following import become_acker
from .opening import go_solo
from .procedure import Procedure


async def switch_over(p: Procedure, target: str) -> None:
    """Make `target` the primary. Raises Refused when nothing was touched, else ReplicationError."""
    former = p.row.primary
    await _look_afresh(p, former, target)
    if p.row.promotable != target:
        if p.row.promotable:  # writes must not wait for an acker that is being switched off, however long that takes
            await go_solo(p)
        await become_acker(p, target)
    intent = Intent(
        kind=IntentKind.SWITCHOVER,
        target=target,
        entitled=p.row.promotable,
        former_primary=former,
        must_revoke=tuple(sorted(p.row.may_ack | {target})),
        operation=p.operation,
    )
    await p.claim(promotable="", intent=intent)
    await _hand_over(p, intent)
    new, old = p.node(target).hostname, p.node(former).hostname
    await p.event(f"switchover: {new} is Master now, {old} will follow it", node=target)


async def _look_afresh(p: Procedure, former: str, target: str) -> None:
    """Raises Refused, or NodeUnreachable when somebody has fallen silent this very moment."""
    silent: NodeUnreachable | None = None
    if former and p.view.node(target) is not None:
        try:
            await p.refresh(former, target)
        except NodeUnreachable as error:
            silent = error
    refusal = why_not(p.view, target)
    if refusal is not None:
        raise Refused(refusal.rule, refusal.says)
    if silent is not None:
        raise silent


async def _hand_over(p: Procedure, intent: Intent) -> None:
    closed = await p.order(intent.former_primary, Verb.CLOSE, deadline=limits.CLOSE_DEADLINE)
    position = closed.facts.get("gtid_binlog_pos")
    if not isinstance(position, str):
        raise ReplicationError(f"{p.node(intent.former_primary).hostname} did not say where it closed")
    await p.order(intent.target, Verb.RECEIVED, deadline=limits.CLOSE_DEADLINE, args={"position": position})
    await promote(p, intent, revoke=limits.CLOSE_DEADLINE, drain=limits.CLOSE_DEADLINE)
