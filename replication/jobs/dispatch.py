"""Sees that operations are carried out: hands over what no queue and no worker holds, and asks for what is due.

A task of the leading service process, with a thread of its own for everything that blocks. Nothing waits for it, and no fault of
it ends the service. Redis carries ids only, so what it forgets is handed over again; while it does not answer nothing is.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from django.db import Error
from django.utils import timezone

from nodes.choices import DesiredState, OperationState
from nodes.models import AppService, Operation, Vault, VaultNode
from nodes.models.operation import JOB_KINDS, OPEN_STATES
from nodes.models.service import SERVICE_NAME
from replication.stores import data_wishes, operations, schedule
from replication.stores.cancelling import FORSAKEN_AFTER
from replication.stores.pausing import pause_now
from replication.stores.threads import DatabaseThread
from replication.stores.wishes import QueueUnavailable, RefusedWish

from . import queueing

log = logging.getLogger(__name__)
LOOK_EVERY: Final = timedelta(seconds=2)
DUE_EVERY: Final = timedelta(seconds=10)
QUEUED_GRACE: Final = timedelta(seconds=4)
"""Whoever made the row hands it over himself, after his commit; and a worker takes it out of the queue a moment before it says so."""
MOST_TAKEN_UP: Final = 10
"""An operation whose worker died so often ends its workers itself: it is handed over no more."""


class Dispatcher:
    def __init__(self, leads: Callable[[], bool]) -> None:
        self._leads = leads
        self._thread = DatabaseThread("dispatch")
        self._due_at = 0.0

    async def run(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY.total_seconds())
            if not self._leads():
                continue
            try:
                await self._thread.run(self._pass)
            except Error as error:
                log.warning("operations could not be handed over, the metadata database does not answer: %s", error)
            except Exception:  # a fault of ours in what is due ends no service
                log.exception("operations could not be handed over")

    def close(self) -> None:
        self._thread.close()

    def _pass(self) -> None:
        hand_over(timezone.now())
        if time.monotonic() >= self._due_at:
            self._due_at = time.monotonic() + DUE_EVERY.total_seconds()
            ask_for_what_is_due(timezone.now())


def hand_over(now: datetime) -> int:
    """Enqueue what waits and is in no queue, and what ran and whose worker died. Returns how many."""
    waiting = Operation.objects.filter(kind__in=JOB_KINDS, state__in=OPEN_STATES)
    lost = [one for one in waiting if _is_overdue(one, now)]
    held = queueing.operations_in_queue() if lost else None
    if held is None:
        return 0
    handed = 0
    for one in (one for one in lost if one.pk not in held):
        taken_up = int(one.arguments.get("taken_up", 0))
        if one.state == OperationState.RUNNING and taken_up >= MOST_TAKEN_UP:
            _give_up(one)
            continue
        if one.state == OperationState.RUNNING:
            operations.remember(one.pk, taken_up=taken_up + 1)
        try:
            queueing.enqueue_again(one.pk, one.kind)
        except QueueUnavailable as error:
            log.info("Redis does not answer: %s", error)
            break
        log.info("operation %s (%s, %s) was in no queue and is handed over", one.pk, one.kind, one.state)
        handed += 1
    return handed


def _is_overdue(operation: Operation, now: datetime) -> bool:
    if operation.state == OperationState.QUEUED:
        return now - operation.created_at > QUEUED_GRACE
    return now - operation.changed_at > FORSAKEN_AFTER


def _give_up(operation: Operation) -> None:
    data_wishes.withdraw_of(operation)
    text = f"its worker died {MOST_TAKEN_UP} times, so it is not tried again; the node's row says what data it has"
    operations.end(operation.pk, OperationState.FAILED, text, {"summary": text})


def ask_for_what_is_due(now: datetime) -> int:
    """Make what is due, one wish each. Nothing of a stopped service, and nothing of a vault whose failover is paused: then
    somebody is at work there. Returns how many."""
    if not AppService.objects.filter(name=SERVICE_NAME, desired_state=DesiredState.STARTED).exists():
        return 0
    made = 0
    for vault in Vault.objects.all():
        if pause_now(vault) is not None:
            continue
        nodes = list(VaultNode.objects.present().filter(vault=vault).order_by("ordinal"))
        for wish in schedule.due(vault, nodes, schedule.past_of(vault), now):
            asked = data_wishes.request(
                wish.kind, wish.node or vault, None, arguments=wish.arguments, by=wish.by,
                enqueue=lambda operation: queueing.enqueue(operation.pk, operation.kind),
            )  # fmt: skip
            if isinstance(asked, RefusedWish):
                log.debug("%s is due and was refused: %s", wish.kind, asked.says)
            else:
                made += 1
    return made
