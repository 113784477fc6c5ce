"""The unix socket through which `status` and `purge` reach a running agent. Only the agent's own user can open it."""

import asyncio
import http.client
import json
import logging
import socket
from collections.abc import Awaitable, Callable
from typing import Any, Final

from aiohttp import web

from replication.agent.config import AgentConfig
from replication.agent.errors import CannotStart
from replication.core.report import NodeReport

ASK_SECONDS: Final = 5
PURGE_SECONDS: Final = 120
"""Stopping mariadbd and removing a large data directory takes its time."""

log = logging.getLogger("vault_agent.control")


class PurgeRefused(Exception):
    """Nothing was removed; the text is one sentence that says why and what to do."""


class ControlServer:
    """The agent's end of the control socket."""

    def __init__(
        self, config: AgentConfig, report: Callable[[], NodeReport], purge: Callable[[], Awaitable[None]]
    ) -> None:
        """purge: removes the node's data, or raises PurgeRefused."""
        self._config, self._report, self._purge = config, report, purge
        application = web.Application()
        application.add_routes([web.get("/report", self._get_report), web.post("/purge", self._post_purge)])
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=1)

    async def start(self) -> None:
        """Raises CannotStart."""
        await self._runner.setup()
        path = self._config.control_socket
        server = self._runner.server
        if server is None:
            raise RuntimeError("the runner has no server after its setup")
        try:
            # The directory is private to this user, so there is no moment at which somebody else could connect.
            await asyncio.get_running_loop().create_unix_server(server, str(path))
            path.chmod(0o600)
        except OSError as error:
            raise CannotStart(f"the control socket {path} cannot be made: {error.strerror or error}") from error

    async def stop(self) -> None:
        await self._runner.cleanup()
        self._config.control_socket.unlink(missing_ok=True)

    async def _get_report(self, request: web.Request) -> web.Response:
        return web.json_response(self._report().to_json())

    async def _post_purge(self, request: web.Request) -> web.Response:
        try:
            await self._purge()
        except PurgeRefused as refusal:
            return web.json_response({"text": str(refusal)}, status=409)
        except Exception as error:
            log.exception("purge failed")
            return web.json_response({"text": f"the purge did not finish: {error}"}, status=500)
        return web.json_response({})


def ask_report(config: AgentConfig) -> NodeReport | None:
    """The running agent's report; None when no agent runs. Raises OSError or ValueError when it runs but does not answer."""
    answer = _ask(config, "GET", "/report", ASK_SECONDS)
    return None if answer is None else NodeReport.from_json(answer[1])


def ask_purge(config: AgentConfig) -> bool:
    """Have the running agent remove the data and exit; False when no agent runs. Raises PurgeRefused, OSError, ValueError."""
    answer = _ask(config, "POST", "/purge", PURGE_SECONDS)
    if answer is None:
        return False
    status, content = answer
    if status != 200:
        raise PurgeRefused(str(content.get("text", f"the agent answered {status}")))
    return True


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _ask(config: AgentConfig, method: str, path: str, seconds: float) -> tuple[int, dict[str, Any]] | None:
    connection = _UnixConnection(str(config.control_socket), seconds)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        content = json.loads(response.read())
    except (FileNotFoundError, ConnectionRefusedError):
        return None
    except http.client.HTTPException as error:
        raise ConnectionError(f"the agent closed the control socket: {error!r}") from error
    finally:
        connection.close()
    if not isinstance(content, dict):
        raise ValueError("the agent's answer was expected to be an object")
    return response.status, content
