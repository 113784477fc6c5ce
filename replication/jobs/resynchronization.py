"""Re-synchronize Master: every active fallback to the master's position of the moment of the click.

Each incrementally where GTID allows it: all at once, so that who can follow does. Where only a full copy can help (its logs were
purged, it has diverged, its database does not start, its applier stops again after a fresh start) it gets one, one node after
the other, and the operation says why. Reads agents only. Where replication has to be started again, or a copy to be ordered, the
service does it (it alone takes epochs): this job leaves the wish on the node's row and watches. Safe to run twice: the second run
finds less to do. Cancelled, it only stops watching: a fallback that follows goes on to catch up.
"""

import asyncio
import logging
import time
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

from django.conf import settings
from django.utils import timezone

from nodes.choices import OperationState, OperationUnit
from nodes.models import Operation, VaultNode
from replication.client import AgentClient
from replication.core.errors import NodeUnreachable
from replication.core.positions import Position, parse
from replication.core.report import NodeReport
from replication.core.resync import standing, stopped_by, transactions_between
from replication.core.roles import ProcessState
from replication.core.view import NodeView
from replication.stores import operations
from replication.stores.data_wishes import withdraw_of

from . import rebuilding
from .copying import Cancelled
from .participants import primary_and_fallbacks
from .telling import CancelWished, Lost, Refused, Telling, in_thread

log = logging.getLogger(__name__)
RULE: Final = "P65"
"""Of the event that says how it ended: the plan's row for who is let follow because it was asked for."""
LOOK_EVERY = 0.25
NO_PROGRESS = timedelta(seconds=60)
"""A fallback that has come no nearer for this long ends the operation."""


NOT_STARTING: Final = timedelta(seconds=45)
"""A database that has not been up for this long does not start: only other data can help."""


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
    up: float = field(default_factory=time.monotonic)
    """When its database was up last, or since when somebody looks."""
    copy: str = ""
    """Why only a full copy can help; it gets one when the others are there."""
    diverged: bool = False
    rebuilt: rebuilding.Course | None = None
    failed: str = ""

    @property
    def waits(self) -> bool:
        """It is on its way by itself."""
        return self.seconds is None and not self.copy and not self.failed

    @property
    def done(self) -> int | None:
        """Transactions that it has applied since the beginning; None while it is not known how many there are."""
        if self.to_do is None:
            return None
        return self.to_do if self.seconds is not None else max(0, self.to_do - (self.remaining or 0))

    @property
    def step(self) -> str:
        return f"catch-up {self.node.hostname}"


def _participants(operation: Operation) -> tuple[NodeView, list[NodeView]]:
    """The primary and the fallbacks to bring along. Raises Refused."""
    primary, targets = primary_and_fallbacks(operation)
    if primary is None:
        raise Refused("the vault has no primary yet")
    if not targets:
        raise Refused("there is no active fallback to synchronize")
    return primary, targets


async def _bring_along(telling: Telling, courses: list[Course], agents: AgentClient) -> dict[str, Any]:
    """courses: empty; filled with the fallbacks to bring along, so that whoever ends it early can say how far they are."""
    primary, targets = await in_thread(_participants, telling.operation)
    asking = f"ask {primary.hostname}"
    telling.track.begins(asking)
    telling.track.expect(*(Course(node).step for node in targets))
    try:
        report = await agents.hello(primary, since=-1, wait=timedelta())
    except NodeUnreachable as error:
        raise Refused(str(error)) from error
    if report.database is None or report.database.read_only:
        raise Refused(f"{primary.hostname} is not open as Master now")
    target = parse(report.database.gtid_binlog_pos)
    telling.track.done(asking, position=str(target))
    begun = telling.operation.arguments.get("copies", {})  # by an earlier worker of this operation
    courses += [Course(node, copy=begun.get(node.id, "")) for node in targets]
    for course in (c for c in courses if c.waits):
        telling.track.begins(course.step)
    while any(c.waits for c in courses):
        for course in (c for c in courses if c.waits):
            try:
                await _look(course, agents, primary, target, telling)
            except Refused as refused:  # the others are brought along all the same
                course.failed = str(refused)
                telling.track.failed(course.step, course.failed)
        await in_thread(_tell, telling, courses)
        if any(c.waits for c in courses):
            await asyncio.sleep(LOOK_EVERY)
    want = rebuilding.wanted(telling.operation)
    for course in (c for c in courses if c.copy):
        await _copy(course, agents, telling, want)
    if failed := [f"{c.node.hostname}: {c.failed}" for c in courses if c.failed]:
        raise Refused("; ".join([*failed, *(_told(c) for c in courses if not c.failed)]))
    return _result(courses, target, telling.seconds)


