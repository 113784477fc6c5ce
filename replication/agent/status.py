"""`vault-agent status`: the agent's report for people and for scripts, and what is on disk when no agent runs."""

import json
from dataclasses import asdict

from replication.agent import control, state
from replication.agent.config import AgentConfig
from replication.core.report import DatabaseReport, NodeReport
from replication.core.roles import OrderKind, ProcessState
from replication.core.vault_ports import AgentState

GIB = 1024**3


def status(config: AgentConfig, *, as_json: bool) -> str:
    """The text to print: the running agent's report, or its memory on disk when none runs.

    Raises OSError or ValueError when an agent runs but does not answer as it should, StateDamaged when the memory of one
    that does not run cannot be read.
    """
    report = control.ask_report(config)
    if report is not None:
        content = {"running": True, **report.to_json()}
        return json.dumps(content, indent=2) if as_json else _running(config, report)
    kept = state.load(config.state_file) or AgentState()
    if as_json:
        identity = {"agent_id": config.agent_id, "hostname": config.hostname, "address": config.ip}
        return json.dumps({"running": False, **identity, **asdict(kept)}, indent=2)
    return _stopped(config, kept)


def _running(config: AgentConfig, report: NodeReport) -> str:
    broken = f", but takes no writes: {report.disk_error}" if report.disk_error else ""
    lines = [
        ("agent", f"running on {report.address} port {config.port}, version {report.agent_version}"),
        *_membership(report.vault, report.node, report.term, report.epoch),
        ("order", _order(report.order_kind, report.order_epoch)),
        *_database(report),
        *_held(report.quarantine, report.needs_rebuild, report.tainted),
        ("certificate", f"{report.certificate_subject}, expires {report.certificate_expires}"),
        ("disk", f"{report.disk_free_bytes / GIB:.1f} GiB free{broken}"),
        ("fences", _fences(report)),
    ]
    if report.verb:
        lines.append(("command", f"{report.verb} is under way"))
    return _table(config, lines)


def _stopped(config: AgentConfig, kept: AgentState) -> str:
    return _table(
        config,
        [
            ("agent", f"not running; start it with: vault-agent serve --home {config.home}"),
            *_membership(kept.vault, kept.node, kept.term, kept.epoch),
            ("order", _order(kept.order_kind, kept.order_epoch)),
            *_held(kept.quarantine, kept.needs_rebuild, kept.tainted),
        ],
    )


def _table(config: AgentConfig, lines: list[tuple[str, str]]) -> str:
    width = max(len(name) for name, _ in lines)
    return "\n".join([config.hostname, *(f"  {name:<{width}}  {text}" for name, text in lines)])


def _membership(vault: str, node: str, term: int, epoch: int) -> list[tuple[str, str]]:
    if not vault:
        return [("vault", "none")]
    return [("vault", f"{vault}, as node {node}"), ("promised", f"term {term}, epoch {epoch}")]


def _order(kind: OrderKind, epoch: int) -> str:
    words = {
        OrderKind.NONE: "none: closed to writes",
        OrderKind.SOLO: "primary, acknowledges alone (solo)",
        OrderKind.LOSSLESS: "primary, waits for its acker (lossless)",
    }
    return f"{words[kind]}, since epoch {epoch}" if epoch else words[kind]


def _fences(report: NodeReport) -> str:
    armed = ", ".join(report.fences)
    if report.closed_by_lease:
        return f"{armed}; closed: its lease is over, and not all other nodes could say that there is no later primary"
    return armed if report.lease_left is None else f"{armed}; the lease has {report.lease_left:.1f} s left"


def _held(quarantine: str, needs_rebuild: str, tainted: bool) -> list[tuple[str, str]]:
    reasons = [text for text in (quarantine, needs_rebuild) if text]
    if tainted:
        reasons.append("it restarted as a replica and may lack what it had received")
    return [("held back", text) for text in reasons]


def _database(report: NodeReport) -> list[tuple[str, str]]:
    found = report.database
    if found is None or report.process is not ProcessState.UP:
        return [("database", f"{report.process.value}, port {report.database_port}")]
    mode = "read-only" if found.read_only else "writable"
    lines = [
        ("database", f"{report.process.value}, {mode}, MariaDB {found.version}, port {report.database_port}"),
        ("position", found.gtid_binlog_pos or found.gtid_slave_pos or "nothing written yet"),
    ]
    if found.source_host:
        lines.append(("follows", _follows(found)))
    return lines


def _follows(found: DatabaseReport) -> str:
    applier = "runs" if found.applier else "stopped"
    behind = "" if found.seconds_behind is None else f", {found.seconds_behind:g} s behind"
    errors = "".join(f"; {text}" for text in (found.receiver_error, found.applier_error) if text)
    return f"{found.source_host}:{found.source_port}, receiver {found.receiver}, applier {applier}{behind}{errors}"
