"""One node by itself: how it starts, how it closes, epochs, accounts."""

from datetime import timedelta

from replication.core.commands import ReplicationAccount
from replication.core.vault_ports import BootRole
from tests.conformance.script import (
    SHORT,
    START,
    Found,
    at,
    followed,
    hangs,
    open_primary,
    quick,
    seen,
    story,
    streams,
)
from tests.conformance.world import World, outcome_of


@story(
    servers=1,
    ends={
        "switches": (True, False, False, False, 0),
        "drift": (),
        "replica": None,
        "at": {"binlog": "", "state": [], "applied": ""},
        "after a crash": (True, False, False),
        "client": "error 1290",
        "administrator": "ok",
        "rows": [2],
        "at the end": {"binlog": "0-1-5", "state": ["0-1-5"], "applied": ""},
    },
)
def a_start_is_closed(world: World) -> Found:
    """Read-only, flags off, no position; an administrator may write, a client may not."""
    (server,) = world.servers
    now = server.database.switches()
    found: Found = {
        "switches": (now.read_only, now.waiting, now.acknowledging, now.stream_acknowledges, now.ack_clients),
        "drift": server.database.drift(),
        "replica": server.database.replica(),
        "at": at(server),
    }
    open_primary(world, server, [])
    server.database.set_waiting(True)
    server.database.set_acknowledging(True)
    server.database.set_waiting(False)
    server.crash()
    server.process.start(BootRole.PRIMARY, START)
    now = server.database.switches()
    found["after a crash"] = now.read_only, now.waiting, now.acknowledging
    found["client"] = server.write(1).outcome(5)
    found["administrator"] = server.administrator_writes(2).outcome(5)
    found["rows"] = server.rows()
    server.process.start(BootRole.PRIMARY, START)
    found["at the end"] = at(server)
    return found


@story(
    servers=1,
    ends={
        "begun": ("ok", "ok"),
        "closes at once": True,
        "its commit": "error 1290",
        "begun again": ("ok", "error 1290"),
        "twice": "ok",
        "already closed": True,
        "open again": "ok",
        "rows": [3],
    },
)
def read_only_and_transactions(world: World) -> Found:
    """An open transaction does not keep a node from closing; its commit fails."""
    (server,) = world.servers
    open_primary(world, server, [])
    client = server.client()
    found: Found = {"begun": (client.begin().outcome(5), client.insert(1).outcome(5))}
    found["closes at once"] = quick(world, lambda: server.database.set_read_only(True))
    found["its commit"] = client.commit().outcome(5)
    found["begun again"] = client.begin().outcome(5), client.insert(2).outcome(5)
    found["twice"] = outcome_of(lambda: server.database.set_read_only(True))
    found["already closed"] = server.database.close_writes(SHORT)
    server.database.set_read_only(False)
    found["open again"] = server.write(3).outcome(5)
    found["rows"] = server.rows()
    return found


@story(
    servers=1,
    ends={
        "runs": True,
        "closed in time": False,
        "another writes": "ok",
        "ended": True,
        "its client": "lost",
        "closed then": True,
        "rows": [2],
    },
)
def a_long_statement(world: World) -> Found:
    """It keeps a node from closing in time; ended, it leaves nothing behind."""
    (server,) = world.servers
    open_primary(world, server, [])
    slow = server.client().update_slowly(1, 30.0)
    found: Found = {"runs": hangs(slow)}
    found["closed in time"] = server.database.close_writes(SHORT)
    found["another writes"] = server.write(2).outcome(5)
    found["ended"] = server.database.end_writers(SHORT, timedelta(seconds=1))
    found["its client"] = slow.outcome(5)
    found["closed then"] = server.database.close_writes(timedelta(seconds=1))
    found["rows"] = server.rows()
    return found


@story(
    servers=1,
    ends={
        "recorded before": False,
        "jumped": ("0-1-1002", True),
        "next": "0-1-1003",
        "too low": "error 1950",
        "left": ("0-1-1003", False),
        "another server_id": {"binlog": "0-77-1004", "state": ["0-1-1003", "0-77-1004"], "applied": ""},
    },
)
def epochs(world: World) -> Found:
    """The first write of an epoch jumps; a number that is too low is refused and nothing is written."""
    (server,) = world.servers
    db = server.database
    found: Found = {"recorded before": db.epoch_recorded(5)}
    db.record_epoch(5, 1000)  # closed as it is: the agent may write
    found["jumped"] = at(server)["binlog"], db.epoch_recorded(5)
    db.record_epoch(6, 0)
    found["next"] = at(server)["binlog"]
    found["too low"] = outcome_of(lambda: db.record_epoch(7, 5))
    found["left"] = at(server)["binlog"], db.epoch_recorded(7)
    db.set_server_id(77)
    db.record_epoch(8, 0)
    found["another server_id"] = at(server)
    return found


@story(
    ends={
        "a lock is written": False,
        "locked": [("vha_m2", True, True)],
        "there": [("vha_m2", True, False)],
        "a live stream goes on": ("ok", True),
        "streams ended": (1, 0),
        "turned away": True,
        "comes back": (True, 0),
        "unknown": "error 1396",
        "dropping nobody is written": True,
        "replicated": (True, [("vha_m2", True, False), ("vha_other", True, False)]),
        "gone": (True, "0-1-12"),
    }
)
def accounts(world: World) -> Found:
    """Locks stay on the node and out of its binary log; everything else is written."""
    first, second = followed(world, acker=False)
    db = first.database
    names = lambda server: [(a.name, a.subject != "", a.locked) for a in server.database.accounts()]  # noqa: E731
    before = at(first)["binlog"]
    db.lock_account(second.account, True)
    found: Found = {"a lock is written": at(first)["binlog"] != before, "locked": names(first), "there": names(second)}
    found["a live stream goes on"] = first.write(2).outcome(5), world.wait(lambda: second.rows() == [1, 2])
    found["streams ended"] = db.end_streams(second.account), db.end_streams("vha_nobody")
    found["turned away"] = world.wait(lambda: seen(second)[0] == "Connecting" and seen(second)[3] == 4151)
    db.lock_account(second.account, False)
    found["comes back"] = world.wait(lambda: streams(second)), seen(second)[3]
    found["unknown"] = outcome_of(lambda: db.lock_account("vha_nobody", True))
    before = at(first)["binlog"]
    db.drop_account("vha_nobody")
    found["dropping nobody is written"] = at(first)["binlog"] != before
    db.create_account(ReplicationAccount(name="vha_other", subject="/CN=other"))
    db.ensure_client()
    found["replicated"] = world.wait(lambda: names(second) == names(first)), names(second)
    db.drop_account("vha_other")
    found["gone"] = world.wait(lambda: len(names(second)) == 1), at(first)["binlog"]
    return found
