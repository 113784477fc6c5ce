"""Looking around from a vault host: what a controller may have an agent look at, and what it saw. `POST /probe`.

An agent is no port scanner: addresses are numbers, ports are the two of a vault and those that this host uses itself, targets
are few, and nothing is sent but the beginning of a connection.
"""

import ipaddress
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Final

TARGETS_MAX: Final = 16
"""Both ports of eight nodes."""


class Door(StrEnum):
    """What is expected behind a port."""

    DATABASE = "database"
    AGENT = "agent"


class Reach(StrEnum):
    ANSWERS = "answers"
    """The database has greeted, or the agent has proved with its certificate that it is the one at this address."""
    REFUSED = "refused"
    SILENT = "silent"
    STRANGE = "strange"
    """Something answers, but not what was expected."""
    CERTIFICATE = "certificate"
    """An agent answers, but the host that looked does not trust its certificate."""
    NOT_ALLOWED = "not-allowed"
    """An agent looks at the ports of a vault only."""


@dataclass(frozen=True)
class Target:
    ip: str
    port: int
    door: Door

    @classmethod
    def from_json(cls, data: Any) -> "Target":
        """Raises ValueError."""
        if not isinstance(data, Mapping):
            raise ValueError("a target is an object")
        ip, port, door = (data.get(name) for name in ("ip", "port", "door"))
        if not isinstance(ip, str) or not isinstance(port, int) or isinstance(port, bool) or not 0 < port < 65536:
            raise ValueError("a target has an ip, a port from 1 to 65535, and a door")
        address = ipaddress.ip_address(ip)
        if address.is_multicast or address.is_unspecified or address.is_link_local or ip == "255.255.255.255":
            raise ValueError(f"{ip} is not the address of one host")
        return cls(str(address), port, Door(str(door)))


def targets_from_json(data: Any) -> tuple[Target, ...]:
    """The body of a `POST /probe`. Raises ValueError."""
    given = data.get("targets") if isinstance(data, Mapping) else None
    if not isinstance(given, list):
        raise ValueError("targets must be a list")
    if len(given) > TARGETS_MAX:
        raise ValueError(f"at most {TARGETS_MAX} targets, not {len(given)}")
    return tuple(map(Target.from_json, given))


@dataclass(frozen=True, kw_only=True)
class ProbeAnswer:
    clock: float
    """Seconds since 1970, UTC, by the clock of the host that looked, when it had done so."""
    server_id: int | None
    """Of its database; None when that is not up."""
    data_bytes: int | None
    """What the data directory takes up on its disk, binary logs included; None when it could not be told in time."""
    reached: tuple[Reach, ...]
    """One for each target, in their order."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Any) -> "ProbeAnswer":
        """Unknown keys are ignored; raises ValueError on what is missing or of a wrong type."""
        if not isinstance(data, Mapping):
            raise ValueError("an object was expected")
        clock, reached = data.get("clock"), data.get("reached")
        if not isinstance(clock, int | float) or isinstance(clock, bool) or not isinstance(reached, list):
            raise ValueError("clock or reached is missing or of a wrong type")
        numbers: dict[str, int | None] = {}
        for name in ("server_id", "data_bytes"):
            value = data.get(name)
            if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
                raise ValueError(f"{name} must be a whole number")
            numbers[name] = value
        return cls(clock=float(clock), reached=tuple(map(Reach, reached)), **numbers)
