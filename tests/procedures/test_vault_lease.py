"""A primary's lease, without a clock of its own and without a network.

Proves: a challenge renews from the moment it was issued, only when it is one of ours and recent; nobody is closed who has no
order, is solo, or was never confirmed; without a controller the other nodes keep a primary open, and any one of them that
refuses, or is silent, closes it; a restart goes on with the old deadline; what was closed by a kill waits for its controller;
and a random walk through all of it never finds a primary open that nobody had confirmed lately. Every bug that is put in on
purpose is found by that walk.
"""

import itertools
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta

import pytest

from replication.core import limits
from replication.core.roles import OrderKind
from replication.core.vault_ports import AgentState
from replication.procedures.vault import lease as leases
from replication.procedures.vault.lease import Challenges, Closed, GrantRequest, Lease, Step, next_step
from replication.procedures.vault.lease_keeper import LeaseKeeper

LEASE, MARGIN = limits.PRIMARY_LEASE.total_seconds(), limits.PRIMARY_LEASE_MARGIN.total_seconds()
GRANT, GRACE = limits.GRANT.total_seconds(), limits.RESTART_GRACE.total_seconds()
PRIMARY = AgentState(
    vault="v", node="p", term=1, epoch=5, order_kind=OrderKind.LOSSLESS, order_epoch=4, peers=("a:1", "b:1")
)
HELD = Lease(kind=OrderKind.LOSSLESS, epoch=4, until=100.0)
SOLO = replace(HELD, kind=OrderKind.SOLO)


# --- what is due ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lease", "now", "step"),
    [
        pytest.param(HELD, 100 - MARGIN - 0.1, Step.REST, id="confirmed"),
        pytest.param(HELD, 100 - MARGIN, Step.ASK, id="the last second: the others are asked"),
        pytest.param(replace(HELD, refused=99.5), 99.6, Step.REST, id="asked a moment ago"),
        pytest.param(replace(HELD, refused=99.5), 99.8, Step.ASK, id="and again, while it lasts"),
        pytest.param(replace(HELD, refused=99.8), 100, Step.CLOSE, id="over, and refused"),
        pytest.param(HELD, 100, Step.ASK, id="over before anybody could be asked, as after a sleep of the host"),
        pytest.param(replace(HELD, refused=50), 4000, Step.ASK, id="a refusal of another time does not count"),
        pytest.param(replace(HELD, refused=4000), 4000.1, Step.CLOSE, id="one round is enough when it is over"),
        pytest.param(replace(HELD, until=None), 4000, Step.REST, id="no controller has ever confirmed it"),
        pytest.param(SOLO, 4000, Step.REST, id="solo: nobody can be promoted beside it"),
        pytest.param(Lease(), 4000, Step.REST, id="not a primary"),
        pytest.param(replace(HELD, closed=Closed.READ_ONLY), 101, Step.REST, id="closed, and not confirmed"),
        pytest.param(
            replace(HELD, closed=Closed.READ_ONLY, renewed_since=99.0), 99.1, Step.REOPEN, id="read-only, confirmed again"
        ),
        pytest.param(
            replace(HELD, until=199.0, closed=Closed.DOWN, renewed_since=100.0),
            100 + GRACE - 0.1, Step.REST, id="killed: its controller decides first",
        ),
        pytest.param(
            replace(HELD, until=199.0, closed=Closed.DOWN, renewed_since=100.0),
            100 + GRACE, Step.REOPEN, id="killed, and confirmed for so long",
        ),
        pytest.param(
            replace(HELD, until=None, closed=Closed.DOWN), 100, Step.REOPEN, id="killed, and ordered to be primary anew"
        ),
    ],
)  # fmt: skip
def test_what_is_due(lease: Lease, now: float, step: Step) -> None:
    assert next_step(lease, now) is step


# --- renewal --------------------------------------------------------------------------------------------------------


def test_a_challenge_renews_from_the_moment_it_was_issued() -> None:
    assert leases.renewed(HELD, issued=99.0, now=101.5).until == 99 + LEASE
    assert leases.renewed(HELD, issued=96.0, now=99.5) == HELD, "it would not make it longer"


def test_a_hello_that_was_under_way_for_longer_than_a_lease_renews_nothing() -> None:
    late = 100 + LEASE
    assert leases.renewed(HELD, issued=100.0, now=late) == HELD
    from_receipt = leases.renewed(HELD, issued=late, now=late)
    assert from_receipt.until == late + LEASE, "counted from its receipt it would have"


