"""Checksums of rows, byte for byte, and of definitions: the statements of a comparison. docs/design/comparison.md.

A row is one MD5 over its columns in order. Whatever holds bytes (strings, blobs, JSON, geometry) goes in as the MD5 of exactly
these bytes, so that neither a collation nor a character set, a trailing blank or the largest packet changes what is compared;
numbers, dates and the like go in as text that says all their bits; NULL goes in as N, which none of them can be.
A range of rows is their number, the XOR of one half of their MD5s and the sum of the other: two equal rows of a table without
a key do not take each other away.
"""

# ruff: noqa: S608  # identifiers are quoted and pieces of keys are checked here, values go through the driver

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from replication.core.comparison import Key, ObjectFacts, RowFacts, TableFacts
from replication.dialects.base import Row, Session

SYSTEM_SCHEMAS: Final = ("mysql", "information_schema", "performance_schema", "sys")
NUMBERS: Final = frozenset({"tinyint", "smallint", "mediumint", "int", "bigint", "decimal", "year"})
BY_NUMBER: Final = frozenset({"bit", "enum", "set"})
"""Compared as the number that is stored, not as the words that their definition gives it."""
FLOATS: Final = frozenset({"float", "double"})
"""A FLOAT in text shows six digits of nine: as a DOUBLE it shows all."""
BYTES: Final = frozenset({"char", "varchar", "tinytext", "text", "mediumtext", "longtext"}) | frozenset(
    {"binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob"}
)
TEXT: Final = frozenset({"date", "datetime", "timestamp", "time", "uuid", "inet4", "inet6"})
KEY_TYPES: Final = NUMBERS | {"bit"} | BYTES | TEXT
SHOWN_MAX: Final = 60
SECRET: Final = re.compile(
    r"pass|pwd|secret|token|credential|cipher|private|salt|hash|pin$|api_?key|auth|^key$|_key$", re.IGNORECASE
)
"""Names of columns whose values are not shown even where they are keys."""
KEYLESS_MAX: Final = 20_000
"""Rows of a table without a key: it can only be looked at as a whole."""
LOCK_WAIT_SECONDS: Final = 1

_NOT_SYSTEM: Final = "({column} NOT IN ('mysql', 'information_schema', 'performance_schema', 'sys'))"
_NEXT_NUMBER: Final = re.compile(r" AUTO_INCREMENT=\d+")
_NOT_COMPARED_ACCOUNTS: Final = (
    "User LIKE 'vha\\_%%' OR User IN ('mariadb.sys', 'PUBLIC', '') OR (Host = 'localhost' AND plugin_ = 'unix_socket')"
)


class NoSuchTable(Exception):
    """It is not there (any more), or has no column."""


@dataclass(frozen=True)
class Column:
    name: str
    type: str
    """As information_schema has it, without length."""
    full_type: str
    charset: str
    collation: str
    generated: str
    """ "", "VIRTUAL" or "STORED"."""


@dataclass(frozen=True)
class Layout:
    """What is needed to read the rows of a table."""

    schema: str
    table: str
    columns: tuple[Column, ...]
    """Without virtual ones: they have nothing of their own."""
    key_name: str
    key: tuple[Column, ...]
    """Empty: it has no key that rows can be told apart by."""

    @property
    def name(self) -> str:
        return f"{self.schema}.{self.table}"

    @property
    def quoted(self) -> str:
        return f"{quoted(self.schema)}.{quoted(self.table)}"

    @property
    def source(self) -> str:
        return f"{self.quoted} FORCE INDEX ({quoted(self.key_name)})" if self.key else self.quoted

    @property
    def digest(self) -> str:
        return digest(*(f"{c.name} {c.full_type} {c.charset}" for c in self.columns), "key", *map(repr, self.key))


def quoted(name: str) -> str:
    """An identifier, also for a statement that goes through the driver's formatting."""
    return "`" + name.replace("`", "``").replace("%", "%%") + "`"


def digest(*parts: Any) -> str:
    whole = hashlib.sha256()
    for part in parts:
        piece = b"\0" if part is None else str(part).encode()
        whole.update(b"%d:" % len(piece) + piece)
    return whole.hexdigest()[:32]


