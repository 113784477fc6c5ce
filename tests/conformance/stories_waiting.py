"""Commits that wait for an acknowledgement, and what waits behind them."""

from collections.abc import Callable
from typing import Any

from replication.core.commands import ReplicationAccount
from replication.core.vault_ports import BootRole
from tests.conformance.script import (
    SHORT,
    START,
    Found,
    at,
    followed,
    hangs,
    lossless,
    quick,
    seen,
    story,
    streams,
)
from tests.conformance.world import World


@story(
    ends={
        "hangs": True,
        "while it hangs": (1, 1, "0-1-8", [1]),
        "acknowledged": ("ok", True),
        "hangs again": True,
        "released by the switch": ("ok", [1, 2, 3]),
        "counted": (1, 1),
        "solo": "ok",
        "counted solo": 0,
        "all arrive": True,
    }
)
def a_commit_waits(world: World) -> Found:
    """It stands in the binary log, nobody sees its row, and it is released by an acknowledgement or by the switch."""
    primary, acker = lossless(world)
    before = primary.observe()
    acker.freeze()
    call = primary.write(2)
    found: Found = {"hangs": hangs(call)}
    now = primary.database.switches()
    found["while it hangs"] = (now.waiting_sessions, now.ack_clients, at(primary)["binlog"], primary.rows())
    acker.thaw()
    found["acknowledged"] = call.outcome(5), world.wait(lambda: acker.rows() == [1, 2])
    acker.freeze()
    call = primary.write(3)
    found["hangs again"] = hangs(call)
    primary.database.set_waiting(False)
    found["released by the switch"] = call.outcome(5), primary.rows()
    after = primary.observe()
    found["counted"] = after.acknowledged - before.acknowledged, after.unacknowledged - before.unacknowledged
    found["solo"] = primary.write(4).outcome(5)
    found["counted solo"] = primary.observe().unacknowledged - after.unacknowledged
    acker.thaw()
    found["all arrive"] = world.wait(lambda: acker.rows() == [1, 2, 3, 4])
    return found


@story(servers=3, ends={"clients": True, "one is frozen": "ok", "both are": (True, 2), "the other one": "ok"})
def anybody_acknowledges(world: World) -> Found:
    """One acknowledgement is enough, whoever gives it."""
    primary, first, second = followed(world)
    second.database.set_acknowledging(True)
    second.database.stop_receiver()
    second.database.start_receiver()
    found: Found = {"clients": world.wait(lambda: primary.database.switches().ack_clients == 2)}
    primary.database.set_waiting(True)
    first.freeze()
    found["one is frozen"] = primary.write(2).outcome(5)
    second.freeze()
    call = primary.write(3)
    found["both are"] = hangs(call), primary.database.switches().ack_clients
    first.thaw()
    found["the other one"] = call.outcome(5)
    second.thaw()
    return found


@story(
    ends={
        "first hangs": True,
        "second hangs": True,
        "others hang": [True, True],
        "in the log": "0-1-9",
        "seen": (1, 1, [1]),
        "lock-out": (True, 1),
        "nobody acknowledges": True,
        "still hang": [True, True, True, True],
    }
)
def several_commits_hang(world: World) -> Found:
    """Two groups stand in the binary log, the rest waits outside. Looking and locking out work all the same."""
    primary, acker = lossless(world)
    acker.freeze()
    calls = [primary.write(10)]
    found: Found = {"first hangs": hangs(calls[0])}
    calls.append(primary.write(11))
    found["second hangs"] = hangs(calls[1])
    calls += [primary.write(12), primary.write(13)]
    found["others hang"] = [hangs(call) for call in calls[2:]]
    found["in the log"] = at(primary)["binlog"]
    now = primary.observe().switches
    found["seen"] = now.waiting_sessions, now.ack_clients, primary.rows()
    db = primary.database
    found["lock-out"] = quick(world, lambda: db.lock_account(acker.account, True)), db.end_streams(acker.account)
    found["nobody acknowledges"] = world.wait(lambda: db.switches().ack_clients == 0)
    found["still hang"] = [hangs(call) for call in calls]
    db.lock_account(acker.account, False)
    return found


