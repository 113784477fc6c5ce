"""HTTPS on the agent's port: hello, probe and commands for controllers, health pages for everybody. docs/reference/agent-protocol.md.

Who asks is known from the client certificate alone: issued by our authority, OU=controller. A certificate of any other
authority does not get past the handshake; none gets the health pages only, a node's may ask for a grant as well.
"""

import asyncio
import logging
import math
import socket
import ssl
from typing import Any, Final, Protocol

from aiohttp import web
from aiohttp.typedefs import Handler

from replication.agent import backup_requests, copy_requests, health, work_requests
from replication.agent.askers import is_controller, is_known, is_node, name_of
from replication.agent.bodies import NotUnderstood, from_body, refusal
from replication.agent.config import AgentConfig
from replication.agent.errors import CannotStart
from replication.agent.long_work import LongWork
from replication.agent.probe import AskedTooOften
from replication.core import limits
from replication.core.commands import Answer, Command, Verb
from replication.core.errors import StaleEpoch, StepFailed
from replication.core.probe import ProbeAnswer, Target, targets_from_json
from replication.core.report import NodeReport
from replication.procedures.vault.lease import GrantRequest

BODY_MAX_BYTES: Final = 64 * 1024
HEADER_MAX_BYTES: Final = 8190
"""Of one header line."""
HEADERS_MAX: Final = 64
HELLO_WAIT_MAX_SECONDS: Final = (limits.HELLO_INTERVAL_MAX + limits.HELLO_MARGIN).total_seconds()
HANDSHAKE_SECONDS: Final = 3
IDLE_SECONDS: Final = 75
"""A connection that has sent no complete request head for this long is closed; longer than the longest hello interval."""
STOP_SECONDS: Final = 5
"""How long a command that is under way may still take, and answer, after the agent was told to stop."""
CONNECTIONS_MAX: Final = 512

log = logging.getLogger("vault_agent.server")


class Agent(Protocol):
    """What the server needs of VaultAgent."""

    @property
    def work(self) -> LongWork: ...

    def report(self) -> NodeReport: ...

    async def hello(self, since: int, seconds: float, echo: str, term: int) -> NodeReport: ...

    def grant(self, request: GrantRequest) -> str: ...

    async def probe(self, targets: tuple[Target, ...], asker: str) -> ProbeAnswer: ...

    async def execute(self, verb: Verb, command: Command) -> Answer: ...


def tls_context(config: AgentConfig) -> ssl.SSLContext:
    """The server's side of TLS 1.3 with optional client certificates. Raises CannotStart."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_OPTIONAL
    context.num_tickets = 0  # connections are kept; resuming one would save nothing worth its state
    try:
        context.load_cert_chain(config.pki_dir / "cert.pem", config.pki_dir / "key.pem")
        context.load_verify_locations(config.pki_dir / "ca.pem")
    except (OSError, ssl.SSLError) as error:
        raise CannotStart(f"the certificates in {config.pki_dir} cannot be used: {error}") from error
    return context


def bind(config: AgentConfig) -> socket.socket:
    """Take the agent's address without listening yet. Raises CannotStart when it is taken or not on this host."""
    family = socket.AF_INET6 if ":" in config.ip else socket.AF_INET
    taken = socket.socket(family, socket.SOCK_STREAM)
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        taken.bind((config.ip, config.port))
    except OSError as error:
        taken.close()
        raise CannotStart(f"cannot listen on {config.ip} port {config.port}: {error.strerror}") from error
    return taken


