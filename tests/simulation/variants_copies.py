"""Variants of full copies: who may acknowledge, and what is remembered, while a node gets other data."""

from dataclasses import replace
from typing import Any

from replication.agent import swap as swapping
from replication.core.vault_ports import AgentState
from replication.core.view import NodeView
from replication.procedures.controller import rebuilding
from replication.procedures.controller.procedure import Procedure
from replication.procedures.vault import verbs
from tests.simulation import variants_scenarios as scenarios
from tests.simulation.variants import Swap, variant


@variant("", scenarios.acker_goes_back)
def acker_gets_other_data_without_going_solo(swap: Swap) -> None:
    """The node that may take over is told to put older data in place while it is published."""

    async def nothing(p: Procedure) -> None:
        pass

    swap.put(rebuilding, "go_solo", nothing)


@variant("", scenarios.acker_rebuilt_from_a_slow_fallback)
def made_the_acker_while_it_is_rebuilt(swap: Swap) -> None:
    """A node acknowledges although its data is about to be replaced by what a slower one has. Its agent refuses that by itself:
    that is off too."""
    swap.put(NodeView, "rebuilding", property(lambda self: False))
    swap.put(NodeView, "replacing", property(lambda self: False))
    swap.put(verbs, "GIVE_A_ROLE", frozenset())


@variant("", scenarios.acker_goes_back)
def promises_forgotten_with_the_old_data(swap: Swap) -> None:
    """The memory of a node is made anew with its data: it would obey orders that are long overtaken."""

    def make(inner: Any) -> Any:
        def with_new_data(state: AgentState, journal: Any) -> AgentState:
            return replace(inner(state, journal), term=0, epoch=0, owner="")

        return with_new_data

    swap.wrap(swapping, "_with_new_data", make)