@story(
    ends={
        "hangs": True,
        "received": True,
        "stream gone": True,
        "reconnected": (True, True),
        "hangs all the same": True,
        "with a later one": ("ok", "ok"),
        "rows": ([1, 2, 3], True),
    }
)
def an_acknowledgement_that_was_lost(world: World) -> Found:
    """What the replica has from an earlier stream is not acknowledged on the next one, but with what is written later."""
    primary, acker = lossless(world)
    world.cut(acker, primary)  # events reach it, its answers are lost
    call = primary.write(2)
    found: Found = {"hangs": hangs(call), "received": world.wait(lambda: acker.rows() == [1, 2])}
    world.wait(lambda: primary.database.end_streams(acker.account) > 0)
    acker.firewall.cut(primary.address)
    found["stream gone"] = world.wait(lambda: seen(acker)[0] == "Connecting")
    world.heal()
    acker.firewall.lift()
    found["reconnected"] = (
        world.wait(lambda: streams(acker)),
        world.wait(lambda: primary.database.switches().ack_clients == 1),
    )
    found["hangs all the same"] = hangs(call)
    later = primary.write(3)
    found["with a later one"] = later.outcome(5), call.outcome(5)
    found["rows"] = primary.rows(), world.wait(lambda: acker.rows() == [1, 2, 3])
    return found


@story(
    ends={
        "commit": True,
        "in time": (False, False),
        "read_only": True,
        "behind it": (True, True),
        "status": True,
        "streams": 1,
        "released": ["ok", "ok", "error 1290", "ok"],
        "rows": ([1, 2], True),
    }
)
def read_only_hangs_behind_a_commit(world: World) -> Found:
    """So do new writes and locks behind it. Streams can be ended; the switch releases all."""
    primary, acker = lossless(world)
    acker.freeze()
    commit = primary.write(2)
    found: Found = {"commit": hangs(commit)}
    found["in time"] = primary.database.close_writes(SHORT), primary.database.switches().read_only
    closing = primary.call(lambda db: db.set_read_only(True))
    found["read_only"] = hangs(closing)
    write = primary.write(3)
    lock = primary.call(lambda db: db.lock_account(acker.account, True))
    found["behind it"] = hangs(write), hangs(lock)
    found["status"] = quick(world, primary.observe)
    found["streams"] = primary.database.end_streams(acker.account)
    primary.database.set_waiting(False)
    found["released"] = [call.outcome(5) for call in (commit, closing, write, lock)]
    found["rows"] = primary.rows(), primary.database.switches().read_only
    acker.thaw()
    return found


@story(
    ends={
        "gone": True,
        "hangs": True,
        "somebody comes": "ok",
        "gone again": True,
        "without the setting": ("ok", [1, 2, 3]),
        "still called on": True,
        "counted": (1, 1),
    }
)
def nobody_acknowledges(world: World) -> Found:
    """With wait_no_slave a commit waits for somebody to come; without it, it is acknowledged by nobody."""
    primary, acker = lossless(world)
    before = primary.observe()
    acker.crash()
    found: Found = {"gone": world.wait(lambda: primary.database.switches().ack_clients == 0, 2)}
    call = primary.write(2)
    found["hangs"] = hangs(call)
    acker.process.start(BootRole.PRIMARY, START)
    acker.database.set_acknowledging(True)
    acker.database.start_replication()
    found["somebody comes"] = call.outcome(5)
    acker.database.stop_receiver()
    found["gone again"] = world.wait(lambda: primary.database.switches().ack_clients == 0, 2)
    primary.set_semisync_wait_no_slave(False)
    found["without the setting"] = primary.write(3).outcome(5), primary.rows()
    found["still called on"] = primary.database.switches().waiting
    after = primary.observe()
    found["counted"] = after.acknowledged - before.acknowledged, after.unacknowledged - before.unacknowledged
    return found


