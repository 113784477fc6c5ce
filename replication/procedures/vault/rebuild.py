"""Verbs of a full copy: rebuild, send, undo. Each begins long work of its host and answers at once."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from replication.core.roles import OrderKind
from replication.core.tasks import TaskKind, TaskOrder
from replication.core.vault_ports import DatabaseError, TaskRefused

from .work import Work


def rebuild(work: Work) -> Mapping[str, Any]:
    """1 no primary, no order to be one; 2 it acknowledges for nobody from here on; 3 it waits for the copy."""
    _stand_back(work)
    return _begin(work, TaskKind.RECEIVE)


def undo(work: Work) -> Mapping[str, Any]:
    """As `rebuild`, with the kept old data in place of a copy."""
    _stand_back(work)
    return _begin(work, TaskKind.UNDO)


def send(work: Work) -> Mapping[str, Any]:
    """Push a copy to another node. Changes nothing here."""
    return _begin(work, TaskKind.SEND)


def _stand_back(work: Work) -> None:
    ports, db = work.ports, work.ports.database
    state = ports.state.read()
    if state.order_kind is not OrderKind.NONE:
        raise work.refusal("is-primary", "it is the primary")
    if not ports.process.running():
        return
    try:
        now = db.switches()
        db.set_acknowledging(False)
        if now.acknowledging or now.stream_acknowledges:
            db.stop_receiver()
            db.start_receiver()
    except DatabaseError:
        # It hangs, or does not get ready: the more it needs other data. Killed it acknowledges for nobody, and every start
        # begins with its flag off.
        with work.step("kill"):
            ports.process.kill()


def _begin(work: Work, kind: TaskKind) -> Mapping[str, Any]:
    order = TaskOrder(kind=kind, operation=work.command.operation, args=work.command.args)
    try:
        return {"task": asdict(work.ports.tasks.begin(order))}
    except TaskRefused as error:
        raise work.refusal("task", str(error)) from error
