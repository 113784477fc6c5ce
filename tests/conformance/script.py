"""What a vault rests on in MariaDB, as stories that are told to real servers and to simulated ones alike.

A story (stories_*.py) drives the servers through the verbs' own ports and a client, and returns what it saw as plain values. How
it is to end stands beside it. Rows of clients are numbers. Server n is named `m<n>` and has server_id n; `m1` begins as the
primary. Positions are told as they are: both worlds write the same transactions, from the first statement on.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from replication.core.commands import ReplicationAccount
from replication.core.vault_ports import Source
from tests.conformance.world import Server, World

Found = dict[str, Any]
START: Final = timedelta(seconds=60)
AT_ONCE: Final = 0.5
"""Seconds: what waits for nobody takes less."""
SHORT: Final = timedelta(seconds=0.3)
HEARTBEATS: Final = 1.2
"""Seconds in which some must come."""
SILENT: Final = 5.0
"""Seconds after which a replica has given up on a silent source (slave_net_timeout is 4)."""
FLUSHED: Final = 2.5
"""Seconds in which InnoDB has flushed its log by itself."""


@dataclass(frozen=True)
class Story:
    tell: Callable[[World], Found]
    servers: int
    ends: Found
    """What it is to find."""


STORIES: Final[dict[str, Story]] = {}


def story(*, servers: int = 2, ends: Found) -> Callable[[Callable[[World], Found]], Callable[[World], Found]]:
    """Register a story. servers: how many it needs, as after a first start."""

    def register(tell: Callable[[World], Found]) -> Callable[[World], Found]:
        STORIES[tell.__name__] = Story(tell, servers, ends)
        return tell

    return register


def account(server: Server) -> ReplicationAccount:
    return ReplicationAccount(name=server.account, subject=server.subject)


def let_follow(server: Server, source: Server, *, demote: bool = False) -> None:
    server.database.change_source(Source(host=source.address, port=3307, account=server.account, demote=demote))
    server.database.start_replication()


def streams(server: Server) -> bool:
    replica = server.database.replica()
    return replica is not None and replica.streaming and replica.applier


def open_primary(world: World, primary: Server, others: list[Server]) -> None:
    primary.database.set_read_only(False)
    primary.database.ensure_client()
    assert primary.define("rows_").outcome(5) == "ok"
    for other in others:
        primary.database.create_account(account(other))


def followed(world: World, *, acker: bool = True) -> tuple[Server, ...]:
    """m1 is open, the others follow; m2 acknowledges, if somebody does. Nobody waits for it yet."""
    primary, *others = world.servers
    open_primary(world, primary, others)
    for other in others:
        other.database.set_acknowledging(acker and other is others[0])
        let_follow(other, primary)
        assert world.wait(lambda other=other: streams(other)), other.database.replica()  # type: ignore[misc]
    assert world.wait(lambda: primary.database.switches().ack_clients == int(acker))
    assert primary.write(1).outcome(5) == "ok"
    assert world.wait(lambda: all(other.rows() == [1] for other in others))
    return tuple(world.servers)


def lossless(world: World) -> tuple[Server, ...]:
    """As `followed`, and m1 waits for m2."""
    servers = followed(world)
    servers[0].database.set_waiting(True)
    return servers


def gtids(text: str) -> list[str]:
    return sorted(text.split(",")) if text else []


def at(server: Server) -> dict[str, Any]:
    now = server.database.positions()
    return {
        "binlog": now.gtid_binlog_pos,
        "state": gtids(now.gtid_binlog_state),
        "applied": now.gtid_slave_pos,
    }


def seen(server: Server) -> tuple[str, bool, str, int, int]:
    """Receiver, applier, what was received, both error numbers."""
    now = server.database.replica()
    assert now is not None
    return now.receiver, now.applier, now.gtid_io_pos, now.receiver_errno, now.applier_errno


def receiver_ended(server: Server, errno: int) -> bool:
    """The error is told a moment before the thread has ended."""
    return seen(server)[0] == "No" and seen(server)[3] == errno


def applier_ended(server: Server, errno: int) -> bool:
    return not seen(server)[1] and seen(server)[4] == errno


def hangs(call: Any) -> bool:
    return bool(call.outcome() == "hangs")


def quick(world: World, action: Callable[[], Any]) -> bool:
    return world.took(action) < AT_ONCE


def pause(world: World, seconds: float) -> None:
    """The one thing that cannot be waited for is that nothing happens."""
    world.wait(lambda: False, seconds)


def promote(server: Server) -> None:
    server.database.stop_replication()
    server.database.forget_source()
    server.database.set_read_only(False)
