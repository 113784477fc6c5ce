"""Verbs of a replica: follow, acker, revoke, drain, received, detach."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from replication.core.errors import PositionsNotComparable
from replication.core.positions import beyond, check_state, parse, servers_in
from replication.core.roles import OrderKind
from replication.core.vault_ports import AgentState, BootRole, DatabaseError, ProcessError, ReplicaStatus, Source

from .rescue import CannotRescue, rescue
from .work import POLL, Work

STEADY = timedelta(milliseconds=300)
"""A receiver says Yes before its source has judged its position: error 1236 comes a moment later."""
DIVERGED_OR_PURGED = 1236
LEAVE_AT_MOST = timedelta(seconds=10)


@dataclass(frozen=True)
class FollowOrder:
    host: str
    port: int
    account: str
    source_binlog_state: str
    truncate_tail: bool
    rejudge: bool

    @classmethod
    def of(cls, args: Mapping[str, Any]) -> "FollowOrder":
        """Raises ValueError or KeyError."""
        check_state(str(args["source_binlog_state"]))
        return cls(
            str(args["source_host"]), int(args["source_port"]), str(args["account"]), str(args["source_binlog_state"]),
            args.get("truncate_tail") is True, args.get("rejudge") is True,
        )  # fmt: skip


def follow(work: Work) -> Mapping[str, Any]:
    """1 leave a good stream alone; 2 closed, by SIGKILL if it was open; 3 started; 4 extra transactions; 5 a fresh
    server_id when it has events of its own; 6 the source; 7 the stream stands; 8 it is no former primary any more."""
    ports, db = work.ports, work.ports.database
    order = FollowOrder.of(work.command.args)
    state = ports.state.read()
    if state.quarantine and not order.rejudge:
        raise work.refusal("diverged", state.quarantine)
    if ports.process.running() and _follows_well(work, order, state):
        _stop_acknowledging(work)
        if state.tainted or state.primary_order_kind is not OrderKind.NONE:
            _wait_for_stream(work)
        _followed(work)
        return {"gtid_slave_pos": db.positions().gtid_slave_pos, "already": True}
    was_open = ports.process.running() and _may_be_open(work, state)
    # From here on what it received may be thrown away: until it follows again it may lack what it acknowledged.
    tainted = state.tainted or bool(state.source_host)
    work.persist(
        order_kind=OrderKind.NONE,
        order_epoch=work.command.epoch,
        fenced=False,
        tainted=tainted,
        relay_log_kept=False,
        revoked_at="",
    )
    if was_open:
        with work.step("kill"):
            ports.process.kill()
    if not ports.process.running():
        _start(work, order, state)
    db.set_read_only(True)
    db.set_waiting(False)
    db.set_acknowledging(False)
    _judge(work, order, moved=_stop_receiving(work))
    with work.step("source"):
        _change_source(work, order)
    with work.step("stream"):
        _wait_for_stream(work)
    _followed(work)
    return {"gtid_slave_pos": db.positions().gtid_slave_pos}


def _followed(work: Work) -> None:
    """It streams from a living primary: it is no former primary any more, and gets again what it may have lost."""
    work.persist(
        primary_order_kind=OrderKind.NONE, primary_order_epoch=0, tainted=False, relay_log_kept=False, taint_reason="",
        revoked_at="",
        restored="", needs_rebuild="", quarantine="",
    )  # fmt: skip


def _follows_well(work: Work, order: FollowOrder, state: AgentState) -> bool:
    """Also a node whose last FOLLOW ran out of time and that reached its source later. It was judged then; judged again it
    would look ahead of a state that was read a moment before, and be held as diverged."""
    db = work.ports.database
    replica = db.replica()
    if replica is None or state.order_kind is not OrderKind.NONE or state.quarantine:
        return False
    here = (replica.source_host, replica.source_port, replica.account) == (order.host, order.port, order.account)
    return here and replica.streaming and replica.applier and db.switches().read_only


def _stop_acknowledging(work: Work) -> None:
    """Flag off, and the live stream too: what it does was settled when it connected."""
    db = work.ports.database
    now = db.switches()
    db.set_acknowledging(False)
    if now.acknowledging or now.stream_acknowledges:
        db.stop_receiver()
        db.start_receiver()
        _wait_for_stream(work)


def _may_be_open(work: Work, state: AgentState) -> bool:
    try:
        now = work.ports.database.switches()
    except DatabaseError:
        return True
    return state.order_kind is not OrderKind.NONE or not now.read_only or now.waiting_sessions > 0


def _start(work: Work, order: FollowOrder, state: AgentState) -> None:
    process = work.ports.process
    cut = order.truncate_tail and state.primary_order_kind is OrderKind.LOSSLESS
    if cut:
        with work.step("save binary logs"):
            process.save_binary_logs()
    with work.step("start"):
        try:
            process.start(BootRole.REPLICA if cut else BootRole.PRIMARY, work.left())
        except ProcessError:
            if not cut or process.running():
                raise
            # MariaDB ends when it cannot cut the tail off, for a change of a table that stands in it. Started with the tail
            # it tells what that is, and is held for a person.
            process.start(BootRole.PRIMARY, work.left())


def _stop_receiving(work: Work) -> bool:
    """Whether it received until now, so that it may have more than was known when the source's state was read."""
    db = work.ports.database
    replica = db.replica()
    if replica is None or replica.receiver_stopped:
        return False
    db.stop_replication()
    return True


