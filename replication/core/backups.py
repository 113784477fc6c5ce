"""Physical backups: what is written beside each, which may go, and which node makes the next one. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Final

from .positions import GtidPosition
from .view import NodeView

SUFFIX: Final = ".mbstream.gz"
"""The files of mariadb-backup as one stream, compressed with gzip."""


@dataclass(frozen=True, kw_only=True)
class Member:
    """A node of the vault at the time of the backup."""

    hostname: str
    address: str
    """Of its agent, "ip:port"."""


@dataclass(frozen=True, kw_only=True)
class BackupArgs:
    """Of the task BACKUP."""

    keep: int
    """How many good backups of this host stay when this one is complete."""
    bytes_per_second: int
    """Throttle; 0: as fast as it goes."""
    members: tuple[Member, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "BackupArgs":
        """Raises ValueError."""
        keep, rate = data.get("keep"), data.get("bytes_per_second", 0)
        if not isinstance(keep, int) or isinstance(keep, bool) or keep < 1:
            raise ValueError("keep must be a whole number above 0")
        if not isinstance(rate, int) or isinstance(rate, bool) or rate < 0:
            raise ValueError("bytes_per_second must be a whole number, 0 for no limit")
        return cls(keep=keep, bytes_per_second=rate, members=members_of(data.get("members", [])))


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What is known of one backup, in a file beside it."""

    name: str
    """Of the file, without a directory."""
    vault: str
    node: str
    """Ids of the vault and of the node that made it."""
    agent_id: str
    hostname: str
    operation: str
    taken_at: str
    """ISO 8601, UTC: what was committed there by then is in it."""
    position: str
    """GTID position of the data."""
    server_version: str
    agent_version: str
    os_user: str
    """The user of the operating system that may log in as root over the socket of what is restored."""
    bytes: int
    data_bytes: int
    """Size of the file, and of what is unpacked from it."""
    sha256: str
    seconds: float
    """How long it took."""
    members: tuple[Member, ...] = ()
    checked_at: str = ""
    """When the file was last read through; "" when it never was."""
    fault: str = ""
    """What was wrong with it then, as a sentence."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Any) -> "Manifest":
        """Unknown keys are ignored. Raises ValueError."""
        if not isinstance(data, Mapping):
            raise ValueError("an object was expected")
        values: dict[str, Any] = {}
        for field in fields(cls):
            if field.name == "members":
                values["members"] = members_of(data.get("members", []))
            elif field.name in data:
                values[field.name] = _checked(field.name, field.type, data[field.name])
            elif field.name not in ("checked_at", "fault"):
                raise ValueError(f"{field.name} is missing")
        manifest = cls(**values)
        if "/" in manifest.name or not manifest.name.endswith(SUFFIX):
            raise ValueError(f"{manifest.name!r} is no name of a backup")
        return manifest


def members_of(data: Any) -> tuple[Member, ...]:
    """Raises ValueError."""
    if not isinstance(data, list | tuple):
        raise ValueError("members must be a list")
    found = []
    for item in data:
        if not isinstance(item, Mapping) or not all(isinstance(item.get(k), str) for k in ("hostname", "address")):
            raise ValueError("each member must have a hostname and an address")
        found.append(Member(hostname=item["hostname"], address=item["address"]))
    return tuple(found)


def _checked(name: str, kind: Any, value: Any) -> Any:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ValueError(f"{name} must be of type {kind.__name__}")
    return value


def expendable(manifests: Iterable[Manifest], keep: int) -> list[Manifest]:
    """Which may be removed so that the newest `keep` good ones stay. A faulty one goes when a newer good one is there.

    Never the last good one, and nothing at all while there is no good one.
    """
    newest_first = sorted(manifests, key=lambda m: (m.taken_at, m.name), reverse=True)
    good = [m for m in newest_first if not m.fault]
    if not good:
        return []
    kept = good[: max(1, keep)]
    return [m for m in newest_first if m not in kept and (not m.fault or m.taken_at < good[0].taken_at)]


@dataclass(frozen=True)
class NoMaker:
    says: str


def choose_maker(
    nodes: Sequence[NodeView], *, primary: str, acker: str, allow_primary: bool
) -> tuple[NodeView, str] | NoMaker:
    """The node that makes the backup, and why it is that one; or why none can.

    A fallback that follows without an error, the acker only when there is no other: its disk is what every commit waits for.
    The primary only when no fallback can and `allow_primary`. Ties: received position, then name.
    """
    why_not: dict[str, str] = {}
    able: list[NodeView] = []
    for node in nodes:
        if node.id == primary:
            continue
        if reason := _unfit(node):
            why_not[node.hostname] = reason
        else:
            able.append(node)
    if able:
        best = min(able, key=lambda n: (n.id == acker, -_applied(n), n.hostname))
        return best, "the acker: there is no other good fallback" if best.id == acker else "a fallback that follows"
    reasons = "; ".join(f"{name}: {why}" for name, why in sorted(why_not.items())) or "the vault has no fallback"
    master = next((n for n in nodes if n.id == primary), None)
    if not allow_primary:
        return NoMaker(f"no fallback can make it ({reasons}), and the Master may not")
    if master is None or not master.up or master.report is None or master.rebuilding:
        return NoMaker(f"no fallback can make it ({reasons}), and the Master does not answer")
    return master, f"the Master itself, because no fallback can make it ({reasons})"


def _unfit(node: NodeView) -> str:
    """Why a fallback's data is not worth a backup now; "" when it is."""
    report = node.report
    if not node.active or node.removed or node.detached:
        return "it is inactive"
    if not node.answers or report is None:
        return "it does not answer"
    if node.rebuilding or node.rebuild is not None:
        return "it is being rebuilt"
    if report.quarantine or report.needs_rebuild or report.tainted:
        return report.quarantine or report.needs_rebuild or "it may lack writes"
    if report.disk_error:
        return f"its disk takes no writes: {report.disk_error}"
    if node.following is None:
        return "it does not follow the Master"
    return ""


def _applied(node: NodeView) -> int:
    database = node.database
    last = GtidPosition.parse(database.gtid_slave_pos).last if database is not None else {}
    return sum(gtid.sequence for gtid in last.values())
