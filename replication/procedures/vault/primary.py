"""Verbs of a primary: open, lossless, solo, accounts, lock-out, close, fence; and promise, which changes nothing."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

from replication.core import limits
from replication.core.commands import ReplicationAccount
from replication.core.positions import highest_sequence, is_mysql, parse, parse_list
from replication.core.roles import OrderKind
from replication.core.vault_ports import BootRole, Positions, ReplicaStatus

from .work import Work

DOMAIN = 0
CLOSE_TRIES: Final = tuple(timedelta(seconds=s) for s in (0.15, 0.35, 0.5))
"""How long CLOSE holds new writes back, try by try, while those under way are to end: one second at most, in which nobody
is told anything. In the pauses writes go on."""


def _accounts(work: Work) -> list[ReplicationAccount]:
    """Raises ValueError when the arguments are not accounts."""
    given = work.command.args.get("accounts", [])
    if not isinstance(given, list) or not all(isinstance(item, Mapping) for item in given):
        raise ValueError("accounts must be a list of objects")
    return [ReplicationAccount(name=str(item["name"]), subject=str(item["subject"])) for item in given]


def _everything_applied(work: Work, replica: ReplicaStatus) -> bool:
    mine = parse(work.ports.database.positions().gtid_slave_pos)
    return not replica.gtid_io_pos or mine.covers(parse(replica.gtid_io_pos))


def _beyond_any_lost(now: Positions) -> int:
    """A number that no lost transaction can have had; 0 where none is needed: in MySQL each data directory counts for itself."""
    if is_mysql(now.gtid_binlog_state):
        return 0
    known = (*parse_list(now.gtid_binlog_state), *parse_list(now.gtid_slave_pos))
    return highest_sequence(known, DOMAIN) + limits.GTID_GAP


def open_solo(work: Work) -> Mapping[str, Any]:
    """Be the primary, acknowledging alone. 1 refuse what may lack writes; 2 persist; 3 start; 4 drop the source; 5 stop
    waiting; 6 jump; 7 accounts; 8 open; 9 lift the cut. Until 8 the memory says that it is still to be opened."""
    ports, db = work.ports, work.ports.database
    state = ports.state.read()
    if state.quarantine:
        raise work.refusal("quarantine", f"it is held closed: {state.quarantine}")
    if state.tainted:
        raise work.tainted(state)
    running = ports.process.running()
    replica = db.replica() if running else None
    if not running and state.source_host:
        raise work.refusal(
            "not-drained", "its database is down, and it is not known whether it applied all it received"
        )
    if replica is not None and not (replica.receiver_stopped and _everything_applied(work, replica)):
        raise work.refusal("not-drained", "it still receives, or has not applied all that it received")
    epoch = work.command.epoch
    to_open = not running or db.switches().read_only
    with work.step("order"):
        work.persist(
            order_kind=OrderKind.SOLO, order_epoch=epoch, primary_order_kind=OrderKind.SOLO, primary_order_epoch=epoch,
            fenced=False, source_host="", source_port=0, restored="", needs_rebuild="", to_open=to_open,
        )  # fmt: skip
    if not running:
        with work.step("start"):
            ports.process.start(BootRole.PRIMARY, work.left())
        replica = db.replica()  # an OPEN that was interrupted after its order may have left it: all was applied then
    db.set_acknowledging(False)
    if replica is not None:
        with work.step("drop source"):
            db.stop_replication()
            db.forget_source()
    db.set_waiting(False)
    jump = bool(work.command.args.get("jump")) or replica is not None
    if jump and not db.epoch_recorded(epoch):
        with work.step("jump"):
            db.record_epoch(epoch, _beyond_any_lost(db.positions()))
    with work.step("accounts"):
        ensure_accounts(work, _accounts(work))
        if (
            not jump or work.command.args.get("client") is True
        ):  # one that takes over has the account from the primary before it
            db.ensure_client()
    with work.step("open"):
        db.set_read_only(False)
    if to_open:
        work.persist(to_open=False)
    with work.step("lift"):  # a program has to be started for it, and writes need not wait for that
        ports.firewall.lift()
    return {"gtid_binlog_pos": db.positions().gtid_binlog_pos}


def ensure_accounts(work: Work, wanted: list[ReplicationAccount]) -> None:
    """Have these replication accounts, unlocked."""
    if not wanted:
        return
    db = work.ports.database
    there = {account.name: account for account in db.accounts()}
    for account in wanted:
        known = there.get(account.name)
        if known is None or known.subject != account.subject:
            db.create_account(account)
        elif known.locked:
            db.lock_account(account.name, False)


def accounts(work: Work) -> Mapping[str, Any]:
    ensure_accounts(work, _accounts(work))
    return {}


def lock_out(work: Work) -> Mapping[str, Any]:
    """End a node's stream and let it not come back. An account that does not exist cannot stream."""
    db, name = work.ports.database, str(work.command.args["account"])
    if all(account.name != name for account in db.accounts()):
        return {"streams": 0}
    db.lock_account(name, True)
    return {"streams": db.end_streams(name)}


