"""What a lost transaction changed, told without a secret; and which credentials have to be rotated because of it. Pure.

Everything is masked that is not known to be harmless: shown are the row's key, and values of columns that name something
(an account, a host). A column that looks like a secret is never shown, whatever else its name says, and a value of any column is
stripped of what a URL or a connection string carries along.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

MASK: Final = "•••"
SHOWN_MAX: Final = 100
"""Characters of a value that is shown."""
CHANGES_MAX: Final = 5000
"""Changes, and credentials to rotate, that a report lists; how many more there are is counted."""

INSERT, UPDATE, DELETE, DDL = "insert", "update", "delete", "ddl"


def words_of(name: str) -> tuple[str, ...]:
    """A column's name taken apart: `apiKey` and `api_key` are the same two words."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name)
    return tuple(word for word in re.split(r"[^a-z0-9]+", spaced.lower()) if word)


_SECRET_WORDS: Final = frozenset(
    words_of(
        "pass pwd passwd password passwords passphrase passcode secret secrets token tokens credential credentials cred creds private"
        " hash digest salt seed otp totp hotp mfa pin pins puk key keys keytab apikey privkey sshkey cipher ciphertext encrypted enc"
        " kek dek iv nonce signature pem pfx pkcs12 session cookie bearer jwt auth recovery"
    )
)
_SECRET_PARTS: Final = (
    "passw",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "credential",
    "private",
    "hash",
    "apikey",
    "cipher",
    "encrypt",
)
"""Also inside of a word: `userpassword`."""
_NAMING_WORDS: Final = frozenset(
    words_of(
        "name names user username login account accounts host hostname title url uri label email mail address ip server system device"
        " domain database realm principal owner group site"
    )
)
_ID_WORDS: Final = frozenset(words_of("id ids uuid guid no nr number code ref pk"))
_INTEGER: Final = re.compile(r"-?\d+")

_URL_USER = re.compile(r"://[^/@\s]*@")
_URL_QUERY = re.compile(r"(?<=\S)[?#]\S*")
_ASSIGNED = re.compile(r"(?is)([\w.-]*(?:pass|pwd|secret|token|key|credential|auth)[\w.-]*\s*[=:]).*")
"""Up to the end: where a password ends cannot be told from outside."""


def looks_secret(name: str) -> bool:
    """Whether a column, or a table, of this name holds secrets, as far as a name can say it."""
    words = words_of(name)
    joined = "".join(words)
    return any(word in _SECRET_WORDS for word in words) or any(part in joined for part in _SECRET_PARTS)


def names_something(name: str) -> bool:
    """Whether a column of this name says which row it is, to a person: never one that looks secret."""
    words = words_of(name)
    return not looks_secret(name) and any(word in _NAMING_WORDS or word.endswith("name") for word in words)