def _judge(work: Work, order: FollowOrder, *, moved: bool) -> None:
    """moved: what it has beyond the given state may have come from the source itself, by way of the node that it followed.
    It receives nothing any more: a state that is read from here on can be held against it."""
    own = work.ports.database.positions().gtid_binlog_state
    try:
        extra = beyond(own, order.source_binlog_state)
    except PositionsNotComparable as error:
        raise work.refusal("engine", f"its server is of another kind than that of its source: {error}") from error
    if extra and moved:
        raise work.refusal(
            "moved", "it was still receiving while the primary's state was read, and is judged by a later one"
        )
    if extra:
        says = f"it has transactions that the primary does not have: {', '.join(extra)}"
        work.persist(quarantine=says)
        raise work.refusal("diverged", says)


def _change_source(work: Work, order: FollowOrder) -> None:
    ports, db = work.ports, work.ports.database
    now = db.positions()
    used = servers_in(now.gtid_binlog_state)
    if now.server_id in used:
        # With its flag off a replica silently skips events that carry its own server_id.
        fresh = ports.server_ids(used)
        work.persist(server_id=fresh)
        db.set_server_id(fresh)
    own, applied = parse(now.gtid_binlog_pos), parse(now.gtid_slave_pos)
    if db.replica() is not None:
        db.stop_replication()
        db.forget_source()
    ports.firewall.lift()
    work.persist(source_host=order.host, source_port=order.port)
    db.change_source(Source(host=order.host, port=order.port, account=order.account, demote=not applied.covers(own)))
    db.start_replication()


def _wait_for_stream(work: Work) -> None:
    clock = work.ports.clock
    since: float | None = None
    while True:
        replica = work.ports.database.replica()
        if replica is None:
            raise work.refusal("no-source", "its source was taken away")
        _check_stream(work, replica)
        now = clock.monotonic()
        since = (since if since is not None else now) if replica.streaming and replica.applier else None
        if since is not None and now - since >= STEADY.total_seconds():
            return
        if work.left() <= timedelta():
            why = replica.receiver_error or replica.applier_error or "no error was given"
            raise work.refusal("not-streaming", f"it does not reach its source: {why}")
        clock.sleep(POLL)


def _check_stream(work: Work, replica: ReplicaStatus) -> None:
    if replica.applier_errno:
        raise work.refusal("applier", replica.applier_error)
    if replica.receiver_errno != DIVERGED_OR_PURGED:
        return
    if "purged" in replica.receiver_error:
        says = "the primary no longer has the binary logs that it needs"
        work.persist(needs_rebuild=says)
        raise work.refusal("rebuild", says)
    work.persist(quarantine=f"the primary refuses its position: {replica.receiver_error}")
    raise work.refusal("diverged", replica.receiver_error)


def acker(work: Work) -> Mapping[str, Any]:
    """Acknowledge from now on. 1 the flag; 2 a receiver that has connected with it, while the applier runs; 3 everything
    that came before is applied, and so durable: only what comes from here on is flushed before it is acknowledged."""
    db, state = work.ports.database, work.ports.state.read()
    if state.quarantine:
        raise work.refusal("diverged", state.quarantine)
    if state.tainted:
        raise work.tainted(state)
    replica = db.replica()
    if replica is None or not replica.streaming or not replica.applier:
        raise work.refusal("not-following", "it does not follow, so it cannot acknowledge")
    db.set_acknowledging(True)
    if not db.switches().stream_acknowledges:
        with work.step("reconnect"):
            db.stop_receiver()
            db.start_receiver()
            work.wait_switches(lambda now: now.stream_acknowledges, "not-streaming", "its stream did not come back")
    before = db.replica()
    with work.step("apply"):
        if before is not None and not db.wait_applied(before.gtid_io_pos, work.left()):
            raise work.refusal("behind", "it does not keep up with what it receives")
    return {}