def lossless(work: Work) -> Mapping[str, Any]:
    """Wait for the acker from now on; the position is read after the switch-on, or it proves nothing (rule 6)."""
    db = work.ports.database
    if work.ports.state.read().order_kind is OrderKind.NONE:
        raise work.refusal("not-primary", "it is not the primary")
    drift = db.drift()
    if drift:
        raise work.refusal("settings", f"its settings are not safe: {'; '.join(drift)}")
    with work.step("acker connects"):
        no_acker = "no replica acknowledges, so every write would hang"
        work.wait_switches(lambda now: now.ack_clients > 0, "no-acker", no_acker)
    epoch = work.command.epoch
    work.persist(
        order_kind=OrderKind.LOSSLESS,
        order_epoch=epoch,
        primary_order_kind=OrderKind.LOSSLESS,
        primary_order_epoch=epoch,
    )
    db.set_waiting(True)
    return {"gtid_binlog_pos": db.positions().gtid_binlog_pos}


def solo(work: Work) -> Mapping[str, Any]:
    """Stop waiting: hanging commits are released. A database that is down will start so."""
    ports = work.ports
    if ports.state.read().order_kind is OrderKind.NONE:
        raise work.refusal("not-primary", "it is not the primary")
    epoch = work.command.epoch
    work.persist(
        order_kind=OrderKind.SOLO, order_epoch=epoch, primary_order_kind=OrderKind.SOLO, primary_order_epoch=epoch
    )
    if ports.process.running():
        ports.database.set_waiting(False)
    return {}


def close(work: Work) -> Mapping[str, Any]:
    """Hand over: no write commits any more. 1 persist; 2 read-only, within a second; 3 the last position.

    The order is written first (rules 11, 12): whoever dies from here on comes back closed, and what nobody knows ends
    closed. A refusal takes it back: nothing was done, so the node is the open primary that it was, also for an agent that
    is restarted; a late duplicate finds what it would find had this one never come.
    """
    db, before = work.ports.database, work.ports.state.read()
    if before.order_kind is OrderKind.NONE and before.primary_order_kind is OrderKind.NONE:
        raise work.refusal("not-primary", "it is not the primary")
    work.persist(order_kind=OrderKind.NONE, order_epoch=work.command.epoch)
    with work.step("close"):
        why_not = "" if db.switches().read_only else _close_writes(work)
    if why_not:
        work.persist(order_kind=before.order_kind, order_epoch=before.order_epoch)
        raise work.refusal(*_why_open(why_not))
    return {"gtid_binlog_pos": db.positions().gtid_binlog_pos}


def _close_writes(work: Work) -> str:
    """The reason why it is as open as before; "" when it is closed."""
    db, reason = work.ports.database, "long-statement"
    for limit in CLOSE_TRIES:
        if work.left() < limit:
            break
        if db.close_writes(limit):
            return ""
        if db.switches().waiting_sessions > 0:
            reason = "commits-hang"  # a slow acker may come in time
        else:
            reason = "long-statement"
            db.end_writers(CLOSE_TRIES[0], CLOSE_TRIES[0])
    return reason


def _why_open(reason: str) -> tuple[str, str]:
    if reason == "commits-hang":
        return reason, "commits wait for an acknowledgement that does not come: it stays open"
    return reason, "a statement of a client has been writing for too long, and cannot be ended: it stays open"


def promise(work: Work) -> Mapping[str, Any]:
    """The epoch was promised before this; what it was last told to be decides who the primary is (rule 16)."""
    state = work.ports.state.read()
    return {
        "order_kind": state.order_kind,
        "order_epoch": state.order_epoch,
        "primary_order_kind": state.primary_order_kind,
        "primary_order_epoch": state.primary_order_epoch,
        "source_host": state.source_host,
        "fenced": state.fenced,
    }


def fence(work: Work) -> Mapping[str, Any]:
    """SIGKILL: KILL, SIGTERM and switching semi-sync off acknowledge writes that nobody else has.

    A disk that takes no writes must not keep it alive. Then the order is in memory only and the answer is a refusal: an
    agent that is restarted before it could be written brings the node back in its former role.
    """
    order, epoch = OrderKind.NONE, work.command.epoch
    with work.step("promise"):
        unwritten = work.ports.state.hold(
            lambda state: replace(work.promised(state), order_kind=order, order_epoch=epoch, fenced=True)
        )
    with work.step("kill"):
        work.ports.process.kill()
    if unwritten:
        raise work.refusal("state", f"it was killed, but a restart of its agent may undo that: {unwritten}")
    return {}
