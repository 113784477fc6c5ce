"""GET /backups, POST /backups/check, POST /backups/remove: for controllers. docs/reference/agent-protocol.md."""

import asyncio
from collections.abc import Callable
from typing import Any

from aiohttp import web

from replication.agent.backup import Backups
from replication.agent.backup_files import BackupError
from replication.agent.bodies import from_body, refusal


def routes(backups: Backups) -> list[web.RouteDef]:
    async def listed(request: web.Request) -> web.Response:
        return await _answer(backups.listed)

    async def check(request: web.Request) -> web.Response:
        return await _named(request, backups.begin_check)

    async def remove(request: web.Request) -> web.Response:
        return await _named(request, backups.remove)

    return [web.get("/backups", listed), web.post("/backups/check", check), web.post("/backups/remove", remove)]


async def _named(request: web.Request, act: Callable[[str], dict[str, Any]]) -> web.Response:
    name = await from_body(request, _name, lambda error: f"not a request about a backup: {error}")
    return await _answer(lambda: act(name))


def _name(body: Any) -> str:
    """Raises ValueError."""
    name = body.get("name") if isinstance(body, dict) else None
    if not isinstance(name, str) or not name or "/" in name:
        raise ValueError("name must be the name of a backup")
    return name


async def _answer(act: Callable[[], dict[str, Any]]) -> web.Response:
    """On another thread: a directory may be on a disk that hangs, or on one of another host."""
    try:
        return web.json_response(await asyncio.get_running_loop().run_in_executor(None, act))
    except BackupError as error:
        return refusal(422, reason="backup", step="backups", text=str(error))