def test_a_node_without_an_order_has_no_lease() -> None:
    assert leases.renewed(Lease(), issued=99.0, now=99.0) == Lease()


def test_challenges_are_ours_or_nothing() -> None:
    names = map(str, itertools.count())
    challenges = Challenges(lambda: next(names))
    first = challenges.issue(10.0)
    assert challenges.issued(first) == 10.0
    assert challenges.issued("guessed") is None
    challenges.issue(10 + LEASE)
    assert challenges.issued(first) is None, "too old to renew anything, and forgotten"


def test_of_very_many_challenges_the_oldest_are_forgotten() -> None:
    names = map(str, itertools.count())
    challenges = Challenges(lambda: next(names))
    issued = [challenges.issue(10.0) for _ in range(leases.CHALLENGES_MAX + 1)]
    assert challenges.issued(issued[0]) is None
    assert challenges.issued(issued[1]) == challenges.issued(issued[-1]) == 10.0


# --- orders ---------------------------------------------------------------------------------------------------------


def order(kind: OrderKind, epoch: int) -> AgentState:
    return replace(PRIMARY, order_kind=kind, order_epoch=epoch, epoch=epoch)


@pytest.mark.parametrize(
    ("lease", "state", "until"),
    [
        pytest.param(HELD, order(OrderKind.LOSSLESS, 4), 100.0, id="the same order"),
        pytest.param(HELD, order(OrderKind.SOLO, 6), 100.0, id="another order of a primary that is confirmed"),
        pytest.param(Lease(), order(OrderKind.SOLO, 6), None, id="a new primary: armed by the first challenge"),
        pytest.param(replace(SOLO, until=80.0), order(OrderKind.LOSSLESS, 6), None, id="it had run out while solo"),
        pytest.param(
            replace(HELD, closed=Closed.DOWN, renewed_since=90.0),
            order(OrderKind.SOLO, 6),
            None,
            id="ordered while closed",
        ),
    ],
)
def test_a_new_order(lease: Lease, state: AgentState, until: float | None) -> None:
    found = leases.ordered(lease, state, now=90.0)
    assert (found.kind, found.epoch, found.until) == (state.order_kind, state.order_epoch, until)
    assert found.closed is lease.closed, "what is closed is opened by a step of its own"


def test_an_order_to_stand_back_ends_the_lease() -> None:
    assert leases.ordered(HELD, order(OrderKind.NONE, 6), now=90.0) == Lease()


# --- grants ---------------------------------------------------------------------------------------------------------

ASKED = GrantRequest(vault="v", node="p", epoch=5)
PEER = AgentState(vault="v", node="a", term=1, epoch=5)


@pytest.mark.parametrize(
    ("peer", "says"),
    [
        pytest.param(PEER, "", id="knows what the asking node knows"),
        pytest.param(replace(PEER, epoch=3), "", id="knows less"),
        pytest.param(replace(PEER, epoch=6), "promised epoch 6", id="has promised more: it may have revoked"),
        pytest.param(replace(PEER, order_kind=OrderKind.SOLO), "primary itself", id="is a primary"),
        pytest.param(replace(PEER, vault="w"), "another vault", id="of another vault"),
        pytest.param(AgentState(), "no vault", id="has lost its memory"),
    ],
)
def test_a_grant_and_what_speaks_against_it(peer: AgentState, says: str) -> None:
    refusal = leases.grant_refusal(peer, ASKED)
    assert says in refusal
    assert bool(refusal) is bool(says)


@pytest.mark.parametrize(
    "wrong", [[], {}, {"vault": "v", "node": "", "epoch": 1}, {"vault": "v", "node": "n", "epoch": True}]
)
def test_what_is_no_request_for_a_grant(wrong: object) -> None:
    assert GrantRequest.from_json(ASKED.to_json()) == ASKED
    with pytest.raises(ValueError, match=r"expected|must be"):
        GrantRequest.from_json(wrong)


# --- the keeper -----------------------------------------------------------------------------------------------------


