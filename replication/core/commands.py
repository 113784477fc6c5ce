"""The agent protocol: what a controller may ask of an agent, and the shape of the answers.

`POST /command/<verb>` with `Command.to_json()`. Every command carries (vault, term, epoch, operation, deadline); the agent
persists the highest term and epoch it promised before it acts, refuses anything lower and says what it has.
There is no verb that runs given SQL. docs/reference/agent-protocol.md describes each verb.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any


class Verb(StrEnum):
    OPEN = "open"
    """Be the primary, acknowledging alone (solo). args: accounts, jump, client (have the clients' account made)."""
    LOSSLESS = "lossless"
    """On the primary: wait for the acker from now on. Answers `gtid_binlog_pos`, read after the switch-on (rule 6)."""
    SOLO = "solo"
    """On the primary: stop waiting; hanging commits are released."""
    ACCOUNTS = "accounts"
    """On the primary: make sure that these replication accounts exist and are unlocked. args: accounts."""
    LOCK_OUT = "lock-out"
    """On the primary: lock a node's replication account and end its stream. args: account."""
    FOLLOW = "follow"
    """Be a replica of a source, without acknowledging. args: see FollowArgs."""
    ACKER = "acker"
    """On a replica: acknowledge from now on (flag on, receiver reconnected)."""
    REVOKE = "revoke"
    """On a replica: never acknowledge for the old primary again: applier on, cut, receiver stopped."""
    DRAIN = "drain"
    """On a revoked replica: apply all that was received, then drop the source. Stays closed. Answers `gtid_slave_pos`."""
    RECEIVED = "received"
    """On a replica: wait until a position is in the relay log. args: position. Answers `gtid_io_pos`."""
    DETACH = "detach"
    """Stop following for good: flag off, receiver stopped, applied, source dropped. args: leave (also forget the vault)."""
    CLOSE = "close"
    """Primary that is to hand over: no new write commits from here on, persisted as order none (rule 12). Answers
    `gtid_binlog_pos`, read after it closed. Gives up and stays open when it would have to wait beyond its deadline."""
    PROMISE = "promise"
    """Promise the epoch, and answer what it was last told to be. Changes nothing else (rule 16)."""
    REBUILD = "rebuild"
    """On a node that is neither primary nor acker: acknowledge for nobody, and wait for a full copy (TaskKind.RECEIVE). args:
    see RebuildArgs. Answers when the wait has begun."""
    SEND = "send"
    """On a node that is in order: push a full copy to another one (TaskKind.SEND). args: see SendArgs. Answers when it has begun."""
    UNDO = "undo"
    """On a rebuilt node that is neither primary nor acker: put the kept old data back (TaskKind.UNDO). Answers when it has begun."""
    FENCE = "fence"
    """Old primary: SIGKILL mariadbd; persists order none but keeps the last order to be primary (rules 11, 12)."""


@dataclass(frozen=True, kw_only=True)
class Command:
    vault: str
    node: str
    term: int
    epoch: int
    operation: str
    """Random id of the procedure that sends it; appears in both logs."""
    deadline: float
    """Seconds the sender will wait, counted from receipt; the agent gives up by then and says how far it came."""
    args: Mapping[str, Any] = field(default_factory=dict)
    owner: str = ""
    """Random id of the leadership that claimed the epoch, as in the published row; "" from a controller that does not say."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Any) -> "Command":
        """Raises ValueError with what is wrong."""
        if not isinstance(data, Mapping):
            raise ValueError("an object was expected")
        kinds: dict[str, tuple[type, ...]] = {
            "vault": (str,),
            "node": (str,),
            "term": (int,),
            "epoch": (int,),
            "operation": (str,),
            "deadline": (int, float),
            "args": (Mapping,),
        }
        for name, kind in kinds.items():
            if not isinstance(data.get(name), kind) or isinstance(data.get(name), bool):
                raise ValueError(f"{name} is missing or of the wrong type")
        owner = data.get("owner", "")
        if not isinstance(owner, str):
            raise ValueError("owner is of the wrong type")
        return cls(**{name: data[name] for name in kinds}, owner=owner)


@dataclass(frozen=True, kw_only=True)
class ReplicationAccount:
    """One account per node on the primary; the node proves itself with its certificate, there is no password."""

    name: str
    """`vha_` and the first 12 hex digits of the node id: at most 16 characters, safe in SQL."""
    subject: str
    """The certificate subject that MariaDB requires (REQUIRE SUBJECT)."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class FollowArgs:
    source_host: str
    source_port: int
    account: str
    source_binlog_state: str
    """gtid_binlog_state of the source, read just before; the node's own must not go beyond it (rule 15)."""
    source_oldest_binlog: str
    truncate_tail: bool
    """Only meaningful when its mariadbd is not running: start it with --init-rpl-role=SLAVE, which removes what the primary
    never acknowledged (after copying the binary logs). Only sent to a former primary that was lossless until the epoch
    that replaced it (rule 14)."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a verb came to: `facts` by verb, `steps` milliseconds per step in order."""

    facts: Mapping[str, Any] = field(default_factory=dict)
    steps: Mapping[str, float] = field(default_factory=dict)


def account_name(node: str) -> str:
    """Replication account of the node with this id (32 hex digits)."""
    return f"vha_{node[:12]}"
