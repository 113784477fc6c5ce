"""The doors through which the vault side's procedures reach the world: clock, state, process, database, firewall.

The agent wires the real ones (replication/agent); the simulator wires its own. Every call blocks: verbs run one at a
time on a thread of their own.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any, Final, Protocol

from .commands import ReplicationAccount
from .positions import Gtid
from .roles import OrderKind, ProcessState
from .tasks import TaskOrder, TaskReport


class BootRole(StrEnum):
    """What mariadbd is told to be when it recovers from a crash (`--init-rpl-role`)."""

    PRIMARY = "MASTER"
    """Keeps every transaction of its binary log, acknowledged or not."""
    REPLICA = "SLAVE"
    """Cuts off what was prepared only. Destroys the last copy when no other node holds it (rule 14)."""


@dataclass(frozen=True, kw_only=True)
class AgentState:
    """All that the agent must not forget. Written durably before anything is done because of it (rule 11)."""

    vault: str = ""
    node: str = ""
    term: int = 0
    epoch: int = 0
    """Highest term and epoch promised."""
    order_kind: OrderKind = OrderKind.NONE
    order_epoch: int = 0
    primary_order_kind: OrderKind = OrderKind.NONE
    primary_order_epoch: int = 0
    """The last order to be primary; FENCE keeps it."""
    fenced: bool = False
    """mariadbd stays down until FOLLOW or OPEN, also over a restart of the agent (rule 12)."""
    server_id: int = 0
    source_host: str = ""
    source_port: int = 0
    """Whom it was told to follow; "" when nobody."""
    tainted: bool = False
    """It may lack what it acknowledged: its mariadbd was started anew and its relay log is not, or cannot be, applied."""
    relay_log_kept: bool = False
    """Beside `tainted`: nothing was thrown away yet, so applying the relay log ends the taint (procedures/vault/rescue.py)."""
    taint_reason: str = ""
    """Why its relay log could not be applied, as a sentence."""
    revoked_at: str = ""
    """What it had received when it was revoked: it is drained only when it has applied all of that, whatever its relay log
    holds by then."""
    owner: str = ""
    """The leadership that it promised its epoch to; nobody else may command under it."""
    to_open: bool = False
    """It has an order to be primary, and its mariadbd was started closed for it: whoever takes over here opens it."""
    quarantine: str = ""
    needs_rebuild: str = ""
    restored: str = ""
    """Which backup a person has put here, having confirmed that what the silent nodes hold is lost; "" once it is a member again."""
    peers: tuple[str, ...] = ()
    """Agents of the other nodes as "ip:port": whom a primary without a lease asks for a grant."""


@dataclass(frozen=True, kw_only=True)
class ReplicaStatus:
    """SHOW SLAVE STATUS, as far as somebody decides on it."""

    source_host: str
    source_port: int
    account: str
    source_server_id: int
    receiver: str
    applier: bool
    gtid_io_pos: str
    receiver_errno: int
    receiver_error: str
    applier_errno: int
    applier_error: str
    seconds_behind: float | None
    by_gtid: bool = True
    """False while its applier reads the relay log by place (Database.apply_relay_log)."""

    @property
    def streaming(self) -> bool:
        return self.receiver == "Yes"

    @property
    def receiver_stopped(self) -> bool:
        return self.receiver == "No"


@dataclass(frozen=True)
class RelayPlace:
    """A place in the relay log, as MariaDB counts it."""

    file: str
    offset: int


@dataclass(frozen=True)
class RelayTransaction:
    """One transaction in the relay log, which may go over from one file to the next."""

    gtid: Gtid
    begins: RelayPlace
    ends: RelayPlace | None
    """After its last byte; None for one that did not arrive whole, which was never acknowledged."""


@dataclass(frozen=True, kw_only=True)
class Positions:
    server_id: int
    gtid_binlog_pos: str
    gtid_binlog_state: str
    gtid_slave_pos: str


@dataclass(frozen=True, kw_only=True)
class Switches:
    read_only: bool
    waiting: bool
    """Semi-sync primary: commits wait for the acker. False as well when it is switched on but has timed out."""
    acknowledging: bool
    """The replica flag; what a live stream does was settled when it connected."""
    stream_acknowledges: bool
    """The live stream acknowledges (Rpl_semi_sync_slave_status)."""
    ack_clients: int
    waiting_sessions: int
    """Not 0 while a commit waits for its acknowledgement; not their number (group commit)."""


@dataclass(frozen=True, kw_only=True)
class Source:
    host: str
    port: int
    account: str
    demote: bool
    """Count what stands in this node's own binary log as received."""


