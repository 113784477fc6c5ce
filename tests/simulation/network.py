"""Packets between hosts: they take time, and are lost, late, doubled or cut off as the schedule says.

Hosts are named by their address. A cut has a direction. What is sent into a cut may come out after it: the sender's kernel
repeats it, also when the sender has long given up.
"""

from collections import defaultdict
from collections.abc import Callable
from random import Random
from typing import Any, Final

from tests.simulation.kernel import Kernel

QUICK: Final = (0.0003, 0.002)
"""Seconds one way, from and to."""
LATE: Final = 4.0
"""Seconds: how late a packet may come from a disturbed network."""


class Network:
    """`reachable` is the state of a link now; `watch` is for whoever has a stream over it."""

    def __init__(self, kernel: Kernel, rng: Random) -> None:
        self.kernel, self.rng = kernel, rng
        self.cuts: set[tuple[str, str]] = set()
        self.off: set[str] = set()
        """Hosts without power."""
        self.noise = 0.0
        """Share of the messages between controllers and agents that are lost, late or doubled."""
        self.slow = 0.0
        """Seconds that any packet may take longer."""
        self._held: dict[tuple[str, str], list[Callable[[], None]]] = defaultdict(list)
        self._watchers: list[Callable[[], None]] = []

    def watch(self, changed: Callable[[], None]) -> None:
        """`changed` is called after every change of what reaches whom."""
        self._watchers.append(changed)

    def reachable(self, sender: str, receiver: str) -> bool:
        """Whether a packet that is sent now arrives."""
        if sender == receiver:
            return sender not in self.off
        return (sender, receiver) not in self.cuts and sender not in self.off and receiver not in self.off

    def delay(self) -> float:
        """Seconds that a packet takes which nothing holds up."""
        low, high = QUICK
        return low + (high - low) * self.rng.random() + (self.slow * self.rng.random() if self.slow else 0.0)

    # --- the schedule's side

    def cut(self, sender: str, receiver: str) -> None:
        self.cuts.add((sender, receiver))
        self._changed()

    def heal(self, sender: str, receiver: str) -> None:
        self.cuts.discard((sender, receiver))
        self._release()
        self._changed()

    def power(self, host: str, *, on: bool) -> None:
        """What was sent to a host without power is gone for good."""
        if on:
            self.off.discard(host)
        else:
            self.off.add(host)
            for link in [k for k in self._held if host in k]:
                del self._held[link]
        self._changed()

    def heal_all(self) -> None:
        self.cuts.clear()
        self.noise = self.slow = 0.0
        self._release()
        self._changed()

    def _release(self) -> None:
        for link in [k for k in self._held if k not in self.cuts]:
            for deliver in self._held.pop(link):
                self.kernel.later(self.delay(), None, deliver)

    def _changed(self) -> None:
        for changed in self._watchers:
            changed()

    # --- messages

    def send(self, sender: str, receiver: str, arrive: Callable[..., None], *args: Any, noisy: bool = False) -> None:
        """Have `arrive(*args)` called at the receiver's end: once, never, late; a noisy message also twice."""

        def deliver() -> None:
            if receiver not in self.off:
                arrive(*args)

        if sender in self.off or receiver in self.off:
            return
        if (sender, receiver) in self.cuts:
            if self.rng.random() < 0.5:
                self._held[sender, receiver].append(deliver)
            return
        if noisy and self.noise and self.rng.random() < self.noise:
            kind = self.rng.random()
            if kind < 0.4:
                return
            self.kernel.later(LATE * self.rng.random(), None, deliver)
            if kind < 0.7:
                return
        self.kernel.later(self.delay(), None, deliver)
