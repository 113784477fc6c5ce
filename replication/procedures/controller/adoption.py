"""The metadata database is older than what is known elsewhere: the agents say what is (rule 16).

1 claim above every epoch that is known, nobody promotable, the intent published: from here on no failover, no solo; 2 every
node that is in the list promises this epoch, also one that was added since; 3 the primary is the node whose order *to be primary* has the highest
epoch, whether it is open or not, fenced or not; everybody else may still acknowledge. A node that is gone for good is named
dead by deleting it; until then nothing is decided.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from replication.core.commands import Verb
from replication.core.errors import NodeUnreachable, ReplicationError
from replication.core.recovery import to_be_asked
from replication.core.roles import IntentKind, OrderKind
from replication.core.view import Intent

from .procedure import Procedure


async def adopt(p: Procedure) -> None:
    """Raises ReplicationError while somebody does not answer, or when what they say does not fit together."""
    everybody = tuple(n.id for n in to_be_asked(p.view))
    intent = Intent(
        kind=IntentKind.ADOPT,
        target="",
        entitled="",
        former_primary=p.row.primary,
        must_revoke=everybody,
        operation=p.operation,
    )
    await p.claim(promotable="", intent=intent)
    said = await _promises(p, everybody)
    _check_sources(p, said)
    orders = {id: int(facts["primary_order_epoch"]) for id, facts in said.items() if _was_primary(facts)}
    if not orders and said:
        raise ReplicationError(
            "the metadata database is out of date, and no agent that is left was ever told to be the Master: nobody is "
            "opened, add the node that was"
        )
    primary = max(orders, key=lambda id: orders[id]) if orders else ""
    await p.amend(primary=primary, may_ack=frozenset(said) - {primary}, promotable="", intent=None)
    name = p.node(primary).hostname if primary else "nobody"
    await p.event(
        f"the metadata database was out of date: by the word of all agents {name} is the Master",
        node=primary,
        level="error",
        orders={p.node(id).hostname: epoch for id, epoch in orders.items()},
    )


def _was_primary(facts: Mapping[str, Any]) -> bool:
    return str(facts["primary_order_kind"]) != OrderKind.NONE.value


async def _promises(p: Procedure, nodes: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    outcomes = await asyncio.gather(*(p.order(id, Verb.PROMISE) for id in nodes), return_exceptions=True)
    silent = [p.node(id).hostname for id, o in zip(nodes, outcomes, strict=True) if isinstance(o, NodeUnreachable)]
    if silent:
        raise ReplicationError(
            f"the metadata database is out of date, and {', '.join(silent)} must say what it was told: start its agent, or "
            "delete the node if it is gone for good"
        )
    said = {}
    for id, outcome in zip(nodes, outcomes, strict=True):
        if isinstance(outcome, BaseException):
            raise outcome
        said[id] = outcome.facts
    return said


def _check_sources(p: Procedure, said: Mapping[str, Mapping[str, Any]]) -> None:
    """A node that follows somebody who is not in the list: the list is out of date as well, and the primary may be missing."""
    known = {n.ip for n in p.view.nodes}
    for id, facts in said.items():
        source = str(facts["source_host"])
        if source and source not in known:
            raise ReplicationError(
                f"{p.node(id).hostname} follows {source}, which is not in the list of nodes: the list is out of date, add it"
            )
