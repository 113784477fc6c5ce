"""Streams that break, fall silent, or are cut off."""

from replication.core.vault_ports import BootRole
from tests.conformance.script import (
    HEARTBEATS,
    SILENT,
    START,
    Found,
    followed,
    hangs,
    lossless,
    pause,
    quick,
    seen,
    story,
    streams,
)
from tests.conformance.world import Server, World


@story(
    ends={
        "source alive": True,
        "told at once": True,
        "isolated": False,
        "isolated, flag off first": False,
        "isolated, cut off": True,
        "frozen": False,
        "dead": True,
        "isolated, not acknowledging": True,
    }
)
def stopping_a_receiver(world: World) -> Found:
    """One that acknowledges dials its source once more, which takes a second when nobody answers, unless it was cut off."""
    primary, replica = followed(world)
    stop = replica.database.stop_receiver

    def again() -> None:
        world.heal()
        replica.firewall.lift()
        replica.database.set_acknowledging(True)
        replica.database.start_receiver()
        assert world.wait(lambda: streams(replica) and primary.database.switches().ack_clients == 1)

    def isolate() -> None:
        world.cut(primary, replica)
        world.cut(replica, primary)

    found: Found = {"source alive": quick(world, stop)}
    found["told at once"] = world.wait(lambda: primary.database.switches().ack_clients == 0, 0.1)
    again()
    isolate()
    found["isolated"] = quick(world, stop)
    again()
    isolate()
    replica.database.set_acknowledging(False)
    found["isolated, flag off first"] = quick(world, stop)
    again()
    isolate()
    replica.firewall.cut(primary.address)
    found["isolated, cut off"] = quick(world, stop)
    again()
    primary.freeze()
    found["frozen"] = quick(world, stop)
    primary.thaw()
    again()
    primary.crash()
    found["dead"] = quick(world, stop)
    primary.process.start(BootRole.PRIMARY, START)
    replica.database.set_acknowledging(False)
    replica.database.start_receiver()
    assert world.wait(lambda: streams(replica))
    isolate()
    found["isolated, not acknowledging"] = quick(world, stop)
    return found


@story(
    ends={
        "hears when idle": True,
        "frozen": (False, "Yes"),
        "given up": True,
        "a write": True,
        "thawed": ("ok", True),
        "cut": (False, "Yes"),
        "source believes": (1, "ok"),
        "given up again": True,
        "stops at once then": False,
        "healed": True,
    }
)
def a_source_falls_silent(world: World) -> Found:
    """The receiver says Yes for four seconds; its heartbeats stop at once."""
    primary, replica = followed(world)
    found: Found = {"hears when idle": _hears(world, replica)}
    primary.freeze()
    pause(world, 0.3)
    found["frozen"] = _hears(world, replica), seen(replica)[0]
    found["given up"] = world.wait(lambda: seen(replica)[0] == "Connecting", SILENT)
    call = primary.write(2)
    found["a write"] = hangs(call)
    primary.thaw()
    found["thawed"] = call.outcome(5), world.wait(lambda: streams(replica) and replica.rows() == [1, 2])
    world.cut(primary, replica)
    world.cut(replica, primary)
    pause(world, 0.3)
    found["cut"] = _hears(world, replica), seen(replica)[0]
    found["source believes"] = primary.database.switches().ack_clients, primary.write(3).outcome(5)
    found["given up again"] = world.wait(lambda: seen(replica)[0] == "Connecting", SILENT)
    found["stops at once then"] = quick(world, replica.database.stop_receiver)
    replica.database.start_receiver()
    world.heal()
    found["healed"] = world.wait(lambda: streams(replica) and replica.rows() == [1, 2, 3])
    return found


@story(
    ends={
        "hangs": True,
        "receiver": "Yes",
        "healed": ("ok", True, "Yes"),
        "its answer is lost": (True, [1, 2, 3]),
        "and comes late": "ok",
    }
)
def a_short_cut(world: World) -> Found:
    """Shorter than the receiver's patience: the stream stands, and what was sent meanwhile arrives."""
    primary, replica = lossless(world)
    world.cut(primary, replica)
    call = primary.write(2)
    found: Found = {"hangs": hangs(call), "receiver": seen(replica)[0]}
    world.heal()
    found["healed"] = call.outcome(5), world.wait(lambda: replica.rows() == [1, 2]), seen(replica)[0]
    world.cut(replica, primary)
    call = primary.write(3)
    found["its answer is lost"] = hangs(call), replica.rows()
    world.heal()
    found["and comes late"] = call.outcome(5)
    return found


@story(ends={"noticed": True, "refused": True, "back": (True, 0), "acknowledges again": True})
def a_source_dies(world: World) -> Found:
    primary, replica = followed(world)
    primary.crash()
    found: Found = {"noticed": world.wait(lambda: seen(replica)[0] == "Connecting", 1)}
    found["refused"] = world.wait(lambda: seen(replica)[3] == 2003, 3)
    primary.process.start(BootRole.PRIMARY, START)
    found["back"] = world.wait(lambda: streams(replica), 3), seen(replica)[3]
    found["acknowledges again"] = world.wait(lambda: primary.database.switches().ack_clients == 1, 2)
    return found


@story(ends={"noticed": True, "vanished": 1, "back without its flag": (True, True)})
def a_replica_dies(world: World) -> Found:
    """Seen with the next heartbeat. One that vanished without a word is counted until it comes back."""
    primary, replica = followed(world)
    replica.crash()
    found: Found = {"noticed": world.wait(lambda: primary.database.switches().ack_clients == 0, 1)}
    replica.process.start(BootRole.PRIMARY, START)
    replica.database.set_acknowledging(True)
    replica.database.start_replication()
    assert world.wait(lambda: primary.database.switches().ack_clients == 1)
    world.cut(primary, replica)
    world.cut(replica, primary)
    replica.crash()
    pause(world, 1.5)
    found["vanished"] = primary.database.switches().ack_clients
    world.heal()
    replica.process.start(BootRole.PRIMARY, START)
    replica.database.start_replication()
    found["back without its flag"] = (
        world.wait(lambda: streams(replica)),
        world.wait(lambda: primary.database.switches().ack_clients == 0),
    )
    return found


@story(
    ends={
        "refused": True,
        "receiver": "Connecting",
        "source believes": 1,
        "writes": ("ok", [1]),
        "lifted": True,
        "acknowledges": True,
    }
)
def a_cut_off_replica(world: World) -> Found:
    """The firewall ends its stream at once; the source is not told, and finds out when packets come through again."""
    primary, replica = followed(world)
    replica.firewall.cut(primary.address)
    found: Found = {"refused": world.wait(lambda: seen(replica)[3] == 2003, 2), "receiver": seen(replica)[0]}
    found["source believes"] = primary.database.switches().ack_clients
    found["writes"] = primary.write(2).outcome(5), replica.rows()
    replica.firewall.lift()
    found["lifted"] = world.wait(lambda: streams(replica) and replica.rows() == [1, 2])
    found["acknowledges"] = world.wait(lambda: primary.database.switches().ack_clients == 1, 2)
    return found


def _hears(world: World, replica: Server) -> bool:
    before = replica.observe().heard
    return world.wait(lambda: replica.observe().heard != before, HEARTBEATS)
