"""The check before a node is added: asks the new host and every present one at once, and lets core/preflight.py judge.

It ends within limits.PREFLIGHT_DEADLINE, whoever is silent: a form is waiting.
"""

import asyncio
import logging
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from django.conf import settings
from django.utils import timezone

from nodes.choices import OperationState
from nodes.models import ApplicationNode, Operation, VaultNode
from replication.client import AgentClient, PortWitness
from replication.core import limits
from replication.core.checks import SILENT, Judgement, Look, Peer, Question, Seen, clock_ahead
from replication.core.errors import NodeUnreachable
from replication.core.preflight import judge, judge_unreachable
from replication.core.probe import Target
from replication.core.report import NodeReport
from replication.core.roles import SystemRole, Witness
from replication.core.version import VERSION
from replication.core.view import NodeView
from replication.stores import operations

log = logging.getLogger(__name__)
SEEN_LATELY = timedelta(seconds=60)


def _question(arguments: dict[str, Any]) -> Question:
    nodes = VaultNode.objects.present().filter(vault_id=arguments["vault"]).select_related("vault").order_by("ordinal")
    lately = ApplicationNode.objects.filter(last_seen__gte=timezone.now() - SEEN_LATELY)
    return Question(
        hostname=arguments["hostname"],
        ip=arguments["ip"],
        port=int(arguments["port"]),
        database_port=int(arguments["database_port"]),
        system_role=SystemRole(arguments["system_role"]),
        vault=arguments["vault"],
        our_version=VERSION,
        controller_versions=[version for version in lately.values_list("version", flat=True) if version],
        peers=[_peer(node) for node in nodes],
    )


def _peer(node: VaultNode) -> Peer:
    database = (node.report or {}).get("database") or {}
    leads = node.vault.primary_id == node.pk
    return Peer(
        hostname=node.hostname,
        ip=node.ip_address,
        port=node.port,
        database_port=node.database_port,
        system_role=SystemRole(node.system_role),
        is_primary=leads or (node.vault.primary_id is None and node.system_role == SystemRole.PRIMARY),
        leads=leads,
        active=node.active,
        agent_id=node.agent_id,
        database_version=database.get("version", ""),
        server_id=int(database.get("server_id") or 0),
    )


def _view(where: Question | Peer) -> NodeView:
    return NodeView(
        id="", hostname=where.hostname, ip=where.ip, port=where.port, database_port=where.database_port
    )  # fmt: skip


async def _look(agents: AgentClient, where: Question | Peer, targets: Sequence[Target]) -> Look:
    sent = time.time()
    try:
        answer = await agents.probe(_view(where), targets)
    except NodeUnreachable as error:
        return Look(why_not=error.kind)
    reached = dict(zip(targets, answer.reached, strict=True))
    return Look(answer=answer, reached=reached, clock_ahead=clock_ahead(answer, sent, time.time()))


async def _judge(question: Question) -> tuple[Judgement, NodeReport | None]:
    """Everybody is asked at once. Whoever has not answered in time is as one that is silent."""
    until = time.monotonic() + limits.PREFLIGHT_DEADLINE.total_seconds()
    async with AgentClient(settings.PKI_DIR) as agents:
        node = _view(question)
        hello = asyncio.ensure_future(agents.hello(node, since=-1, wait=timedelta()))
        port = asyncio.ensure_future(PortWitness(limits.PROBE_DEADLINE).ask(node))
        new = asyncio.ensure_future(_look(agents, question, question.their_doors))
        peers = {p.hostname: asyncio.ensure_future(_look(agents, p, question.own_doors)) for p in question.asked}
        everything: list[asyncio.Future[Any]] = [hello, port, new, *peers.values()]
        try:
            await asyncio.wait([hello], timeout=until - time.monotonic())
            if not hello.done():
                return judge_unreachable(question, "silent", ""), None
            try:
                report = hello.result()
            except NodeUnreachable as error:
                return judge_unreachable(question, error.kind, error.detail), None
            await asyncio.wait(everything, timeout=max(0.0, until - time.monotonic()))
            seen = Seen(
                report=report,
                witness=port.result() if port.done() else Witness.SILENT,
                look=new.result() if new.done() else SILENT,
                peers={name: look.result() if look.done() else SILENT for name, look in peers.items()},
                now=datetime.now(UTC),
            )
        finally:
            for one in everything:
                one.cancel()
            await asyncio.gather(*everything, return_exceptions=True)
    return judge(question, seen), report


def run(id: str) -> None:
    """Always ends the operation: the form is waiting for it."""
    operation = operations.begin(id)
    if operation is None:
        return
    began = time.monotonic()
    try:
        judgement, report = asyncio.run(_judge(_question(operation.arguments)))
    except Exception:
        log.exception("the check of a new node failed")
        text = "The check itself failed; see the log of the ops worker."
        operations.end(id, OperationState.FAILED, text, {"summary": text, "errors": [{"field": "", "text": text}]})
        return
    Operation.objects.filter(pk=id).update(steps=judgement.steps(round(1000 * (time.monotonic() - began))))
    result = {
        "summary": judgement.summary,
        "checks": [check.to_json() for check in judgement.checks],
        "agent_id": report.agent_id if report is not None else "",
        "report": report.to_json() if report is not None else None,
    }
    message = f"checked: {len(judgement.errors)} errors, {len(judgement.warnings)} warnings"
    operations.end(id, OperationState.SUCCEEDED, message, result)