class Checksums:
    """Of one server, over a session of its own that nothing else uses."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def prepare(self, limit: timedelta, idle: timedelta) -> None:
        """Once on each connection. limit: no statement takes longer. idle: the server ends a transaction that has not heard from
        us for this long, in whole seconds, so that a stopped agent holds nothing."""
        self.session.run(
            "SET SESSION time_zone = '+00:00', sql_mode = '', max_statement_time = %s, innodb_lock_wait_timeout = %s,"
            " lock_wait_timeout = %s, idle_transaction_timeout = %s, tx_isolation = 'REPEATABLE-READ', tx_read_only = 0,"
            " optimizer_switch = 'derived_merge=off'",
            limit.total_seconds(),
            LOCK_WAIT_SECONDS,
            LOCK_WAIT_SECONDS,
            max(1, round(idle.total_seconds())),
        )

    # --- positions ------------------------------------------------------------------------------------------------

    def written(self) -> str:
        """All that a statement before this one can have seen is in the binary log up to here."""
        return str(self.session.rows("SELECT @@GLOBAL.gtid_binlog_pos AS position")[0]["position"] or "")

    def applied(self) -> str:
        return str(self.session.rows("SELECT @@GLOBAL.gtid_slave_pos AS position")[0]["position"] or "")

    def wait_applied(self, position: str, duration: timedelta) -> bool:
        if not position:
            return True
        rows = self.session.rows("SELECT MASTER_GTID_WAIT(%s, %s) AS missed", position, duration.total_seconds())
        return bool(rows[0]["missed"] == 0)

    # --- rows -----------------------------------------------------------------------------------------------------

    def layout(self, schema: str, table: str) -> Layout:
        """Raises NoSuchTable."""
        found = self._layouts("table_schema = %s AND table_name = %s", schema, table)
        if (schema, table) not in found:
            raise NoSuchTable(f"{schema}.{table}")
        return found[schema, table]

    def last_key(self, layout: Layout, after: Key | None, upto: Key | None, rows: int) -> Key | None:
        """The key of the row that is `rows` behind `after`; None when the range ends before."""
        where, values = _range(layout, after, upto)
        found = self.session.rows(
            f"SELECT {_key_fields(layout)} FROM {layout.source} {where} ORDER BY {_order(layout)} LIMIT 1 OFFSET {rows - 1:d}",
            *values,
        )
        return _key(layout, found[0]) if found else None

    def total(self, layout: Layout, after: Key | None, upto: Key | None) -> tuple[int, str]:
        """Number and digest of the rows behind `after`, up to and with `upto`; None is the beginning and the end."""
        where, values = _range(layout, after, upto)
        row = self.session.rows(
            "SELECT COUNT(*) AS n, COUNT(h) AS whole, BIT_XOR(CAST(CONV(LEFT(h, 16), 16, 10) AS UNSIGNED)) AS x,"
            " SUM(CAST(CONV(RIGHT(h, 16), 16, 10) AS UNSIGNED)) AS s"
            f" FROM (SELECT {_row_digest(layout)} AS h FROM {layout.source} {where}) AS vha_rows",
            *values,
        )[0]
        if row["n"] != row["whole"]:
            raise ValueError(f"{layout.name}: the server could not compute a checksum")
        return int(row["n"]), f"{int(row['x']):016x}{int(row['s'] or 0):x}"

    def rows(self, layout: Layout, after: Key | None, upto: Key | None, limit: int) -> list[RowFacts]:
        where, values = _range(layout, after, upto)
        return self._listed(layout, f"{where} ORDER BY {_order(layout)} LIMIT {limit:d}", values)

    def rows_of(self, layout: Layout, keys: Sequence[Key], *, hold: bool = False) -> list[RowFacts]:
        """hold: within a transaction that was begun, nobody changes, adds or removes these rows until it ends."""
        if not keys:
            return []
        parts = [_equal(layout, key) for key in keys]
        where = "WHERE " + " OR ".join(f"({text})" for text, _ in parts)
        values = [value for _, mine in parts for value in mine]
        return self._listed(layout, where + (" LOCK IN SHARE MODE" if hold else ""), values)

    def begin(self) -> None:
        self.session.run("START TRANSACTION")

    def hold_all(self, layout: Layout) -> None:
        """Of a small table without a key: until the transaction ends nobody changes it."""
        self.session.rows(f"SELECT COUNT(*) FROM {layout.source} LOCK IN SHARE MODE")

    def end(self) -> None:
        self.session.run("ROLLBACK")

    def _listed(self, layout: Layout, rest: str, values: Sequence[Any]) -> list[RowFacts]:
        found = self.session.rows(
            f"SELECT {_key_fields(layout)}, {_row_digest(layout)} AS digest FROM {layout.source} {rest}", *values
        )
        return [
            RowFacts(key=(key := _key(layout, row)), shown=_shown(layout, key), digest=row["digest"]) for row in found
        ]

    # --- definitions ----------------------------------------------------------------------------------------------

    def tables(self) -> list[TableFacts]:
        """All that clients have made, in order of their names."""
        layouts = self._layouts(_NOT_SYSTEM.format(column="table_schema"))
        found = self.session.rows(
            "SELECT table_schema AS s, table_name AS t, table_type AS kind, engine AS e, table_rows AS n"
            f" FROM information_schema.tables WHERE {_NOT_SYSTEM.format(column='table_schema')}"
            " AND table_type IN ('BASE TABLE', 'SYSTEM VERSIONED') AND table_name NOT LIKE '#sql%%'"
            " ORDER BY table_schema, table_name"
        )
        return [facts for row in found if (facts := self._table(row, layouts.get((row["s"], row["t"])))) is not None]

    def _table(self, row: Row, layout: Layout | None) -> TableFacts | None:
        """None when it was dropped a moment ago."""
        if layout is None:
            return None
        try:
            made = self.session.rows(f"SHOW CREATE TABLE {layout.quoted}")[0]
        except Exception as error:
            if getattr(error, "code", 0) in (1146, 1049):
                return None
            raise
        rows, why = int(row["n"] or 0), ""
        if row["e"] != "InnoDB":
            why = f"engine {row['e']}, only InnoDB shows one state of a table while others write"
        elif not layout.columns:
            why = "all its columns are computed"
        elif unknown := [c.name for c in layout.columns if c.type not in _KNOWN]:
            why = f"the type of {', '.join(unknown)} is not known"
        elif not layout.key and rows > KEYLESS_MAX:
            why = f"it has no key to go by and about {rows} rows: give it a primary key"
        return TableFacts(
            schema=layout.schema, table=layout.table, definition=digest(_NEXT_NUMBER.sub("", made["Create Table"])),
            layout=layout.digest, keyed=bool(layout.key), rows=rows, not_compared=why,
        )  # fmt: skip

    def objects(self) -> list[ObjectFacts]:
        """Views, sequences, triggers, routines, events and accounts. Whether an event runs is left out: on a fallback none does."""
        found: list[ObjectFacts] = []
        for kind, statement in _OBJECTS:
            for row in self.session.rows(statement):
                facts = {name: value for name, value in row.items() if name != "name"}
                found.append(ObjectFacts(kind=kind, name=row["name"], definition=digest(*facts.values())))
        return [*found, *self._accounts()]

    def _accounts(self) -> list[ObjectFacts]:
        rows = self.session.rows(
            "SELECT User AS user, Host AS host, JSON_VALUE(Priv, '$.is_role') AS role FROM"
            " (SELECT User, Host, Priv, JSON_VALUE(Priv, '$.plugin') AS plugin_ FROM mysql.global_priv) AS vha_accounts"
            f" WHERE NOT ({_NOT_COMPARED_ACCOUNTS}) AND NOT (Host = 'localhost' AND User = 'root') ORDER BY 1, 2"
        )
        found = []
        for row in rows:
            role = bool(row["role"])
            said: list[str] = []
            for what in ("SHOW GRANTS FOR",) if role else ("SHOW GRANTS FOR", "SHOW CREATE USER"):
                values = (row["user"],) if role else (row["user"], row["host"])
                answer = self.session.rows(f"{what} %s" if role else f"{what} %s@%s", *values)
                said += sorted(str(value) for one in answer for value in one.values())
            name = row["user"] if role else f"{row['user']}@{row['host']}"
            found.append(ObjectFacts(kind="role" if role else "account", name=name, definition=digest(*said)))
        return found

    def _layouts(self, condition: str, *values: Any) -> dict[tuple[str, str], Layout]:
        columns: dict[tuple[str, str], list[Column]] = {}
        for row in self.session.rows(
            "SELECT table_schema AS s, table_name AS t, column_name AS c, data_type AS type, column_type AS full_type,"
            " character_set_name AS charset, collation_name AS collation, extra AS extra"
            f" FROM information_schema.columns WHERE {condition} ORDER BY table_schema, table_name, ordinal_position",
            *values,
        ):
            kind = re.search(r"(VIRTUAL|STORED) GENERATED", row["extra"] or "")
            columns.setdefault((row["s"], row["t"]), []).append(
                Column(
                    row["c"], row["type"].lower(), row["full_type"], row["charset"] or "", row["collation"] or "",
                    kind[1] if kind else "",
                )
            )  # fmt: skip
        indexes: dict[tuple[str, str], dict[str, list[Row]]] = {}
        for row in self.session.rows(
            "SELECT table_schema AS s, table_name AS t, index_name AS i, column_name AS c, sub_part AS part, nullable AS nullable"
            f" FROM information_schema.statistics WHERE {condition} AND non_unique = 0"
            " ORDER BY table_schema, table_name, index_name <> 'PRIMARY', index_name, seq_in_index",
            *values,
        ):
            indexes.setdefault((row["s"], row["t"]), {}).setdefault(row["i"], []).append(row)
        return {name: _layout(name, found, indexes.get(name, {})) for name, found in columns.items()}


_KNOWN: Final = NUMBERS | BY_NUMBER | FLOATS | BYTES | TEXT | frozenset(
    {"geometry", "point", "linestring", "polygon", "multipoint", "multilinestring", "multipolygon", "geometrycollection"}
)  # fmt: skip

_OBJECTS: Final = (
    (
        "view",
        "SELECT CONCAT(table_schema, '.', table_name) AS name, view_definition, check_option, definer, security_type,"
        " character_set_client, collation_connection FROM information_schema.views"
        f" WHERE {_NOT_SYSTEM.format(column='table_schema')} ORDER BY 1",
    ),
    (
        "sequence",
        "SELECT CONCAT(table_schema, '.', table_name) AS name, engine FROM information_schema.tables"
        f" WHERE table_type = 'SEQUENCE' AND {_NOT_SYSTEM.format(column='table_schema')} ORDER BY 1",
    ),
    (
        "trigger",
        "SELECT CONCAT(trigger_schema, '.', trigger_name) AS name, event_object_table, event_manipulation, action_timing,"
        " action_order, action_statement, sql_mode, definer FROM information_schema.triggers"
        f" WHERE {_NOT_SYSTEM.format(column='trigger_schema')} ORDER BY 1",
    ),
    (
        "routine",
        "SELECT CONCAT(db, '.', name) AS name, type, param_list, returns, body_utf8, sql_data_access, is_deterministic,"
        f" security_type, sql_mode, definer FROM mysql.proc WHERE {_NOT_SYSTEM.format(column='db')} ORDER BY db, name, type",
    ),
    (
        "event",
        "SELECT CONCAT(event_schema, '.', event_name) AS name, event_definition, event_type, execute_at, interval_value,"
        " interval_field, sql_mode, starts, ends, on_completion, definer FROM information_schema.events"
        f" WHERE {_NOT_SYSTEM.format(column='event_schema')} ORDER BY 1",
    ),
)


def _layout(name: tuple[str, str], columns: list[Column], indexes: dict[str, list[Row]]) -> Layout:
    by_name = {column.name: column for column in columns}
    stored = tuple(column for column in columns if column.generated != "VIRTUAL")
    for index, parts in indexes.items():
        usable = all(
            not part["nullable"] and part["part"] is None and part["c"] in by_name and _orders(by_name[part["c"]])
            for part in parts
        )
        if usable:
            return Layout(*name, stored, index, tuple(by_name[part["c"]] for part in parts))
    return Layout(*name, stored, "", ())


def _orders(column: Column) -> bool:
    """Whether ranges of it can be told, by the index and without doubt."""
    return column.type in KEY_TYPES and column.generated != "VIRTUAL"


def _row_digest(layout: Layout) -> str:
    return f"MD5(CONCAT_WS('|', {', '.join(f'IFNULL({_exactly(column)}, {_NULL})' for column in layout.columns)}))"


_NULL: Final = "'N'"


def _exactly(column: Column) -> str:
    """Text that is the same for the same value only, and never "N"."""
    name = quoted(column.name)
    if column.type in BY_NUMBER:
        return f"CAST({name} + 0 AS CHAR)"
    if column.type in FLOATS:
        return f"CAST(CAST({name} AS DOUBLE) AS CHAR)"
    if column.type in NUMBERS or column.type in TEXT:
        return f"CAST({name} AS CHAR)"
    return f"MD5({name})"


def _key_fields(layout: Layout) -> str:
    return ", ".join(f"{_carried(column)} AS {quoted(f'k{n}')}" for n, column in enumerate(layout.key))


def _carried(column: Column) -> str:
    name = quoted(column.name)
    if column.type in BYTES:
        return f"HEX({name})"
    return f"CAST({name} + 0 AS CHAR)" if column.type == "bit" else f"CAST({name} AS CHAR)"


def _key(layout: Layout, row: Row) -> Key:
    return tuple(str(row[f"k{n}"]) for n in range(len(layout.key)))


def _order(layout: Layout) -> str:
    return ", ".join(quoted(column.name) for column in layout.key)


def _literal(column: Column, piece: str) -> tuple[str, list[Any]]:
    """One piece of a key in SQL. Raises ValueError for what no agent has sent."""
    if column.type in BYTES:
        if not re.fullmatch(r"([0-9A-F]{2})*", piece):
            raise ValueError(f"not bytes: {piece[:20]!r}")
        if not column.charset:
            return f"X'{piece}'", []
        return f"_{column.charset} X'{piece}' COLLATE {column.collation}", []
    if column.type in TEXT:
        return "%s", [piece]
    if not re.fullmatch(r"-?\d+(\.\d+)?", piece):
        raise ValueError(f"not a number: {piece[:20]!r}")
    return piece, []


def _equal(layout: Layout, key: Key) -> tuple[str, list[Any]]:
    _check_length(layout, key)
    texts, values = [], list[Any]()
    for column, piece in zip(layout.key, key, strict=True):
        literal, more = _literal(column, piece)
        texts.append(f"{quoted(column.name)} = {literal}")
        values += more
    return " AND ".join(texts), values


def _beyond(layout: Layout, key: Key, sign: str, *, with_key: bool = False) -> tuple[str, list[Any]]:
    """Rows on one side of a key, with_key also the key itself. Spelt out: MariaDB uses no index for (a, b) > (1, 2). The first column alone gives the range."""
    _check_length(layout, key)
    cases, values = [], list[Any]()
    for last in range(len(key)):
        before, mine = _equal(Layout(layout.schema, layout.table, (), "", layout.key[:last]), key[:last])
        literal, more = _literal(layout.key[last], key[last])
        here = f"{sign}=" if with_key and last == len(key) - 1 else sign
        cases.append(f"({before + ' AND ' if before else ''}{quoted(layout.key[last].name)} {here} {literal})")
        values += [*mine, *more]
    first, more = _literal(layout.key[0], key[0])
    return f"({quoted(layout.key[0].name)} {sign}= {first} AND ({' OR '.join(cases)}))", [*more, *values]


def _range(layout: Layout, after: Key | None, upto: Key | None) -> tuple[str, list[Any]]:
    conditions, values = [], list[Any]()
    if after is not None:
        text, more = _beyond(layout, after, ">")
        conditions.append(text)
        values += more
    if upto is not None:
        text, more = _beyond(layout, upto, "<", with_key=True)
        conditions.append(text)
        values += more
    return ("WHERE " + " AND ".join(conditions) if conditions else ""), values


def _check_length(layout: Layout, key: Key) -> None:
    if len(key) != len(layout.key):
        raise ValueError(f"the key of {layout.name} has {len(layout.key)} columns")


def _shown(layout: Layout, key: Key) -> str:
    """ "id=5, name=alice": for a person, without what may be a secret."""
    return ", ".join(f"{column.name}={_piece(column, piece)}" for column, piece in zip(layout.key, key, strict=True))


def _piece(column: Column, piece: str) -> str:
    if SECRET.search(column.name):
        return "(not shown)"
    if column.type in BYTES:
        raw = bytes.fromhex(piece)
        try:
            piece = raw.decode(
                "utf-8" if column.charset.startswith("utf8") else "latin-1" if column.charset else "ascii"
            )
        except UnicodeDecodeError:
            piece = f"0x{piece}"
        if not piece.isprintable():
            piece = f"0x{raw.hex()}"
    return piece if len(piece) <= SHOWN_MAX else piece[: SHOWN_MAX - 1] + "…"
