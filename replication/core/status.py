"""What a row of the Vault screen says, and why a vault is in its state. Pure; the labels are in nodes/choices.py."""

from .candidates import Refusal, choose_candidate
from .diagnosis import Verdict, connections_full, diagnose, hears_primary, read_only_by_hand
from .recovery import outdated
from .roles import IntentKind, NodeStatus, ProcessState, VaultState
from .tasks import TaskKind, TaskPhase, TaskReport
from .view import Intent, NodeView, VaultView

CATCHING_UP_FROM_SECONDS = 1.0
"""A replica that is less behind than this is shown as waiting for the next event."""


def node_status(view: VaultView, node: NodeView) -> tuple[NodeStatus, str]:
    """The status of one node and its detail (seconds, error text); "" where the word says all."""
    report = node.report
    if (not node.active or node.removed) and node.detached:
        return NodeStatus.INACTIVE, ""
    if report is None or node.silence is None:
        return (
            (NodeStatus.UNREACHABLE, node.link) if node.link not in ("never", "answers") else (NodeStatus.UNKNOWN, "")
        )
    if not node.answers and node.silence >= view.thresholds.silence:
        return NodeStatus.UNREACHABLE, node.link
    if node.task is not None and node.replacing:
        return NodeStatus.RESYNCHRONIZING, _progress(node.task)  # how far it is says more than what was wrong before
    if report.quarantine:
        return NodeStatus.DIVERGED, report.quarantine
    if report.process is not ProcessState.UP or report.database is None:
        return NodeStatus.DATABASE_DOWN, report.process.value
    if report.disk_error:
        return NodeStatus.DISK_ERROR, report.disk_error
    if node.id == view.topology.primary:
        return _primary_status(node)
    return _replica_status(view, node)


PHASES = {
    TaskPhase.WAITING: "waiting for the source",
    TaskPhase.PREPARING: "preparing",
    TaskPhase.SWAPPING: "putting it in place",
    TaskPhase.STARTING: "starting",
}


def _progress(task: TaskReport) -> str:
    """A word, or the percentage while data comes in: whole ones, so that the row is not written with every look."""
    if task.kind is TaskKind.UNDO:
        return "back to the data of before"
    if task.phase is TaskPhase.TRANSFERRING:
        return f"{min(99, 100 * task.done // task.total)} %" if task.total else "copying"
    return PHASES.get(task.phase, task.phase.value)


def _primary_status(node: NodeView) -> tuple[NodeStatus, str]:
    report, db = node.report, node.database
    if report is None or db is None:
        return NodeStatus.UNKNOWN, ""
    if report.closed_by_lease:
        return NodeStatus.MASTER_FENCED, ""
    if read_only_by_hand(node):
        return NodeStatus.MASTER_READ_ONLY, ""
    if connections_full(node):
        return NodeStatus.MASTER_FULL, f"{db.connections} of {db.connections_max}"
    return (NodeStatus.MASTER_CLOSED if db.read_only else NodeStatus.MASTER), ""


def _replica_status(view: VaultView, node: NodeView) -> tuple[NodeStatus, str]:
    report, db = node.report, node.database
    if report is None or db is None:
        return NodeStatus.UNKNOWN, ""
    if report.needs_rebuild:
        return NodeStatus.ERROR, report.needs_rebuild
    if db.applier_errno or (db.receiver_errno and db.receiver == "No"):
        return NodeStatus.ERROR, db.applier_error or db.receiver_error
    if db.receiver in ("Connecting", "Preparing"):
        return NodeStatus.CONNECTING, db.receiver_error
    if db.receiver != "Yes" or not db.applier:
        return NodeStatus.NOT_FOLLOWING, ""
    if db.seconds_behind is not None and db.seconds_behind >= CATCHING_UP_FROM_SECONDS:
        return NodeStatus.CATCHING_UP, f"{db.seconds_behind:.0f} s"
    # Slave_IO_Running stays Yes on a frozen primary; the heartbeat tells. One lost hello changes no word.
    heard = hears_primary(node, view) or not node.answers
    return (NodeStatus.WAITING if heard else NodeStatus.CONNECTING), ""


def current_roles(view: VaultView) -> dict[str, str]:
    """Node id → `Primary-1`, `Fallback-1` …, numbered in the order in which the nodes were added; "" before there is a primary."""
    if not view.topology.primary:
        return {n.id: "" for n in view.nodes}
    fallbacks = sorted((n for n in view.others if not n.removed), key=lambda n: (n.ordinal, n.hostname))
    roles = {n.id: f"Fallback-{i}" for i, n in enumerate(fallbacks, start=1)}
    return {**{n.id: "" for n in view.nodes}, **roles, view.topology.primary: "Primary-1"}


def vault_reason(view: VaultView) -> str:
    """One sentence: why the vault is in its state and what the service waits for."""
    row, primary = view.topology, view.primary
    found = diagnose(view)
    if row.state is VaultState.NEW:
        return "no primary yet: add a node with system role Primary, and start the service"
    if row.intent is not None:
        return _under_way(view, row.intent)
    if outdated(view):
        return "the metadata database is older than what the agents or this host know: nothing is done by it"
    if found.verdict is not Verdict.HEALTHY and primary is not None:
        choice = choose_candidate(view)
        why = f"; nobody is promoted: {choice.says}" if isinstance(choice, Refusal) else ""
        return f"{found.says}{why if found.verdict is Verdict.PRIMARY_LOST else ''}"
    if row.state is VaultState.LOSSLESS:
        acker = view.node(row.promotable)
        return f"every acknowledged write is also on {acker.hostname if acker else row.promotable}"
    if not view.running:
        return "the service is stopped"
    return _why_solo(view)


def _under_way(view: VaultView, intent: Intent) -> str:
    if intent.kind is not IntentKind.ADOPT:
        return f"a {intent.kind.value} is under way"
    missing = [n.hostname for n in view.nodes if n.id in intent.must_revoke and not n.answers]
    waits = f"; waits for {', '.join(missing)}: start its agent, or delete it if it is gone for good" if missing else ""
    return f"the metadata database was out of date, so every agent is asked who the Master is{waits}"


def _why_solo(view: VaultView) -> str:
    fallbacks = [n for n in view.others if not n.removed]
    if not fallbacks:
        return "there is no fallback"
    if not any(n.active for n in fallbacks):
        return "no fallback is active"
    words = []
    for n in (n for n in fallbacks if n.active):
        status, detail = node_status(view, n)
        words.append(f"{n.hostname} is {status.value.removeprefix('slave-')}{': ' + detail if detail else ''}")
    return "no fallback is proven to hold every write yet: " + ", ".join(words)
