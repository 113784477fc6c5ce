"""The agent's part of a comparison: checksums of rows and definitions of the local server. docs/design/comparison.md.

Controllers name tables and keys, never SQL. Nothing is written, replication is not touched, and no snapshot outlives its
statement. Rows are held (nobody changes them) for the moment in which the other side is asked for the same ones: the agent lets
go by itself, and if it cannot, the server does.
"""

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from replication.agent.database import LocalSession
from replication.core import limits
from replication.core.comparison import Inventory, Key, RowList, RowSum
from replication.core.vault_ports import DatabaseError
from replication.dialects.mariadb_checksums import Checksums, NoSuchTable

ANSWER_MAX: Final = 400_000
"""Characters of a list of rows; what is behind is asked for with another range."""
KEYS_MAX: Final = 200
ROWS_MAX: Final = 1_000_000
LOCKED: Final = frozenset({1205, 1213, 1969, 1028, 3024})
"""A client holds a row, or the statement took too long."""


class CannotCompare(Exception):
    """reason: "side", "behind", "held", "table", "database" or "busy"; the text is one sentence."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What a controller asks for."""

    operation: str
    primary: bool
    """Whether it takes this node for the primary; it says where it stands only if it is."""
    reached: str = ""
    """Of a fallback: look not before it has applied up to here."""
    wait: timedelta = timedelta()
    schema: str = ""
    table: str = ""
    after: Key | None = None
    upto: Key | None = None
    rows: int = 0
    """Of a chunk: it ends so many rows behind `after`, or at `upto` if that comes first; 0: at `upto`. Of a list: at most so many."""
    keys: tuple[Key, ...] | None = None
    hold: bool = False

    @classmethod
    def from_json(cls, data: Any) -> "Wish":
        """Raises ValueError."""
        if not isinstance(data, Mapping):
            raise ValueError("an object was expected")
        values: dict[str, Any] = {}
        for name, kind in (("operation", str), ("reached", str), ("schema", str), ("table", str)):
            values[name] = _typed(data, name, kind, "")
        for name in ("primary", "hold"):
            values[name] = _typed(data, name, bool, False)
        values["rows"] = _typed(data, "rows", int, 0)
        seconds = _typed(data, "wait", (int, float), 0)
        if not 0 <= seconds <= limits.COMPARE_WAIT_MAX.total_seconds():
            raise ValueError(f"wait must be between 0 and {limits.COMPARE_WAIT_MAX.total_seconds():g} seconds")
        if not 0 <= values["rows"] <= ROWS_MAX or not values["operation"]:
            raise ValueError("operation must say what it belongs to, rows be a number of rows")
        keys = data.get("keys")
        if keys is not None and (not isinstance(keys, list) or len(keys) > KEYS_MAX):
            raise ValueError(f"keys must be a list of at most {KEYS_MAX}")
        return cls(
            **values, wait=timedelta(seconds=seconds), after=_key(data.get("after")), upto=_key(data.get("upto")),
            keys=None if keys is None else tuple(_key(key) or () for key in keys),
        )  # fmt: skip


def _typed(data: Mapping[str, Any], name: str, kind: Any, default: Any) -> Any:
    value = data.get(name, default)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ValueError(f"{name} is of the wrong kind")
    return value


def _key(value: Any) -> Key | None:
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(piece, str) for piece in value):
        raise ValueError("a key is a list of texts")
    return tuple(value)


class _Held:
    """Rows that nobody can change, for a moment."""

    def __init__(self, session: LocalSession) -> None:
        self.session = session
        self._timer = threading.Timer(limits.COMPARE_HOLD.total_seconds(), session.abort)
        self._timer.daemon = True
        self._timer.start()

    def end(self) -> None:
        """The end of the connection ends its transaction."""
        self._timer.cancel()
        self.session.close()


