"""Verbs of a primary: open, lossless, solo, accounts, lock-out, fence."""

from collections.abc import Mapping
from typing import Any

from replication.core import limits
from replication.core.commands import ReplicationAccount
from replication.core.positions import GtidPosition, highest_sequence, parse_list
from replication.core.roles import OrderKind
from replication.core.vault_ports import BootRole, ReplicaStatus

from .work import Work

DOMAIN = 0


def _accounts(work: Work) -> list[ReplicationAccount]:
    """Raises ValueError when the arguments are not accounts."""
    given = work.command.args.get("accounts", [])
    if not isinstance(given, list) or not all(isinstance(item, Mapping) for item in given):
        raise ValueError("accounts must be a list of objects")
    return [ReplicationAccount(name=str(item["name"]), subject=str(item["subject"])) for item in given]


def _everything_applied(work: Work, replica: ReplicaStatus) -> bool:
    mine = GtidPosition.parse(work.ports.database.positions().gtid_slave_pos)
    return not replica.gtid_io_pos or mine.covers(GtidPosition.parse(replica.gtid_io_pos))


def open_solo(work: Work) -> Mapping[str, Any]:
    """Be the primary, acknowledging alone. 1 refuse what may lack writes; 2 persist; 3 start; 4 drop the source; 5 stop
    waiting; 6 jump; 7 accounts; 8 lift the cut; 9 open."""
    ports, db = work.ports, work.ports.database
    state = ports.state.read()
    if state.quarantine:
        raise work.refusal("quarantine", f"it is held closed: {state.quarantine}")
    if state.tainted:
        raise work.refusal("tainted", "it restarted as a replica and may lack writes that it had acknowledged")
    running = ports.process.running()
    replica = db.replica() if running else None
    if not running and state.source_host:
        raise work.refusal(
            "not-drained", "its database is down, and it is not known whether it applied all it received"
        )
    if replica is not None and not (replica.receiver_stopped and _everything_applied(work, replica)):
        raise work.refusal("not-drained", "it still receives, or has not applied all that it received")
    epoch = work.command.epoch
    with work.step("order"):
        work.persist(
            order_kind=OrderKind.SOLO, order_epoch=epoch, primary_order_kind=OrderKind.SOLO, primary_order_epoch=epoch,
            fenced=False, source_host="", source_port=0, needs_rebuild="",
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
            now = db.positions()
            known = (*parse_list(now.gtid_binlog_state), *parse_list(now.gtid_slave_pos))
            db.record_epoch(epoch, highest_sequence(known, DOMAIN) + limits.GTID_GAP)
    with work.step("accounts"):
        ensure_accounts(work, _accounts(work))
        if not jump:  # one that takes over has the account from the primary before it
            db.ensure_client()
    ports.firewall.lift()
    with work.step("open"):
        db.set_read_only(False)
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


def fence(work: Work) -> Mapping[str, Any]:
    """SIGKILL: KILL, SIGTERM and switching semi-sync off acknowledge writes that nobody else has."""
    work.persist(order_kind=OrderKind.NONE, order_epoch=work.command.epoch, fenced=True)
    with work.step("kill"):
        work.ports.process.kill()
    return {}
