"""A change of source: clean, diverged, purged, and the cases that nobody notices."""

from datetime import timedelta

from tests.conformance.script import (
    Found,
    account,
    at,
    followed,
    let_follow,
    promote,
    receiver_ended,
    seen,
    story,
    streams,
)
from tests.conformance.world import World


@story(
    servers=3,
    ends={
        "drained": True,
        "new": {"binlog": "0-2-1006", "state": ["0-1-10", "0-2-1006"], "applied": "0-1-10"},
        "written": "ok",
        "follow": [
            (
                True,
                ("Yes", True, "0-2-1007", 0, 0),
                {"binlog": "0-2-1007", "state": ["0-1-10", "0-2-1007"], "applied": "0-2-1007"},
            ),
            (
                True,
                ("Yes", True, "0-2-1007", 0, 0),
                {"binlog": "0-2-1007", "state": ["0-1-10", "0-2-1007"], "applied": "0-2-1007"},
            ),
        ],
        "epoch": True,
    },
)
def a_clean_change_of_roles(world: World) -> Found:
    """The new primary jumps; the old one counts what it wrote as received, and all follow."""
    old, new, third = followed(world, acker=False)
    assert old.write(2).outcome(5) == "ok"
    old.database.set_read_only(True)
    found: Found = {"drained": new.database.wait_applied(at(old)["binlog"], timedelta(seconds=5))}
    promote(new)
    new.database.record_epoch(1, 1000)
    for other in (old, third):
        new.database.create_account(account(other))
    found["new"] = at(new)
    old.database.set_server_id(11)
    let_follow(old, new, demote=True)
    third.database.stop_replication()
    third.database.forget_source()
    let_follow(third, new)
    found["written"] = new.write(3).outcome(5)
    found["follow"] = [
        (world.wait(lambda s=s: s.rows() == [1, 2, 3]), seen(s), at(s))  # type: ignore[misc]
        for s in (old, third)
    ]
    found["epoch"] = old.database.epoch_recorded(1)
    return found


@story(
    servers=3,
    ends={
        "new has written little": (True, ("No", True, "0-1-10", 1236, 0), False, False),
        "one that had nothing more": (True, True),
        "new has a later one of the same server": (True, ("No", True, "0-1-10", 1236, 0), False, True),
    },
)
def diverged(world: World) -> Found:
    """Error 1236 while the new primary is behind, beyond, and has a later number of the same server."""
    old, new, third = followed(world, acker=False)
    new.database.stop_receiver()
    third.database.stop_receiver()
    assert old.write(2).outcome(5) == "ok"
    old.database.set_read_only(True)
    promote(new)
    found: Found = {}

    def refused(name: str) -> None:
        let_follow(old, new, demote=True)
        judged = world.wait(lambda: receiver_ended(old, 1236))
        replica = old.database.replica()
        assert replica is not None
        found[name] = judged, seen(old), "purged" in replica.receiver_error, "missing" in replica.receiver_error
        old.database.stop_replication()
        old.database.forget_source()

    new.database.create_account(account(old))
    refused("new has written little")
    third.database.stop_replication()
    third.database.forget_source()
    new.database.create_account(account(third))
    let_follow(third, new)
    found["one that had nothing more"] = (
        world.wait(lambda: streams(third)),
        world.wait(lambda: at(third) == {**at(new), "applied": at(new)["binlog"]}),
    )
    new.database.set_server_id(old.database.positions().server_id)
    assert new.write(3).outcome(5) == "ok"
    new.database.set_server_id(2)
    refused("new has a later one of the same server")
    return found


@story(
    ends={
        "written": ["ok", "ok"],
        "refused": (True, ("No", True, "0-1-7", 1236, 0)),
        "says so": True,
        "source": {"binlog": "0-1-9", "state": ["0-1-9"], "applied": ""},
    }
)
def purged(world: World) -> Found:
    primary, replica = followed(world, acker=False)
    replica.database.stop_replication()
    found: Found = {"written": [primary.write(row).outcome(5) for row in (2, 3)]}
    primary.purge_binary_logs()
    replica.database.start_replication()
    found["refused"] = world.wait(lambda: receiver_ended(replica, 1236)), seen(replica)
    status = replica.database.replica()
    found["says so"] = status is not None and "purged" in status.receiver_error
    found["source"] = at(primary)
    return found


