"""What a comparison of a fallback with the primary looks at, and what it found. Pure: docs/design/comparison.md.

Both sides describe their tables (Inventory) and add up rows (RowSum). A key travels as text, one piece per column, in the form
that replication/dialects/mariadb_checksums.py reads again; what a person may see of it is made by the agent, secrets masked.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

Key = tuple[str, ...]

LISTED: Final = 20
"""Keys of differing rows that are named of one table."""


@dataclass(frozen=True, kw_only=True)
class TableFacts:
    """One table of a server, as far as a comparison looks at it."""

    schema: str
    table: str
    definition: str
    """Digest of its CREATE TABLE, without the next auto-increment."""
    layout: str
    """Digest of the names and types of its columns and of its key: rows can be compared where it is the same."""
    keyed: bool = True
    """Whether its rows have a key to go by."""
    rows: int = 0
    """About so many."""
    not_compared: str = ""
    """Why its rows are not compared, "" when they are."""

    @property
    def name(self) -> str:
        return f"{self.schema}.{self.table}"


@dataclass(frozen=True, kw_only=True)
class ObjectFacts:
    """A view, trigger, routine, event, sequence or account: there is nothing but its definition."""

    kind: str
    name: str
    definition: str


@dataclass(frozen=True, kw_only=True)
class Inventory:
    position: str
    """GTID position: of the primary not before, of the fallback not after it looked."""
    tables: tuple[TableFacts, ...] = ()
    objects: tuple[ObjectFacts, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Inventory":
        """Raises ValueError."""
        try:
            tables = tuple(TableFacts(**table) for table in data["tables"])
            return cls(
                position=str(data["position"]), tables=tables, objects=tuple(ObjectFacts(**o) for o in data["objects"])
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a list of tables: {error}") from error


@dataclass(frozen=True, kw_only=True)
class RowSum:
    """Of the rows of a range of keys."""

    rows: int
    digest: str
    position: str
    upto: Key | None
    """The last key of the range; None when it goes to the end of the table."""
    seconds: float
    """What the server needed."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "RowSum":
        """Raises ValueError."""
        try:
            upto = data["upto"]
            return cls(
                rows=int(data["rows"]), digest=str(data["digest"]), position=str(data["position"]),
                upto=None if upto is None else tuple(map(str, upto)), seconds=float(data["seconds"]),
            )  # fmt: skip
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a checksum: {error}") from error

    def same(self, other: "RowSum") -> bool:
        return (self.rows, self.digest) == (other.rows, other.digest)


@dataclass(frozen=True, kw_only=True)
class RowFacts:
    key: Key
    shown: str
    digest: str


