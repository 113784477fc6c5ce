"""Re-synchronize Master: every active fallback to the master's position of the moment of the click, incrementally.

Reads agents only. Where replication has to be started again the service does it (it alone takes epochs): this job leaves
the wish on the node's row and watches. Safe to run twice: the second run finds less to do. Cancelled, it only stops watching:
a fallback that follows goes on to catch up.
"""

import asyncio
import logging
import time
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import close_old_connections
from django.utils import timezone

from nodes.choices import OperationState, OperationUnit
from nodes.models import Operation, VaultNode
from replication.client import AgentClient
from replication.core.errors import NodeUnreachable
from replication.core.positions import GtidPosition
from replication.core.resync import standing, transactions_between
from replication.core.view import NodeView
from replication.stores import operations
from replication.stores.inventory import node_view

from .telling import CancelWished, Lost, Telling

log = logging.getLogger(__name__)
LOOK_EVERY = 0.25
NO_PROGRESS = timedelta(seconds=60)
"""A fallback that has come no nearer for this long ends the operation."""


class Refused(Exception):
    """Ends the operation as failed, with a sentence."""


@dataclass
class Course:
    """One fallback on its way."""

    node: NodeView
    began_at: str = ""
    to_do: int | None = None
    remaining: int | None = None
    seconds: float | None = None
    asked: bool = False
    trouble: str = ""
    moved: float = field(default_factory=time.monotonic)

    @property
    def done(self) -> int | None:
        """Transactions that it has applied since the beginning; None while it is not known how many there are."""
        if self.to_do is None:
            return None
        return self.to_do if self.seconds is not None else max(0, self.to_do - (self.remaining or 0))

    @property
    def step(self) -> str:
        return f"catch-up {self.node.hostname}"


async def _in_thread(function: Any, *args: Any) -> Any:
    def guarded() -> Any:
        close_old_connections()
        return function(*args)

    return await asyncio.to_thread(guarded)


def _participants(operation: Operation) -> tuple[NodeView, list[NodeView]]:
    """The primary and the fallbacks to bring along. Raises Refused."""
    vault = operation.vault
    if vault is None or vault.primary is None:
        raise Refused("the vault has no primary yet")
    present = VaultNode.objects.present().filter(vault=vault, active=True).exclude(pk=vault.primary_id)
    if operation.node_id and operation.node_id != vault.primary_id:
        present = present.filter(pk=operation.node_id)
    targets = [node_view(node) for node in present.order_by("ordinal")]
    if not targets:
        raise Refused("there is no active fallback to synchronize")
    return node_view(vault.primary), targets


async def _bring_along(telling: Telling, courses: list[Course], agents: AgentClient) -> dict[str, Any]:
    """courses: empty; filled with the fallbacks to bring along, so that whoever ends it early can say how far they are."""
    primary, targets = await _in_thread(_participants, telling.operation)
    asking = f"ask {primary.hostname}"
    telling.track.begins(asking)
    telling.track.expect(*(Course(node).step for node in targets))
    try:
        report = await agents.hello(primary, since=-1, wait=timedelta())
    except NodeUnreachable as error:
        raise Refused(str(error)) from error
    if report.database is None or report.database.read_only:
        raise Refused(f"{primary.hostname} is not open as Master now")
    target = GtidPosition.parse(report.database.gtid_binlog_pos)
    telling.track.done(asking, position=str(target))
    courses += [Course(node) for node in targets]
    for course in courses:
        telling.track.begins(course.step)
    while any(c.seconds is None for c in courses):
        for course in (c for c in courses if c.seconds is None):
            await _look(course, agents, primary, target, telling)
        await _in_thread(_tell, telling, courses)
        if any(c.seconds is None for c in courses):
            await asyncio.sleep(LOOK_EVERY)
    return _result(courses, target, telling.seconds)


def _tell(telling: Telling, courses: list[Course]) -> None:
    for course in (c for c in courses if c.seconds is None):
        telling.track.begins(course.step, _standing(course))
    telling.tell(_percent(courses), _message(courses), **_amounts(courses))


def _amounts(courses: list[Course]) -> dict[str, Any]:
    """done and total in transactions; nothing while one of them has not said where it stands."""
    if not courses or any(c.to_do is None for c in courses):
        return {}
    done, total = sum(c.done or 0 for c in courses), sum(c.to_do or 0 for c in courses)
    return {"done": done, "total": total, "unit": OperationUnit.TRANSACTIONS.value}


