"""POST /copy/{operation} and /copy/{operation}/failed, for the source of a full copy, a node; POST /kept/remove, for controllers.

docs/reference/agent-protocol.md.
"""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Final, Protocol

from aiohttp import web
from cryptography import x509

from replication import certificates
from replication.agent.intake import Intake, Refused
from replication.core.vault_ports import TaskRefused

BODY_SECONDS: Final = 3
PREFIX: Final = "/copy/"
"""What lies below is for nodes."""


class Agent(Protocol):
    @property
    def intake(self) -> Intake: ...

    async def remove_kept(self, operation: str) -> None: ...


def routes(agent: Agent, under_way: set[asyncio.Future[Any]]) -> list[web.RouteDef]:
    """under_way: what is cancelled when the server ends."""

    async def copy(request: web.Request) -> web.Response:
        async def take() -> web.Response:
            incoming = agent.intake.enter(request.match_info["operation"], _subject(request), request.headers)
            return web.json_response({"received": await incoming.run(_pieces(request))})

        work = asyncio.ensure_future(_answered(take))
        under_way.add(work)
        try:
            return await work
        finally:
            under_way.discard(work)

    async def failed(request: web.Request) -> web.Response:
        async def note() -> web.Response:
            text = (await _body(request)).get("text")
            agent.intake.source_failed(request.match_info["operation"], _subject(request), str(text or ""))
            return web.json_response({})

        return await _answered(note)

    async def remove_kept(request: web.Request) -> web.Response:
        async def remove() -> web.Response:
            operation = (await _body(request)).get("operation")
            if not isinstance(operation, str) or not operation:
                raise Refused(400, "operation must say whose data are to be removed")
            await agent.remove_kept(operation)
            return web.json_response({})

        return await _answered(remove)

    return [
        web.post(PREFIX + "{operation}", copy),
        web.post(PREFIX + "{operation}/failed", failed),
        web.post("/kept/remove", remove_kept),
    ]


async def _pieces(request: web.Request) -> AsyncIterator[bytes]:
    async for piece in request.content.iter_any():
        yield piece


async def _body(request: web.Request) -> Mapping[str, Any]:
    """Raises Refused."""
    try:
        async with asyncio.timeout(BODY_SECONDS):
            content = json.loads(await request.read())
    except TimeoutError:
        raise Refused(408, f"the request did not arrive within {BODY_SECONDS} s") from None
    except (ValueError, RecursionError) as error:
        raise Refused(400, f"the request cannot be read: {error}") from error
    if not isinstance(content, Mapping):
        raise Refused(400, "an object was expected")
    return content


async def _answered(act: Callable[[], Awaitable[web.Response]]) -> web.Response:
    try:
        return await act()
    except Refused as refused:
        return web.json_response({"text": refused.text}, status=refused.status)
    except TaskRefused as error:
        return web.json_response({"reason": "kept", "step": "kept", "text": str(error)}, status=422)


def _subject(request: web.Request) -> str:
    """Of the certificate that it came with, in OpenSSL's one-line form; "" for none."""
    connection = request.transport.get_extra_info("ssl_object") if request.transport is not None else None
    if not isinstance(connection, ssl.SSLObject | ssl.SSLSocket):
        return ""
    der = connection.getpeercert(binary_form=True)
    return certificates.subject_oneline(x509.load_der_x509_certificate(der)) if der else ""