@dataclass(frozen=True, kw_only=True)
class AccountStatus:
    name: str
    subject: str
    locked: bool


class DatabaseError(Exception):
    """The database refused a statement or could not be reached: `code` is its number, 0 when there is none."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{text} ({code})" if code else text)
        self.code, self.text = code, text


class ProcessError(Exception):
    """mariadbd could not be started or stopped; the text is one sentence for the operator."""


class TaskRefused(Exception):
    """Long work cannot be begun; the text is one sentence for the operator. Nothing has changed."""


class StateError(Exception):
    """The state could not be made durable, so nothing was promised or done; one sentence for the operator."""


class Clock(Protocol):
    def monotonic(self) -> float:
        """Seconds; only differences mean anything."""
        ...

    def sleep(self, duration: timedelta) -> None: ...


class State(Protocol):
    """The agent's memory. Reads are free, a write returns when it is on disk. Safe to use from several threads."""

    def read(self) -> AgentState: ...

    def write(self, **changes: Any) -> AgentState:
        """Change fields durably. Raises StateError; then nothing has changed."""
        ...

    def update(self, change: Callable[[AgentState], AgentState]) -> AgentState:
        """Read, change and write with nobody in between; what `change` raises passes through and nothing is written."""
        ...

    def hold(self, change: Callable[[AgentState], AgentState]) -> str:
        """As `update`, but what cannot be written is kept in memory and goes to disk with the next write that works.

        Returns why it is not on disk, as a sentence, or "". Only for what closes the node: an agent that is restarted
        before that write has never heard of it.
        """
        ...

    @property
    def unwritten(self) -> bool:
        """Whether something that was held is not on disk yet; a `write()` tries again."""
        ...


