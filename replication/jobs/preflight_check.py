"""The check before a node is added: asks the agent and its database port, and lets core/preflight.py judge."""

import asyncio
import logging
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.utils import timezone

from nodes.choices import OperationState
from nodes.models import ApplicationNode, VaultNode
from replication.client import AgentClient, PortWitness
from replication.core.errors import NodeUnreachable
from replication.core.preflight import Judgement, Peer, Question, judge, judge_unreachable
from replication.core.report import NodeReport
from replication.core.roles import SystemRole
from replication.core.version import VERSION
from replication.core.view import NodeView
from replication.stores import operations

log = logging.getLogger(__name__)
SEEN_LATELY = timedelta(seconds=60)


def _question(arguments: dict[str, Any]) -> Question:
    peers = [
        Peer(
            hostname=node.hostname,
            system_role=SystemRole(node.system_role),
            is_primary=node.vault.primary_id == node.pk
            or (node.vault.primary_id is None and node.system_role == SystemRole.PRIMARY),
            database_version=((node.report or {}).get("database") or {}).get("version", ""),
        )
        for node in VaultNode.objects.present().filter(vault_id=arguments["vault"]).select_related("vault")
    ]
    lately = ApplicationNode.objects.filter(last_seen__gte=timezone.now() - SEEN_LATELY)
    return Question(
        ip=arguments["ip"],
        port=int(arguments["port"]),
        database_port=int(arguments["database_port"]),
        system_role=SystemRole(arguments["system_role"]),
        vault=arguments["vault"],
        our_version=VERSION,
        controller_versions=list(lately.values_list("version", flat=True)),
        peers=peers,
    )


async def _look(question: Question, hostname: str) -> tuple[Judgement, NodeReport | None]:
    node = NodeView(id="", hostname=hostname, ip=question.ip, port=question.port, database_port=question.database_port)
    async with AgentClient(settings.PKI_DIR) as agents:
        try:
            report = await agents.hello(node, since=-1, wait=timedelta())
        except NodeUnreachable as error:
            return judge_unreachable(question, error.kind, error.detail), None
    return judge(question, report, await PortWitness().ask(node)), report


def run(id: str) -> None:
    """Always ends the operation: the form is waiting for it."""
    operation = operations.begin(id)
    if operation is None:
        return
    try:
        judgement, report = asyncio.run(_look(_question(operation.arguments), operation.arguments["hostname"]))
    except Exception:
        log.exception("the check of a new node failed")
        text = "The check itself failed; see the log of the ops worker."
        operations.end(id, OperationState.FAILED, text, {"errors": [{"field": "", "text": text}]})
        return
    result = {
        "errors": [{"field": f.field, "text": f.says, "rule": f.rule} for f in judgement.errors],
        "warnings": [f.says for f in judgement.warnings],
        "agent_id": report.agent_id if report is not None else "",
        "report": report.to_json() if report is not None else None,
    }
    operations.end(id, OperationState.SUCCEEDED, "checked", result)
