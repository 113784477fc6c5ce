"""Views and reports for tests: a healthy lossless pair unless said otherwise. `vault()`, `node()`, `report()`, `database()`.

Nodes are named by a letter: "a" is a.example with 127.0.31.1 and an id of 32 a's. "a" is the primary and "b" its acker.
"""

from dataclasses import replace
from datetime import timedelta
from typing import Any

from replication.core import limits
from replication.core.report import PROTOCOL, DatabaseReport, NodeReport
from replication.core.roles import IntentKind, OrderKind, ProcessState, SystemRole
from replication.core.tasks import TaskKind, TaskPhase, TaskReport
from replication.core.version import VERSION
from replication.core.view import Intent, NodeView, Topology, VaultView

VAULT = "f" * 32
SECOND = timedelta(seconds=1)
LONG = 10 * limits.SILENCE_LIMIT
"""A silence that nobody would call short."""


def id_of(name: str) -> str:
    return name * 32 if len(name) == 1 else name


def ip_of(name: str) -> str:
    return f"127.0.31.{ord(name) - ord('a') + 1}"


def database(**changes: Any) -> DatabaseReport:
    """A replica of "a" that has everything; `source="b"` for another source, `source=""` for none."""
    source = changes.pop("source", "a")
    values: dict[str, Any] = {
        "version": "10.11.19-MariaDB-log",
        "server_id": 2,
        "read_only": True,
        "gtid_binlog_pos": "0-1-100",
        "gtid_binlog_state": "0-1-100",
        "gtid_slave_pos": "0-1-100",
        "binlog_oldest": "binlog.000001",
        "source_host": ip_of(source) if source else "",
        "source_port": limits.DATABASE_PORT if source else 0,
        "gtid_io_pos": "0-1-100" if source else "",
        "receiver": "Yes" if source else "",
        "applier": bool(source),
        "receiver_errno": 0,
        "receiver_error": "",
        "applier_errno": 0,
        "applier_error": "",
        "seconds_behind": 0.0,
        "heard_age": 0.1 if source else None,
        "receiver_up_for": 60.0 if source else 0.0,
        "semisync_primary": False,
        "semisync_replica": bool(source),
        "ack_clients": 0,
        "waiting_sessions": 0,
        "commits_stuck_for": 0.0,
        "acknowledged": 0,
        "unacknowledged": 0,
        "connections": 3,
        "connections_max": 300,
        "oldest_transaction": 0.0,
        "drift": (),
    }
    return DatabaseReport(**{**values, **changes})


def primary_database(**changes: Any) -> DatabaseReport:
    """The open primary of a lossless vault."""
    return database(**{"source": "", "read_only": False, "semisync_primary": True, "ack_clients": 1, **changes})


def report(name: str = "b", **changes: Any) -> NodeReport:
    """A replica's report; `order=OrderKind.LOSSLESS` or SOLO makes it an open primary's. Changes of the database by `db`."""
    order: OrderKind = changes.pop("order", OrderKind.NONE)
    open_ = order is not OrderKind.NONE
    over = changes.pop("db", {})
    made = database if not open_ else primary_database
    if order is OrderKind.SOLO:
        over = {"semisync_primary": False, "ack_clients": 0, **over}
    values: dict[str, Any] = {
        "protocol": PROTOCOL,
        "agent_version": VERSION,
        "version": 1,
        "agent_id": f"agent-{name}",
        "boot_id": f"boot-{name}",
        "hostname": f"{name}.example",
        "address": ip_of(name),
        "database_port": limits.DATABASE_PORT,
        "vault": VAULT,
        "node": id_of(name),
        "term": 1,
        "epoch": 5,
        "order_kind": order,
        "order_epoch": 5,
        "primary_order_kind": order,
        "primary_order_epoch": 5 if open_ else 0,
        "process": ProcessState.UP,
        "tainted": False,
        "quarantine": "",
        "needs_rebuild": "",
        "verb": "",
        "address_kind": "static",
        "certificate_subject": f"/CN={name}.example",
        "certificate_expires": "2030-01-01T00:00:00+00:00",
        "disk_free_bytes": 10**10,
        "disk_error": "",
        "challenge": "",
        "lease_left": 3.0 if open_ else None,
        "closed_by_lease": False,
        "purge_command": "vault-agent purge --home /srv/vault",
        "fences": ("sigkill",),
        "database": made(**over),
    }
    return NodeReport(**{**values, **changes})


def node(name: str, **changes: Any) -> NodeView:
    """A node that answered a moment ago. `silent=` a timedelta, `refused=True`, `never=True`; report fields by `says`."""
    ordinal = ord(name) - ord("a") + 1
    values: dict[str, Any] = {
        "id": id_of(name),
        "hostname": f"{name}.example",
        "ip": ip_of(name),
        "ordinal": ordinal,
        "system_role": SystemRole.PRIMARY if name == "a" else SystemRole.FALLBACK,
        "joined": True,
        "silence": timedelta(),
        "link": "answers",
        "report": report(name, **changes.pop("says", {})),
    }
    if silence := changes.pop("silent", None):
        values.update(silence=silence, link="silent")
    if changes.pop("refused", False):
        values.update(link="refused", silence=SECOND / 10)
    if changes.pop("never", False):
        values.update(link="never", silence=LONG, report=None)
    return NodeView(**{**values, **changes})


def task(kind: TaskKind = TaskKind.RECEIVE, phase: TaskPhase = TaskPhase.TRANSFERRING, **changes: Any) -> TaskReport:
    """Long work of an agent, by the operation "copy"."""
    return TaskReport(**{"operation": "copy", "kind": kind, "phase": phase, **changes})


def primary(**changes: Any) -> NodeView:
    """Node "a" as the open primary of a lossless vault; `solo=True` when it acknowledges alone."""
    order = OrderKind.SOLO if changes.pop("solo", False) else OrderKind.LOSSLESS
    return node("a", **{**changes, "says": {"order": order, **changes.get("says", {})}})


def intent(target: str = "b", former: str = "a", *revoke: str) -> Intent:
    must = tuple(id_of(n) for n in (revoke or (target,)))
    return Intent(
        kind=IntentKind.FAILOVER,
        target=id_of(target),
        entitled=id_of(target),
        former_primary=id_of(former),
        must_revoke=must,
    )


def topology(**changes: Any) -> Topology:
    """Lossless: "a" is the primary, "b" its acker. Names in place of ids are fine."""
    values: dict[str, Any] = {"vault": VAULT, "epoch": 5, "owner": "leader:1", "primary": "a", "promotable": "b"}
    values.update(changes)
    if values.get("intent") is not None:
        values["promotable"] = ""
    promotable = values["promotable"]
    values.setdefault("may_ack", {promotable} if promotable else set())
    values["primary"], values["promotable"] = id_of(values["primary"]), id_of(promotable)
    return Topology(**{**values, "may_ack": frozenset(id_of(n) for n in values["may_ack"])})


def vault(*nodes: NodeView, solo: bool = False, **changes: Any) -> VaultView:
    """A view. Fields of the row (primary, promotable, may_ack, intent, epoch) and of the view alike.

    Without nodes: the healthy pair. `solo=True`: nobody promotable, and the primary of the pair knows it.
    """
    in_row = {k: changes.pop(k) for k in ("primary", "promotable", "may_ack", "intent", "epoch") if k in changes}
    if solo:
        in_row.setdefault("promotable", "")
    if not nodes:
        nodes = (primary(solo=solo), node("b"))
    return replace(VaultView(topology=topology(**in_row), nodes=tuple(nodes)), **changes)
