"""GET /backups, POST /backups/check, POST /backups/remove: for controllers. docs/reference/agent-protocol.md."""

import asyncio
import json
from collections.abc import Callable
from typing import Any, Final

from aiohttp import web

from replication.agent.backup import Backups
from replication.agent.backup_files import BackupError

BODY_SECONDS: Final = 3


def routes(backups: Callable[[], Backups]) -> list[web.RouteDef]:
    async def listed(request: web.Request) -> web.Response:
        return await _answer(lambda: backups().listed())

    async def check(request: web.Request) -> web.Response:
        return await _named(request, lambda name: backups().begin_check(name))

    async def remove(request: web.Request) -> web.Response:
        return await _named(request, lambda name: backups().remove(name))

    return [web.get("/backups", listed), web.post("/backups/check", check), web.post("/backups/remove", remove)]


async def _named(request: web.Request, act: Callable[[str], dict[str, Any]]) -> web.Response:
    try:
        async with asyncio.timeout(BODY_SECONDS):
            body = json.loads(await request.read())
        name = body.get("name") if isinstance(body, dict) else None
        if not isinstance(name, str) or not name or "/" in name:
            raise ValueError("name must be the name of a backup")
    except TimeoutError:
        return web.json_response({"text": f"the request did not arrive within {BODY_SECONDS} s"}, status=408)
    except (ValueError, RecursionError) as error:
        return web.json_response({"text": f"not a request about a backup: {error}"}, status=400)
    return await _answer(lambda: act(name))


async def _answer(act: Callable[[], dict[str, Any]]) -> web.Response:
    """On another thread: a directory may be on a disk that hangs, or on one of another host."""
    try:
        return web.json_response(await asyncio.get_running_loop().run_in_executor(None, act))
    except BackupError as error:
        return web.json_response({"reason": "backup", "step": "backups", "text": str(error)}, status=422)
