"""The relay log of a replica whose server was started anew is applied before anything can throw it away.

An acknowledgement says that a transaction stands in the acker's relay log, no more. With GTID, MariaDB throws the relay log away
when a thread of a stopped replica is started, and fetches it again: from whom, when the primary is gone? So the rest is
applied by place. Where it begins is told by the GTIDs, not by relay-log.info: that lags by whole files behind what was
applied, and from there every transaction would come twice. Measured in docs/design/rejoin.md. MySQL keeps it and goes on by GTID: there the
applier is started, and waited for (docs/design/mysql.md).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from replication.core.positions import Gtid, GtidPosition, Position, parse
from replication.core.vault_ports import (
    Clock,
    Database,
    Positions,
    Process,
    ProcessError,
    RelayPlace,
    RelayTransaction,
)

POLL: Final = timedelta(milliseconds=20)
STANDSTILL: Final = timedelta(seconds=30)
"""An applier that has not moved for so long will not; one transaction may take its time."""


class CannotRescue(Exception):
    """The node may lack what it acknowledged; the text is one sentence for the operator."""


@dataclass(frozen=True)
class Rest:
    """What stands in a relay log beyond what was applied."""

    count: int
    begin: RelayPlace
    end: RelayPlace
    last: Gtid


def unapplied(
    transactions: Iterable[RelayTransaction], applied: GtidPosition, *, must_hold: Iterable[Gtid]
) -> Rest | None:
    """Where to begin and to end, so that nothing is applied twice and nothing is left out. None: all was applied.

    must_hold: transactions that have to be in there, or they came from somewhere else. Raises CannotRescue.
    """
    wanted = set(must_hold)
    count, begin, end, last = 0, None, None, None
    torn: RelayTransaction | None = None
    for transaction in transactions:
        gtid = transaction.gtid
        if torn is not None:
            raise CannotRescue(f"its relay log is damaged: {torn.gtid} does not end and {gtid} follows")
        wanted.discard(gtid)
        if transaction.ends is None:
            torn = transaction  # never acknowledged, so nobody misses it
            continue
        if applied.covers(GtidPosition({gtid.domain: gtid})):
            if begin is not None:
                raise CannotRescue(f"its relay log is out of order: {gtid} was applied, and stands behind what was not")
            continue
        if last is not None and last.domain == gtid.domain and last.sequence >= gtid.sequence:
            raise CannotRescue(f"its relay log is out of order: {gtid} follows {last}")
        begin = begin or transaction.begins
        count, end, last = count + 1, transaction.ends, gtid
    if wanted:
        raise CannotRescue(f"it has {', '.join(map(str, sorted(wanted)))}, which did not come from its source")
    if begin is None or end is None or last is None:
        return None
    return Rest(count, begin, end, last)


def _position(now: Positions) -> tuple[GtidPosition, tuple[Gtid, ...]]:
    """What was applied; and what of it the replica's position does not tell, although the binary log does.

    A statement that changes tables is one transaction in the binary log and another for the position: a crash may come
    between the two.
    """
    applied = dict(GtidPosition.parse(now.gtid_slave_pos).last)
    ahead = []
    for domain, gtid in GtidPosition.parse(now.gtid_binlog_pos).last.items():
        if domain not in applied or applied[domain].sequence < gtid.sequence:
            applied[domain] = gtid
            ahead.append(gtid)
    return GtidPosition(applied), tuple(ahead)


def rescue(clock: Clock, process: Process, database: Database, note: Callable[..., object]) -> int:
    """Apply what the relay log still holds, and end the taint; returns how many transactions that were.

    note: changes fields of the agent's memory, durably. Both threads are stopped before and after. May be interrupted
    anywhere and done again. Raises CannotRescue, which is noted, or DatabaseError when the database went away.
    """
    try:
        count = _apply(clock, process, database)
    except CannotRescue as reason:
        note(relay_log_kept=False, taint_reason=str(reason))
        raise
    note(tainted=False, relay_log_kept=False, taint_reason="")
    return count


def _apply(clock: Clock, process: Process, database: Database) -> int:
    replica = database.replica()
    if replica is None:
        raise CannotRescue("it has lost its source, and with it its place in the relay log")
    if database.keeps_relay_log:
        return _apply_kept(clock, database, parse(replica.gtid_io_pos))
    if not replica.receiver_stopped or (replica.applier and replica.by_gtid):
        raise CannotRescue("its replication was started before its relay log had been applied")
    if replica.applier:  # by a rescue that was interrupted
        database.stop_replication()
    applied, ahead = _position(database.positions())
    try:
        rest = unapplied(process.relay_log(), applied, must_hold=ahead)
    except ProcessError as error:
        raise CannotRescue(str(error)) from error
    if ahead:
        database.count_own_as_applied()
    if rest is not None:
        database.apply_relay_log(rest.begin, rest.end)
        _wait(clock, database, GtidPosition({rest.last.domain: rest.last}))
        database.stop_replication()
    database.follow_by_gtid()
    return rest.count if rest is not None else 0


def _apply_kept(clock: Clock, database: Database, goal: Position) -> int:
    """A server that goes on by GTID with what stands in its relay log."""
    count = parse(database.positions().gtid_slave_pos).missing_from(goal)
    if count:
        database.start_applier()
        _wait(clock, database, goal)
    database.stop_replication()
    return count


def _wait(clock: Clock, database: Database, goal: Position) -> None:
    seen, since = "", clock.monotonic()
    while True:
        replica, now = database.replica(), database.positions().gtid_slave_pos
        if parse(now).covers(goal):
            return
        if replica is None or not replica.applier:
            why = replica.applier_error if replica is not None else ""
            raise CannotRescue(f"its relay log could not be applied up to {goal}: {why or 'the applier has stopped'}")
        if now != seen:
            seen, since = now, clock.monotonic()
        elif clock.monotonic() - since > STANDSTILL.total_seconds():
            raise CannotRescue(f"its applier does not get beyond {now or 'the beginning'} on the way to {goal}")
        clock.sleep(POLL)
