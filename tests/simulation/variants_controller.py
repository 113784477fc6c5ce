"""Variants of the controller's steps: claims, the published row, the intent, the order of a promotion."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

from replication.core import followers, limits, plan, recovery
from replication.core.commands import Verb
from replication.core.plan import PlanRule
from replication.core.view import Intent, Topology
from replication.procedures.controller import adoption, failover, following, opening, switchover
from replication.procedures.controller.opening import open_args
from replication.procedures.controller.procedure import Procedure
from replication.procedures.vault import primary
from replication.procedures.vault.work import Work
from tests.simulation import variants_scenarios as scenarios
from tests.simulation.controller import Process
from tests.simulation.metadata import MetadataDb
from tests.simulation.variants import Swap, variant


def _guard_off(swap: Swap) -> None:
    """Procedure.order refuses to send under an epoch that was not claimed: a procedure that does not claim has to get by."""

    def make(inner: Any) -> Any:
        async def order(self: Procedure, node: str, verb: Verb, **more: Any) -> Any:
            view, epoch = self.view, self.row.epoch
            if epoch == view.topology.epoch:
                self.view = replace(view, topology=replace(view.topology, epoch=epoch - 1))
            return await inner(self, node, verb, **more)

        return order

    swap.wrap(Procedure, "order", make)


def _count_not_looked_at(swap: Swap) -> None:
    """The proof does not ask how many nodes acknowledge."""

    def make(inner: Any) -> Any:
        async def fresh(self: Procedure, node: str) -> Any:
            report = await inner(self, node)
            if report.database is None:
                return report
            return replace(report, database=replace(report.database, ack_clients=1))

        return fresh

    swap.wrap(Procedure, "fresh", make)


@variant("1", scenarios.leader_dies_in_failover)
def take_over_without_claim(swap: Swap) -> None:
    """A new leader finishes or rolls back under the epoch that the old one claimed."""

    async def claim(self: Procedure, **changes: Any) -> None:
        self.row = replace(self.row, **changes)

    async def unclaimed(p: Procedure, inner: Any) -> None:
        p.claim = claim.__get__(p)  # type: ignore[method-assign]
        await inner(p)

    _guard_off(swap)
    for name in ("finish", "roll_back"):
        swap.wrap(failover, name, lambda inner: lambda p: unclaimed(p, inner))


@variant("1", scenarios.leader_dies_after_failover)
def follow_without_claim(swap: Swap) -> None:
    """A node is told to follow under the epoch that is in the row, whoever claimed it."""

    async def follow(p: Procedure, id: str) -> None:
        await following._follow(p, id)
        await p.mark(id, detached=False, locked_out=False, resync_requested_at=None)

    _guard_off(swap)
    swap.put(following, "follow", follow)


@variant("2", scenarios.late_solo)
def undone_within_the_epoch(swap: Swap) -> None:
    """Become-acker switches semi-sync off and tries again under the same epoch; the first switch-off may come twice."""

    def make(inner: Any) -> Any:
        async def order(self: Procedure, node: str, verb: Verb, **more: Any) -> Any:
            if verb is Verb.LOSSLESS:
                await inner(self, node, Verb.SOLO, deadline=timedelta(seconds=2))
            return await inner(self, node, verb, **more)

        return order

    swap.wrap(Procedure, "order", make)


@variant("3", scenarios.late_solo_after_a_cut, within=20)
def become_acker_claims_at_the_end(swap: Swap) -> None:
    """The switch-on goes out under the epoch of the go-solo before it; the claim comes with the publication."""

    def make(inner: Any) -> Any:
        async def become_acker(p: Procedure, id: str) -> None:
            claim, amend = p.claim, p.amend
            _guard_off_for(p)

            async def no_claim(**changes: Any) -> None:
                if "may_ack" in changes:
                    await amend(**changes)
                else:
                    await claim(**changes)

            async def publish(**changes: Any) -> None:
                await claim(**changes)

            p.claim, p.amend = no_claim, publish  # type: ignore[method-assign]
            await inner(p, id)

        return become_acker

    swap.wrap(following, "become_acker", make)


def _guard_off_for(p: Procedure) -> None:
    p.view = replace(p.view, topology=replace(p.view.topology, epoch=p.row.epoch - 1))


@variant("4", scenarios.ackers_agent_dies)
def others_not_switched_off(swap: Swap) -> None:
    """The former acker is neither told to stop acknowledging nor locked out. Covered by the count of the proof, but for a node
    that connects a moment later: the count is not looked at either."""

    async def nothing(p: Procedure, acker: str) -> None:
        pass

    swap.put(following, "_others_off", nothing)
    _count_not_looked_at(swap)


@variant("6", scenarios.cut_during_proof)
def proof_skipped(swap: Swap) -> None:
    """The acker is published without waiting until it has received the position of the switch-on."""

    def make(inner: Any) -> Any:
        async def order(self: Procedure, node: str, verb: Verb, **more: Any) -> Any:
            if verb is Verb.RECEIVED and self.row.intent is None:
                return None
            return await inner(self, node, verb, **more)

        return order

    swap.wrap(Procedure, "order", make)


@variant("7", scenarios.leader_dies_at_claim, within=20)
def solo_while_an_intent_is_open(swap: Swap) -> None:
    """Commits wait although nobody is promotable: they are released, whatever is under way."""
    unsettled = PlanRule("P55", plan.ActionKind.GO_SOLO, "release them", followers.left_waiting, True)
    swap.put(plan, "RULES", (unsettled, *plan.RULES))


@variant("8", scenarios.leader_dies_in_roll_back)
def opened_before_the_intent_is_cleared(swap: Swap) -> None:
    """Roll back opens the old primary first; whoever comes next may still finish."""

    async def roll_back(p: Procedure) -> None:
        intent = p.row.intent
        assert intent is not None
        await p.refresh(intent.former_primary)
        await p.claim()
        await p.order(intent.former_primary, Verb.OPEN, deadline=limits.START_DEADLINE, args=open_args(p, jump=False))
        await p.amend(intent=None)

    swap.put(failover, "roll_back", roll_back)


def _promotion(swap: Swap, promote: Any) -> None:
    swap.put(failover, "promote", promote)
    swap.put(switchover, "promote", promote)


@variant("9'", scenarios.primary_killed)
def opened_before_recorded(swap: Swap) -> None:
    """The target acknowledges before the row says that it is the primary."""

    async def promote(p: Procedure, intent: Intent, *, drain: timedelta = limits.DRAIN_DEADLINE) -> None:
        await failover._all(*(p.order(node, Verb.REVOKE) for node in intent.must_revoke))
        await p.order(intent.target, Verb.DRAIN, deadline=drain)
        await p.order(intent.target, Verb.OPEN, deadline=limits.START_DEADLINE, args=open_args(p, jump=True))
        await p.amend(primary=intent.target, may_ack=frozenset(), promotable="", intent=None)

    _promotion(swap, promote)


@variant("10", scenarios.switchover)
def switchover_leaves_the_acker_published(swap: Swap) -> None:
    """The intent of a switchover is claimed, and the acker may still be promoted."""

    def make(inner: Any) -> Any:
        async def claim(self: Procedure, **changes: Any) -> None:
            intent = changes.get("intent")
            if intent is not None and intent.kind.value == "switchover":
                changes.pop("promotable")
            await inner(self, **changes)

        return claim

    swap.wrap(Procedure, "claim", make)


@variant("13", scenarios.acker_behind)
def promoted_without_drain(swap: Swap) -> None:
    """The target is opened with received writes that it has not applied. OPEN refuses this by itself: that is off too."""

    async def promote(p: Procedure, intent: Intent, *, drain: timedelta = limits.DRAIN_DEADLINE) -> None:
        await failover._all(*(p.order(node, Verb.REVOKE) for node in intent.must_revoke))
        await p.amend(primary=intent.target, may_ack=frozenset(), promotable="", intent=None)
        await p.order(intent.target, Verb.OPEN, deadline=limits.START_DEADLINE, args=open_args(p, jump=True))

    _promotion(swap, promote)
    swap.put(primary, "_everything_applied", lambda work, replica: True)


@variant("", scenarios.primary_unseen)
def revoke_after_promote(swap: Swap) -> None:
    """The target is recorded and opened while it still acknowledges for the old primary. OPEN refuses a node that receives:
    it opens first and stops replication then."""

    async def promote(p: Procedure, intent: Intent, *, drain: timedelta = limits.DRAIN_DEADLINE) -> None:
        await p.amend(primary=intent.target, may_ack=frozenset(), promotable="", intent=None)
        await p.order(intent.target, Verb.OPEN, deadline=limits.START_DEADLINE, args=open_args(p, jump=True))
        await failover._all(*(p.order(node, Verb.REVOKE) for node in intent.must_revoke))

    def make(inner: Any) -> Any:
        def open_solo(work: Work) -> Mapping[str, Any]:
            db = work.ports.database
            if work.ports.process.running() and db.replica() is not None:
                work.persist(to_open=False)
                db.set_read_only(False)
                work.ports.clock.sleep(timedelta(seconds=1.0))
                db.stop_replication()
            return inner(work)  # type: ignore[no-any-return]

        return open_solo

    _promotion(swap, promote)
    swap.verb(Verb.OPEN, make)


@variant("16", scenarios.restored_beside_a_silent_primary)
def no_high_water_mark(swap: Swap) -> None:
    """A controller believes the row, however much newer the one was that it has read before."""
    swap.put(Process, "high_water", lambda self, vault: 0)


@variant("16", scenarios.restored_before_another_host_leads)
def standby_keeps_no_mark(swap: Swap) -> None:
    """A controller that has never led knows of no epoch when the row of before is back."""

    async def nothing(self: Process) -> None:
        pass

    swap.put(Process, "_remember_epoch", nothing)


@variant("16", scenarios.restored_without_the_real_primary, within=20)
def adoption_without_asking_everybody(swap: Swap) -> None:
    """Who does not answer is not asked."""

    def make(inner: Any) -> Any:
        return lambda view: tuple(n for n in inner(view) if n.answers)

    swap.wrap(recovery, "to_be_asked", make)
    swap.put(adoption, "to_be_asked", recovery.to_be_asked)


@variant("", scenarios.acker_cut_off)
def solo_without_publishing(swap: Swap) -> None:
    """The primary is told to stop waiting while its acker may still be promoted."""

    async def go_solo(p: Procedure) -> None:
        await p.claim()
        await p.order(p.row.primary, Verb.SOLO, deadline=timedelta(seconds=2))
        await p.amend(promotable="")

    for module in (opening, following, switchover):
        swap.put(module, "go_solo", go_solo)


@variant("4", scenarios.cold_three)
def two_ackers(swap: Swap) -> None:
    """Another node acknowledges beside the published one. Covered by the count of the proof, which is off."""

    def make(inner: Any) -> Any:
        async def order(self: Procedure, node: str, verb: Verb, **more: Any) -> Any:
            answer = await inner(self, node, verb, **more)
            if verb is Verb.ACKER:
                others = [n.id for n in self.view.others if n.id != node and n.joined]
                await asyncio.gather(*(inner(self, id, verb, **more) for id in others), return_exceptions=True)
            return answer

        return order

    swap.wrap(Procedure, "order", make)
    _count_not_looked_at(swap)


@variant("", scenarios.leader_frozen_before_its_claim, within=30)
def compare_and_set_without_the_epoch(swap: Swap) -> None:
    """The row is changed whatever it holds. Covered by the leader's lease, which the same statement compares: that is off too."""

    def compare_and_set(
        self: MetadataDb, known: Topology, owner: str, holder: str, term: int, by: str, changes: dict[str, Any], *,
        claim: bool,
    ) -> Any:  # fmt: skip
        def statement(c: Any) -> Topology | None:
            self.change_row(replace(c.row, **changes), by)
            return c.row  # type: ignore[no-any-return]

        return statement

    swap.put(MetadataDb, "compare_and_set", compare_and_set)
