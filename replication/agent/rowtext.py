"""Rows out of what `mariadb-binlog -vv --base64-output=decode-rows --print-table-metadata` prints.

Its input holds no statement that a client has written (replication/agent/extract.py leaves them out), so that every line is one of
the program's own. Line breaks inside of values are escaped; quotes are not, so a value is read from both ends.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from replication.core.losses import DELETE, INSERT, UPDATE, Row
from replication.core.positions import Gtid

_GTID: Final = re.compile(rb"#\d{6} .*\tGTID (\d+)-(\d+)-(\d+)")
_TABLE: Final = re.compile(rb"#\d{6} .*\tTable_map: `(.+)`\.`(.+)` mapped to number \d+")
_COLUMN: Final = re.compile(rb"# (?:Columns\(|        )`((?:[^`]|``)+)` ")
_KEY: Final = b"# Primary Key("
_ROW: Final = re.compile(rb"### (INSERT INTO|UPDATE|DELETE FROM) `(.+)`\.`(.+)`$")
_VALUE: Final = re.compile(rb"###   @(\d+)=(.*) /\* [^*]* is_null=([01]) \*/$", re.DOTALL)
_PLAIN: Final = re.compile(rb"###   @(\d+)=(.*?)(?: /\*.*)?$", re.DOTALL)
_VERBS: Final = {b"INSERT INTO": INSERT, b"UPDATE": UPDATE, b"DELETE FROM": DELETE}


@dataclass(frozen=True)
class Definition:
    columns: tuple[str, ...]
    key: frozenset[str]


@dataclass
class _Half:
    verb: str
    table: str
    before: dict[int, str | None] = field(default_factory=dict)
    after: dict[int, str | None] = field(default_factory=dict)
    into: dict[int, str | None] = field(default_factory=dict)


def rows(lines: Iterable[bytes], known: Mapping[str, Definition]) -> Iterator[tuple[Gtid, Row]]:
    """known: what is known of tables from elsewhere, by `database.table`; the log's own word comes first."""
    gtid = Gtid(0, 0, 0)
    told: dict[str, Definition] = {}
    table, columns = "", list[str]()
    half: _Half | None = None
    for raw in lines:
        line = raw.rstrip(b"\n")
        if line.startswith(b"###"):
            if found := _ROW.match(line):
                if half is not None:
                    yield gtid, _row(half, told, known)
                half = _Half(_VERBS[found.group(1)], f"{_text(found.group(2))}.{_text(found.group(3))}")
                half.into = half.before
            elif half is not None:
                _take(half, line)
            continue
        if half is not None:
            yield gtid, _row(half, told, known)
            half = None
        if found := _GTID.match(line):
            gtid = Gtid(*map(int, found.groups()))
        elif found := _TABLE.match(line):
            table, columns = f"{_text(found.group(1))}.{_text(found.group(2))}", []
            told.pop(table, None)
        elif found := _COLUMN.match(line):
            columns.append(_text(found.group(1)).replace("``", "`"))
            told[table] = Definition(tuple(columns), frozenset())
        elif line.startswith(_KEY) and table in told:
            names = (part.split("(")[0].strip("`") for part in _text(line[len(_KEY) : -1]).split(", "))
            told[table] = Definition(told[table].columns, frozenset(names))
    if half is not None:
        yield gtid, _row(half, told, known)


def _take(half: _Half, line: bytes) -> None:
    if line == b"### SET":
        half.into = half.after
    elif line == b"### WHERE":
        half.into = half.before
    elif found := _VALUE.match(line):
        half.into[int(found.group(1))] = None if found.group(3) == b"1" else _value(found.group(2))
    elif found := _PLAIN.match(line):
        half.into[int(found.group(1))] = None if found.group(2) == b"NULL" else _value(found.group(2))


def _value(raw: bytes) -> str:
    """Without the quotes around it."""
    quoted = len(raw) > 1 and raw[:1] == raw[-1:] == b"'"
    return _text(raw[1:-1] if quoted else raw)


def _row(half: _Half, told: Mapping[str, Definition], known: Mapping[str, Definition]) -> Row:
    definition = told.get(half.table) or known.get(half.table)
    count = max((*half.before, *half.after), default=0)
    if definition is None or len(definition.columns) != count:  # the table may have been changed since
        definition = Definition((), frozenset())
    return Row(
        table=half.table, verb=half.verb, columns=definition.columns, key=definition.key, before=half.before,
        after=half.after,
    )  # fmt: skip


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "backslashreplace")
