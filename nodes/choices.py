"""Labels and colours for the enums of replication.core, in the words of the vendor's manual. Nothing else."""

from dataclasses import dataclass
from typing import Any

from django.db import models
from django.utils.translation import gettext_lazy as _

from nodes.sentences import said
from replication.core.roles import NodeStatus, SystemRole


class SystemRoleChoices(models.TextChoices):
    PRIMARY = SystemRole.PRIMARY.value, _("Primary")
    FALLBACK = SystemRole.FALLBACK.value, _("Fallback")


class ApplicationRole(models.TextChoices):
    CONTROLLER = "controller", _("Controller")
    WEB = "web", _("Web")


class DesiredState(models.TextChoices):
    STARTED = "started", _("Started")
    STOPPED = "stopped", _("Stopped")


class OperationKind(models.TextChoices):
    RESYNCHRONIZE = "resynchronize", _("Re-synchronize Master")
    PREFLIGHT = "preflight", _("Check before adding a node")
    REBUILD = "rebuild", _("Rebuild (full copy)")
    UNDO = "undo", _("Undo a rebuild")
    VERIFY = "verify", _("Compare with the Master")
    EXPORT = "export", _("Export lost transactions")
    BACKUP = "backup", _("Backup")
    REMOVE_KEPT = "remove-kept", _("Remove old data")
    # What the service does, by the values of replication.core.plan.ActionKind.
    BOOTSTRAP = "bootstrap", _("Open the first Master")
    ADOPT = "adopt", _("Adopt what the agents say")
    FAILOVER = "failover", _("Failover")
    SWITCHOVER = "switchover", _("Switchover")
    REOPEN = "reopen", _("Open the Master again")
    GO_SOLO = "go-solo", _("Go solo")
    BECOME_ACKER = "become-acker", _("Become lossless")
    FOLLOW = "follow", _("Let a node follow")
    DETACH = "detach", _("Take a node out")
    FORGET = "forget", _("Let a deleted node forget the vault")


class OperationState(models.TextChoices):
    QUEUED = "queued", _("Queued")
    RUNNING = "running", _("Running")
    SUCCEEDED = "succeeded", _("Succeeded")
    FAILED = "failed", _("Failed")
    CANCELLED = "cancelled", _("Cancelled")
    NEEDS_PERSON = "needs-person", _("Needs a person")


class OperationUnit(models.TextChoices):
    BYTES = "bytes", _("bytes")
    TRANSACTIONS = "transactions", _("transactions")
    ROWS = "rows", _("rows")


class RebuildPolicy(models.TextChoices):
    """When a node is rebuilt without being asked for."""

    NEVER = "never", _("Never: a person decides")
    NOTHING_LOST = "nothing-lost", _("When it only lacks what the Master no longer has")
    ALWAYS = "always", _("Also when it has diverged, after its extra transactions were exported")


class EventLevel(models.TextChoices):
    INFO = "info", _("Information")
    WARNING = "warning", _("Warning")
    ERROR = "error", _("Error")


STATUS_LABELS = {
    NodeStatus.MASTER: _("Master"),
    NodeStatus.MASTER_CLOSED: _("Master – closed to writes"),
    NodeStatus.MASTER_READ_ONLY: _("Master – read-only, set by hand"),
    NodeStatus.MASTER_FENCED: _("Master – closed itself: no controller renews its lease"),
    NodeStatus.MASTER_FULL: _("Master – no connection is free (%(detail)s)"),
    NodeStatus.DISK_ERROR: _("Disk takes no writes: %(detail)s"),
    NodeStatus.WAITING: _("Slave – Waiting for Master to send events"),
    NodeStatus.CATCHING_UP: _("Slave – Catching up (%(detail)s behind)"),
    NodeStatus.CONNECTING: _("Slave – Connecting to Master"),
    NodeStatus.RESYNCHRONIZING: _("Slave – Re-synchronizing (%(detail)s)"),
    NodeStatus.ERROR: _("Slave – Error: %(detail)s"),
    NodeStatus.NOT_FOLLOWING: _("Slave – Not following yet"),
    NodeStatus.DIVERGED: _("Diverged"),
    NodeStatus.DATABASE_DOWN: _("Database not running"),
    NodeStatus.UNREACHABLE: _("Unreachable"),
    NodeStatus.UNKNOWN: _("Unknown"),
    NodeStatus.INACTIVE: _("Inactive"),
}

STATUS_LEVELS = {
    NodeStatus.MASTER: "ok",
    NodeStatus.MASTER_CLOSED: "bad",
    NodeStatus.MASTER_READ_ONLY: "warn",
    NodeStatus.MASTER_FENCED: "bad",
    NodeStatus.MASTER_FULL: "warn",
    NodeStatus.DISK_ERROR: "bad",
    NodeStatus.WAITING: "ok2",
    NodeStatus.CATCHING_UP: "warn",
    NodeStatus.CONNECTING: "warn",
    NodeStatus.RESYNCHRONIZING: "warn",
    NodeStatus.ERROR: "bad",
    NodeStatus.NOT_FOLLOWING: "warn",
    NodeStatus.DIVERGED: "bad",
    NodeStatus.DATABASE_DOWN: "bad",
    NodeStatus.UNREACHABLE: "bad",
    NodeStatus.UNKNOWN: "off",
    NodeStatus.INACTIVE: "off",
}


def status_label(status: str, detail: str) -> str:
    """The words of the Status column."""
    label = str(STATUS_LABELS[NodeStatus(status)])
    return label % {"detail": said(detail)} if "%(detail)s" in label else label


@dataclass(frozen=True)
class FenceWords:
    label: Any
    armed: Any
    missing: Any


FENCES = {
    "sigkill": FenceWords(
        _("kill"),
        _("The agent can end the database at once: what it has not acknowledged by then, it never will."),
        _("The agent cannot end the database: it must run as the same user, or as root."),
    ),
    "lease": FenceWords(
        _("lease"),
        _("It closes itself to clients when neither a controller nor every other node vouches for it."),
        _("It does not close itself when it is cut off: clients beside it may go on reading old data."),
    ),
    "kernel-lease": FenceWords(
        _("kernel lease"),
        _("The kernel closes the database port when the lease is over, even when the agent itself hangs."),
        _("A hanging agent cannot close the database port. Needs root and nftables on the vault host."),
    ),
    "nftables-cut": FenceWords(
        _("link cut"),
        _("The packet filter cuts a replication link within milliseconds."),
        _("A link to a host that vanished ends about one second later. Needs root and nftables on the vault host."),
    ),
    "admin-port": FenceWords(
        _("reserved connection"),
        _("The agent has a connection of its own, however many commits wait."),
        _("Clients that take every connection can keep the agent from looking in; it can still end the database."),
    ),
}
"""What an agent may report as armed, in the order in which it would be used. In lossless state none is needed for safety."""
