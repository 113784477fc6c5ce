"""HTTPS on the agent's port: hello, probe and commands for controllers, health pages for everybody. docs/reference/agent-protocol.md.

Who asks is known from the client certificate alone: issued by our authority, OU=controller. A certificate of any other
authority does not get past the handshake; none gets the health pages only, a node's may ask for a grant as well.
"""

import asyncio
import json
import logging
import math
import socket
import ssl
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Final, Protocol

from aiohttp import web
from aiohttp.typedefs import Handler

from replication.agent import backup_requests, copy_requests
from replication.agent.compare import CannotCompare, Wish
from replication.agent.config import AgentConfig
from replication.agent.errors import CannotStart
from replication.agent.long_work import LongWork
from replication.agent.probe import AskedTooOften
from replication.core import limits
from replication.core.commands import Answer, Command, Verb
from replication.core.errors import StaleEpoch, StepFailed
from replication.core.probe import ProbeAnswer, Target, targets_from_json
from replication.core.report import NodeReport
from replication.core.roles import OrderKind, ProcessState
from replication.core.tasks import TaskKind, TaskOrder
from replication.core.vault_ports import ProcessError, TaskRefused
from replication.procedures.vault.lease import GrantRequest

BODY_MAX_BYTES: Final = 64 * 1024
HEADER_MAX_BYTES: Final = 8190
"""Of one header line."""
HEADERS_MAX: Final = 64
HELLO_WAIT_MAX_SECONDS: Final = (limits.HELLO_INTERVAL_MAX + limits.HELLO_MARGIN).total_seconds()
HANDSHAKE_SECONDS: Final = 3
IDLE_SECONDS: Final = 75
"""A connection that has sent no complete request head for this long is closed; longer than the longest hello interval."""
BODY_SECONDS: Final = 3
STOP_SECONDS: Final = 5
"""How long a command that is under way may still take, and answer, after the agent was told to stop."""
CONNECTIONS_MAX: Final = 512
FOR_THE_ASKING: Final = frozenset({TaskKind.EXPORT, TaskKind.BACKUP})
"""Tasks that change nothing of the vault, so that they need no epoch."""

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
                web.get("/healthz", self._healthz),
                web.get("/primary", self._primary),
                web.get("/replica", self._replica),
                web.get("/hello", self._hello),
                web.post("/grant", self._grant),
                web.post("/probe", self._probe),
                web.post("/command/{verb}", self._command),
                web.post("/task", self._begin_task),
                web.post("/task/{operation}/cancel", self._cancel_task),
                web.get("/task/{operation}/result", self._task_result),
                web.get("/transactions", self._transactions),
                web.post("/compare/{what}", self._compare),
                *copy_requests.routes(agent.work, self._polls),
                *backup_requests.routes(lambda: self._agent.work.backups),
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

    async def _healthz(self, request: web.Request) -> web.Response:
        return web.Response(text="the agent is alive\n")

    async def _primary(self, request: web.Request) -> web.Response:
        return _verdict("a writable primary", is_writable_primary(self._agent.report()))

    async def _replica(self, request: web.Request) -> web.Response:
        return _verdict("a replica that follows", is_following(self._agent.report()))

    async def _hello(self, request: web.Request) -> web.Response:
        try:
            since = int(request.query.get("since", "-1"))
            seconds = float(request.query.get("wait", "0"))
            term = int(request.query.get("term", "0"))
        except ValueError:
            return _refusal(400, text="since and term must be whole numbers and wait a number of seconds")
        if not math.isfinite(seconds) or not 0 <= seconds <= HELLO_WAIT_MAX_SECONDS:
            return _refusal(400, text=f"wait must be between 0 and {HELLO_WAIT_MAX_SECONDS:g} seconds")
        poll = asyncio.ensure_future(self._agent.hello(since, seconds, request.query.get("echo", ""), term))
        self._polls.add(poll)
        try:
            report = await poll
        finally:
            self._polls.discard(poll)
        return web.json_response(report.to_json())

    async def _grant(self, request: web.Request) -> web.Response:
        try:
            async with asyncio.timeout(BODY_SECONDS):
                wish = GrantRequest.from_json(json.loads(await request.read()))
        except TimeoutError:
            return _refusal(408, text=f"the request did not arrive within {BODY_SECONDS} s")
        except (ValueError, RecursionError) as error:
            return _refusal(400, text=f"not a request for a grant: {error}")
        against = self._agent.grant(wish)
        return _refusal(409, text=against) if against else web.json_response({"granted": True})

    async def _probe(self, request: web.Request) -> web.Response:
        try:
            async with asyncio.timeout(BODY_SECONDS):
                targets = targets_from_json(json.loads(await request.read()))
        except TimeoutError:
            return _refusal(408, text=f"the request did not arrive within {BODY_SECONDS} s")
        except (ValueError, RecursionError) as error:
            return _refusal(400, text=f"not a request to look around: {error}")
        try:
            answer = await self._agent.probe(targets, _name_of(request.transport))
        except AskedTooOften as error:
            return _refusal(429, text=str(error))
        return web.json_response(answer.to_json())

    async def _command(self, request: web.Request) -> web.Response:
        name = request.match_info["verb"]
        try:
            verb = Verb(name)
        except ValueError:
            return _refusal(400, text=f"there is no verb {name[:40]!r}; it may be of another version of this software")
        try:
            async with asyncio.timeout(BODY_SECONDS):
                body = await request.read()
            command = Command.from_json(json.loads(body))
            if not math.isfinite(command.deadline) or command.deadline <= 0:
                raise ValueError("deadline must be a number of seconds above 0")
            if not command.vault or not command.node:
                raise ValueError("vault and node must say whom it is for")
        except TimeoutError:
            return _refusal(408, text=f"the command did not arrive within {BODY_SECONDS} s")
        except (ValueError, RecursionError) as error:
            return _refusal(400, text=f"not a command: {error}")
        if self._held:
            return _refusal(503, text=self._held)
        self._running += 1
        work = asyncio.ensure_future(self._agent.execute(verb, command))
        work.add_done_callback(self._done)
        try:
            # The sender may go away; what was begun is finished, and a repetition finds it done.
            answer = await asyncio.shield(work)
        except StaleEpoch as error:
            return _refusal(409, term=error.promised_term, epoch=error.promised_epoch)
        except StepFailed as error:
            return _refusal(422, reason=error.reason, step=error.step, text=error.text)
        except ValueError as error:
            return _refusal(400, text=f"not a command: {error}")
        return web.json_response({"facts": dict(answer.facts), "steps": dict(answer.steps)})

    async def _begin_task(self, request: web.Request) -> web.Response:
        try:
            async with asyncio.timeout(BODY_SECONDS):
                order = _task_order(json.loads(await request.read()))
        except TimeoutError:
            return _refusal(408, text=f"the request did not arrive within {BODY_SECONDS} s")
        except (ValueError, RecursionError) as error:
            return _refusal(400, text=f"not a task: {error}")
        if self._held:
            return _refusal(503, text=self._held)
        try:
            report = await self._agent.work.begin(order)
        except TaskRefused as error:
            return _refusal(422, reason="task", step=order.kind.value, text=str(error))
        return web.json_response(asdict(report))

    async def _cancel_task(self, request: web.Request) -> web.Response:
        ends = self._agent.work.cancel(request.match_info["operation"])
        return web.json_response({"ends": ends})

    async def _task_result(self, request: web.Request) -> web.Response:
        result = await self._agent.work.result(request.match_info["operation"])
        return _refusal(404, text="nothing is kept of this operation") if result is None else web.json_response(result)

    async def _transactions(self, request: web.Request) -> web.Response:
        try:
            inventory = await self._agent.work.transactions()
        except ProcessError as error:
            return _refusal(422, reason="binary-logs", step="transactions", text=str(error))
        return web.json_response(inventory.to_json())

    async def _compare(self, request: web.Request) -> web.Response:
        try:
            async with asyncio.timeout(BODY_SECONDS):
                wish = Wish.from_json(json.loads(await request.read()))
            return web.json_response(await self._agent.work.compare(request.match_info["what"], wish))
        except TimeoutError:
            return _refusal(408, text=f"the request did not arrive within {BODY_SECONDS} s")
        except CannotCompare as error:
            return _refusal(422, reason=error.reason, step="compare", text=str(error))
        except (ValueError, RecursionError) as error:
            return _refusal(400, text=f"not a part of a comparison: {error}")

    def _done(self, work: asyncio.Future[Answer]) -> None:
        self._running -= 1


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