@dataclass(frozen=True, kw_only=True)
class RowList:
    rows: tuple[RowFacts, ...]
    position: str
    complete: bool = True
    """False when there are more behind the last one."""

    def to_json(self) -> dict[str, Any]:
        return {
            "rows": [[list(row.key), row.shown, row.digest] for row in self.rows],
            "position": self.position,
            "complete": self.complete,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "RowList":
        """Raises ValueError."""
        try:
            rows = tuple(
                RowFacts(key=tuple(map(str, key)), shown=str(shown), digest=str(digest))
                for key, shown, digest in data["rows"]
            )
            return cls(rows=rows, position=str(data["position"]), complete=data["complete"] is True)
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a list of rows: {error}") from error


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Of two lists of rows: those that only one has, and those that are not the same."""

    differing: tuple[RowFacts, ...] = ()
    missing: tuple[RowFacts, ...] = ()
    """Only the primary has them."""
    extra: tuple[RowFacts, ...] = ()
    """Only the fallback has them."""

    def __len__(self) -> int:
        return len(self.differing) + len(self.missing) + len(self.extra)

    @property
    def keys(self) -> list[Key]:
        return [row.key for rows in (self.differing, self.missing, self.extra) for row in rows]

    def __add__(self, other: "Rows") -> "Rows":
        return Rows(
            differing=self.differing + other.differing,
            missing=self.missing + other.missing,
            extra=self.extra + other.extra,
        )


def unlike(primary: Sequence[RowFacts], node: Sequence[RowFacts]) -> Rows:
    """What differs in two lists of rows with the same range of keys."""
    here, there = {row.key: row for row in primary}, {row.key: row for row in node}
    return Rows(
        differing=tuple(row for key, row in here.items() if key in there and there[key].digest != row.digest),
        missing=tuple(row for key, row in here.items() if key not in there),
        extra=tuple(row for key, row in there.items() if key not in here),
    )


@dataclass(frozen=True, kw_only=True)
class Matched:
    """Two inventories side by side."""

    tables: tuple[TableFacts, ...] = ()
    """To be compared row by row."""
    differences: tuple[str, ...] = ()
    not_compared: tuple[str, ...] = ()


def match(primary: Inventory, node: Inventory, hostname: str) -> Matched:
    """hostname: the fallback's, for sentences."""
    tables, differences, left_out = [], [], []
    here, there = {t.name: t for t in primary.tables}, {t.name: t for t in node.tables}
    for name, table in here.items():
        twin = there.get(name)
        if twin is None:
            differences.append(f"{name}: the table is missing on {hostname}")
            continue
        if twin.definition != table.definition:
            differences.append(f"{name}: the table is defined otherwise on {hostname}")
        why = table.not_compared or twin.not_compared
        if not why and twin.layout != table.layout:
            why = "its columns or its key are others"
        if why:
            left_out.append(f"{name}: {why}")
        else:
            tables.append(table)
    differences += [f"{name}: only {hostname} has this table" for name in there if name not in here]
    mine, yours = {(o.kind, o.name): o for o in primary.objects}, {(o.kind, o.name): o for o in node.objects}
    for (kind, name), found in mine.items():
        other = yours.get((kind, name))
        if other is None:
            differences.append(f"{name}: the {kind} is missing on {hostname}")
        elif other.definition != found.definition:
            differences.append(f"{name}: the {kind} is defined otherwise on {hostname}")
    differences += [f"{name}: only {hostname} has this {kind}" for kind, name in yours if (kind, name) not in mine]
    return Matched(tables=tuple(tables), differences=tuple(differences), not_compared=tuple(left_out))


def row_sentence(table: str, rows: Rows, *, at_least: bool = False) -> str:
    """ "vault.accounts: 3 rows differ (other content: id=5; missing: id=7; extra: id=9)"."""
    count = len(rows)
    many = f"{'at least ' if at_least else ''}{count} {'row differs' if count == 1 else 'rows differ'}"
    parts, left = [], LISTED
    for word, found in (("other content", rows.differing), ("missing", rows.missing), ("extra", rows.extra)):
        named = found[:left]
        left -= len(named)
        if named:
            more = f" and {len(found) - len(named)} more" if len(found) > len(named) else ""
            parts.append(f"{word}: {', '.join(row.shown for row in named)}{more}")
        elif found:
            parts.append(f"{word}: {len(found)}")
    return f"{table}: {many} ({'; '.join(parts)})"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What came of one that went through all tables."""

    node: str
    """Hostname of the fallback."""
    position: str
    """The primary's GTID position at its beginning: what differed there and has not been put right since is named."""
    tables: int
    rows: int
    seconds: float
    differences: tuple[str, ...] = ()
    not_compared: tuple[str, ...] = ()
    """Tables, each with its reason."""
    figures: Mapping[str, Any] = field(default_factory=dict)
    """How often it had to look again, and how long rows were held."""

    @property
    def equal(self) -> bool:
        return not self.differences

    @property
    def says(self) -> str:
        looked = f"{self.tables} tables with {self.rows} rows were compared in {self.seconds:.1f} s"
        left = f" Not compared: {'; '.join(self.not_compared)}." if self.not_compared else ""
        if self.equal:
            return f"{self.node} is equal to the Master: {looked}.{left}"
        return f"{self.node} differs from the Master: {'; '.join(self.differences)}. {looked[0].upper()}{looked[1:]}.{left}"
