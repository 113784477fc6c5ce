"""Settings that are not as they must be: found, named, and set right where that needs no restart."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from replication.core.vault_ports import DatabaseError

from .base import Session


@dataclass(frozen=True)
class Difference:
    """A setting that is not as it must be."""

    name: str
    found: str
    wanted: str | int

    def __str__(self) -> str:
        return f"{self.name} is {self.found}, must be {self.wanted}"


def compared(found: Mapping[str, Any], must: Mapping[str, str | int]) -> tuple[Difference, ...]:
    return tuple(
        Difference(name, str(found.get(name, "unknown")), wanted)
        for name, wanted in must.items()
        if str(found.get(name)) != str(wanted)
    )


class Drift:
    """The names of an engine's settings are its own; what is done with them is not."""

    session: Session
    required: ClassVar[Mapping[str, str | int]]
    on_acker: ClassVar[Mapping[str, str | int]]
    """What must hold in addition while it acknowledges."""
    at_boot: ClassVar[Mapping[str, str | int]]
    """What orders with an epoch change at run time."""
    acker_flag: ClassVar[str]
    not_now: ClassVar[frozenset[int]]
    """Errors of settings that cannot be changed while it runs."""

    def drift(self) -> tuple[str, ...]:
        return tuple(map(str, self._differences()))

    def repair(self) -> tuple[str, ...]:
        before = self._differences()
        for difference in before:
            try:
                self._set({difference.name: difference.wanted})
            except DatabaseError as error:
                if error.code not in self.not_now:
                    raise
        left = {difference.name for difference in self._differences()} if before else set()
        return tuple(f"{d.name} was {d.found}" for d in before if d.name not in left)

    def set_acknowledging(self, on: bool) -> None:
        """The flag, and the flushes that make an acknowledgement worth something: on before it, off after it."""
        if on:
            self._set(self.on_acker)
        self._set({self.acker_flag: int(on)})
        if not on:
            self._set({name: self.at_boot[name] for name in self.on_acker})

    def _set(self, settings: Mapping[str, str | int]) -> None:
        for name, value in settings.items():
            self.session.run(f"SET GLOBAL {name} = %s", value)  # names of our own tables

    def _differences(self) -> tuple[Difference, ...]:
        names = ", ".join(f"@@GLOBAL.{name} AS {name}" for name in (*self.required, *self.on_acker, self.acker_flag))
        found = self.session.rows(f"SELECT {names}")[0]
        return compared(found, {**self.required, **(self.on_acker if int(found[self.acker_flag]) else {})})