class AgentServer:
    """Serves one agent on a socket that is already bound."""

    def __init__(self, agent: Agent, context: ssl.SSLContext) -> None:
        self._agent, self._context = agent, context
        self._polls: set[asyncio.Future[Any]] = set()
        self._listener: asyncio.Server | None = None
        self._running = 0
        self._held = ""
        application = web.Application(client_max_size=BODY_MAX_BYTES, middlewares=[_only_who_may, _tidy_errors])
        application.add_routes(
            [
                *health.routes(agent.report),
                web.get("/hello", self._hello),
                web.post("/grant", self._grant),
                web.post("/probe", self._probe),
                web.post("/command/{verb}", self._command),
                *work_requests.routes(agent.work, lambda: self._held),
                *backup_requests.routes(agent.work.backups),
                *copy_requests.routes(agent.work.intake, self._polls),
            ]
        )
        self._runner = web.AppRunner(
            application,
            access_log=None,
            keepalive_timeout=IDLE_SECONDS,
            lingering_time=1,
            max_line_size=HEADER_MAX_BYTES,
            max_field_size=HEADER_MAX_BYTES,
            max_headers=HEADERS_MAX,
            shutdown_timeout=STOP_SECONDS,
        )

    async def start(self, bound: socket.socket) -> None:
        """Listen. Raises CannotStart."""
        await self._runner.setup()
        try:
            self._listener = await asyncio.get_running_loop().create_server(
                self._admit, sock=bound, ssl=self._context, ssl_handshake_timeout=HANDSHAKE_SECONDS
            )
        except OSError as error:
            raise CannotStart(f"cannot listen on {bound.getsockname()[0]}: {error.strerror}") from error

    def hold_commands(self, reason: str) -> bool:
        """Refuse commands from now on with `reason`, a sentence; "" accepts them again. False while one is under way."""
        if reason and self._running:
            return False
        self._held = reason
        return True

    async def stop(self) -> None:
        """End the long polls and a copy that comes in at once, let commands under way answer, then close. Idempotent."""
        if self._listener is not None:
            self._listener.close()
        for poll in tuple(self._polls):
            poll.cancel()
        await self._runner.cleanup()

    def _admit(self) -> asyncio.Protocol:
        server = self._runner.server
        if server is None:
            raise RuntimeError("a connection came before the server was set up")
        if len(server.connections) >= CONNECTIONS_MAX:
            # Anybody can hold connections open; that must not lock the controllers out. The oldest stranger goes.
            for connection in server.connections:
                if connection.transport is not None and not is_known(connection.transport):
                    connection.force_close()
                    break
        return server()

    async def _hello(self, request: web.Request) -> web.Response:
        try:
            since = int(request.query.get("since", "-1"))
            seconds = float(request.query.get("wait", "0"))
            term = int(request.query.get("term", "0"))
        except ValueError:
            return refusal(400, text="since and term must be whole numbers and wait a number of seconds")
        if not math.isfinite(seconds) or not 0 <= seconds <= HELLO_WAIT_MAX_SECONDS:
            return refusal(400, text=f"wait must be between 0 and {HELLO_WAIT_MAX_SECONDS:g} seconds")
        poll = asyncio.ensure_future(self._agent.hello(since, seconds, request.query.get("echo", ""), term))
        self._polls.add(poll)
        try:
            report = await poll
        finally:
            self._polls.discard(poll)
        return web.json_response(report.to_json())

    async def _grant(self, request: web.Request) -> web.Response:
        wish = await from_body(request, GrantRequest.from_json, lambda error: f"not a request for a grant: {error}")
        against = self._agent.grant(wish)
        return refusal(409, text=against) if against else web.json_response({"granted": True})

    async def _probe(self, request: web.Request) -> web.Response:
        targets = await from_body(request, targets_from_json, lambda error: f"not a request to look around: {error}")
        try:
            answer = await self._agent.probe(targets, name_of(request.transport))
        except AskedTooOften as error:
            return refusal(429, text=str(error))
        return web.json_response(answer.to_json())

    async def _command(self, request: web.Request) -> web.Response:
        name = request.match_info["verb"]
        try:
            verb = Verb(name)
        except ValueError:
            return refusal(400, text=f"there is no verb {name[:40]!r}; it may be of another version of this software")
        command = await from_body(request, _command_of, lambda error: f"not a command: {error}")
        if self._held:
            return refusal(503, text=self._held)
        self._running += 1
        work = asyncio.ensure_future(self._agent.execute(verb, command))
        work.add_done_callback(self._done)
        try:
            # The sender may go away; what was begun is finished, and a repetition finds it done.
            answer = await asyncio.shield(work)
        except StaleEpoch as error:
            return refusal(409, term=error.promised_term, epoch=error.promised_epoch)
        except StepFailed as error:
            return refusal(422, reason=error.reason, step=error.step, text=error.text)
        except ValueError as error:
            return refusal(400, text=f"not a command: {error}")
        return web.json_response({"facts": dict(answer.facts), "steps": dict(answer.steps)})

    def _done(self, work: asyncio.Future[Answer]) -> None:
        self._running -= 1


def _command_of(data: Any) -> Command:
    """Raises ValueError."""
    command = Command.from_json(data)
    if not math.isfinite(command.deadline) or command.deadline <= 0:
        raise ValueError("deadline must be a number of seconds above 0")
    if not command.vault or not command.node:
        raise ValueError("vault and node must say whom it is for")
    return command


@web.middleware
async def _only_who_may(request: web.Request, handler: Handler) -> web.StreamResponse:
    if request.path == "/grant" or request.path.startswith(copy_requests.PREFIX):
        if not is_node(request.transport):
            return refusal(403, text="only another node may ask this: its certificate must have OU=node")
    elif request.path not in health.PATHS and not is_controller(request.transport):
        return refusal(403, text="only a controller may ask this: its certificate must have OU=controller")
    return await handler(request)


@web.middleware
async def _tidy_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every refusal is JSON with a sentence; an unexpected error is logged here with its traceback."""
    try:
        return await handler(request)
    except NotUnderstood as refused:
        return refusal(refused.status, text=refused.text)
    except web.HTTPRequestEntityTooLarge:
        return refusal(413, text=f"a command has at most {BODY_MAX_BYTES} bytes")
    except web.HTTPNotFound:
        return refusal(404, text="there is nothing here")
    except web.HTTPMethodNotAllowed as error:
        return refusal(405, text=f"{error.method} is not possible here")
    except Exception:
        log.exception("%s %s failed", request.method, request.path)
        return refusal(500, text="the agent failed on this request; its log says why")
