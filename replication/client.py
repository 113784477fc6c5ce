"""The controller's side of the agent protocol: typed calls, deadlines, certificates. No decisions.

aiohttp: its time-out errors are both ClientError and TimeoutError, so a time-out is told apart first, or a silent host
would read as one that refuses.
"""

import asyncio
import json
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import aiohttp

from replication.core import limits
from replication.core.commands import Answer, Command, Verb
from replication.core.errors import NodeUnreachable, StaleEpoch, StepFailed
from replication.core.gtid_ranges import Inventory
from replication.core.probe import ProbeAnswer, Target
from replication.core.report import PROTOCOL, NodeReport, read_task
from replication.core.roles import Witness
from replication.core.tasks import TaskOrder, TaskReport
from replication.core.view import NodeView

CONNECT: Final = 1.0
"""Seconds for TCP and TLS to an agent."""
NETWORK_MARGIN: Final = 1.0
"""Seconds that an answer may come after the deadline that the command carries."""
TASK_SECONDS: Final = 10.0
"""For an agent to begin or end long work, or to say what it came to."""
COMPARE_SECONDS: Final = (limits.COMPARE_WAIT_MAX + 3 * limits.COMPARE_STATEMENT).total_seconds()
TABLES_SECONDS: Final = 300.0
"""For the definitions of all tables, a statement each: 4000 took 9 to 15 s on a host with much else to do."""
LARGEST_ANSWER: Final = 1024 * 1024
LARGEST_RESULT: Final = 16 * 1024 * 1024
"""Of a task: a list of lost transactions has thousands of entries. Of the definitions of tables: 180 bytes each."""
LOGS_SECONDS: Final = 330.0
"""For an agent to read its binary logs: half a minute more than it allows itself."""


def ssl_context(pki: Path) -> ssl.SSLContext:
    """Client certificate of this controller, and our own authority only. Raises OSError when a file is missing."""
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=str(pki / "ca.pem"))
    context.load_cert_chain(pki / "cert.pem", pki / "key.pem")
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


def _host(ip: str) -> str:
    return f"[{ip}]" if ":" in ip else ip


async def _body(response: aiohttp.ClientResponse, largest: int) -> bytes:
    """The whole body: one read may return less. Raises ValueError beyond `largest`."""
    body = b""
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > largest:
            raise ValueError("the answer is too large")
    return body


def _unreachable(node: NodeView, error: Exception) -> NodeUnreachable:
    if isinstance(error, TimeoutError):
        return NodeUnreachable(node.hostname, "silent")
    if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientSSLError | ssl.SSLError):
        return NodeUnreachable(node.hostname, "certificate", str(error))
    return NodeUnreachable(node.hostname, "refused", str(error))


def _refused(node: NodeView, step: str, status: int, data: Any) -> StepFailed:
    said = data if isinstance(data, dict) else {}
    reason, text = str(said.get("reason", status)), str(said.get("text", f"answered with status {status}"))
    return StepFailed(node.hostname, step, reason, text)


