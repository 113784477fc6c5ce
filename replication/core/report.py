"""What an agent says of its node, as one frozen value. The JSON of `GET /hello` is exactly `NodeReport.to_json()`.

Ages are seconds on the agent's own clock at the moment of the answer. Fields that the agent does not know are None.
"""

import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields, is_dataclass
from enum import StrEnum
from typing import Any, Final, TypeVar

from . import positions
from .errors import PositionsNotComparable
from .roles import OrderKind, ProcessState
from .tasks import KeptData, TaskReport

T = TypeVar("T")

PROTOCOL: Final = 1
"""Version of the agent protocol. An agent of another protocol is refused when it is added."""


@dataclass(frozen=True, kw_only=True)
class DatabaseReport:
    """What SQL on the local socket said last; replication fields are empty on a node without a source."""

    version: str
    server_id: int
    read_only: bool
    gtid_binlog_pos: str
    gtid_binlog_state: str
    gtid_slave_pos: str
    binlog_oldest: str
    """Name of the oldest binary log that is still there; `…000001` means that nothing was ever purged."""
    source_host: str
    source_port: int
    gtid_io_pos: str
    """Last transaction that the receiver wrote to the relay log."""
    receiver: str
    """Slave_IO_Running: "Yes", "No", "Connecting" or "Preparing"; "" without a source."""
    applier: bool
    receiver_errno: int
    receiver_error: str
    applier_errno: int
    applier_error: str
    seconds_behind: float | None
    heard_age: float | None
    """Seconds since a heartbeat or an event from the source moved; None when it never did. Not Slave_IO_Running:
    that stays Yes on a frozen primary until slave_net_timeout."""
    receiver_up_for: float
    """Seconds the receiver has been streaming without a break; 0 when it is not."""
    semisync_primary: bool
    semisync_replica: bool
    ack_clients: int
    waiting_sessions: int
    commits_stuck_for: float
    """Seconds during which commits waited for an acknowledgement and none was acknowledged; 0 when none waits."""
    acknowledged: int
    unacknowledged: int
    connections: int
    connections_max: int
    """Sessions that are open and that may be; a full table turns clients away while the database is well."""
    oldest_transaction: float
    """Age in seconds of the oldest open transaction of a client; 0 when there is none."""
    drift: tuple[str, ...]
    """Settings that are not as they must be and that only a restart can set right, each as "name is X, must be Y"."""
    repaired: tuple[str, ...] = ()
    """What the agent has set right since its database was started, the last five, each as "name was X"."""


@dataclass(frozen=True, kw_only=True)
class NodeReport:
    protocol: int
    agent_version: str
    """Version of our application on the vault host."""
    version: int
    """Rises with every change that a long poll should report at once."""
    agent_id: str
    """Made once by `vault-agent init`; tells the same server apart from a second name or address for it."""
    boot_id: str
    hostname: str
    address: str
    """IP address the agent listens on."""
    database_port: int
    vault: str
    """Id of the vault it belongs to; "" when it belongs to none."""
    node: str
    """Id of its node row in that vault; "" when it belongs to none."""
    term: int
    epoch: int
    """Highest term and epoch promised, persisted."""
    order_kind: OrderKind
    order_epoch: int
    primary_order_kind: OrderKind
    """The last order to be primary; a fence keeps it, only a follow or a leave clears it (rule 11)."""
    primary_order_epoch: int
    process: ProcessState
    tainted: bool
    """Its mariadbd restarted as a replica and the relay log was not rescued: it may lack what it acknowledged."""
    quarantine: str
    """Why the node is held closed, as a sentence ("extra transactions 0-1-7"); "" when it is not."""
    needs_rebuild: str
    """Why only a full copy can help (purged binary logs), as a sentence; "" when not."""
    verb: str
    """The verb that runs now; "" when none."""
    address_kind: str
    """How the interface got the address: "static", "loopback", "dynamic" (DHCP), "ppp", or "missing"."""
    closed_by_lease: bool
    """A primary that closed itself when its lease was over; it opens again when a controller renews it."""
    certificate_subject: str
    """Subject of the agent's certificate in OpenSSL's one-line form, as MariaDB's REQUIRE SUBJECT wants it."""
    certificate_expires: str
    """ISO 8601, UTC."""
    disk_free_bytes: int
    disk_error: str
    """Why its disk takes no writes, as a sentence ("No space left on device"); "" when it does."""
    challenge: str
    """Nonce of this very answer: a controller's next hello gives it back, and a primary's lease counts from its issue."""
    lease_left: float | None
    """Seconds until a primary's lease is over, negative when it is; None for a node without an order to be primary."""
    purge_command: str
    """What a person types on the vault host to remove data, keys and certificates."""
    fences: tuple[str, ...]
    """Fences that are armed: "sigkill", "nftables-cut", "lease", "kernel-lease", "admin-port"."""
    database: DatabaseReport | None
    """None until SQL has answered once since the process started."""
    task: TaskReport | None = None
    """The long work that it is at, or was at last."""
    data_bytes: int = 0
    """Size of its data directory, as of a while ago; 0 when that is not known."""
    restored: str = ""
    """Which backup it was restored from, by a person who confirmed that what the silent nodes hold is lost; "" otherwise, and
    once it belongs to a vault."""
    kept: KeptData | None = None
    """The data directory of before the last full copy, while it is there."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Any) -> "NodeReport":
        """Read an answer. Unknown keys are ignored, and what a later version has added may be missing. Raises ValueError on a
        missing key, a wrong type or a bad position."""
        report = _read(cls, data)
        if report.database is not None:
            _check_positions(report.database)
        return report


def read_task(data: Any) -> TaskReport:
    """Raises ValueError."""
    return _read(TaskReport, data)


def _check_positions(db: DatabaseReport) -> None:
    """Decisions parse these without a second thought. Raises ValueError."""
    try:
        for text in (db.gtid_binlog_pos, db.gtid_slave_pos, db.gtid_io_pos):
            positions.parse(text)
        positions.check_state(db.gtid_binlog_state)
    except (ValueError, PositionsNotComparable) as error:
        raise ValueError(f"DatabaseReport: a GTID position was expected: {error}") from error


def _read(kind: type[T], data: Any) -> T:
    if not isinstance(data, Mapping):
        raise ValueError(f"{kind.__name__}: an object was expected")
    hints = typing.get_type_hints(kind)
    values: dict[str, Any] = {}
    for field in fields(kind):  # type: ignore[arg-type]  # only called with dataclasses
        if field.name not in data:
            if field.default is not MISSING:
                continue
            raise ValueError(f"{kind.__name__}: {field.name} is missing")
        values[field.name] = _value(hints[field.name], data[field.name], f"{kind.__name__}.{field.name}")
    return kind(**values)


def _value(hint: Any, value: Any, where: str) -> Any:
    if isinstance(hint, types.UnionType):
        if value is None:
            return None
        hint = next(option for option in typing.get_args(hint) if option is not type(None))
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
            raise ValueError(f"{where}: a list of strings was expected")
        return tuple(value)
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return hint(value)
    if isinstance(hint, type) and is_dataclass(hint):
        return _read(hint, value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise ValueError(f"{where}: {hint.__name__} was expected, not {type(value).__name__}")
    return value
