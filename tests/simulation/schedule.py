"""What goes wrong in one run, made up front from the seed: so that leaving one fault out leaves all others as they were.

Targets are names of nodes ("a", "b", "c"), of controllers ("one", "two"), or roles that are looked up when the fault begins:
"primary", "acker", "fallback", "leader", "standby". Every schedule ends healed.
"""

from dataclasses import dataclass, replace
from random import Random
from typing import Final

NODES: Final = ("a", "b", "c")
CONTROLLERS: Final = ("one", "two")


@dataclass(frozen=True)
class Fault:
    """`at` and `seconds` in virtual seconds; what `n` means depends on the kind."""

    at: float
    kind: str
    target: str = ""
    other: str = ""
    seconds: float = 0.0
    n: int = 0

    def __str__(self) -> str:
        parts = [f"{self.at:6.3f} s  {self.kind}", self.target, self.other, f"n={self.n}" if self.n else ""]
        return " ".join(p for p in parts if p) + (f" for {self.seconds:.3f} s" if self.seconds else "")


@dataclass(frozen=True)
class Schedule:
    """nodes: how many. warm: the vault is lossless at the start, else nothing is there yet."""

    seed: str
    nodes: int = 2
    warm: bool = True
    armed: bool = True
    """The agents may reject packets to a revoked primary (nftables)."""
    faults: tuple[Fault, ...] = ()

    @property
    def heal_at(self) -> float:
        return max((f.at + f.seconds for f in self.faults), default=0.0) + 0.2

    def without(self, index: int) -> "Schedule":
        return Schedule(self.seed, self.nodes, self.warm, self.armed, self.faults[:index] + self.faults[index + 1 :])


@dataclass(frozen=True)
class Kind:
    """A kind of fault: whom it hits, how long it lasts, how often it is drawn."""

    name: str
    targets: tuple[str, ...]
    seconds: tuple[float, float] = (0.0, 0.0)
    others: tuple[str, ...] = ()
    n: tuple[int, int] = (0, 0)
    weight: float = 1.0


_ROLES: Final = ("primary", "primary", "acker", "a", "b", "fallback")
_COPYING: Final = (
    "crash database", "freeze database", "kill agent", "freeze agent", "kill agent at port", "power off", "freeze host",
    "disk full", "isolate",
)  # fmt: skip
"""Kinds that hit a copy while it is made: see `_during_the_copy`."""
_LEADERS: Final = ("leader", "leader", "leader", "standby")
_ENDS: Final = ("primary", "acker", "fallback", "leader", "standby", "metadata", "a", "b")

WITH_COPIES: Final = " with copies"
"""Behind the seed of a schedule that `with_copies` made."""
ALL_AT_ONCE: Final = 0.05
"""How often a schedule has a fault that hits everybody."""

KINDS: Final = (
    Kind("crash database", _ROLES, weight=2.5),
    Kind("freeze database", _ROLES, (0.1, 5.0), weight=1.5),
    Kind("kill agent", _ROLES, (0.05, 3.0)),
    Kind("freeze agent", _ROLES, (0.1, 6.0)),
    Kind("kill agent at port", _ROLES, (0.2, 2.0), n=(1, 30), weight=1.5),
    Kind("power off", _ROLES, (0.3, 5.0), weight=1.5),
    Kind("freeze host", _ROLES, (0.2, 6.0)),
    Kind("kill controller", _LEADERS, (0.1, 3.0)),
    Kind("freeze controller", _LEADERS, (0.3, 6.0), weight=1.5),
    Kind("kill controller at port", ("leader",), (0.2, 2.0), n=(1, 24), weight=3.0),
    Kind("freeze controller at port", ("leader",), (0.5, 6.0), n=(1, 24), weight=2.0),
    Kind("cut", _ENDS, (0.1, 5.0), _ENDS, weight=2.0),
    Kind("cut one way", _ENDS, (0.1, 5.0), _ENDS, weight=2.0),
    Kind("isolate", (*_ROLES, *_LEADERS), (0.2, 5.0), weight=1.5),
    Kind("noise", ("",), (0.5, 5.0), n=(5, 40)),
    Kind("metadata slow", ("",), (0.3, 4.0)),
    Kind("metadata silent", ("",), (0.3, 4.0)),
    Kind("metadata away", ("",), (0.3, 4.0)),
    Kind("restore metadata", ("",), (0.5, 1.5), n=(200, 4000), weight=0.7),
    Kind("disk full", _ROLES, (0.3, 4.0), weight=0.7),
    Kind("slow network", ("",), (0.3, 4.0), n=(20, 400), weight=0.8),
    Kind("slow applier", ("acker", "fallback"), (0.3, 4.0), n=(20, 400), weight=0.7),
    Kind("set read-only", ("primary",), (0.2, 3.0), weight=0.4),
    Kind("stop applier", ("acker", "fallback"), (0.1, 2.0), weight=0.7),
    Kind("make inactive", ("acker", "fallback"), (0.5, 4.0), weight=0.7),
    Kind("delete", ("acker", "fallback"), (0.5, 4.0), weight=0.7),
    Kind("re-synchronize", ("acker", "fallback"), weight=0.5),
    Kind("switchover", ("acker", "fallback"), weight=2.0),
    Kind("rebuild", ("acker", "acker", "fallback", "fallback", "a", "b"), n=(0, 2), weight=3.0),
    Kind("undo", ("acker", "fallback", "a", "b"), weight=0.2),
    Kind("cancel rebuild", ("",), weight=0.3),
    Kind("stop service", ("",), (0.2, 3.0), weight=0.5),
    Kind("run now", ("",), weight=0.2),
)