class Comparer:
    """One comparison at a time; its statements run one after the other, on a thread of their own.

    side: whether this node is the primary now, and why it can be asked for nothing ("" when it can).
    """

    def __init__(self, socket: Path, side: Callable[[], tuple[bool, str]]) -> None:
        self._socket, self._side = socket, side
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="compare")
        self._held: _Held | None = None
        self._asking: LocalSession | None = None
        self._operation, self._asked = "", float("-inf")

    async def answer(self, what: str, wish: Wish) -> Mapping[str, Any]:
        """Raises CannotCompare, or ValueError for a wish that makes no sense."""
        work = {
            "tables": self._tables,
            "chunk": self._chunk,
            "rows": self._rows,
            "release": self._release,
            "end": self._end,
        }.get(what)
        if work is None:
            raise ValueError(f"a comparison has no part {what[:20]!r}")
        self._take_turn(wish)
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._carry_out, work, wish)

    def end(self) -> None:
        """The agent ends: what is asked at this moment is broken off."""
        for session in (self._asking, self._held.session if self._held is not None else None):
            if session is not None:
                session.abort()
        self._thread.shutdown(cancel_futures=True)

    def _take_turn(self, wish: Wish) -> None:
        now = time.monotonic()
        if self._operation not in ("", wish.operation) and now - self._asked < limits.COMPARE_TURN.total_seconds():
            raise CannotCompare("busy", "another comparison is under way on this host: wait until it has ended")
        self._operation, self._asked = wish.operation, now
        if not wish.primary and wish.hold:
            raise ValueError("rows are held on the primary only")

    def _carry_out(self, work: Callable[[Wish], Mapping[str, Any]], wish: Wish) -> Mapping[str, Any]:
        primary, against = self._side()
        reads = work not in (self._release, self._end)
        if against and reads:
            raise CannotCompare("side", against)
        if primary is not wish.primary and reads:
            raise CannotCompare("side", f"it is {'the' if primary else 'not the'} primary")
        try:
            return work(wish)
        except NoSuchTable as error:
            raise CannotCompare("table", f"{error} is not there") from error
        except ValueError as error:  # a key of how the table was a moment ago
            raise CannotCompare("table", str(error)) from error
        except DatabaseError as error:
            if error.code in LOCKED:
                raise CannotCompare("held", "a client holds rows of it, or the server took too long") from error
            if error.code in (1054, 1146, 1176, 1412):
                raise CannotCompare("table", f"{wish.schema}.{wish.table} was changed meanwhile") from error
            raise CannotCompare("database", str(error)) from error

    # --- what can be asked for ------------------------------------------------------------------------------------

    def _tables(self, wish: Wish) -> Mapping[str, Any]:
        with self._checksums(wish) as db:
            tables, objects = db.tables(), db.objects()
            return Inventory(position=_position(db, wish), tables=tuple(tables), objects=tuple(objects)).to_json()

    def _chunk(self, wish: Wish) -> Mapping[str, Any]:
        with self._checksums(wish) as db:
            began = time.monotonic()
            layout = db.layout(wish.schema, wish.table)
            upto = wish.upto
            if wish.rows and layout.key:
                upto = db.last_key(layout, wish.after, wish.upto, wish.rows) or wish.upto
            if wish.hold:
                db.begin()
                db.hold_all(layout)
            number, digest = db.total(layout, wish.after, upto)
            seconds = time.monotonic() - began
            if wish.hold:
                self._keep(db)
            return RowSum(
                rows=number, digest=digest, position=_position(db, wish), upto=upto, seconds=round(seconds, 4)
            ).to_json()

    def _rows(self, wish: Wish) -> Mapping[str, Any]:
        with self._checksums(wish) as db:
            layout = db.layout(wish.schema, wish.table)
            if wish.keys is None:
                found = db.rows(layout, wish.after, wish.upto, wish.rows + 1)
                listed = RowList(rows=tuple(found[: wish.rows]), position="", complete=len(found) <= wish.rows)
            else:
                if wish.hold:
                    db.begin()
                listed = RowList(rows=tuple(db.rows_of(layout, wish.keys, hold=wish.hold)), position="")
                if wish.hold:
                    self._keep(db)
            return _fitting(RowList(rows=listed.rows, position=_position(db, wish), complete=listed.complete))

    def _release(self, wish: Wish) -> Mapping[str, Any]:
        """Whether the rows were held until now: if not, what was read meanwhile says nothing."""
        held, self._held = self._held, None
        if held is None:
            return {"held": False}
        try:
            held.session.run("ROLLBACK")
        except DatabaseError:
            return {"held": False}
        finally:
            held.end()
        return {"held": True}

    def _end(self, wish: Wish) -> Mapping[str, Any]:
        """It has ended, however it did: another one may begin."""
        self._operation = ""
        return self._release(wish)

    @contextlib.contextmanager
    def _checksums(self, wish: Wish) -> Iterator[Checksums]:
        """A connection for this request alone. What an earlier one still holds is let go first."""
        if self._held is not None:
            self._held.end()
            self._held = None
        session = self._asking = LocalSession(
            self._socket, read_seconds=round(limits.COMPARE_WAIT_MAX.total_seconds()) * 2
        )
        try:
            db = Checksums(session)
            db.prepare(limits.COMPARE_HOLD / 2 if wish.hold else limits.COMPARE_STATEMENT, limits.COMPARE_HOLD)
            if not wish.primary and not db.wait_applied(wish.reached, wish.wait):
                at = db.applied()
                raise CannotCompare("behind", f"it has applied up to {at or 'nothing'}, not {wish.reached}")
            yield db
        finally:
            self._asking = None
            if self._held is None or self._held.session is not session:
                session.close()

    def _keep(self, db: Checksums) -> None:
        session = db.session
        assert isinstance(session, LocalSession)
        self._held = _Held(session)


def _position(db: Checksums, wish: Wish) -> str:
    return db.written() if wish.primary else db.applied()


def _fitting(listed: RowList) -> Mapping[str, Any]:
    """Cut where an answer would become too long."""
    size, kept = 0, list[Any]()
    for row in listed.rows:
        size += len(json.dumps([row.key, row.shown, row.digest]))
        if size > ANSWER_MAX and kept:
            return RowList(rows=tuple(kept), position=listed.position, complete=False).to_json()
        kept.append(row)
    return RowList(rows=tuple(kept), position=listed.position, complete=listed.complete).to_json()
