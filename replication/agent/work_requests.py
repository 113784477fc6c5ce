"""POST /task and what belongs to it, GET /transactions, POST /compare, POST /kept/remove: long work, for controllers.

docs/reference/agent-protocol.md.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, Final

from aiohttp import web

from replication.agent.bodies import an_object, from_body, refusal
from replication.agent.compare import CannotCompare, Wish
from replication.agent.long_work import LongWork
from replication.core.tasks import TaskKind, TaskOrder
from replication.core.vault_ports import ProcessError, TaskRefused

FOR_THE_ASKING: Final = frozenset({TaskKind.EXPORT, TaskKind.BACKUP})
"""Tasks that change nothing of the vault, so that they need no epoch."""


def routes(work: LongWork, held: Callable[[], str]) -> list[web.RouteDef]:
    """held: why nothing is begun now, or ""."""

    async def begin(request: web.Request) -> web.Response:
        order = await from_body(request, _task_order, lambda error: f"not a task: {error}")
        if held():
            return refusal(503, text=held())
        try:
            report = await work.begin(order)
        except TaskRefused as error:
            return refusal(422, reason="task", step=order.kind.value, text=str(error))
        return web.json_response(asdict(report))

    async def cancel(request: web.Request) -> web.Response:
        return web.json_response({"ends": work.cancel(request.match_info["operation"])})

    async def result(request: web.Request) -> web.Response:
        result = await work.result(request.match_info["operation"])
        return refusal(404, text="nothing is kept of this operation") if result is None else web.json_response(result)

    async def transactions(request: web.Request) -> web.Response:
        try:
            inventory = await work.transactions()
        except ProcessError as error:
            return refusal(422, reason="binary-logs", step="transactions", text=str(error))
        return web.json_response(inventory.to_json())

    async def compare(request: web.Request) -> web.Response:
        wish = await from_body(request, Wish.from_json, lambda error: f"not a part of a comparison: {error}")
        try:
            return web.json_response(await work.compare(request.match_info["what"], wish))
        except CannotCompare as error:
            return refusal(422, reason=error.reason, step="compare", text=str(error))
        except ValueError as error:
            return refusal(400, text=f"not a part of a comparison: {error}")

    async def remove_kept(request: web.Request) -> web.Response:
        content = await from_body(request, an_object, lambda error: f"the request cannot be read: {error}")
        operation = content.get("operation")
        if not isinstance(operation, str) or not operation:
            return refusal(400, text="operation must say whose data are to be removed")
        try:
            await work.remove_kept(operation)
        except TaskRefused as error:
            return refusal(422, reason="kept", step="kept", text=str(error))
        return web.json_response({})

    return [
        web.post("/task", begin),
        web.post("/task/{operation}/cancel", cancel),
        web.get("/task/{operation}/result", result),
        web.get("/transactions", transactions),
        web.post("/compare/{what}", compare),
        web.post("/kept/remove", remove_kept),
    ]


def _task_order(data: Any) -> TaskOrder:
    """What a controller may begin by itself; what replaces data, or hands it out, takes a verb. Raises ValueError."""
    if not isinstance(data, Mapping) or not isinstance(data.get("args", {}), Mapping):
        raise ValueError("an object with kind, operation and args was expected")
    kind, operation = TaskKind(str(data.get("kind"))), data.get("operation")
    if kind not in FOR_THE_ASKING:
        raise ValueError(f"{kind.value} takes a command under an epoch")
    if not isinstance(operation, str) or not operation:
        raise ValueError("operation must say what it belongs to")
    return TaskOrder(kind=kind, operation=operation, args=data.get("args", {}))
