"""A replica's threads, its relay log, and its position."""

from collections.abc import Callable
from datetime import timedelta

from replication.core.vault_ports import BootRole, Source
from tests.conformance.script import (
    SHORT,
    START,
    Found,
    applier_ended,
    at,
    followed,
    hangs,
    lossless,
    seen,
    story,
    streams,
)
from tests.conformance.world import World, outcome_of


@story(
    ends={
        "applier started": ("ok", ("No", False, "0-1-8", 0, 0), True, "0-1-7"),
        "applier, fetched again": True,
        "receiver started": ("ok", ("No", False, "0-1-9", 0, 0), True, "0-1-8"),
        "receiver, fetched again": True,
        "both started": ("ok", ("No", False, "0-1-10", 0, 0), True, "0-1-9"),
        "both, fetched again": True,
        "safe": "ok",
        "applied": (True, ("No", True, "0-1-11", 0, 0)),
        "resumes where it was": "0-1-11",
    }
)
def threads_that_throw_away(world: World) -> Found:
    """With both stopped, starting either throws acknowledged transactions away. The applier first, and nothing is lost."""
    primary, acker = lossless(world)
    found: Found = {}
    starts: list[tuple[str, Callable[[], None]]] = [
        ("applier", acker.database.start_applier),
        ("receiver", acker.database.start_receiver),
        ("both", acker.database.start_replication),
    ]
    for number, (name, start) in enumerate(starts, start=1):
        acker.stop_applier()
        row = 10 * number
        acknowledged = primary.write(row).outcome(5)
        primary.freeze()
        acker.database.stop_receiver()
        received = seen(acker)
        start()
        lost = not world.wait(lambda row=row: row in acker.rows(), 0.5)  # type: ignore[misc]
        found[f"{name} started"] = acknowledged, received, lost, seen(acker)[2]
        primary.thaw()
        acker.database.start_replication()
        found[f"{name}, fetched again"] = world.wait(lambda row=row: row in acker.rows())  # type: ignore[misc]
        assert world.wait(lambda: streams(acker) and primary.database.switches().ack_clients == 1)
    acker.stop_applier()
    found["safe"] = primary.write(50).outcome(5)
    primary.freeze()
    acker.database.start_applier()
    acker.database.stop_receiver()
    found["applied"] = world.wait(lambda: 50 in acker.rows()), seen(acker)
    acker.database.start_receiver()
    found["resumes where it was"] = seen(acker)[2]
    primary.thaw()
    return found


@story(
    ends={
        "acknowledged": ["ok", "ok"],
        "applied": [1],
        "restarted": (("No", False, "", 0, 0), [1]),
        "started": (False, ("No", True, "0-1-7", 0, 0)),
    }
)
def a_crashed_replica(world: World) -> Found:
    """It does not start by itself; as it is started, its relay log is gone."""
    primary, acker = lossless(world)
    acker.stop_applier()
    found: Found = {"acknowledged": [primary.write(row).outcome(5) for row in (2, 3)], "applied": acker.rows()}
    acker.crash()
    primary.crash()
    acker.process.start(BootRole.PRIMARY, START)
    found["restarted"] = seen(acker), acker.rows()
    acker.database.start_applier()
    found["started"] = world.wait(lambda: 2 in acker.rows(), 0.5), seen(acker)
    return found


@story(
    ends={
        "acknowledged": ["ok", "ok", "ok"],
        "applied": [True, [1, 2]],
        "in the relay log": (["0-1-9", "0-1-10"], True),
        "by place": True,
        "rescued": (True, {"binlog": "0-1-10", "state": ["0-1-10"], "applied": "0-1-10"}),
        "by GTID again": ("No", False, "", 0, 0),
        "goes on": ("ok", True),
    }
)
def a_rescued_replica(world: World) -> Found:
    """Applied by place before anything was started, its relay log is all there."""
    primary, acker = lossless(world)
    found: Found = {"acknowledged": [primary.write(2).outcome(5)], "applied": [world.wait(lambda: 2 in acker.rows())]}
    acker.stop_applier()
    found["acknowledged"] += [primary.write(row).outcome(5) for row in (3, 4)]
    found["applied"].append(acker.rows())
    acker.crash()
    primary.crash()
    acker.process.start(BootRole.PRIMARY, START)
    applied = at(acker)["applied"]
    log = list(acker.process.relay_log())
    rest = [t for t in log if t.gtid.sequence > int(applied.split("-")[2])]
    found["in the relay log"] = [str(t.gtid) for t in rest], all(t.ends for t in log)
    assert rest[-1].ends is not None
    acker.database.apply_relay_log(rest[0].begins, rest[-1].ends)
    replica = acker.database.replica()
    found["by place"] = replica is not None and not replica.by_gtid
    found["rescued"] = world.wait(lambda: acker.rows() == [1, 2, 3, 4]), at(acker)
    acker.database.stop_replication()
    acker.database.follow_by_gtid()
    found["by GTID again"] = seen(acker)
    primary.process.start(BootRole.PRIMARY, START)
    primary.database.set_read_only(False)
    acker.database.start_replication()
    found["goes on"] = primary.write(5).outcome(5), world.wait(lambda: 5 in acker.rows())
    return found


