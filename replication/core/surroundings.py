"""A new host among the others: who reaches whom, whose clock is right, and whether the data has room there. Pure.

What was not answered is not known. It speaks against the host only where the vault is open: a Master that nobody can ask is
reason enough to wait.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from . import limits
from .checks import SILENT, Check, CheckName, Look, Outcome, Peer, Question, Seen, doors_of
from .probe import Door, Reach, Target
from .roles import Witness

ROOM_LEFT: Final = 0.2
"""Share of the primary's data that should still be free when it has arrived: binary logs and temporary tables need room too."""
_LOOKS: Final = {
    "refused": "its agent does not run",
    "silent": "its agent does not answer",
    "certificate": "it has no valid certificate",
    "protocol": "it does not speak our protocol",
    "lacks": "its agent is too old to be asked",
    "busy": "it was asked too often just now",
}
_DOWN: Final = ("refused", "silent")
_HOW: Final = {
    Reach.REFUSED: "refused",
    Reach.SILENT: "no answer",
    Reach.STRANGE: "something else answers there",
    Reach.CERTIFICATE: "the certificate there is not trusted: look at the clocks of both",
}


def reaches(question: Question, seen: Seen) -> Sequence[Check]:
    """From the new host to the nodes that are there."""
    name, host = CheckName.REACHES, seen.report.hostname
    if not question.asked:
        return [Check(name, Outcome.OK, "There is no other active node yet.")]
    if seen.look.answer is None:
        return [Check(name, Outcome.UNKNOWN, f"{host} cannot say whom it reaches: {_why(seen.look)}.")]
    found = []
    for peer in question.asked:
        doors: tuple[Target, ...] = doors_of(peer)
        if seen.peers.get(peer.hostname, SILENT).why_not in _DOWN:
            doors = doors[:1]  # its agent answers nobody, which the next check tells
        failed, unknown = _failed(doors, seen.look)
        if failed and peer.leads:
            says = (
                f"{host} does not reach {peer.hostname}, the present Master: {failed}. Open the firewall from {question.ip} "
                f"to {peer.ip}: without that it cannot follow."
            )
            found.append(Check(name, Outcome.ERROR, says, "F60", "ip_address"))
        elif failed:
            says = f"{host} does not reach {peer.hostname}: {failed}. It could not follow when {peer.hostname} is the Master."
            found.append(Check(name, Outcome.WARNING, says, "F61"))
        elif unknown:
            found.append(Check(name, Outcome.UNKNOWN, f"{host} may not look at {peer.hostname}: {unknown}."))
    return found or [Check(name, Outcome.OK, f"{host} reaches {_names(question.asked)} on both ports.")]


def reached(question: Question, seen: Seen) -> Sequence[Check]:
    """From the nodes that are there to the new host, by the word of their agents."""
    name, host = CheckName.REACHED, seen.report.hostname
    if not question.asked:
        return [Check(name, Outcome.OK, "There is no other active node yet.")]
    doors: tuple[Target, ...] = question.own_doors
    if seen.witness is not Witness.ANSWERS:
        doors = doors[1:]  # it answers nobody: that is told once already
    found = []
    for peer in question.asked:
        look = seen.peers.get(peer.hostname, SILENT)
        if look.answer is None:
            found.append(_unasked(name, peer, look, host))
            continue
        failed, unknown = _failed(doors, look)
        if failed and peer.leads:
            says = (
                f"{peer.hostname}, the present Master, does not reach {host}: {failed}. Open the firewall from {peer.ip} to "
                f"{question.ip}: without that {host} cannot take over."
            )
            found.append(Check(name, Outcome.ERROR, says, "F62", "ip_address"))
        elif failed:
            says = f"{peer.hostname} does not reach {host}: {failed}. It could not follow when {host} is the Master."
            found.append(Check(name, Outcome.WARNING, says, "F63"))
        elif unknown:
            found.append(Check(name, Outcome.UNKNOWN, f"{peer.hostname} may not look at {host}: {unknown}."))
    if found:
        return found
    ports = "both ports" if len(doors) > 1 else f"port {question.port}"
    return [Check(name, Outcome.OK, f"{host} is reached by {_names(question.asked)} on {ports}.")]


