"""What a mariadbd has on disk: its binary log, the tables as far as anybody looks at them, and what a crash leaves of both.

A transaction in InnoDB is prepared, written to the binary log and flushed, and committed after it was acknowledged. Its commit
is on disk only with the next flush: of the next transaction, or within a second. Started as MASTER, recovery commits all that
stands in the binary log; as SLAVE it cuts off what was only prepared, acknowledged or not. Statements that InnoDB cannot take
back (tables, accounts) stay, and one behind such a tail keeps the server from starting as SLAVE at all.
"""

from dataclasses import dataclass
from random import Random
from typing import Final

from replication.core.positions import Gtid, GtidPosition
from replication.core.vault_ports import BootRole

DOMAIN: Final = 0
FLUSH_EVERY: Final = 1.0
"""Seconds: innodb_flush_log_at_timeout."""

What = tuple[str, ...] | tuple[str, int]
"""("row", id), ("epoch", n), ("table", name), ("account", name, subject), ("grant", name), ("drop account", name), …"""

PREPARED_KINDS: Final = frozenset({"row", "epoch"})
ACCOUNT_KINDS: Final = frozenset({"account", "grant", "drop account", "client user", "client grant"})

NOT_IN_LOG: Final = (
    "Got fatal error 1236 from master when reading data from binary log: 'Error: connecting slave requested to start from GTID "
    "{}, which is not in the master's binlog. Since the master's binlog contains GTIDs with higher sequence numbers, it "
    "probably means that the slave has diverged due to executing extra erroneous transactions'"
)
MISSING: Final = (
    "Got fatal error 1236 from master when reading data from binary log: 'The binlog on the master is missing the GTID {} "
    "requested by the slave (even though a subsequent sequence number does exist), and GTID strict mode is enabled'"
)
PURGED: Final = (
    "Got fatal error 1236 from master when reading data from binary log: 'Could not find GTID state requested by slave in any "
    "binlog files. Probably the slave state is too old and required binlog files have been purged.'"
)


@dataclass(frozen=True, slots=True, eq=False)
class Transaction:
    """One event group. The same GTID may have been issued twice, so it is compared by identity."""

    gtid: Gtid
    what: What
    at: float

    @property
    def prepared(self) -> bool:
        """InnoDB can take it back."""
        return self.what[0] in PREPARED_KINDS

    @property
    def changes_accounts(self) -> bool:
        return self.what[0] in ACCOUNT_KINDS


@dataclass
class Account:
    subject: str
    granted: bool = False
    locked: bool = False


class Refused(Exception):
    """Recovery does not let the server start; the text is the last line of its error log."""


class Start:
    """Where a stream begins: at an index of the log, or not at all."""

    __slots__ = ("doubtful", "error", "index")

    def __init__(self, index: int = 0, error: str = "", doubtful: str = "") -> None:
        self.index, self.error, self.doubtful = index, error, doubtful


_LOCAL: Final = object()


