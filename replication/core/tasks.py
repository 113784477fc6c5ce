"""Long work of an agent: a full copy, an export, a backup. What it is, how far it is, how it ended.

One at a time on each host. It goes on when no controller looks; what is said of it is in every answer to hello
(NodeReport.task), also after its end, until the next one begins.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Final


class TaskKind(StrEnum):
    RECEIVE = "receive"
    """Be the target of a full copy: receive it, prepare it, put it in the place of the data. Begun by the verb REBUILD."""
    SEND = "send"
    """Be the source of a full copy. Begun by the verb SEND."""
    UNDO = "undo"
    """Put the kept old data back in the place of the copy. Begun by the verb UNDO."""
    EXPORT = "export"
    """Write the transactions that the primary does not have to a file on this host, and list them with values masked."""
    BACKUP = "backup"
    """Write a physical backup to a file on this host."""


class TaskPhase(StrEnum):
    WAITING = "waiting"
    """For the source to begin, or for what has to be looked at first."""
    TRANSFERRING = "transferring"
    PREPARING = "preparing"
    SWAPPING = "swapping"
    """From here on it cannot be cancelled: it ends within seconds."""
    STARTING = "starting"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


ENDED: Final = frozenset({TaskPhase.DONE, TaskPhase.FAILED, TaskPhase.CANCELLED})
NO_WAY_BACK: Final = frozenset({TaskPhase.SWAPPING, TaskPhase.STARTING})
REPLACES_DATA: Final = frozenset({TaskKind.RECEIVE, TaskKind.UNDO})


@dataclass(frozen=True, kw_only=True)
class TaskReport:
    operation: str
    """Id of the operation that it belongs to."""
    kind: TaskKind
    phase: TaskPhase
    done: int = 0
    """Bytes so far."""
    total: int = 0
    """Bytes that are expected, an estimate; 0 while it is not known."""
    says: str = ""
    """Of one that failed or was cancelled: why, and what became of the data, as a sentence."""
    began: str = ""
    """ISO 8601, UTC."""
    position: str = ""
    """GTID position of the copy or backup, or of the last transaction that was exported."""
    replaced: bool = False
    """The data directory is another one than before it began."""

    @property
    def active(self) -> bool:
        return self.phase not in ENDED


@dataclass(frozen=True, kw_only=True)
class KeptData:
    """The data directory of before the last full copy, kept beside the new one."""

    operation: str
    """Id of the operation that replaced it."""
    since: str
    """ISO 8601, UTC."""
    bytes: int


@dataclass(frozen=True, kw_only=True)
class RebuildArgs:
    """Of the verb REBUILD, to the target. The source pushes: nobody can fetch a copy, and no port is opened for it."""

    source_name: str
    """Hostname of the source, for sentences."""
    source_subject: str
    """Subject of the certificate that the copy has to come with."""
    source_bytes: int
    """Size of the source's data directory: what has to fit on the target's disk, beside what is there."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class SendArgs:
    """Of the verb SEND, to the source."""

    target_name: str
    target_host: str
    """IP address of the target's agent."""
    target_port: int
    target_subject: str
    """Subject of the certificate that the target has to show."""
    bytes_per_second: int
    """Throttle; 0: as fast as it goes."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class TaskOrder:
    """What a verb, or a controller's request, hands to the agent's tasks."""

    kind: TaskKind
    operation: str
    args: Mapping[str, Any] = field(default_factory=dict)