def _unasked(name: CheckName, peer: Peer, look: Look, host: str) -> Check:
    if peer.leads and look.why_not not in ("lacks", "busy"):
        says = (
            f"{peer.hostname}, the present Master, cannot be asked whether it reaches {host}: {_why(look)}. "
            "Mend that first: a new node could not follow it."
        )
        return Check(name, Outcome.ERROR, says, "F64")
    return Check(name, Outcome.UNKNOWN, f"Whether {peer.hostname} reaches {host}: {_why(look)}.")


def _failed(doors: Sequence[Target], look: Look) -> tuple[str, str]:
    """What is wrong with the doors as one text, and what could not be looked at; "" for nothing."""
    seen = [(door, look.reached.get(door, Reach.NOT_ALLOWED)) for door in doors]
    failed = [f"port {door.port} {_what(door)}: {_HOW[how]}" for door, how in seen if how in _HOW]
    unknown = [f"port {door.port} is none of a vault" for door, how in seen if how is Reach.NOT_ALLOWED]
    return "; ".join(failed), "; ".join(unknown)


def _what(door: Target) -> str:
    return "(database)" if door.door is Door.DATABASE else "(agent)"


def _why(look: Look) -> str:
    return _LOOKS.get(look.why_not, _LOOKS["silent"])


def _names(peers: Sequence[Peer]) -> str:
    names = [peer.hostname for peer in peers]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def clock(question: Question, seen: Seen) -> Check:
    """Its clock against that of this controller. No decision rests on it; events, certificates and people do."""
    name, host = CheckName.CLOCK, seen.report.hostname
    if seen.look.answer is None:
        return Check(name, Outcome.UNKNOWN, f"{host} does not tell its time: {_why(seen.look)}.")
    ahead = seen.look.clock_ahead
    apart = abs(ahead)
    said = f"The clock of {host} is {_span(apart)} {'ahead of' if ahead > timedelta() else 'behind'} the one of this console"
    if apart >= limits.CLOCK_APART_MAX:
        says = (
            f"{said}: certificates that are made now would not count there. Set the clock right, by NTP for instance."
        )
        return Check(name, Outcome.ERROR, says, "F71", "ip_address")
    if apart > limits.CLOCK_APART:
        says = f"{said}: its log would tell things in a wrong order. Let NTP keep the clocks of all hosts."
        return Check(name, Outcome.WARNING, says, "F70")
    return Check(name, Outcome.OK, f"Its clock agrees with ours within {_span(limits.CLOCK_APART)}.")


def _span(duration: timedelta) -> str:
    seconds = duration.total_seconds()
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.1f} s" if seconds % 1 else f"{seconds:.0f} s"


def disk(question: Question, seen: Seen) -> Check:
    """Whether it takes writes, and whether the primary's data has room. What it has of that already needs none."""
    name, report = CheckName.DISK, seen.report
    if report.disk_error:
        says = f"The disk of {report.hostname} takes no writes: {report.disk_error}."
        return Check(name, Outcome.ERROR, says, "F80", "ip_address")
    free = report.disk_free_bytes
    primary = next((peer for peer in question.asked if peer.leads), None)
    if primary is None:
        return Check(name, Outcome.OK, f"{_size(free)} free.")
    look = seen.peers.get(primary.hostname, SILENT)
    data = look.answer.data_bytes if look.answer is not None else None
    if data is None:
        says = f"{_size(free)} free; how much data {primary.hostname} has is not known."
        return Check(name, Outcome.UNKNOWN, says)
    has = seen.look.answer.data_bytes if seen.look.answer is not None else None
    wanted = max(0, data - (has or 0))
    said = f"{_size(free)} free on {report.hostname}, {_size(data)} of data on {primary.hostname}"
    if free < wanted:
        return Check(name, Outcome.ERROR, f"{said}: it has no room. Give it a larger disk.", "F81", "ip_address")
    if free - wanted < ROOM_LEFT * data:
        return Check(name, Outcome.WARNING, f"{said}: little will be left when it has arrived.", "F82")
    return Check(name, Outcome.OK, f"{said}.")


def _size(count: int) -> str:
    size, units = float(count), ["bytes", "kB", "MB", "GB", "TB", "PB"]
    while size >= 1000 and len(units) > 1:
        size, units = size / 1000, units[1:]
    return f"{size:.0f} {units[0]}" if units[0] == "bytes" or size >= 100 else f"{size:.1f} {units[0]}"