@dataclass
class Host:
    """Implements lease_keeper.Doors; time passes only by hand."""

    clock: float = 10.0
    memory: AgentState = PRIMARY
    says: Mapping[str, bool | None] = field(default_factory=lambda: {"a:1": True, "b:1": True})
    """What each peer answers; None: nothing."""
    hangs: bool = False
    """Whether a commit waits, so that read-only cannot be reached."""
    open: bool = True
    asked: list[float] = field(default_factory=list)
    lease: Lease = field(default_factory=Lease)

    def __post_init__(self) -> None:
        self.keeper = LeaseKeeper(self, self.lease)

    def now(self) -> float:
        return self.clock

    def state(self) -> AgentState:
        return self.memory

    def ask(self, peers: tuple[str, ...], request: GrantRequest, within: timedelta) -> bool:
        self.asked.append(self.clock)
        said = [self.says[peer] for peer in peers]
        if None in said:
            self.clock += within.total_seconds()
        return all(said)

    def close(self) -> Closed:
        self.open = False
        return Closed.DOWN if self.hangs else Closed.READ_ONLY

    def reopen(self) -> bool:
        self.open = True
        return True

    def changed(self, before: Lease, after: Lease) -> None:
        self.lease = after

    def passes(self, seconds: float) -> "Host":
        until = self.clock + seconds
        while self.clock < until - 1e-9:
            self.clock = min(until, self.clock + 0.05)
            self.keeper.step()
        return self

    def confirmed(self) -> "Host":
        self.keeper.renew(self.clock)
        return self


def test_a_confirmed_primary_asks_nobody() -> None:
    host = Host()
    for _ in range(20):
        host.confirmed().passes(1.0)
    assert host.open
    assert not host.asked


def test_a_controller_that_never_gives_a_challenge_back_closes_nobody() -> None:
    host = Host(says={"a:1": False, "b:1": False}).passes(60)
    assert host.open
    assert not host.asked


def test_the_others_keep_it_open_for_as_long_as_they_know_of_nobody_else() -> None:
    host = Host().confirmed().passes(60)
    assert host.open
    pauses = [later - earlier for earlier, later in itertools.pairwise(host.asked)]
    assert max(pauses) < GRANT, "asked anew before a grant is over"
    host.says = {"a:1": True, "b:1": False}
    assert not host.passes(GRANT + 0.1).open


@pytest.mark.parametrize("answer", [pytest.param(False, id="refuses"), pytest.param(None, id="is silent")])
def test_one_of_them_that_does_not_grant_is_enough(answer: bool | None) -> None:
    host = Host(says={"a:1": True, "b:1": answer}).confirmed()
    assert host.passes(LEASE - 0.1).open, "a lease that runs needs nobody"
    assert not host.passes(0.2).open


def test_a_primary_that_knows_of_nobody_to_ask_closes() -> None:
    host = Host(memory=replace(PRIMARY, peers=())).confirmed().passes(LEASE + 0.1)
    assert not host.open
    assert not host.asked


def test_an_isolated_solo_primary_stays_open() -> None:
    host = Host(memory=replace(PRIMARY, order_kind=OrderKind.SOLO), says={}).confirmed().passes(600)
    assert host.open
    assert host.keeper.lease.left(host.clock) == pytest.approx(LEASE - 600)


def test_a_host_that_slept_asks_once_before_it_closes() -> None:
    host = Host().confirmed()
    host.clock += 3600
    assert host.passes(1).open
    host.says = {"a:1": False, "b:1": True}
    host.clock += 3600
    assert not host.passes(0.1).open


def test_a_read_only_primary_opens_with_the_next_confirmation() -> None:
    host = Host(says={"a:1": False, "b:1": False}).confirmed().passes(30)
    assert not host.open
    assert host.confirmed().passes(0.1).open


def test_a_killed_primary_waits_for_its_controller_to_decide() -> None:
    host = Host(says={"a:1": False, "b:1": False}, hangs=True).confirmed().passes(30)
    began = host.clock
    while not host.open:
        host.confirmed().passes(0.5)
    assert GRACE <= host.clock - began <= GRACE + 1


def test_a_confirmation_that_breaks_off_begins_anew() -> None:
    host = Host(says={"a:1": False, "b:1": False}, hangs=True).confirmed().passes(30)
    host.confirmed().passes(GRACE - 1)
    assert not host.confirmed().passes(2).open


def test_an_order_opens_it_at_once() -> None:
    host = Host(says={"a:1": False, "b:1": False}, hangs=True).confirmed().passes(30)
    host.memory = order(OrderKind.SOLO, 9)
    assert host.passes(0.1).open