class Process(Protocol):
    """The local mariadbd as an operating system process, and the files it has left."""

    @property
    def phase(self) -> ProcessState: ...

    @property
    def died_in_service(self) -> bool:
        """It had answered before it died; one that does not even start says nothing new by dying again."""
        ...

    @property
    def error_log(self) -> str:
        """Where a person reads why it died."""
        ...

    def running(self) -> bool: ...

    def start(self, role: BootRole, deadline: timedelta) -> None:
        """Start closed and wait until SQL answers. Does nothing when it runs. Raises ProcessError, also when the state
        says `fenced`: a fence that arrives in the meantime wins."""
        ...

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone: the only fence that acknowledges nothing and leaves nothing behind."""
        ...

    def save_binary_logs(self) -> str:
        """Copy the newest binary logs aside and return where to; "" when there are none. Raises ProcessError."""
        ...

    def relay_log(self) -> Iterator[RelayTransaction]:
        """What stands in the relay log, in order; only while the receiver and the applier are stopped.

        Only the last one may lack its end. Raises ProcessError, also between two of them, when the files make no sense.
        """
        ...


class Tasks(Protocol):
    """The long work of this host (core/tasks.py), one at a time."""

    def report(self) -> TaskReport | None:
        """What runs, or ran last."""
        ...

    def begin(self, order: TaskOrder) -> TaskReport:
        """Begin, and return at once. The same order again, while it runs or after its end, begins nothing and returns its report.
        Raises TaskRefused."""
        ...


class Firewall(Protocol):
    """Rejects our own packets to a revoked primary, so that no acknowledgement can leave the host."""

    @property
    def armed(self) -> bool: ...

    def cut(self, address: str) -> None:
        """Does nothing when not armed. Never raises: safety does not rest on it, only speed."""
        ...

    def lift(self) -> None:
        """Let everything through again. Never raises."""
        ...


class Database(Protocol):
    """What the verbs ask of the local database. Every call may raise DatabaseError."""

    @property
    def keeps_relay_log(self) -> bool:
        """Whether what was received outlives a restart, and the start of one thread while both are stopped, by itself."""
        ...

    def positions(self) -> Positions: ...

    def replica(self) -> ReplicaStatus | None:
        """None without a source."""
        ...

    def switches(self) -> Switches: ...

    def drift(self) -> tuple[str, ...]:
        """Settings that are not as they must be, each as "name is X, must be Y"."""
        ...

    def set_read_only(self, on: bool) -> None:
        """Turning it on hangs while a commit waits for an acknowledgement: see Switches.waiting_sessions first."""
        ...

    def close_writes(self, limit: timedelta) -> bool:
        """Turn read_only on when every write that is under way ends within `limit`. False: it is as open as it was.

        True: no client's commit is under way any more, so the position read next is the last one. New writes wait for
        the outcome.
        """
        ...

    def end_writers(self, longer_than: timedelta, limit: timedelta) -> bool:
        """End the clients' sessions whose statement has been writing for so long, while every commit is held back: one
        that was ended in its wait for an acknowledgement would return as if it had it.

        False when commits cannot be held back within `limit`, or a session does not end: close_writes will fail too.
        """
        ...

    def set_waiting(self, on: bool) -> None: ...

    def set_acknowledging(self, on: bool) -> None: ...

    def set_server_id(self, server_id: int) -> None: ...

    def change_source(self, source: Source) -> None: ...

    def start_receiver(self) -> None: ...

    def stop_receiver(self) -> None: ...

    def start_applier(self) -> None:
        """Only while the receiver runs: with both threads stopped this throws received transactions away."""
        ...

    def apply_relay_log(self, begin: RelayPlace, end: RelayPlace) -> None:
        """Begin to apply the relay log from one place to another, by place and not by GTID; returns at once.

        Only while both threads are stopped. Nothing is thrown away. Whether the applier stops at the end by itself depends
        on what follows there.
        """
        ...

    def follow_by_gtid(self) -> None:
        """Count by GTID again after `apply_relay_log`, from what was applied. Throws the relay log away."""
        ...

    def count_own_as_applied(self) -> None:
        """gtid_slave_pos becomes gtid_binlog_pos. Only while both threads are stopped."""
        ...

    def start_replication(self) -> None: ...

    def stop_replication(self) -> None: ...

    def forget_source(self) -> None: ...

    def wait_applied(self, position: str, duration: timedelta) -> bool:
        """Whether everything up to the position was applied within the duration."""
        ...

    def epoch_recorded(self, epoch: int) -> bool: ...

    def record_epoch(self, epoch: int, first_sequence: int) -> None:
        """Write the row of an epoch, as transaction `first_sequence` or later. first_sequence 0: the next one."""
        ...

    def accounts(self) -> tuple[AccountStatus, ...]:
        """The replication accounts, by name."""
        ...

    def create_account(self, account: ReplicationAccount) -> None: ...

    def drop_account(self, name: str) -> None: ...

    def lock_account(self, name: str, locked: bool) -> None:
        """Stays out of the binary log, so it works while commits hang and on this node only."""
        ...

    def end_streams(self, name: str) -> int:
        """Kill the binary log streams of an account; returns how many there were."""
        ...

    def ensure_client(self) -> None:
        """Have the configured client account and database; does nothing when they are there or none is configured."""
        ...


SERVER_ID_MAX: Final = 2**32 - 1


@dataclass(frozen=True, kw_only=True)
class Ports:
    """Everything a verb works with."""

    clock: Clock
    state: State
    process: Process
    database: Database
    firewall: Firewall
    tasks: Tasks
    server_ids: Callable[[Sequence[int]], int]
    """A fresh random server_id that is none of these."""