def is_writable_primary(report: NodeReport) -> str:
    """Why a load balancer must not send writes here; "" when it may."""
    if report.order_kind is OrderKind.NONE:
        return "it has no order to be primary"
    if report.closed_by_lease:
        return "its lease is over"
    if report.process is not ProcessState.UP or report.database is None:
        return f"its database is {report.process.value}"
    return "its database is read-only" if report.database.read_only else ""


def is_following(report: NodeReport) -> str:
    """Why a load balancer must not send reads here; "" when it may."""
    if report.order_kind is not OrderKind.NONE:
        return "it is ordered to be primary"
    if report.process is not ProcessState.UP or report.database is None:
        return f"its database is {report.process.value}"
    if report.database.receiver != "Yes" or not report.database.applier:
        return "its replication does not run"
    return ""


def is_controller(transport: asyncio.BaseTransport) -> bool:
    """Whether the peer proved with a certificate of our authority that it is a controller."""
    return _unit(transport) == ["controller"]


def is_known(transport: asyncio.BaseTransport) -> bool:
    """Whether it is a controller, or a node, which may be at sending a full copy."""
    return _unit(transport) in (["controller"], ["node"])


def _unit(transport: asyncio.BaseTransport) -> list[str]:
    return _subject(transport, "organizationalUnitName")