def revoke(work: Work) -> Mapping[str, Any]:
    """Never acknowledge for this source again. The applier runs first: with both threads stopped MariaDB throws received
    transactions away at their start. Then the cut, or the receiver would dial its dead source for a second or two."""
    ports, db = work.ports, work.ports.database
    state = ports.state.read()
    if state.tainted:
        raise work.tainted(state)
    replica = db.replica()
    if replica is None:
        db.set_acknowledging(False)
        return {"gtid_io_pos": "", "tainted": False}
    if not replica.applier and not replica.receiver_stopped:
        db.start_applier()
    elif not replica.applier and not _drained(work, replica):
        _rescue(work)
    with work.step("cut"):
        ports.firewall.cut(replica.source_host)
    with work.step("stop receiver"):
        db.stop_receiver()
    db.set_acknowledging(False)
    after = db.replica()
    received = after.gtid_io_pos if after is not None else ""
    if not parse(received).covers(parse(state.revoked_at)):
        received = state.revoked_at  # revoked before; what is missing since then was thrown away
    work.persist(revoked_at=received)
    return {"gtid_io_pos": received, "tainted": False}


def _rescue(work: Work) -> None:
    """Both its threads were stopped before it had applied all it received: nothing is thrown away until one is started."""
    ports = work.ports
    work.persist(tainted=True, relay_log_kept=True, taint_reason="")
    with work.step("rescue"):
        try:
            rescue(ports.clock, ports.process, ports.database, work.persist)
        except CannotRescue:
            raise work.tainted(ports.state.read()) from None


def _drained(work: Work, replica: ReplicaStatus) -> bool:
    mine = parse(work.ports.database.positions().gtid_slave_pos)
    return mine.covers(parse(replica.gtid_io_pos))


def drain(work: Work) -> Mapping[str, Any]:
    """Apply all that was received, then drop the source. Stays closed; the cut stays until it is opened or follows anew."""
    db = work.ports.database
    replica = db.replica()
    if replica is not None and not replica.receiver_stopped:
        raise work.refusal("not-revoked", "it still receives")
    _check_nothing_thrown_away(work, replica)
    if replica is not None:
        with work.step("drain"):
            if not _drained(work, replica) and not db.wait_applied(replica.gtid_io_pos, work.left()):
                after = db.replica()
                why = after.applier_error if after is not None and after.applier_error else "the time was too short"
                raise work.refusal("not-drained", f"it could not apply all that it received: {why}")
        _check_nothing_thrown_away(work, None)  # also while it was applied
        with work.step("drop source"):
            db.stop_replication()
            db.forget_source()
    work.persist(source_host="", source_port=0, revoked_at="")
    return {"gtid_slave_pos": db.positions().gtid_slave_pos}


def _check_nothing_thrown_away(work: Work, replica: ReplicaStatus | None) -> None:
    """With both its threads stopped MariaDB throws the relay log away when one is started, by whomever. What it acknowledged
    and has neither applied nor still in its relay log is gone: it must not become the primary."""
    must = parse(work.ports.state.read().revoked_at)
    held = parse(replica.gtid_io_pos if replica is not None else "")
    applied = parse(work.ports.database.positions().gtid_slave_pos)
    if not held.covers(must) and not applied.covers(must):
        why = "its replication was started by hand after it was revoked, which threw away what it had not applied"
        raise work.tainted(work.persist(tainted=True, relay_log_kept=False, taint_reason=why))


def received(work: Work) -> Mapping[str, Any]:
    """Wait until a position is in the relay log."""
    target = parse(str(work.command.args["position"]))
    seen = [""]

    def there() -> bool:
        replica = work.ports.database.replica()
        seen[0] = "" if replica is None else replica.gtid_io_pos or work.ports.database.positions().gtid_slave_pos
        return parse(seen[0]).covers(target)

    work.wait(there, "behind", lambda: f"it has received {seen[0] or 'nothing'}, not {target}")
    return {"gtid_io_pos": seen[0]}


def detach(work: Work) -> Mapping[str, Any]:
    """Stop following for good, with what was received applied as far as the time allows; with `leave` also forget the vault."""
    ports, db = work.ports, work.ports.database
    if ports.state.read().order_kind is not OrderKind.NONE:
        raise work.refusal("is-primary", "it is the primary")
    if ports.process.running():
        db.set_acknowledging(False)
        replica = db.replica()
        if replica is not None:
            db.stop_receiver()
            if replica.applier:
                after = db.replica()
                db.wait_applied(after.gtid_io_pos if after else "", min(work.left() / 2, LEAVE_AT_MOST))
            db.stop_replication()
            db.forget_source()
        db.set_read_only(True)
    ports.firewall.lift()
    work.persist(source_host="", source_port=0, relay_log_kept=False, revoked_at="")
    if work.command.args.get("leave") is True:
        server_id = ports.state.read().server_id
        work.revise(lambda _: AgentState(server_id=server_id))
    return {}