def with_copies(seed: int) -> Schedule:
    """As `generate`, and at least one full copy is wished."""
    schedule, rng = generate(seed), Random(f"copies {seed}")
    faults = list(schedule.faults)
    kind = next(k for k in KINDS if k.name == "rebuild")
    for _ in range(rng.choice((1, 1, 2))):
        copy = _fault(rng, kind, 0.7, 3.0)
        faults += [copy, *_during_the_copy(rng, copy.at)]
    return replace(schedule, seed=f"{seed}{WITH_COPIES}", faults=tuple(sorted(faults, key=lambda f: f.at)))


def generate(seed: int) -> Schedule:
    """The schedule of a seed. A run draws from few kinds, so that runs differ more than many small mixtures would."""
    rng = Random(f"schedule {seed}")
    nodes = 2 if rng.random() < 0.55 else 3
    warm = rng.random() < 0.93
    kinds = rng.choices(KINDS, [k.weight for k in KINDS], k=rng.randint(1, 4))
    count = rng.choice((1, 2, 2, 3, 3, 4, 5))
    window = rng.uniform(0.5, 5.0)
    begin = 0.7 if warm else rng.uniform(0.1, 3.0)
    faults = [_fault(rng, rng.choice(kinds), begin, window) for _ in range(count)]
    for copy in [f for f in faults if f.kind == "rebuild"]:
        faults += _during_the_copy(rng, copy.at)
    if rng.random() < ALL_AT_ONCE:
        faults += _everybody(rng, nodes, begin + window * rng.random())
    armed = rng.random() < 0.5
    return Schedule(str(seed), nodes, warm, armed, tuple(_one_restore(sorted(faults, key=lambda f: f.at))))


def _everybody(rng: Random, nodes: int, at: float) -> list[Fault]:
    """A room without power, or both controllers ended: not quite at the same moment, and not for the same time."""
    kind, targets = rng.choice((("power off", NODES[:nodes]), ("kill controller", CONTROLLERS)))
    return [
        Fault(round(at + 0.05 * rng.random(), 3), kind, target, seconds=round(rng.uniform(0.3, 4.0), 3))
        for target in targets
    ]


def _during_the_copy(rng: Random, at: float) -> list[Fault]:
    """Up to two things that go wrong with the source, the target or the vault's other nodes while the copy is made; and now and
    then it is undone."""
    faults = []
    for _ in range(rng.choice((0, 1, 1, 2))):
        kind = rng.choice([k for k in KINDS if k.name in _COPYING])
        fault = _fault(rng, kind, at, 3.0)
        faults.append(replace(fault, target=rng.choice(("source", "target", "target", "primary", "acker"))))
    if rng.random() < 0.2:
        faults.append(Fault(round(at + rng.uniform(0.1, 3.0), 3), "cancel rebuild"))
    if rng.random() < 0.4:
        faults.append(Fault(round(at + rng.uniform(3.0, 6.0), 3), "undo", rng.choice(("acker", "fallback", "a", "b"))))
    return faults


def _one_restore(faults: list[Fault]) -> list[Fault]:
    """A second restore within the same seconds may give one epoch to two controllers on hosts that never met: the protocol
    was checked for one restore, and promises no more (docs/design/adoption.md)."""
    first = next((f for f in faults if f.kind == "restore metadata"), None)
    return [f for f in faults if f.kind != "restore metadata" or f is first]


def _fault(rng: Random, kind: Kind, begin: float, window: float) -> Fault:
    low, high = kind.seconds
    return Fault(
        at=round(begin + window * rng.random(), 3),
        kind=kind.name,
        target=rng.choice(kind.targets),
        other=rng.choice(kind.others) if kind.others else "",
        seconds=round(low * (high / low) ** rng.random(), 3) if low else 0.0,
        n=rng.randint(*kind.n) if kind.n[1] else 0,
    )
