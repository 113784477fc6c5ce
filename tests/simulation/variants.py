"""Known bugs, each as one variant of the simulated world: a harness that has never failed proves nothing.

A variant replaces a port or a step of the product for one run, never by a switch in the product. It comes with the schedule in
which it is looked for, made from a seed, and with the number of seeds within which it must be found.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from tests.simulation.schedule import Schedule


@dataclass(frozen=True)
class Variant:
    """name: what is wrong with it. rule: of the sixteen, or "" when it is none of them."""

    name: str
    rule: str
    says: str
    install: Callable[[], AbstractContextManager[None]]
    make: Callable[[int], Schedule]
    within: int
    """It must be found in so many seeds, counted from 0."""


VARIANTS: dict[str, Variant] = {}