class Storage:
    """Survives the process. `log` never shrinks but by recovery; purged entries stay in it, out of reach."""

    def __init__(self) -> None:
        self.flush_every = FLUSH_EVERY
        self.log: list[Transaction] = []
        self.index: dict[Gtid, int] = {}
        self.last: dict[int, Gtid] = {}
        """The newest GTID of each domain, as in gtid_binlog_pos."""
        self.state: dict[tuple[int, int], int] = {}
        self.highest: dict[int, int] = {}
        """The highest sequence number that was ever seen, by domain."""
        self.committed = 0
        """So many transactions at the head of the log are committed in the engine."""
        self.durable = 0
        """Of so many the commit is on disk."""
        self.committed_at = 0.0
        self.purged = 0
        self.files = 0
        """Number of the newest binary log."""
        self.oldest_file = 1
        self.slave_pos: dict[int, Gtid] = {}
        self.rows: set[int] = set()
        """Committed ones."""
        self.written_rows: set[int] = set()
        """Those in the binary log."""
        self.epochs: set[int] = set()
        self.objects: set[str] = set()
        self.accounts: dict[str, Account] = {}
        self._undo: list[object] = []
        """Per transaction of the log: gtid_slave_pos of its domain before it was applied; _LOCAL for a local one."""

    # --- GTIDs ----------------------------------------------------------------------------------------------------

    def next_sequence(self, domain: int = DOMAIN) -> int:
        return self.highest.get(domain, 0) + 1

    def out_of_order(self, gtid: Gtid) -> Gtid | None:
        """The GTID in the binary log that keeps this one from being written in strict mode."""
        last = self.last.get(gtid.domain)
        return last if last is not None and gtid.sequence <= last.sequence else None

    @property
    def binlog_pos(self) -> str:
        return ",".join(str(self.last[d]) for d in sorted(self.last))

    @property
    def binlog_state(self) -> str:
        """The newest of each server, the newest of all last."""
        parts = []
        for domain in sorted(self.last):
            servers = sorted(s for d, s in self.state if d == domain and s != self.last[domain].server)
            parts += [f"{domain}-{s}-{self.state[domain, s]}" for s in servers]
            parts.append(str(self.last[domain]))
        return ",".join(parts)

    def start_of(self, position: str) -> Start:
        """Where a replica at this position is served from, judged as gtid_strict_mode does."""
        wanted = GtidPosition.parse(position).last
        if not wanted:
            return Start(error=PURGED) if self.purged else Start(0)
        index = 0
        for domain, gtid in wanted.items():
            found = self.index.get(gtid)
            if found is not None:
                if found + 1 < self.purged:
                    return Start(error=PURGED)
                index = max(index, found + 1)
            elif domain not in self.last:
                return Start(len(self.log), doubtful=NOT_IN_LOG.format(gtid))
            elif self.state.get((domain, gtid.server), 0) >= gtid.sequence:
                return Start(error=MISSING.format(gtid))
            else:
                return Start(error=NOT_IN_LOG.format(gtid))
        return Start(index)

    # --- writing --------------------------------------------------------------------------------------------------

    def append(self, transaction: Transaction, *, applied: bool) -> int:
        """Write to the binary log and flush; returns its index. With what InnoDB flushes for it, earlier commits are on disk
        as well; a statement on accounts has nothing for InnoDB to flush."""
        if not transaction.changes_accounts:
            self.durable = max(self.durable, self.committed)
        gtid, index = transaction.gtid, len(self.log)
        self.log.append(transaction)
        self.index[gtid] = index
        self._count(gtid)
        self._undo.append(self.slave_pos.get(gtid.domain) if applied else _LOCAL)
        if not transaction.prepared:
            self._take_effect(transaction)
        elif transaction.what[0] == "row":
            self.written_rows.add(int(transaction.what[1]))
        return index

    def _count(self, gtid: Gtid) -> None:
        self.last[gtid.domain] = gtid
        self.state[gtid.domain, gtid.server] = gtid.sequence
        self.highest[gtid.domain] = max(gtid.sequence, self.highest.get(gtid.domain, 0))

    def commit(self, upto: int, now: float) -> None:
        """Commit the log's transactions before this index in the engine."""
        for index in range(self.committed, upto):
            transaction = self.log[index]
            if transaction.prepared:
                self._take_effect(transaction)
                if self._undo[index] is not _LOCAL:
                    self.count_applied(transaction.gtid)
        if upto > self.committed:
            self.committed, self.committed_at = upto, now

    def count_applied(self, gtid: Gtid) -> None:
        self.slave_pos[gtid.domain] = gtid
        self.highest[gtid.domain] = max(gtid.sequence, self.highest.get(gtid.domain, 0))

    def count_own_as_applied(self) -> None:
        """SET GLOBAL gtid_slave_pos = @@gtid_binlog_pos: a commit of its own, and so every commit before it is on disk."""
        self.slave_pos = dict(self.last)
        self.durable = self.committed

    def _take_effect(self, transaction: Transaction) -> None:
        kind, *rest = transaction.what
        value = rest[0] if rest else ""
        if kind == "row":
            self.rows.add(int(value))
        elif kind == "epoch":
            self.epochs.add(int(value))
        elif kind == "account":
            self.accounts[str(value)] = Account(str(rest[1]))
        elif kind == "grant" and value in self.accounts:
            self.accounts[str(value)].granted = True
        elif kind == "drop account":
            self.accounts.pop(str(value), None)
        else:
            self.objects.add(f"{kind} {value}".strip())

    # --- files ----------------------------------------------------------------------------------------------------

    def purge(self) -> None:
        """A new binary log, and the older ones are gone."""
        self.purged = len(self.log)
        self.files += 1
        self.oldest_file = self.files

    @property
    def oldest_binary_log(self) -> str:
        return f"binlog.{self.oldest_file:06}"

    # --- the end of a process and the next beginning -----------------------------------------------------------------

    def stop_cleanly(self, now: float) -> None:
        """SIGTERM: everything is committed and flushed."""
        self.commit(len(self.log), now)
        self.durable = self.committed

    def crash(self, now: float, rng: Random) -> None:
        if self.committed > self.durable and now - self.committed_at > self.flush_every * rng.random():
            self.durable = self.committed

    def recover(self, role: BootRole, now: float) -> None:
        """Crash recovery. Raises Refused."""
        if role is BootRole.REPLICA:
            in_doubt = (i for i in range(self.durable, len(self.log)) if self.log[i].prepared)
            first = next(in_doubt, None)
            if first is not None:
                if any(not transaction.prepared for transaction in self.log[first:]):
                    raise Refused("Can't init tc log")  # … as unsafe statement is found beyond the truncation position
                self._truncate(first)
        self.commit(len(self.log), now)
        self.durable = self.committed
        self.files += 1

    def _truncate(self, index: int) -> None:
        for position in range(len(self.log) - 1, index - 1, -1):
            transaction, before = self.log[position], self._undo[position]
            if before is not _LOCAL and position < self.committed:
                if isinstance(before, Gtid):
                    self.slave_pos[transaction.gtid.domain] = before
                else:
                    self.slave_pos.pop(transaction.gtid.domain, None)
        del self.log[index:], self._undo[index:]
        self.committed = min(self.committed, index)
        self.durable = min(self.durable, index)
        self.index = {transaction.gtid: i for i, transaction in enumerate(self.log)}
        self.last.clear()
        self.state.clear()
        self.highest.clear()
        for transaction in self.log:
            self._count(transaction.gtid)
        for gtid in self.slave_pos.values():
            self.highest[gtid.domain] = max(gtid.sequence, self.highest.get(gtid.domain, 0))
        kept = [transaction.what for transaction in self.log]
        self.rows = {int(what[1]) for what in kept if what[0] == "row"}
        self.written_rows = set(self.rows)
        self.epochs = {int(what[1]) for what in kept if what[0] == "epoch"}