@story(
    ends={
        "written": "ok",
        "same": (True, ["0-1-8"]),
        "later": ("ok", True, ("Yes", True, "0-1-9", 0, 0)),
        "rows": ([1, 2, 4], [1, 3, 4]),
    }
)
def the_same_number_twice(world: World) -> Found:
    """A GTID that was issued again with other content is noticed by nobody."""
    primary, replica = followed(world, acker=False)
    replica.database.stop_replication()
    assert primary.write(2).outcome(5) == "ok"
    replica.database.set_server_id(1)
    replica.database.forget_source()
    replica.database.set_read_only(False)
    found: Found = {"written": replica.write(3).outcome(5)}
    found["same"] = at(primary)["binlog"] == at(replica)["binlog"], at(replica)["state"]
    replica.database.set_server_id(2)
    let_follow(replica, primary, demote=True)
    found["later"] = primary.write(4).outcome(5), world.wait(lambda: 4 in replica.rows()), seen(replica)
    found["rows"] = primary.rows(), replica.rows()
    return found


@story(
    servers=3,
    ends={
        "of its source": True,
        "receiver": ("No", True, "0-1-9"),
        "written": "ok",
        "skipped": (True, [1], ("Yes", True, "0-1-10", 0, 0)),
        "in its log": "0-1-9",
        "with its flag on": ("ok", True),
        "with a fresh one": ("ok", True),
    },
)
def events_of_its_own(world: World) -> Found:
    """With its flag off a replica skips events that carry its server_id, and counts them as applied."""
    primary, between, replica = followed(world, acker=False)
    replica.database.stop_replication()
    replica.database.set_server_id(1)
    replica.database.start_replication()
    found: Found = {"of its source": world.wait(lambda: receiver_ended(replica, 1593)), "receiver": seen(replica)[:3]}
    replica.database.stop_replication()
    replica.database.forget_source()
    let_follow(replica, between)
    assert world.wait(lambda: streams(replica))
    found["written"] = primary.write(2).outcome(5)
    written = at(primary)["binlog"]
    found["skipped"] = world.wait(lambda: at(replica)["applied"] == written), replica.rows(), seen(replica)
    found["in its log"] = at(replica)["binlog"]
    replica.database.stop_replication()
    replica.database.set_acknowledging(True)
    replica.database.start_replication()
    found["with its flag on"] = primary.write(3).outcome(5), world.wait(lambda: replica.rows() == [1, 3])
    replica.database.stop_replication()
    replica.database.set_acknowledging(False)
    replica.database.set_server_id(9)
    replica.database.start_replication()
    found["with a fresh one"] = primary.write(4).outcome(5), world.wait(lambda: replica.rows() == [1, 3, 4])
    return found


@story(
    ends={
        "follows": True,
        "at": {"binlog": "0-2-3", "state": ["0-2-3"], "applied": "0-2-3"},
        "source": {"binlog": "", "state": [], "applied": ""},
        "refused": (True, ("No", True, "0-2-3", 1236, 0)),
    }
)
def a_source_without_history(world: World) -> Found:
    """Who has more than an empty source may follow it, until that writes something."""
    first, second = world.servers
    second.database.set_read_only(False)
    second.database.ensure_client()
    first.create_account_unlogged(account(second))
    let_follow(second, first, demote=True)
    found: Found = {"follows": world.wait(lambda: streams(second)), "at": at(second), "source": at(first)}
    first.database.set_read_only(False)
    first.database.ensure_client()
    found["refused"] = world.wait(lambda: receiver_ended(second, 1236)), seen(second)
    return found
