"""The frozen view that every decision looks at. Built by the shell, read by diagnosis, candidates, plan and status."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from . import limits
from .report import DatabaseReport, NodeReport
from .roles import IntentKind, ProcessState, SystemRole, VaultState, Witness
from .tasks import REPLACES_DATA, TaskReport


@dataclass(frozen=True, kw_only=True)
class Intent:
    """What was begun and is not resolved. While it is open only its own "finish" and "roll back" may claim (rule 7)."""

    kind: IntentKind
    target: str
    """Id of the node that is to become primary; "" for an adoption, where the agents say which."""
    entitled: str
    """Id of the former acker: the only node that may be finished on."""
    former_primary: str
    must_revoke: tuple[str, ...]
    """Ids of all nodes that might have acknowledged for the former primary; of an adoption: all that must promise first."""
    operation: str = ""
    """Id of the operation that it belongs to, whoever ends it."""

    def to_json(self) -> dict[str, Any]:
        return {**self.__dict__, "must_revoke": list(self.must_revoke)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any] | None) -> "Intent | None":
        if not data:
            return None
        return cls(**{**data, "kind": IntentKind(data["kind"]), "must_revoke": tuple(data["must_revoke"])})


@dataclass(frozen=True, kw_only=True)
class Topology:
    """The published facts of a vault: one row, changed by compare-and-set only. Node ids are 32 hex digits, "" is none."""

    vault: str
    epoch: int = 0
    owner: str = ""
    """Random id of the leadership whose compare-and-set made this epoch; only it may send commands under it (rule 1)."""
    primary: str = ""
    may_ack: frozenset[str] = frozenset()
    promotable: str = ""
    intent: Intent | None = None

    @property
    def state(self) -> VaultState:
        if self.intent is not None:
            return VaultState.CHANGING
        if not self.primary:
            return VaultState.NEW
        return VaultState.LOSSLESS if self.promotable else VaultState.SOLO


@dataclass(frozen=True, kw_only=True)
class RebuildWish:
    """A full copy of a node is wanted, or the undoing of the last one. Taken by the leader, who orders it and takes the wish away."""

    operation: str
    source: str = ""
    """Id of the node to copy from; "" lets core/sources.py choose."""
    bytes_per_second: int = 0
    """Throttle; 0: as fast as it goes."""
    undo: bool = False
    chosen: bool = False
    """A leader has chosen `source`, and may have ordered it: whoever goes on keeps to it."""
    refused: str = ""
    """Why it was not carried out, as a sentence. Such a wish is no wish any more: it is there to be read."""

    def to_json(self) -> dict[str, Any]:
        return dict(self.__dict__)

    @classmethod
    def from_json(cls, data: Mapping[str, Any] | None) -> "RebuildWish | None":
        return cls(**data) if data else None


@dataclass(frozen=True, kw_only=True)
class NodeView:
    """One node: what the inventory wishes and what was seen. What did not answer is unknown, not down."""

    id: str
    hostname: str
    ip: str
    port: int = limits.AGENT_PORT
    database_port: int = limits.DATABASE_PORT
    system_role: SystemRole = SystemRole.FALLBACK
    ordinal: int = 1
    """Order of adding; decides ties."""
    active: bool = True
    """The wish of the operator."""
    removed: bool = False
    """The operator deleted it; it goes when the service has taken it out of the vault."""
    detached: bool = False
    """The service has carried out the wish to make it inactive or to remove it."""
    joined: bool = False
    """It was told to be the primary or to follow, at least once: only then has it something to leave."""
    locked_out: bool = False
    """Its replication account is, or may be, locked at the primary; unlocked only after it promised a newer epoch (rule 4)."""
    resync_wanted: bool = False
    """An operator asked for a fresh start of its replication."""
    rebuild: RebuildWish | None = None
    differs: bool = False
    """Its last comparison with the primary found rows that differ: it is no source of a copy."""
    report: NodeReport | None = None
    """The last answer, however old."""
    silence: timedelta | None = None
    """Since the last answer, or since this process began to look, in the controller's own ticks; None when nobody looks."""
    link: str = "never"
    """How the last hello ended: "answers", "refused", "silent", "certificate", "protocol" or "never"."""
    witness: Witness = Witness.UNKNOWN
    blocked: bool = False
    """A procedure on this node failed a moment ago; it is left alone until its back-off is over."""
    resting: bool = False
    """It was given up as acker a moment ago: commits must not hang on it again at once."""

    @property
    def answers(self) -> bool:
        """Whether the last hello was answered: only then `report` says what is, not what was."""
        return self.link == "answers" and self.report is not None

    @property
    def database(self) -> DatabaseReport | None:
        return self.report.database if self.report is not None else None

    @property
    def up(self) -> bool:
        return self.answers and self.report is not None and self.report.process is ProcessState.UP

    @property
    def wish(self) -> RebuildWish | None:
        """The full copy, or its undoing, that is wanted and was neither ordered nor refused."""
        return self.rebuild if self.rebuild is not None and not self.rebuild.refused else None

    @property
    def task(self) -> TaskReport | None:
        """The long work that its agent is at, or was at last."""
        return self.report.task if self.report is not None else None

    @property
    def replacing(self) -> bool:
        """Its agent is about to put other data in the place of its data; it has said so before it began to wait for it."""
        return self.task is not None and self.task.active and self.task.kind in REPLACES_DATA

    @property
    def rebuilding(self) -> bool:
        """A full copy of it is wanted or under way: until that has ended it is no acker, and is left alone."""
        return self.wish is not None or self.replacing

    @property
    def following(self) -> DatabaseReport | None:
        """The database report when it has a source and both threads run; else None."""
        db = self.database
        return db if self.up and db is not None and db.receiver == "Yes" and db.applier else None


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    silence: timedelta = limits.SILENCE_LIMIT
    heard: timedelta = limits.HEARD_LIMIT
    acker_lost: timedelta = limits.ACKER_LOST_AFTER
    acker_steady: timedelta = limits.ACKER_STEADY_FOR
    acker_behind: int = limits.ACKER_MAX_BEHIND


@dataclass(frozen=True, kw_only=True)
class SwitchoverWish:
    """An operator asked for another primary."""

    operation: str
    node: str


@dataclass(frozen=True, kw_only=True)
class VaultView:
    topology: Topology
    nodes: tuple[NodeView, ...]
    running: bool = True
    """The service is started. When it is stopped only wishes are applied."""
    stay_writable: bool = True
    """Policy when the acker is lost: go solo (default), or block."""
    acker_missing_for: timedelta = timedelta()
    """How long, in the controller's own ticks, `acker_missing` of diagnosis.py has held without a break."""
    high_water: int = 0
    """Highest epoch of this vault that this controller host has read or written, kept outside the metadata database."""
    silence_hold: timedelta = timedelta()
    """How much longer a failover that is decided on silence is held back (anti-flapping)."""
    paused: str = ""
    """Until when, by whom and why automatic failover is paused, as the end of a sentence; "" when it is not."""
    switchover: SwitchoverWish | None = None
    thresholds: Thresholds = field(default_factory=Thresholds)

    def node(self, id: str) -> NodeView | None:
        return next((n for n in self.nodes if n.id == id), None)

    @property
    def primary(self) -> NodeView | None:
        return self.node(self.topology.primary)

    @property
    def others(self) -> tuple[NodeView, ...]:
        return tuple(n for n in self.nodes if n.id != self.topology.primary)