class AgentClient:
    """Adapter of core.ports.Agents over HTTPS with client certificates. Use as an async context manager."""

    def __init__(self, pki: Path) -> None:
        self._context = ssl_context(pki)

    async def __aenter__(self) -> "AgentClient":
        connector = aiohttp.TCPConnector(ssl=self._context, limit=0, keepalive_timeout=120)
        self._http = aiohttp.ClientSession(connector=connector)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.close()

    async def hello(self, node: NodeView, *, since: int, wait: timedelta, echo: str = "", term: int = 0) -> NodeReport:
        seconds = wait.total_seconds()
        limit = seconds + limits.HELLO_MARGIN.total_seconds()
        params = {"since": str(since), "wait": f"{seconds:.3f}"}
        if echo:
            params |= {"echo": echo, "term": str(term)}
        status, data = await self._ask(node, "GET", "hello", total=limit, params=params)
        if status == 200 and isinstance(data, dict) and data.get("protocol") != PROTOCOL:
            spoken = data.get("protocol")
            raise NodeUnreachable(node.hostname, "protocol", f"it speaks agent protocol {spoken}, we speak {PROTOCOL}")
        if status != 200:
            raise NodeUnreachable(node.hostname, "protocol", f"hello was answered with status {status}")
        try:
            return NodeReport.from_json(data)
        except ValueError as error:
            raise NodeUnreachable(node.hostname, "protocol", str(error)) from error

    async def command(self, node: NodeView, verb: Verb, command: Command) -> Answer:
        total = command.deadline + NETWORK_MARGIN
        status, data = await self._ask(node, "POST", f"command/{verb.value}", total=total, json=command.to_json())
        if not isinstance(data, dict):
            data = {}
        if status == 409:
            raise StaleEpoch(node.hostname, int(data.get("term", 0)), int(data.get("epoch", 0)))
        if status == 200:
            return Answer(facts=data.get("facts", {}), steps=data.get("steps", {}))
        raise _refused(node, verb.value, status, data)

    async def probe(self, node: NodeView, targets: Sequence[Target]) -> ProbeAnswer:
        """Have an agent look around. Raises NodeUnreachable, also of kind "lacks" (too old to be asked) and "busy"."""
        total = CONNECT + limits.PROBE_DEADLINE.total_seconds() + limits.HELLO_MARGIN.total_seconds()
        body = {"targets": [asdict(target) for target in targets]}
        status, data = await self._ask(node, "POST", "probe", total=total, json=body)
        if status != 200:
            kind = {404: "lacks", 429: "busy"}.get(status, "protocol")
            raise NodeUnreachable(node.hostname, kind, f"it was asked to look around and answered with status {status}")
        try:
            answer = ProbeAnswer.from_json(data)
            if len(answer.reached) != len(targets):
                raise ValueError(f"{len(targets)} targets, {len(answer.reached)} answers")
        except ValueError as error:
            raise NodeUnreachable(node.hostname, "protocol", str(error)) from error
        return answer

    async def begin_task(self, node: NodeView, order: TaskOrder) -> TaskReport:
        """Have an agent begin long work; said twice it begins once. Raises NodeUnreachable, or StepFailed with why not."""
        body = {"kind": order.kind.value, "operation": order.operation, "args": dict(order.args)}
        status, data = await self._ask(node, "POST", "task", total=TASK_SECONDS, json=body)
        if status == 200:
            try:
                return read_task(data)
            except ValueError as error:
                raise NodeUnreachable(node.hostname, "protocol", str(error)) from error
        raise _refused(node, order.kind.value, status, data)

    async def cancel_task(self, node: NodeView, operation: str) -> bool:
        """Whether it ends, or has ended; False when there is no way back, or the agent does not know it. Raises NodeUnreachable."""
        status, data = await self._ask(node, "POST", f"task/{operation}/cancel", total=TASK_SECONDS)
        return status == 200 and isinstance(data, dict) and data.get("ends") is True

    async def task_result(self, node: NodeView, operation: str) -> dict[str, Any] | None:
        """What a task has left, None when nothing is kept of it. Raises NodeUnreachable."""
        path = f"task/{operation}/result"
        status, data = await self._ask(node, "GET", path, total=TASK_SECONDS, largest=LARGEST_RESULT)
        return data if status == 200 and isinstance(data, dict) else None

    async def backups(self, node: NodeView) -> dict[str, Any]:
        """The backups of a host, as `GET /backups` tells. Raises NodeUnreachable, or StepFailed with why not."""
        return await self._about_backups(node, "GET", "backups")

    async def check_backup(self, node: NodeView, name: str) -> dict[str, Any]:
        """Have a host begin to read one through. Raises NodeUnreachable, or StepFailed with why not."""
        return await self._about_backups(node, "POST", "backups/check", json={"name": name})

    async def remove_backup(self, node: NodeView, name: str) -> dict[str, Any]:
        """Raises NodeUnreachable, or StepFailed with why not."""
        return await self._about_backups(node, "POST", "backups/remove", json={"name": name})

    async def _about_backups(self, node: NodeView, method: str, path: str, **request: Any) -> dict[str, Any]:
        status, data = await self._ask(node, method, path, total=TASK_SECONDS, **request)
        if status == 404:
            raise NodeUnreachable(node.hostname, "lacks", "its agent is too old to make backups")
        if status != 200:
            raise _refused(node, "backups", status, data)
        if not isinstance(data, dict):
            raise NodeUnreachable(node.hostname, "protocol", "an object was expected")
        return data

    async def compare(self, node: NodeView, what: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """A part of a comparison (docs/reference/agent-protocol.md). Raises NodeUnreachable, or StepFailed with why not."""
        long = {"total": TABLES_SECONDS, "largest": LARGEST_RESULT} if what == "tables" else {"total": COMPARE_SECONDS}
        status, data = await self._ask(node, "POST", f"compare/{what}", **long, json=dict(body))
        if status == 200 and isinstance(data, dict):
            return data
        if status == 404:
            raise NodeUnreachable(node.hostname, "lacks", "its agent is too old to be compared")
        raise _refused(node, "compare", status, data)

    async def transactions(self, node: NodeView) -> Inventory:
        """What stands in a node's binary logs. Raises NodeUnreachable, or StepFailed with why not."""
        status, data = await self._ask(node, "GET", "transactions", total=LOGS_SECONDS)
        if status == 404:
            raise NodeUnreachable(node.hostname, "lacks", "its agent is too old to say what stands in its binary logs")
        if status != 200:
            raise _refused(node, "transactions", status, data)
        try:
            return Inventory.from_json(data)
        except ValueError as error:
            raise NodeUnreachable(node.hostname, "protocol", str(error)) from error

    async def remove_kept(self, node: NodeView, operation: str) -> None:
        """Have an agent remove the data of before the full copy of this operation; done already is well. Raises NodeUnreachable,
        or StepFailed with why not."""
        status, data = await self._ask(node, "POST", "kept/remove", total=TASK_SECONDS, json={"operation": operation})
        if status != 200:
            raise _refused(node, "kept", status, data)

    async def _ask(
        self, node: NodeView, method: str, path: str, *, total: float, largest: int = LARGEST_ANSWER, **request: Any
    ) -> tuple[int, Any]:
        url = f"https://{_host(node.ip)}:{node.port}/{path}"
        timeout = aiohttp.ClientTimeout(total=total, sock_connect=CONNECT)
        try:
            async with self._http.request(method, url, timeout=timeout, **request) as response:
                body = await _body(response, largest)
                return response.status, json.loads(body) if body else None
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _unreachable(node, error) from error
        except ValueError as error:
            raise NodeUnreachable(node.hostname, "protocol", f"its answer cannot be read: {error}") from error


class PortWitness:
    """Adapter of core.ports.Witnesses: a database that lives greets every new connection by itself."""

    def __init__(self, deadline: timedelta = limits.WITNESS_DEADLINE) -> None:
        self._deadline = deadline

    async def ask(self, node: NodeView) -> Witness:
        deadline = self._deadline.total_seconds()
        try:
            async with asyncio.timeout(deadline):
                reader, writer = await asyncio.open_connection(node.ip, node.database_port)
                try:
                    return Witness.ANSWERS if await reader.read(1) else Witness.REFUSED
                finally:
                    writer.close()
        except TimeoutError:
            return Witness.SILENT
        except OSError:
            return Witness.REFUSED
