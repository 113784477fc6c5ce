"""The end of a primary, and what recovery leaves of its tail."""

from typing import Any

from replication.core.commands import ReplicationAccount
from replication.core.vault_ports import BootRole, ProcessError
from tests.conformance.script import (
    FLUSHED,
    START,
    Found,
    account,
    at,
    hangs,
    let_follow,
    lossless,
    pause,
    promote,
    quick,
    receiver_ended,
    seen,
    story,
)
from tests.conformance.world import Server, World, outcome_of


@story(
    ends={
        "hangs": [True, True],
        "clients": ["lost", "lost"],
        "running": (False, "lost"),
        "new primary": ("ok", {"binlog": "0-2-10", "state": ["0-1-7", "0-2-10"], "applied": "0-1-7"}),
        "kept": ([1, 2, 3], {"binlog": "0-1-9", "state": ["0-1-9"], "applied": ""}),
        "refused": (True, ("No", True, "0-1-9", 1236, 0)),
    }
)
def a_killed_primary(world: World) -> Found:
    """SIGKILL acknowledges nothing. As MASTER the tail stays, and the new primary refuses it; as SLAVE it is cut off."""
    primary, acker = lossless(world)
    acker.database.stop_receiver()
    calls = [primary.write(2)]
    found: Found = {"hangs": [hangs(calls[0])]}
    calls.append(primary.write(3))
    found["hangs"].append(hangs(calls[1]))
    primary.crash()
    found["clients"] = [call.outcome(5) for call in calls]
    found["running"] = primary.process.running(), outcome_of(primary.database.positions)
    promote(acker)
    acker.database.create_account(account(primary))
    found["new primary"] = acker.write(9).outcome(5), at(acker)
    primary.process.start(BootRole.PRIMARY, START)
    found["kept"] = primary.rows(), at(primary)
    let_follow(primary, acker, demote=True)
    found["refused"] = world.wait(lambda: receiver_ended(primary, 1236)), seen(primary)
    return found


@story(
    ends={
        "before": "ok",
        "sent to the frozen one": True,
        "revoked at once": True,
        "new primary": ("ok", [1, 2, 9]),
        "thawed, its client hangs": True,
        "and for good": True,
        "nobody sees it": [1, 2],
        "killed": "lost",
    }
)
def a_frozen_primary_is_replaced(world: World) -> Found:
    """It wakes up open and waiting, and acknowledges nothing that its former acker lacks."""
    primary, acker = lossless(world)
    found: Found = {"before": primary.write(2).outcome(5)}
    assert world.wait(lambda: acker.rows() == [1, 2])
    primary.freeze()
    call = primary.write(3)
    found["sent to the frozen one"] = hangs(call)
    acker.firewall.cut(primary.address)
    found["revoked at once"] = quick(world, acker.database.stop_receiver)
    promote(acker)
    found["new primary"] = acker.write(9).outcome(5), acker.rows()
    primary.thaw()
    found["thawed, its client hangs"] = hangs(call)
    acker.firewall.lift()
    found["and for good"] = call.outcome(1.0) == "hangs"
    found["nobody sees it"] = primary.rows()
    primary.crash()
    found["killed"] = call.outcome(5)
    return found


@story(
    ends={
        "acknowledged": ["ok", "ok"],
        "acknowledged, not flushed": ([1, 10], "0-1-8", [1, 10, 11]),
        "comes back": (True, [1, 10, 11, 90], True),
    }
)
def a_tail_is_cut_off(world: World) -> Found:
    """What was never acknowledged, and the last acknowledged one, whose commit was not flushed yet."""
    primary, acker = lossless(world)
    found: Found = {"acknowledged": [primary.write(row).outcome(5) for row in (10, 11)]}
    primary.crash()
    primary.process.start(BootRole.REPLICA, START)
    found["acknowledged, not flushed"] = primary.rows(), at(primary)["binlog"], acker.rows()
    found["comes back"] = _rejoin(world, primary, acker)
    return found


@story(
    ends={
        "acknowledged": ["ok", "ok"],
        "flushed by time": ([1, 10, 11], "0-1-9"),
        "acker is back": True,
        "another": "ok",
        "hangs": True,
        "flushed by the next": ([1, 10, 11, 12], "0-1-10"),
    }
)
def a_flushed_tail_stays(world: World) -> Found:
    """A second later, or before something else was written, the acknowledged one is safe; what hangs is cut off."""
    primary, acker = lossless(world)
    found: Found = {"acknowledged": [primary.write(row).outcome(5) for row in (10, 11)]}
    pause(world, FLUSHED)
    primary.crash()
    primary.process.start(BootRole.REPLICA, START)
    found["flushed by time"] = primary.rows(), at(primary)["binlog"]
    primary.database.set_read_only(False)
    primary.database.set_waiting(True)
    found["acker is back"] = world.wait(lambda: primary.database.switches().ack_clients == 1)
    found["another"] = primary.write(12).outcome(5)
    acker.freeze()
    found["hangs"] = hangs(primary.write(13))
    primary.crash()
    acker.crash()
    primary.process.start(BootRole.REPLICA, START)
    found["flushed by the next"] = primary.rows(), at(primary)["binlog"]
    return found


