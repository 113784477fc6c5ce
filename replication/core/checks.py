"""The words of the pre-flight: what is asked about a new host, what was seen, and the outcome of each check. No judgement here."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from .probe import TARGETS_MAX, Door, ProbeAnswer, Reach, Target
from .report import NodeReport
from .roles import SystemRole, Witness

PEERS_ASKED: Final = TARGETS_MAX // 2
"""So many nodes are asked, the primary first: an agent looks at both ports of each."""


class CheckName(StrEnum):
    """In the order of the list."""

    AGENT = "agent"
    DATABASE_PORT = "database-port"
    REACHES = "reaches"
    REACHED = "reached"
    APPLICATION = "application"
    DATABASE_VERSION = "database-version"
    ADDRESS = "address"
    IDENTITY = "identity"
    MEMBERSHIP = "membership"
    CLOCK = "clock"
    CERTIFICATE = "certificate"
    DISK = "disk"
    SETTINGS = "settings"


class Outcome(StrEnum):
    OK = "ok"
    WARNING = "warning"
    ERROR = "error"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Check:
    """One line. A name may have several: a sentence for each thing that is wrong."""

    name: CheckName
    outcome: Outcome
    says: str
    rule: str = ""
    """Its page in the runbook; "" when nothing is wrong."""
    field: str = ""
    """The form field it belongs to; "" for the form as a whole."""

    def to_json(self) -> dict[str, str]:
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A node that is already there."""

    hostname: str
    ip: str
    port: int
    database_port: int
    system_role: SystemRole
    is_primary: bool
    """It is the primary, or will be the first one."""
    leads: bool
    """The vault is open on it."""
    active: bool
    agent_id: str
    """"" when it is not known; so the next two."""
    database_version: str
    server_id: int


@dataclass(frozen=True, kw_only=True)
class Question:
    hostname: str
    ip: str
    port: int
    database_port: int
    system_role: SystemRole
    vault: str
    our_version: str
    controller_versions: Sequence[str]
    """Versions of all controller hosts that were seen lately."""
    peers: Sequence[Peer]

    @property
    def asked(self) -> tuple[Peer, ...]:
        """The nodes that must reach the new host, and it them: the primary first, at most PEERS_ASKED."""
        active = [peer for peer in self.peers if peer.active and peer.ip != self.ip]
        return tuple(sorted(active, key=lambda peer: (not peer.leads, not peer.is_primary))[:PEERS_ASKED])

    @property
    def own_doors(self) -> tuple[Target, Target]:
        """What the others are to look at."""
        return _doors(self.ip, self.database_port, self.port)

    @property
    def their_doors(self) -> tuple[Target, ...]:
        """What the new host is to look at."""
        return tuple(door for peer in self.asked for door in doors_of(peer))


def doors_of(peer: Peer) -> tuple[Target, Target]:
    return _doors(peer.ip, peer.database_port, peer.port)


def _doors(ip: str, database_port: int, port: int) -> tuple[Target, Target]:
    return Target(ip, database_port, Door.DATABASE), Target(ip, port, Door.AGENT)


@dataclass(frozen=True, kw_only=True)
class Look:
    """What an agent saw when it was asked to look around, or why there is no answer: see SILENT for one that came to nothing."""

    answer: ProbeAnswer | None = None
    reached: Mapping[Target, Reach] = field(default_factory=dict)
    why_not: str = ""
    """"" with an answer; else "refused", "silent", "certificate" or "protocol" as in NodeUnreachable, "lacks" from an agent that is
    too old to be asked, "busy" from one that was asked too often."""
    clock_ahead: timedelta = timedelta()
    """How far its clock is at least ahead of ours, negative behind, whatever time the question and the answer took."""


SILENT: Final = Look(why_not="silent")


@dataclass(frozen=True, kw_only=True)
class Seen:
    """Everything that was found out about a host whose agent answers."""

    report: NodeReport
    witness: Witness
    """Its database port, as this controller sees it."""
    look: Look
    peers: Mapping[str, Look]
    """What each of `Question.asked` saw, by hostname."""
    now: datetime


def clock_ahead(answer: ProbeAnswer, sent: float, received: float) -> timedelta:
    """sent, received: when we asked and had the answer, seconds since 1970 by our clock. Its clock was read in between."""
    if answer.clock > received:
        return timedelta(seconds=answer.clock - received)
    return timedelta(seconds=min(0.0, answer.clock - sent))


@dataclass(frozen=True)
class Judgement:
    checks: tuple[Check, ...]

    @property
    def errors(self) -> tuple[Check, ...]:
        return tuple(check for check in self.checks if check.outcome is Outcome.ERROR)

    @property
    def warnings(self) -> tuple[Check, ...]:
        return tuple(check for check in self.checks if check.outcome is Outcome.WARNING)

    @property
    def summary(self) -> str:
        """What a person reads in the list of operations."""
        found = [f"{check.rule} · {check.says}" for check in (*self.errors, *self.warnings)]
        return " ".join(found) or "Nothing speaks against it."

    def steps(self, ms: float) -> list[dict[str, Any]]:
        """For an operation's row. ms: how long it all took; everybody was asked at once."""
        states = {Outcome.OK: "done", Outcome.WARNING: "done", Outcome.ERROR: "failed", Outcome.UNKNOWN: "waiting"}
        return [
            {
                "name": c.name.value.replace("-", " "),
                "state": states[c.outcome],
                "began_ms": 0,
                "ms": ms,
                "says": c.says,
            }
            for c in self.checks
        ]
