"""Known bugs, each as one variant of the simulated world: a harness that has never failed proves nothing.

A variant replaces a port or a step of the product for one run, never by a switch in the product. It comes with the scenario in
which it is looked for, made from a seed, and with the number of seeds within which it must be found. A variant that another
rule covers is combined with the switch-off of that rule, and says so.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from replication.core.commands import Verb
from replication.procedures.vault import verbs
from tests.simulation.run import run
from tests.simulation.scenarios import Make, Scenario

SAFETY = (
    "acknowledged row", "acknowledged rows", "two primaries", "commands", "epoch", "promised less", "is open after",
    "keeps its lease longer", "an open intent publishes", "has rows that",
)  # fmt: skip
"""What a violation of safety says. That it does not heal, or that a variant raises, is not enough."""


class Swap(ExitStack):
    """Replaces parts of the product, and puts them back at the end."""

    def put(self, owner: Any, name: str, value: object) -> None:
        self.enter_context(patch.object(owner, name, value))

    def wrap(self, owner: Any, name: str, make: Callable[[Any], object]) -> None:
        """make: from what is there, what replaces it."""
        self.put(owner, name, make(getattr(owner, name)))

    def verb(self, verb: Verb, make: Callable[[Any], object]) -> None:
        table: Any = verbs.VERBS
        self.enter_context(patch.dict(table, {verb: make(table[verb])}))


@dataclass(frozen=True)
class Variant:
    """rule: of docs/design/protocol.md, or "" when it is none of the sixteen."""

    name: str
    rule: str
    says: str
    """What is wrong with it; and which rule had to be switched off beside it, when one covers it."""
    install: Callable[[Swap], None]
    scenario: Callable[[Make], Scenario]
    within: int
    """It must be found in so many seeds, counted from 0."""

    @contextmanager
    def installed(self) -> Iterator[None]:
        with Swap() as swap:
            self.install(swap)
            yield

    def violations(self, seed: int, *, built_in: bool = True) -> list[str]:
        """What is violated in one run of the scenario, with the variant or, for comparison, without it."""
        scenario = self.scenario(Make(self.scenario.__name__, seed))
        if not built_in:
            return run(scenario.schedule, scenario.setup).violations
        with self.installed():
            found = run(scenario.schedule, scenario.setup).violations
        return [v for v in found if any(word in v for word in SAFETY) and "exception in" not in v]

    def found_at(self) -> tuple[int, str] | None:
        """The first seed that shows it, and how; None when no one of `within` does."""
        for seed in range(self.within):
            found = self.violations(seed)
            if found:
                return seed, found[0]
        return None


VARIANTS: dict[str, Variant] = {}
NOT_FOUND = {
    "no-gtid-gap": "A new primary writes the row of its epoch before anything else, so its numbers are beyond those of a tail of "
    "one transaction; a node that comes back issues under a fresh server_id; and who holds a longer tail is found by FOLLOW, or "
    "refused with error 1236. Two of the three would have to be off, and then the tail is found without a number issued twice.",
    "adoption-by-the-highest-promise": "Its choice follows another node that has an order to be primary, which contradicts the row: "
    "nobody is opened, and it is adopted again for ever. That does not heal, and loses nothing.",
}
"""Known bugs that other rules cover, and why."""


def variant(
    rule: str, scenario: Callable[[Make], Scenario], within: int = 10
) -> Callable[[Callable[[Swap], None]], Callable[[Swap], None]]:
    """Registers the function that installs it; its name and its docstring say what it is."""

    def register(install: Callable[[Swap], None]) -> Callable[[Swap], None]:
        name = install.__name__.replace("_", "-")
        assert name not in VARIANTS
        assert install.__doc__
        VARIANTS[name] = Variant(name, rule, " ".join(install.__doc__.split()), install, scenario, within)
        return install

    return register