@story(
    ends={
        "table": True,
        "row behind it": (True, "0-1-9"),
        "cut off behind the table": ([1], "0-1-8"),
        "row": True,
        "table behind it": (True, "0-1-10"),
        "as SLAVE": (True, False),
        "as MASTER": ([1, 3], "0-1-10"),
    }
)
def a_tail_with_a_table(world: World) -> Found:
    """A table at its head stays; one behind a row keeps the server from starting as SLAVE."""
    primary, acker = lossless(world)
    acker.freeze()
    calls = [primary.define("head")]
    found: Found = {"table": hangs(calls[0])}
    calls.append(primary.write(2))
    found["row behind it"] = hangs(calls[1]), at(primary)["binlog"]
    primary.crash()
    acker.crash()
    primary.process.start(BootRole.REPLICA, START)
    found["cut off behind the table"] = primary.rows(), at(primary)["binlog"]
    primary.database.set_waiting(True)
    primary.database.set_read_only(False)
    calls = [primary.write(3)]
    found["row"] = hangs(calls[0])
    calls.append(primary.define("behind"))
    found["table behind it"] = hangs(calls[1]), at(primary)["binlog"]
    primary.crash()
    try:
        primary.process.start(BootRole.REPLICA, START)
    except ProcessError as error:
        found["as SLAVE"] = "Can't init tc log" in str(error), primary.process.running()
    primary.process.start(BootRole.PRIMARY, START)
    found["as MASTER"] = primary.rows(), at(primary)["binlog"]
    return found


@story(ends={"row": "ok", "as SLAVE": True, "left": ([1, 2], "0-1-10", ["vha_m2", "vha_x"])})
def a_tail_with_an_account(world: World) -> Found:
    """An acknowledged row and a statement on accounts right behind it."""
    primary, _ = lossless(world)
    primary.set_flush_interval(2700)  # or a busy machine lets it be on disk by the time of the crash
    found: Found = {"row": primary.write(2).outcome(5)}
    primary.database.create_account(ReplicationAccount(name="vha_x", subject="/CN=x"))
    primary.crash()
    try:
        primary.process.start(BootRole.REPLICA, START)
        found["as SLAVE"] = "started"
    except ProcessError as error:
        found["as SLAVE"] = "Can't init tc log" in str(error)
        primary.process.start(BootRole.PRIMARY, START)
    found["left"] = primary.rows(), at(primary)["binlog"], [a.name for a in primary.database.accounts()]
    return found


@story(ends={"hangs": True, "its client hangs": False, "left behind": ([1, 2], "0-1-8")})
def a_terminated_primary(world: World) -> Found:
    """SIGTERM leaves what hangs behind as committed, also when it starts as SLAVE."""
    primary, acker = lossless(world)
    acker.freeze()
    call = primary.write(2)
    found: Found = {"hangs": hangs(call)}
    primary.terminate()
    found["its client hangs"] = hangs(call)
    acker.crash()
    primary.process.start(BootRole.REPLICA, START)
    found["left behind"] = primary.rows(), at(primary)["binlog"]
    return found


@story(
    ends={"hangs": True, "KILL QUERY": ("ok", [1, 2]), "hangs again": True, "KILL": ("lost", [1, 2, 3]), "waits": True}
)
def killed_sessions(world: World) -> Found:
    """KILL QUERY lets the client believe that its row is safe; KILL leaves the row for everybody to see."""
    primary, acker = lossless(world)
    acker.freeze()
    call = primary.write(2)
    found: Found = {"hangs": hangs(call)}
    primary.kill_writers(query_only=True)
    found["KILL QUERY"] = call.outcome(5), primary.rows()
    call = primary.write(3)
    found["hangs again"] = hangs(call)
    primary.kill_writers(query_only=False)
    lost = call.outcome(5)
    world.wait(lambda: primary.rows() == [1, 2, 3])  # the session ends a moment after its client has lost it
    found["KILL"] = lost, primary.rows()
    found["waits"] = hangs(primary.write(4))
    acker.thaw()
    return found


def _rejoin(world: World, old: Server, new: Server) -> tuple[Any, ...]:
    """The old primary follows the acker, which was promoted."""
    promote(new)
    new.database.create_account(account(old))
    assert new.write(90).outcome(5) == "ok"
    old.database.set_server_id(91)
    let_follow(old, new, demote=True)
    arrived = world.wait(lambda: old.rows() == new.rows())
    return arrived, old.rows(), at(old) == {**at(new), "applied": at(new)["binlog"]}