async def _copy(course: Course, agents: AgentClient, telling: Telling, want: rebuilding.Wanted) -> None:
    """A failure is this node's own: the next one is tried all the same. Raises Cancelled, CancelWished, Lost."""
    operation, node = telling.operation, course.node
    if course.diverged and node.id not in operation.arguments.get("replace", []):
        course.failed = (
            f"only a full copy can help, because {course.copy}: its own transactions would be exported and its data replaced."
            " Ask again: it is to be confirmed with its hostname"
        )
        return
    telling.track.done(course.step, f"not possible: full copy, because {course.copy}")
    copies = operation.arguments.get("copies", {})
    await in_thread(_remember, operation, {**copies, node.id: course.copy})
    course.rebuilt = rebuilding.Course(node)
    try:
        await rebuilding.rebuild(telling, agents, course.rebuilt, want, copy_id(operation.pk, node.id))
    except (Refused, NodeUnreachable) as error:
        course.failed = f"full copy, because {course.copy}. {course.rebuilt.story}But {error}"
        return
    except Cancelled as cancelled:
        course.failed = str(cancelled)
        raise
    course.seconds = telling.seconds
    if course.rebuilt.differences:
        course.failed = f"full copy, because {course.copy}. {course.rebuilt.story}"


def _remember(operation: Operation, copies: dict[str, str]) -> None:
    operations.remember(operation.pk, copies=copies)
    operation.arguments["copies"] = copies


def copy_id(operation: str, node: str) -> str:
    """One operation may copy to several nodes, and each copy has an id of its own: always the same one for the same node."""
    return operation[:16] + node[:16]


def _tell(telling: Telling, courses: list[Course]) -> None:
    for course in (c for c in courses if c.waits):
        telling.track.begins(course.step, _standing(course))
    telling.tell(_percent(courses), _message(courses), **_amounts(courses))


def _amounts(courses: list[Course]) -> dict[str, Any]:
    """done and total in transactions; nothing while one of them has not said where it stands."""
    if not courses or any(c.to_do is None for c in courses):
        return {}
    done, total = sum(c.done or 0 for c in courses), sum(c.to_do or 0 for c in courses)
    return {"done": done, "total": total, "unit": OperationUnit.TRANSACTIONS.value}


async def _look(course: Course, agents: AgentClient, primary: NodeView, target: Position, telling: Telling) -> None:
    # Asked before the look: only a report from after the service has tried counts against the node.
    tried = course.asked and not await in_thread(_waits_for_service, course.node.id)
    try:
        report = await agents.hello(course.node, since=-1, wait=timedelta())
    except NodeUnreachable as error:
        course.trouble = str(error)
        return _mind_progress(course, None)
    now = standing(report, (primary.ip, primary.database_port), target)
    if now.refusal:
        raise Refused(f"it cannot be synchronized: {now.refusal}")
    course.copy, course.diverged = _why_copy(course, report, now.copy, tried=tried), bool(report.quarantine)
    if course.copy:
        return None
    if course.to_do is None and report.database is not None:
        course.began_at, course.to_do = report.database.gtid_slave_pos, now.remaining
    if not now.streaming and not course.asked:
        course.asked = True
        await in_thread(_ask_service, course.node.id)
    db = report.database
    course.trouble = (
        "" if now.streaming or db is None else db.receiver_error or db.applier_error or "it does not follow yet"
    )
    if report.database is not None and now.streaming and now.remaining == 0:
        course.remaining, course.seconds = 0, telling.seconds
        telling.track.done(course.step, _standing(course), str(target))
        return None
    return _mind_progress(course, now.remaining if report.database is not None else None)


