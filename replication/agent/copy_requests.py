"""POST /copy/{operation} and /copy/{operation}/failed, for the source of a full copy, a node. docs/reference/agent-protocol.md."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

from aiohttp import web

from replication.agent.askers import subject_of
from replication.agent.bodies import an_object, from_body, refusal
from replication.agent.intake import Intake, Refused

PREFIX: Final = "/copy/"
"""What lies below is for nodes."""


def routes(intake: Intake, under_way: set[asyncio.Future[Any]]) -> list[web.RouteDef]:
    """under_way: what is cancelled when the server ends."""

    async def copy(request: web.Request) -> web.Response:
        async def take() -> web.Response:
            incoming = intake.enter(request.match_info["operation"], subject_of(request), request.headers)
            return web.json_response({"received": await incoming.run(_pieces(request))})

        work = asyncio.ensure_future(_answered(take))
        under_way.add(work)
        try:
            return await work
        finally:
            under_way.discard(work)

    async def failed(request: web.Request) -> web.Response:
        content = await from_body(request, an_object, lambda error: f"the request cannot be read: {error}")

        async def note() -> web.Response:
            text = str(content.get("text") or "")
            intake.source_failed(request.match_info["operation"], subject_of(request), text)
            return web.json_response({})

        return await _answered(note)

    return [web.post(PREFIX + "{operation}", copy), web.post(PREFIX + "{operation}/failed", failed)]


async def _pieces(request: web.Request) -> AsyncIterator[bytes]:
    async for piece in request.content.iter_any():
        yield piece


async def _answered(act: Callable[[], Awaitable[web.Response]]) -> web.Response:
    try:
        return await act()
    except Refused as refused:
        return refusal(refused.status, text=refused.text)