def _name_of(transport: asyncio.BaseTransport | None) -> str:
    return " ".join(_subject(transport, "commonName")) if transport is not None else ""


def _subject(transport: asyncio.BaseTransport, part: str) -> list[str]:
    certificate = transport.get_extra_info("peercert") or {}
    return [value for attributes in certificate.get("subject", ()) for name, value in attributes if name == part]


@web.middleware
async def _only_who_may(request: web.Request, handler: Handler) -> web.StreamResponse:
    public = request.path in ("/healthz", "/primary", "/replica")
    unit = _unit(request.transport) if request.transport is not None else []
    if request.path == "/grant" or request.path.startswith(copy_requests.PREFIX):
        if unit != ["node"]:
            return _refusal(403, text="only another node may ask this: its certificate must have OU=node")
    elif not public and unit != ["controller"]:
        return _refusal(403, text="only a controller may ask this: its certificate must have OU=controller")
    return await handler(request)


@web.middleware
async def _tidy_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every refusal is JSON with a sentence; an unexpected error is logged here with its traceback."""
    try:
        return await handler(request)
    except web.HTTPRequestEntityTooLarge:
        return _refusal(413, text=f"a command has at most {BODY_MAX_BYTES} bytes")
    except web.HTTPNotFound:
        return _refusal(404, text="there is nothing here")
    except web.HTTPMethodNotAllowed as error:
        return _refusal(405, text=f"{error.method} is not possible here")
    except Exception:
        log.exception("%s %s failed", request.method, request.path)
        return _refusal(500, text="the agent failed on this request; its log says why")


def _verdict(what: str, reason_against: str) -> web.Response:
    if reason_against:
        return web.Response(status=503, text=f"not {what}: {reason_against}\n")
    return web.Response(text=f"{what}\n")


def _refusal(status: int, **content: Any) -> web.Response:
    return web.json_response(content, status=status)
