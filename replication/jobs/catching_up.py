"""Watches one fallback until it has what the Master had when it was looked at first. Reads agents only; the service lets it follow."""

import asyncio
import logging
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from nodes.choices import OperationUnit
from nodes.models import Vault, VaultNode
from replication.client import AgentClient
from replication.core.errors import NodeUnreachable, PositionsNotComparable
from replication.core.positions import Position, parse
from replication.core.report import NodeReport
from replication.core.resync import standing, transactions_between, why_copy
from replication.core.view import NodeView
from replication.stores.inventory import node_view
from replication.stores.wishes import is_watched

from .telling import Refused, Telling, in_thread

log = logging.getLogger(__name__)
LOOK_EVERY: Final = 0.25
PATIENCE: Final = timedelta(seconds=30)
NO_PROGRESS: Final = timedelta(seconds=60)
"""A fallback that has come no nearer for this long ends the operation."""


@dataclass(frozen=True)
class CaughtUp:
    transactions: int
    """Behind when it was looked at first."""
    position: str
    seconds: float


def primary_of(vault: str) -> NodeView | None:
    """As published now: it may change while somebody catches up."""
    row = Vault.objects.select_related("primary").get(pk=vault)
    return node_view(row.primary) if row.primary is not None else None


async def ask(agents: AgentClient, node: NodeView | None) -> tuple[NodeReport | None, str]:
    if node is None:
        return None, "the vault has no Master now"
    try:
        return await agents.hello(node, since=-1, wait=timedelta()), ""
    except NodeUnreachable as error:
        return None, str(error)


async def ask_patiently(telling: Telling, agents: AgentClient, node: NodeView) -> NodeReport:
    """A busy host may miss one question. Raises Refused when it has answered none for PATIENCE, CancelWished, Lost."""
    until = time.monotonic() + PATIENCE.total_seconds()
    while True:
        report, silent = await ask(agents, node)
        if report is not None:
            return report
        if time.monotonic() > until:
            raise Refused(f"{silent}; nothing was begun")
        await in_thread(telling.tell, 0, f"{silent}; it is asked again")
        await asyncio.sleep(LOOK_EVERY)


async def catch_up(telling: Telling, agents: AgentClient, vault: str, node: NodeView) -> CaughtUp:
    """Raises Refused with what holds it up, CancelWished, Lost."""
    step = f"catch-up {node.hostname}"
    telling.track.begins(step)
    began = moved = time.monotonic()
    goal: Position | None = None
    at_first = remaining = None
    trouble = "it has not said yet where it stands"
    while True:
        if not await in_thread(takes_part, node.id):
            raise Refused(
                f"{node.hostname} was made inactive or deleted meanwhile: made active again, it follows by itself"
            )
        primary = await in_thread(primary_of, vault)
        theirs, trouble = await ask(agents, primary)
        mine, silent = await ask(agents, node)
        trouble = trouble or silent
        if goal is None and theirs is not None and theirs.database is not None and not theirs.database.read_only:
            goal = parse(theirs.database.gtid_binlog_pos)
        if goal is not None and primary is not None and mine is not None and mine.database is not None:
            now = standing(mine, (primary.ip, primary.database_port), goal)
            if why := now.refusal or why_copy(mine):
                raise Refused(f"{node.hostname} does not follow: {why}")
            if now.streaming and now.remaining == 0:
                seconds = time.monotonic() - began
                telling.track.done(step, f"{at_first or 0} transactions", str(goal))
                return CaughtUp(at_first or 0, str(goal), seconds)
            at_first = now.remaining if at_first is None else at_first
            db = mine.database
            trouble = "" if now.streaming else db.receiver_error or db.applier_error or "it does not follow yet"
            if now.remaining != remaining:
                remaining, moved = now.remaining, time.monotonic()
        if time.monotonic() - moved > NO_PROGRESS.total_seconds():
            trouble = trouble or "it applies nothing"
            if not await in_thread(is_watched):
                trouble = "SystemHighAvailabilityService is stopped, or no worker runs it: start it, and the node follows by itself"
            raise Refused(f"{node.hostname} came no nearer to the Master for {NO_PROGRESS.seconds} s: {trouble}")
        lag = _lag(mine, theirs)
        says = f"{lag:,} transactions behind the Master" if lag is not None else trouble or "it catches up"
        telling.track.begins(step, says)
        amount = (max(0, at_first - (remaining or 0)), at_first) if at_first else (None, None)
        await in_thread(_tell, telling, f"{node.hostname}: {says}", *amount)
        await asyncio.sleep(LOOK_EVERY)


def takes_part(node: str) -> bool:
    return VaultNode.objects.present().filter(pk=node, active=True).exists()


def _tell(telling: Telling, message: str, done: int | None, total: int | None) -> None:
    unit = OperationUnit.TRANSACTIONS.value if total else ""
    telling.tell(100 * (done or 0) // total if total else 0, message, done=done, total=total, unit=unit)


def _lag(mine: NodeReport | None, theirs: NodeReport | None) -> int | None:
    """Transactions from where it is to where the Master is now; None while one of them is not known."""
    if mine is None or theirs is None or mine.database is None or theirs.database is None:
        return None
    try:
        return transactions_between(parse(mine.database.gtid_slave_pos), parse(theirs.database.gtid_binlog_pos))
    except PositionsNotComparable:
        return None