@story(ends={"acknowledged": "ok", "applied": True, "applier": (True, [1, 2])})
def a_relay_log_applied_twice(world: World) -> Found:
    """From a place too early, as relay-log.info tells it, the applier stops at the first that was applied."""
    primary, acker = lossless(world)
    acker.database.stop_receiver()  # as becoming the acker does
    acker.database.start_receiver()
    assert world.wait(lambda: primary.database.switches().ack_clients == 1 and streams(acker))
    found: Found = {"acknowledged": primary.write(2).outcome(5), "applied": world.wait(lambda: 2 in acker.rows())}
    acker.crash()
    acker.process.start(BootRole.PRIMARY, START)
    last = list(acker.process.relay_log())[-1]
    assert last.ends is not None
    acker.database.apply_relay_log(last.begins, last.ends)
    found["applier"] = world.wait(lambda: applier_ended(acker, 1950)), acker.rows()
    return found


@story(
    ends={
        "first": "ok",
        "applied": True,
        "second": ("ok", True),
        "restarted": ([1, 2], {"binlog": "0-1-8", "state": ["0-1-8"], "applied": "0-1-8"}),
        "fetched again": (True, {"binlog": "0-1-9", "state": ["0-1-9"], "applied": "0-1-9"}),
    }
)
def a_restarted_replica_loses_what_was_prepared(world: World) -> Found:
    """As SLAVE a replica's own log is cut off as well, and with it its position; it is fetched again."""
    primary, replica = followed(world, acker=False)
    found: Found = {"first": primary.write(2).outcome(5), "applied": world.wait(lambda: replica.rows() == [1, 2])}
    found["second"] = primary.write(3).outcome(5), world.wait(lambda: replica.rows() == [1, 2, 3])
    replica.crash()
    replica.process.start(BootRole.REPLICA, START)
    found["restarted"] = replica.rows(), at(replica)
    replica.database.start_replication()
    found["fetched again"] = world.wait(lambda: replica.rows() == [1, 2, 3]), at(replica)
    return found


@story(
    ends={
        "nothing": True,
        "there": True,
        "of another server": True,
        "not there": (False, False),
        "another domain": False,
        "waits": True,
        "until it is applied": "ok",
        "stopped": False,
    }
)
def waiting_for_a_position(world: World) -> Found:
    primary, replica = followed(world, acker=False)
    wait = replica.database.wait_applied
    now = at(primary)["binlog"]
    sequence = int(now.split("-")[2])
    found: Found = {"nothing": wait("", timedelta()), "there": wait(now, timedelta())}
    found["of another server"] = wait(f"0-9-{sequence}", SHORT)
    found["not there"] = wait(f"0-1-{sequence + 1}", timedelta()), wait(f"0-1-{sequence + 1}", SHORT)
    found["another domain"] = wait(f"1-1-{sequence}", SHORT)
    waiting = replica.call(lambda db: db.wait_applied(f"0-1-{sequence + 1}", timedelta(seconds=20)))
    found["waits"] = hangs(waiting)
    primary.write(2)
    found["until it is applied"] = waiting.outcome(5)
    replica.database.stop_replication()
    found["stopped"] = wait(f"0-1-{sequence + 2}", SHORT)
    return found


@story(
    ends={
        "running": ["error 1198", "error 1198", "error 1198", "error 1198", "ok", "ok", "ok"],
        "stopped": (["ok", "ok"], ("No", False, "0-1-7", 0, 0)),
        "no source": ["error 1200", "error 1200", "error 1200", "ok", "ok", "ok"],
        "forgotten": (None, {"binlog": "0-1-7", "state": ["0-1-7"], "applied": "0-1-7"}),
        "new source": ("No", False, "", 0, 0),
    }
)
def statements_out_of_place(world: World) -> Found:
    """Their numbers, and what is harmless."""
    primary, replica = followed(world, acker=False)
    db = replica.database
    source = Source(host=primary.address, port=3307, account=replica.account, demote=False)
    found: Found = {
        "running": [
            outcome_of(action)
            for action in (
                lambda: db.change_source(source),
                db.forget_source,
                db.count_own_as_applied,
                db.follow_by_gtid,
                db.start_replication,
                db.start_receiver,
                db.start_applier,
            )
        ]
    }
    db.stop_replication()
    found["stopped"] = [outcome_of(action) for action in (db.stop_replication, db.stop_receiver)], seen(replica)
    db.forget_source()
    found["no source"] = [
        outcome_of(action)
        for action in (
            db.start_replication,
            db.start_receiver,
            db.start_applier,
            db.stop_replication,
            db.stop_receiver,
            db.forget_source,
        )
    ]
    found["forgotten"] = db.replica(), at(replica)
    db.change_source(source)
    found["new source"] = seen(replica)
    return found


@story(
    servers=3,
    ends={
        "its own": ["0-1-9", "0-2-10"],
        "out of order": (True, ("Yes", False, "0-1-10"), [1, 2]),
        "again": True,
        "there already": (True, ("Yes", False, "0-1-11")),
        "goes on receiving": ("ok", True),
        "applied": [1, 3, 4],
    },
)
def appliers_that_stop(world: World) -> Found:
    """On a row that is there already, and on a number that is not beyond its own."""
    primary, first, second = followed(world, acker=False)
    assert first.administrator_writes(2).outcome(5) == "ok"
    found: Found = {"its own": at(first)["state"]}
    assert primary.write(3).outcome(5) == "ok"
    found["out of order"] = world.wait(lambda: applier_ended(first, 1950)), seen(first)[:3], first.rows()
    first.database.start_applier()
    found["again"] = world.wait(lambda: applier_ended(first, 1950))
    second.administrator_writes_unlogged(4).outcome(5)
    assert primary.write(4).outcome(5) == "ok"
    found["there already"] = world.wait(lambda: applier_ended(second, 1062)), seen(second)[:3]
    found["goes on receiving"] = (
        primary.write(5).outcome(5),
        world.wait(lambda: seen(second)[2] == at(primary)["binlog"]),
    )
    found["applied"] = second.rows()
    return found