def _why_copy(course: Course, report: NodeReport, held: str, *, tried: bool) -> str:
    """Why it gets a full copy, "" as long as it may go on by itself. tried: the service has let it follow afresh already."""
    if report.process is ProcessState.UP and report.database is not None:
        course.up = time.monotonic()
        return (held or stopped_by(report)) if tried else ""
    if time.monotonic() - course.up > NOT_STARTING.total_seconds():
        return held or f"its database has not started for {NOT_STARTING.seconds} s"
    return ""


def _ask_service(node: str) -> None:
    VaultNode.objects.filter(pk=node).update(resync_requested_at=timezone.now())


def _waits_for_service(node: str) -> bool:
    return VaultNode.objects.filter(pk=node, resync_requested_at__isnull=False).exists()


def _mind_progress(course: Course, remaining: int | None) -> None:
    if remaining is not None and remaining != course.remaining:
        course.remaining, course.moved = remaining, time.monotonic()
    if time.monotonic() - course.moved > NO_PROGRESS.total_seconds():
        raise Refused(f"it came no nearer for {NO_PROGRESS.seconds} s: {course.trouble or 'it applies nothing'}")


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
    if course.copy:
        story = course.rebuilt.story.strip() if course.rebuilt is not None else ""
        return ". ".join(filter(None, (f"full copy, because {course.copy}", story or course.failed)))
    if course.failed:
        return course.failed
    if course.seconds is not None:
        return f"{course.to_do} transactions" if course.to_do else "nothing was missing"
    if course.trouble:
        return course.trouble
    if course.done is None or course.remaining is None:
        return "it has not said yet where it stands"
    return f"{course.done} of {course.to_do} transactions, {course.remaining} to go"


def _told(course: Course) -> str:
    if course.rebuilt is not None:
        return f"{course.node.hostname}: full copy, because {course.copy}. {course.rebuilt.story.strip()}"
    return f"{course.node.hostname} ({course.to_do or 0} transactions, {course.seconds or 0:.1f} s)"


def _result(courses: list[Course], target: Position, seconds: float) -> dict[str, Any]:
    nodes = [
        {
            "hostname": c.node.hostname,
            "from": c.began_at,
            "to": str(target),
            "transactions": transactions_between(parse(c.began_at), target) if not c.copy else 0,
            "seconds": round(c.seconds or 0, 2),
            **({"copy": c.copy, **c.rebuilt.to_json()} if c.rebuilt is not None else {}),
        }
        for c in courses
    ]
    each = ", ".join(
        f"{n['hostname']} ({n['transactions']} transactions, {n['seconds']} s)" for n in nodes if "copy" not in n
    )
    copied = " ".join(_told(c) for c in courses if c.rebuilt is not None)
    summary = f"Synchronized to position {target or '(empty)'} in {seconds:.1f} s: {each or 'by a full copy'}."
    if copied:
        summary = f"{summary} {copied}"
    return {"summary": summary, "position": str(target), "seconds": round(seconds, 2), "nodes": nodes}


def _cancel(telling: Telling, courses: list[Course]) -> dict[str, Any]:
    """Take back what the service was asked for and has not begun; say what was done. What follows goes on to follow."""
    asked = [c.node.id for c in courses if c.asked and c.waits]
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
    except (Cancelled, CancelWished):
        result = _cancel(telling, courses)
        telling.end(OperationState.CANCELLED, result["summary"], result, rule=RULE)
    except Refused as refused:
        telling.end(OperationState.FAILED, str(refused), {"summary": f"Not synchronized: {refused}."}, rule=RULE)
    except Exception as error:
        log.exception("re-synchronization %s failed", id)
        text = f"Not synchronized: {error.__class__.__name__}; see the log of the ops worker."
        telling.end(OperationState.FAILED, text, {"summary": text}, rule=RULE)
    else:
        telling.end(OperationState.SUCCEEDED, result["summary"], result, rule=RULE, **_amounts(courses))
    finally:
        withdraw_of(operation)
