"""What was seen when something was decided, small enough to keep with its event for years. Pure.

The parts of the view that the rules look at, in words that survive: host names, seconds and rule ids, no whole reports.
It is put together when the event is written, from the view of the decision: a failover has opened its target by then.
"""

import math
from datetime import timedelta
from typing import Any, Final

from .candidates import Refusal, choose_candidate
from .diagnosis import diagnose, hears_primary
from .report import DatabaseReport, NodeReport
from .roles import OrderKind
from .view import NodeView, VaultView

NODES_KEPT: Final = 8
"""Nodes that are kept one by one: who matters to the decision first. Of the others only how many said what."""
TEXT_KEPT: Final = 200
"""Letters of an error or of a reason that are kept."""


def evidence_of(view: VaultView, *about: str) -> dict[str, Any]:
    """What was seen, ready for JSON. about: ids of nodes that the decision was about. Never raises: the record of what was
    done must not be lost, nor the loop stopped, for what cannot be told of it."""
    try:
        return _evidence_of(view, about)
    except Exception as error:
        return {"failed": _clip(f"{type(error).__name__}: {error}")}


def _evidence_of(view: VaultView, about: tuple[str, ...]) -> dict[str, Any]:
    found = diagnose(view)
    kept, others = _by_weight(view, about)
    primary = view.primary
    seen: dict[str, Any] = {
        "diagnosis": {"rule": found.id, "says": found.says, "verdict": found.verdict.value},
        "choice": _choice(view),
        "row": _row(view),
        "service_runs": view.running,
        "silence_limit_s": _seconds(view.thresholds.silence),
        "nodes": [_node(view, n) for n in kept],
    }
    if primary is not None:
        seen["witness"] = {"node": primary.hostname, "port": primary.database_port, "says": primary.witness.value}
    if view.acker_missing_for:
        seen["acker_missing_s"] = _seconds(view.acker_missing_for)
    if view.silence_hold:
        seen["held_back_s"] = _seconds(view.silence_hold)
    if others:
        links: dict[str, int] = {}
        for node in others:
            links[node.link] = links.get(node.link, 0) + 1
        seen["others"] = links
    return seen


def _by_weight(view: VaultView, about: tuple[str, ...]) -> tuple[list[NodeView], list[NodeView]]:
    """Who is kept one by one, the primary first, and the rest."""
    row = view.topology
    named = [row.primary, row.promotable, *about, *sorted(row.may_ack)]
    if row.intent is not None:
        named += [row.intent.target, row.intent.former_primary, *row.intent.must_revoke]
    weight = {id: place for place, id in reversed(list(enumerate(named)))}
    # Then who does not answer: it is news, while a fallback that answers is the rule.
    ranked = sorted(view.nodes, key=lambda n: (weight.get(n.id, len(named)), n.answers, n.ordinal))
    return ranked[:NODES_KEPT], ranked[NODES_KEPT:]


def _choice(view: VaultView) -> dict[str, str]:
    """Who might have taken over, or the rule by which nobody might."""
    choice = choose_candidate(view)
    if isinstance(choice, Refusal):
        return {"rule": choice.rule, "says": _clip(choice.says)}
    return {"node": _name(view, choice.node)}


def _row(view: VaultView) -> dict[str, Any]:
    """The published facts before anything was changed."""
    row, intent = view.topology, view.topology.intent
    return {
        "state": row.state.value,
        "epoch": row.epoch,
        "primary": _name(view, row.primary),
        "may_ack": [_name(view, id) for id in sorted(row.may_ack)[:NODES_KEPT]],
        "promotable": _name(view, row.promotable),
        "intent": None
        if intent is None
        else {
            "kind": intent.kind.value,
            "target": _name(view, intent.target),
            "former_primary": _name(view, intent.former_primary),
            "must_revoke": [_name(view, id) for id in intent.must_revoke[:NODES_KEPT]],
        },
    }


def _node(view: VaultView, node: NodeView) -> dict[str, Any]:
    """What it said last, and for how long it has been silent since. What is false or empty as a rule is left out."""
    told: dict[str, Any] = {
        "node": node.hostname,
        "link": node.link,
        "silence_s": _seconds(node.silence),
        "active": node.active,
    }
    if node.id == view.topology.primary:
        told["primary"] = True
    elif node.report is not None:
        told["hears_primary"] = hears_primary(node, view)
    if node.rebuild is not None:
        told["rebuild_wished"] = _clip(node.rebuild.refused or node.rebuild.operation)
    if node.report is not None:
        told |= _said(node.report)
    for flag in ("removed", "detached", "locked_out", "blocked", "resting"):
        if getattr(node, flag):
            told[flag] = True
    return told


def _said(report: NodeReport) -> dict[str, Any]:
    said: dict[str, Any] = {
        "process": report.process.value,
        "order": report.order_kind.value,
        "order_epoch": report.order_epoch,
        "term": report.term,
        "epoch": report.epoch,
    }
    if report.lease_left is not None and report.order_kind is not OrderKind.NONE:
        said["lease_left_s"] = _finite(report.lease_left)
    for flag in ("tainted", "closed_by_lease"):
        if getattr(report, flag):
            said[flag] = True
    for text in ("quarantine", "needs_rebuild", "disk_error", "verb"):
        if getattr(report, text):
            said[text] = _clip(getattr(report, text))
    if report.task is not None and report.task.active:
        said["task"] = f"{report.task.kind.value}, {report.task.phase.value}"
    if report.database is not None:
        said |= _database(report.database)
    return said


def _database(db: DatabaseReport) -> dict[str, Any]:
    said: dict[str, Any] = {"read_only": db.read_only}
    if db.source_host:
        said |= {
            "source": db.source_host,
            "receiver": db.receiver,
            "applier": db.applier,
            "heard_s": _finite(db.heard_age),
            "acknowledges": db.semisync_replica,
            "received": _clip(db.gtid_io_pos),
            "applied": _clip(db.gtid_slave_pos),
        }
    else:
        said |= {
            "waits_for_acker": db.semisync_primary,
            "ack_clients": db.ack_clients,
            "written": _clip(db.gtid_binlog_pos),
        }
    if db.commits_stuck_for:
        said["commits_stuck_s"] = _finite(db.commits_stuck_for)
    for errno, error in ((db.receiver_errno, db.receiver_error), (db.applier_errno, db.applier_error)):
        if errno:
            said["error"] = _clip(f"{errno}, {error}")
    if 0 < db.connections_max <= db.connections:
        said["connections"] = f"{db.connections} of {db.connections_max}"
    return said


def _name(view: VaultView, id: str) -> str:
    """Its host name, or its id when the inventory no longer has it; "" for nobody."""
    node = view.node(id)
    return node.hostname if node is not None else id


def _seconds(duration: timedelta | None) -> float | None:
    return None if duration is None else _finite(duration.total_seconds())


def _finite(value: float | None) -> float | None:
    """JSON knows no infinity."""
    return round(value, 3) if value is not None and math.isfinite(value) else None


def _clip(text: str) -> str:
    return text if len(text) <= TEXT_KEPT else text[: TEXT_KEPT - 1] + "…"