def test_a_restart_goes_on_with_the_old_deadline() -> None:
    before = Host(says={"a:1": None, "b:1": None}).confirmed().passes(1)
    after = Host(clock=before.clock + 1, says=before.says, lease=leases.kept(before.lease, same_boot=True))
    assert after.passes(LEASE - 2 - 0.1).open
    assert not after.passes(0.2).open
    lost = Host(clock=before.clock + 1, says=before.says, lease=leases.unreadable(PRIMARY))
    assert not lost.passes(1).open, "what cannot be read counts as over"


def test_after_a_restart_of_the_host_it_stays_closed_until_it_is_confirmed() -> None:
    before = Host().confirmed()
    kept = leases.kept(before.lease, same_boot=False)
    assert not kept.may_be_open(5.0)
    after = Host(clock=5.0, open=False, lease=kept)
    assert not after.passes(60).open, "grants keep open what is open, they open nothing"
    began = after.clock
    while not after.open:
        after.confirmed().passes(0.5)
    assert after.clock - began >= GRACE
    unarmed = leases.kept(replace(before.lease, until=None), same_boot=False)
    assert unarmed.may_be_open(5.0)
    solo = leases.kept(replace(before.lease, kind=OrderKind.SOLO), same_boot=False)
    assert solo.may_be_open(5.0)


# --- a walk, and what it finds --------------------------------------------------------------------------------------


@dataclass
class Bug:
    """Replaced parts, for harnesses that must find them."""

    renew_at: Callable[[float, float], float] = lambda issued, received: issued
    restart: Callable[[Lease, float], Lease] = lambda lease, now: leases.kept(lease, same_boot=True)
    peers_needed: Callable[[list[bool | None]], bool] = all


def walk(seed: int, bug: Bug) -> str:
    """What went wrong on one walk; "" for nothing. Open means: confirmed by a challenge issued less than a lease ago, or by
    every other node less than a grant ago."""
    dice = random.Random(seed)
    host = Host()
    host.ask = lambda peers, request, within: answered(host, bug.peers_needed)  # type: ignore[method-assign]
    host.confirmed()
    confirmed = host.clock + LEASE
    under_way: list[tuple[float, float]] = []  # a hello: delivered when, with the challenge of when
    for _ in range(120):
        host.passes(0.25)
        if all(host.says.values()) and host.asked and host.asked[-1] > host.clock - 0.3:
            confirmed = max(confirmed, host.asked[-1] + GRANT)
        if host.open and host.clock > confirmed + 0.3:
            return f"seed {seed}: open at {host.clock:.2f}, confirmed until {confirmed:.2f}"
        action = dice.random()
        if action < 0.25:
            under_way.append((host.clock + dice.choice([0, 0.1, 2, 4, 9]), host.clock))
        elif action < 0.35:
            host.says = {"a:1": dice.choice([True, True, False, None]), "b:1": dice.choice([True, True, False])}
        elif action < 0.4:
            host.clock += dice.choice([1, 5])  # the host sleeps, or its agent is stopped
        elif action < 0.45:
            lease = bug.restart(host.lease, host.clock)
            host.keeper = LeaseKeeper(host, lease)
        for hello in [hello for hello in under_way if hello[0] <= host.clock]:
            under_way.remove(hello)
            host.keeper.renew(bug.renew_at(hello[1], host.clock))
            confirmed = max(confirmed, hello[1] + LEASE)
    return ""


def answered(host: Host, needed: Callable[[list[bool | None]], bool]) -> bool:
    host.asked.append(host.clock)
    return needed([host.says[peer] for peer in PRIMARY.peers])


SEEDS = range(300)


def test_no_walk_finds_a_primary_open_that_nobody_confirmed() -> None:
    assert [found for seed in SEEDS if (found := walk(seed, Bug()))] == []


@pytest.mark.parametrize(
    "bug",
    [
        pytest.param(Bug(renew_at=lambda issued, received: received), id="a lease that counts from receipt"),
        pytest.param(
            Bug(restart=lambda lease, now: replace(lease, until=now + LEASE)), id="a fresh timer at every restart"
        ),
        pytest.param(Bug(restart=lambda lease, now: Lease()), id="a restart that forgets the lease"),
        pytest.param(Bug(peers_needed=any), id="one grant is enough"),
    ],
)
def test_the_walk_finds_what_is_put_in_on_purpose(bug: Bug) -> None:
    assert any(walk(seed, bug) for seed in SEEDS)