@story(
    ends={
        "off, live": (True, 1, "ok"),
        "off, reconnected": (True, False, 0),
        "on, live": (False, 0),
        "on, reconnected": True,
        "stopped": (False, True),
        "off, started": (True, False, 0),
        "locked": (True, True, 0),
        "on, started": True,
    }
)
def a_flag_and_a_live_stream(world: World) -> Found:
    """A live stream keeps what it connected with; every reconnect takes the flag as it is then."""
    primary, replica = lossless(world)
    db = replica.database
    says = lambda: (db.switches().stream_acknowledges, primary.database.switches().ack_clients)  # noqa: E731
    db.set_acknowledging(False)
    found: Found = {"off, live": (*says(), primary.write(2).outcome(5))}
    primary.database.set_waiting(False)
    primary.database.end_streams(replica.account)
    world.wait(lambda: seen(replica)[0] != "Yes", 1)
    found["off, reconnected"] = world.wait(lambda: streams(replica)), *says()
    db.set_acknowledging(True)
    found["on, live"] = says()
    primary.database.end_streams(replica.account)
    world.wait(lambda: seen(replica)[0] != "Yes", 1)
    found["on, reconnected"] = world.wait(lambda: streams(replica) and says() == (True, 1))
    db.set_acknowledging(False)
    db.stop_receiver()
    found["stopped"] = db.switches().stream_acknowledges, world.wait(lambda: says() == (False, 0), 2)
    db.start_receiver()
    found["off, started"] = world.wait(lambda: streams(replica)), *says()
    db.stop_receiver()
    db.set_acknowledging(True)
    primary.database.lock_account(replica.account, True)
    db.start_receiver()
    found["locked"] = world.wait(lambda: seen(replica)[3] == 4151), *says()
    primary.database.lock_account(replica.account, False)
    found["on, started"] = world.wait(lambda: streams(replica) and says() == (True, 1))
    return found


@story(ends={"outcomes": ["error 1040", "hangs"], "the agent": True, "released": ["error 1040", "ok"]})
def a_full_connection_table(world: World) -> Found:
    """Commits that hang use up every connection. Who is connected already can look and switch."""
    primary, acker = lossless(world)
    primary.set_max_connections(12)
    acker.freeze()
    calls = [primary.write(row) for row in range(10, 30)]
    assert world.wait(lambda: any(call.outcome(0) == "error 1040" for call in calls))
    found: Found = {"outcomes": sorted({call.outcome(0.1) for call in calls})}
    found["the agent"] = primary.observe().switches.waiting_sessions > 0
    primary.database.set_waiting(False)
    found["released"] = sorted({call.outcome(5) for call in calls})
    acker.thaw()
    return found


@story(
    ends={
        "hangs": True,
        "beside it": {
            "positions": "ok",
            "replica": "ok",
            "drift": "ok",
            "epoch": "ok",
            "status": "hangs",
            "accounts": "hangs",
            "lock": "hangs",
        },
        "switch": "ok",
        "then": ("ok", {"ok"}),
    }
)
def an_account_statement_hangs(world: World) -> Found:
    """Status and accounts hang behind it; positions, the replica's status and the switch do not."""
    primary, acker = lossless(world)
    acker.freeze()
    creating = primary.call(lambda db: db.create_account(ReplicationAccount(name="vha_x", subject="/CN=x")))
    found: Found = {"hangs": hangs(creating)}
    looks: list[tuple[str, Callable[[Any], Any]]] = [
        ("positions", lambda db: db.positions()),
        ("replica", lambda db: db.replica()),
        ("drift", lambda db: db.drift()),
        ("epoch", lambda db: db.epoch_recorded(1)),
        ("status", lambda db: db.switches()),
        ("accounts", lambda db: db.accounts()),
        ("lock", lambda db: db.lock_account(acker.account, True)),
    ]
    calls = [(name, primary.call(look)) for name, look in looks]
    found["beside it"] = {name: call.outcome() for name, call in calls}
    switch = primary.call(lambda db: db.set_waiting(False))
    found["switch"] = switch.outcome(5)
    found["then"] = creating.outcome(5), {call.outcome(5) for _, call in calls}
    acker.thaw()
    return found


@story(ends={"written": "ok", "received": True, "applied": False, "applied then": True})
def a_primarys_flag_on_a_replica(world: World) -> Found:
    """Its applier waits for an acknowledgement that nobody gives."""
    primary, replica = followed(world)
    replica.database.set_waiting(True)
    found: Found = {"written": primary.write(2).outcome(5)}
    found["received"] = world.wait(lambda: seen(replica)[2] == at(primary)["binlog"])
    found["applied"] = world.wait(lambda: replica.rows() == [1, 2], 0.5)
    replica.database.set_waiting(False)
    found["applied then"] = world.wait(lambda: replica.rows() == [1, 2])
    return found
