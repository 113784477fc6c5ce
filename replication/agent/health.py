"""GET /healthz, /primary and /replica: for load balancers, without a certificate. docs/reference/agent-protocol.md."""

from collections.abc import Callable
from typing import Final

from aiohttp import web

from replication.core.report import NodeReport
from replication.core.roles import OrderKind, ProcessState

PATHS: Final = frozenset({"/healthz", "/primary", "/replica"})


def routes(report: Callable[[], NodeReport]) -> list[web.RouteDef]:
    async def healthz(request: web.Request) -> web.Response:
        return web.Response(text="the agent is alive\n")

    async def primary(request: web.Request) -> web.Response:
        return _verdict("a writable primary", is_writable_primary(report()))

    async def replica(request: web.Request) -> web.Response:
        return _verdict("a replica that follows", is_following(report()))

    return [web.get("/healthz", healthz), web.get("/primary", primary), web.get("/replica", replica)]


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


def _verdict(what: str, reason_against: str) -> web.Response:
    if reason_against:
        return web.Response(status=503, text=f"not {what}: {reason_against}\n")
    return web.Response(text=f"{what}\n")