async def _look(course: Course, agents: AgentClient, primary: NodeView, target: GtidPosition, telling: Telling) -> None:
    # Asked before the look: only a report from after the service has tried counts against the node.
    tried = course.asked and not await _in_thread(_waits_for_service, course.node.id)
    try:
        report = await agents.hello(course.node, since=-1, wait=timedelta())
    except NodeUnreachable as error:
        course.trouble = str(error)
        return _mind_progress(course, None)
    now = standing(report, (primary.ip, primary.database_port), target)
    if now.refusal and (tried or not report.quarantine):
        raise Refused(f"{course.node.hostname} cannot be synchronized: {now.refusal}")
    if course.to_do is None and report.database is not None:
        course.began_at, course.to_do = report.database.gtid_slave_pos, now.remaining
    if not now.streaming and not course.asked:
        course.asked = True
        await _in_thread(_ask_service, course.node.id)
    db = report.database
    course.trouble = (
        "" if now.streaming or db is None else db.receiver_error or db.applier_error or "it does not follow yet"
    )
    if report.database is not None and now.streaming and now.remaining == 0:
        course.remaining, course.seconds = 0, telling.seconds
        telling.track.done(course.step, _standing(course), str(target))
        return None
    return _mind_progress(course, now.remaining if report.database is not None else None)


def _ask_service(node: str) -> None:
    VaultNode.objects.filter(pk=node).update(resync_requested_at=timezone.now())


def _waits_for_service(node: str) -> bool:
    return VaultNode.objects.filter(pk=node, resync_requested_at__isnull=False).exists()


def _mind_progress(course: Course, remaining: int | None) -> None:
    if remaining is not None and remaining != course.remaining:
        course.remaining, course.moved = remaining, time.monotonic()
    if time.monotonic() - course.moved > NO_PROGRESS.total_seconds():
        raise Refused(
            f"{course.node.hostname} came no nearer for {NO_PROGRESS.seconds} s: {course.trouble or 'it applies nothing'}"
        )


def _percent(courses: list[Course]) -> int:
    shares = []
    for c in courses:
        if c.seconds is not None:
            shares.append(1.0)
        elif c.to_do and c.remaining is not None:
            shares.append(max(0.0, 1 - c.remaining / c.to_do))
        else:
            shares.append(0.0)
    return int(100 * sum(shares) / len(shares))


def _message(courses: list[Course]) -> str:
    return "; ".join(f"{c.node.hostname}: {_standing(c)}" for c in courses)


def _standing(course: Course) -> str:
    if course.seconds is not None:
        return f"{course.to_do} transactions" if course.to_do else "nothing was missing"
    if course.trouble:
        return course.trouble
    if course.done is None or course.remaining is None:
        return "it has not said yet where it stands"
    return f"{course.done} of {course.to_do} transactions, {course.remaining} to go"


def _result(courses: list[Course], target: GtidPosition, seconds: float) -> dict[str, Any]:
    nodes = [
        {
            "hostname": c.node.hostname,
            "from": c.began_at,
            "to": str(target),
            "transactions": transactions_between(GtidPosition.parse(c.began_at), target),
            "seconds": round(c.seconds or 0, 2),
        }
        for c in courses
    ]
    each = ", ".join(f"{n['hostname']} ({n['transactions']} transactions, {n['seconds']} s)" for n in nodes)
    summary = f"Synchronized to position {target or '(empty)'} in {seconds:.1f} s: {each}."
    return {"summary": summary, "position": str(target), "seconds": round(seconds, 2), "nodes": nodes}


def _cancel(telling: Telling, courses: list[Course]) -> dict[str, Any]:
    """Take back what the service was asked for and has not begun; say what was done. What follows goes on to follow."""
    asked = [c.node.id for c in courses if c.asked and c.seconds is None]
    VaultNode.objects.filter(pk__in=asked, resync_requested_at__isnull=False).update(resync_requested_at=None)
    reached = "; ".join(f"{c.node.hostname}: {_standing(c)}" for c in courses) or "nothing had been done"
    goes_on = " A fallback that follows goes on to catch up by itself." if courses else ""
    summary = f"Cancelled after {telling.seconds:.1f} s. {reached}.{goes_on}"
    return {"summary": summary, "seconds": round(telling.seconds, 2)}


async def _main(telling: Telling, courses: list[Course]) -> dict[str, Any]:
    async with AgentClient(settings.PKI_DIR) as agents:
        return await _bring_along(telling, courses, agents)


def run(id: str) -> None:
    """Ends the operation succeeded, failed or cancelled, with a result that says why."""
    operation = operations.begin(id)
    if operation is None:
        return
    telling, courses = Telling(operation), list[Course]()
    try:
        result = asyncio.run(_main(telling, courses))
    except Lost:
        log.info("re-synchronization %s was ended by somebody else", id)
    except CancelWished:
        result = _cancel(telling, courses)
        telling.end(OperationState.CANCELLED, result["summary"], result)
    except Refused as refused:
        telling.end(OperationState.FAILED, str(refused), {"summary": f"Not synchronized: {refused}."})
    except Exception as error:
        log.exception("re-synchronization %s failed", id)
        text = f"Not synchronized: {error.__class__.__name__}; see the log of the ops worker."
        telling.end(OperationState.FAILED, text, {"summary": text})
    else:
        telling.end(OperationState.SUCCEEDED, result["summary"], result, **_amounts(courses))
