"""What a request to the agent says in its body, and how it is refused: JSON both ways, within a time, in sentences."""

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

from aiohttp import web

T = TypeVar("T")

BODY_SECONDS: Final = 3


class NotUnderstood(Exception):
    """Answered with this status and sentence."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status, self.text = status, text


async def from_body(request: web.Request, read: Callable[[Any], T], wrong: Callable[[Exception], str]) -> T:
    """What `read` makes of the body. Raises NotUnderstood: when it is late, or with what `wrong` says of its ValueError."""
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return read(json.loads(await request.read()))
    except TimeoutError:
        raise NotUnderstood(408, f"the request did not arrive within {BODY_SECONDS} s") from None
    except (ValueError, RecursionError) as error:
        raise NotUnderstood(400, wrong(error)) from error


def refusal(status: int, **content: Any) -> web.Response:
    return web.json_response(content, status=status)


def an_object(content: Any) -> Mapping[str, Any]:
    """Raises ValueError."""
    if not isinstance(content, Mapping):
        raise ValueError("an object was expected")
    return content