def shown_value(text: str) -> str:
    """A value that may be shown, without what does not belong to a name."""
    text = _URL_USER.sub(f"://{MASK}@", text)
    if "://" in text:
        text = _URL_QUERY.sub(f"?{MASK}", text)
    text = _ASSIGNED.sub(rf"\g<1>{MASK}", text)
    return text if len(text) <= SHOWN_MAX else text[: SHOWN_MAX - 1] + "…"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One changed row as it stands in the log, unmasked: it never leaves the vault host."""

    table: str
    """`database.table`."""
    verb: str
    columns: tuple[str, ...] = ()
    """Names in the order of the table; empty when they are not known."""
    key: frozenset[str] = frozenset()
    """Names of the primary key's columns."""
    before: Mapping[int, str | None] = field(default_factory=dict)
    """Place in the table, from 1 → value; None for NULL. Empty for a row that was inserted."""
    after: Mapping[int, str | None] = field(default_factory=dict)
    """Empty for a row that was deleted."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """One changed row, or one statement, as it may be shown."""

    table: str
    verb: str
    key: Mapping[str, str] = field(default_factory=dict)
    shown: Mapping[str, str] = field(default_factory=dict)
    """Values that name the row."""
    changed: tuple[str, ...] = ()
    """Names of the columns that were written; every value that is in neither of the two above is masked."""
    says: str = ""
    """Of a statement: its kind, such as ALTER TABLE."""
    secrets: tuple[str, ...] = ()
    """Those of `changed` that look like secrets: what has to be rotated."""

    def to_json(self) -> dict[str, Any]:
        made: dict[str, Any] = {"table": self.table, "verb": self.verb}
        for name in ("key", "shown", "changed", "says", "secrets"):
            if value := getattr(self, name):
                made[name] = list(value) if isinstance(value, tuple) else value
        return made


def change_of(row: Row) -> Change:
    """What of a row may be told."""
    if not row.columns:
        return _unnamed(row)
    names = dict(enumerate(row.columns, 1))
    now = row.after or row.before
    changed = [names[at] for at in sorted(now) if at in names and _written(row, at)]
    vaulted = looks_secret(row.table.rpartition(".")[2])
    key = {
        name: _key_value(name, value, vaulted)
        for at, name in names.items()
        if name in row.key and (value := (row.before or row.after).get(at)) is not None
    }
    shown = {
        name: shown_value(value)
        for at, name in names.items()
        if name not in row.key and names_something(name) and (value := now.get(at)) is not None
    }
    filled = [name for at, name in names.items() if name in changed and now.get(at) is not None]
    secrets = [
        name
        for name in (filled if row.verb == INSERT else changed)
        if looks_secret(name) or (vaulted and name not in row.key and not names_something(name))
    ]
    return Change(
        table=row.table,
        verb=row.verb,
        key=key,
        shown=shown,
        changed=tuple(changed),
        secrets=() if row.verb == DELETE else tuple(secrets),
    )


def _written(row: Row, at: int) -> bool:
    return row.verb != UPDATE or row.before.get(at) != row.after.get(at)


def _key_value(name: str, value: str, vaulted: bool) -> str:
    """vaulted: its table holds secrets, so that a text that is its key may be one as well."""
    harmless = (
        _INTEGER.fullmatch(value) or names_something(name) or bool(set(words_of(name)) & _ID_WORDS) or not vaulted
    )
    return shown_value(value) if harmless and not looks_secret(name) else MASK


def _unnamed(row: Row) -> Change:
    """The columns are numbers. Of their values one is shown: a whole number in the first column, which will be its key."""
    now = row.after or row.before
    first = (row.before or row.after).get(1)
    changed = tuple(f"@{at}" for at in sorted(now) if _written(row, at))
    key = {"@1": first} if first is not None and _INTEGER.fullmatch(first) else {}
    secrets = () if row.verb == DELETE else tuple(name for name in changed if name != "@1" or not key)
    return Change(table=row.table, verb=row.verb, key=key, changed=changed, secrets=secrets)


# --- statements

_NAME = r"(?:`(?:[^`]|``)+`|[\w$]+)"
_TABLE = rf"({_NAME}(?:\s*\.\s*{_NAME})?)"
_PART = r"(?:'(?:[^'\\]|'')*'|`[^`]*`|\"[^\"\\]*\"|[\w$.%-]+)"
_ACCOUNT = rf"({_PART}(?:@{_PART})?)"
_IF = r"(?:\s+IF\s+(?:NOT\s+)?EXISTS)?"

_STATEMENTS: Final[tuple[tuple[str, str, str], ...]] = (
    # Kind, pattern up to the name, what the name is.
    ("CREATE TABLE", rf"CREATE(?:\s+OR\s+REPLACE)?(?:\s+TEMPORARY)?\s+TABLE{_IF}\s+{_TABLE}", "table"),
    ("ALTER TABLE", rf"ALTER(?:\s+ONLINE)?(?:\s+IGNORE)?\s+TABLE{_IF}\s+{_TABLE}", "table"),
    ("DROP TABLE", rf"DROP(?:\s+TEMPORARY)?\s+TABLE{_IF}\s+{_TABLE}", "table"),
    ("TRUNCATE TABLE", rf"TRUNCATE(?:\s+TABLE)?\s+{_TABLE}", "table"),
    ("RENAME TABLE", rf"RENAME\s+TABLES?{_IF}\s+{_TABLE}", "table"),
    ("CREATE INDEX", rf"CREATE(?:\s+\w+){{0,3}}?\s+INDEX{_IF}\s+{_NAME}\s+(?:USING\s+\w+\s+)?ON\s+{_TABLE}", "table"),
    ("DROP INDEX", rf"DROP\s+INDEX{_IF}\s+{_NAME}\s+ON\s+{_TABLE}", "table"),
    ("SET PASSWORD", rf"SET\s+PASSWORD\s+FOR\s+{_ACCOUNT}", "account"),
    ("CREATE USER", rf"CREATE(?:\s+OR\s+REPLACE)?\s+USER{_IF}\s+{_ACCOUNT}", "account"),
    ("ALTER USER", rf"ALTER\s+USER{_IF}\s+{_ACCOUNT}", "account"),
    ("DROP USER", rf"DROP\s+USER{_IF}\s+{_ACCOUNT}", "account"),
    ("INSERT", rf"INSERT(?:\s+(?:LOW_PRIORITY|DELAYED|HIGH_PRIORITY|IGNORE))*(?:\s+INTO)?\s+{_TABLE}", "rows"),
    ("REPLACE", rf"REPLACE(?:\s+(?:LOW_PRIORITY|DELAYED))*(?:\s+INTO)?\s+{_TABLE}", "rows"),
    ("UPDATE", rf"UPDATE(?:\s+(?:LOW_PRIORITY|IGNORE))*\s+{_TABLE}", "rows"),
    ("DELETE", rf"DELETE(?:\s+(?:LOW_PRIORITY|QUICK|IGNORE))*\s+FROM\s+{_TABLE}", "rows"),
)  # fmt: skip
_OBJECT: Final = re.compile(
    r"(CREATE|ALTER|DROP)\b.{0,200}?\b(DATABASE|SCHEMA|VIEW|TRIGGER|PROCEDURE|FUNCTION|EVENT|ROLE|SEQUENCE|SERVER)\b",
    re.IGNORECASE | re.DOTALL,
)
_COMPILED: Final = tuple((kind, re.compile(pattern, re.IGNORECASE), what) for kind, pattern, what in _STATEMENTS)
_COMMENTS = re.compile(r"(?:\s|/\*(?!M?!).*?\*/|--[ \t][^\n]*\n|#[^\n]*\n)*", re.DOTALL)
_FIRST_WORD = re.compile(r"[A-Za-z]{2,20}")
_PLAIN_ACCOUNT = re.compile(r"[\w.%$-]{1,80}")


def change_by_statement(database: str, text: str) -> Change:
    """What of a statement may be told: its kind and what it is about. No literal of it, since that may be a password; the name of
    a database account is one that has to be told."""
    text = text[_COMMENTS.match(text).end() :]  # type: ignore[union-attr]  # it matches the empty text as well
    for kind, pattern, what in _COMPILED:
        if found := pattern.match(text):
            return _statement(kind, what, found.group(1), database, text)
    if found := _OBJECT.match(text):
        return Change(table=database, verb=DDL, says=f"{found.group(1)} {found.group(2)}".upper())
    word = _FIRST_WORD.match(text)
    says = word.group().upper() if word else "statement"
    # GRANT … IDENTIFIED BY sets a password too.
    secret = ("password",) if re.search(r"\bIDENTIFIED\b", text, re.IGNORECASE) else ()
    return Change(table=ACCOUNTS if secret else database, verb=DDL, says=says, secrets=secret)


ACCOUNTS: Final = "database accounts"
"""Stands in the place of a table for what changes accounts of the database itself."""


def _statement(kind: str, what: str, name: str, database: str, text: str) -> Change:
    if what == "account":
        parts = [part.strip("'`\"") for part in re.split(r"@(?=[^@]*$)", name)]
        known = all(_PLAIN_ACCOUNT.fullmatch(part) for part in parts)
        key = {"account": "@".join(parts) if known else MASK}
        return Change(
            table=ACCOUNTS, verb=DDL, key=key, says=kind, secrets=() if kind == "DROP USER" else ("password",)
        )
    parts = [part.strip().strip("`") for part in re.findall(_NAME, name)]
    table = ".".join(parts) if len(parts) > 1 or not database else f"{database}.{parts[0]}"
    if what == "rows":
        verb = {"UPDATE": UPDATE, "DELETE": DELETE}.get(kind, INSERT)
        secrets = () if verb == DELETE else (STATEMENT_ONLY,)
        return Change(table=table, verb=verb, says=f"{kind} as a statement", secrets=secrets)
    return Change(table=table, verb=DDL, says=kind)


STATEMENT_ONLY: Final = "unknown: it was logged as a statement"
"""In the place of the columns of a change that was not logged row by row."""


# --- what to rotate


@dataclass(frozen=True, kw_only=True)
class Rotation:
    """One row whose secret has to be changed where it is used: the vault does not know the newest one."""

    table: str
    key: Mapping[str, str]
    name: str
    """What a person knows it by; "" when no column says it."""
    columns: tuple[str, ...]
    last_at: str
    times: int = 1

    def to_json(self) -> dict[str, Any]:
        return {
            "table": self.table, "key": dict(self.key), "name": self.name, "columns": list(self.columns),
            "last_at": self.last_at, "times": self.times,
        }  # fmt: skip


class Rotations:
    """Collects them over all changes, one for each row, in the order in which they first came."""

    def __init__(self, limit: int = CHANGES_MAX) -> None:
        self._limit = limit
        self._found: dict[Any, Rotation] = {}
        self.more = 0
        """Changes of secrets beyond the limit."""

    def add(self, change: Change, at: str) -> None:
        """at: when, ISO 8601."""
        if not change.secrets:
            return
        # Rows without a key that can be shown are not told apart from each other: each counts.
        told_apart = bool(change.key) and MASK not in change.key.values()
        where = (
            (change.table, tuple(change.key.items())) if told_apart else (change.table, len(self._found) + self.more)
        )
        known = self._found.get(where)
        if known is None and len(self._found) >= self._limit:
            self.more += 1
            return
        columns = change.secrets if known is None else tuple(dict.fromkeys((*known.columns, *change.secrets)))
        self._found[where] = Rotation(
            table=change.table,
            key=change.key,
            name=name_of(change) or (known.name if known else ""),
            columns=columns,
            last_at=at,
            times=known.times + 1 if known else 1,
        )

    def found(self) -> Sequence[Rotation]:
        return tuple(self._found.values())


def name_of(change: Change) -> str:
    """What a person knows the row by, in the order of the table's columns."""
    return ", ".join(change.shown.values()) or change.key.get("account", "")
