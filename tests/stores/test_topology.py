"""The published row: a claim needs the lease, the term and the epoch; an amendment needs the owner; constraints hold."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import DatabaseError, IntegrityError, transaction

from nodes.models import ServiceLease, Vault
from replication.core.errors import ClaimLost
from replication.core.view import Intent, Topology
from replication.stores.highwater import HighWater
from replication.stores.leases import LONG_AGO, RenewingLease, acquire
from replication.stores.topology import TopologyStore, remember_epochs, topology_of
from tests.builders import intent
from tests.stores.conftest import LEASE, holder

pytestmark = pytest.mark.django_db(transaction=True)
A, B = "a" * 32, "b" * 32
OPEN: Intent = intent("b", "a")


def leadership(name: str) -> RenewingLease:
    """A leadership whose thread does not run: it holds the lease as the row says."""
    lease = RenewingLease(LEASE, holder(name))
    lease.term = acquire(LEASE, lease.holder) or 0
    return lease


@pytest.fixture
def stores(marks: HighWater) -> Iterator[Callable[[RenewingLease], TopologyStore]]:
    made: list[TopologyStore] = []

    def make(lease: RenewingLease) -> TopologyStore:
        made.append(TopologyStore(lease, marks))
        return made[-1]

    yield make
    for store in made:
        store.close()


@pytest.fixture
def store(vault: Vault, stores: Callable[[RenewingLease], TopologyStore]) -> TopologyStore:
    return stores(leadership("one"))


def row(vault: Vault) -> Topology:
    return topology_of(Vault.objects.get(pk=vault.pk))


def claim(store: TopologyStore, known: Topology, at_least: int = 0, **changes: Any) -> Topology:
    return asyncio.run(store.claim(known, at_least=at_least, **changes))


def amend(store: TopologyStore, known: Topology, **changes: Any) -> Topology:
    return asyncio.run(store.amend(known, **changes))


def test_a_claim_takes_the_next_epoch_and_owns_it(vault: Vault, store: TopologyStore) -> None:
    claimed = claim(store, row(vault), primary=A, may_ack=frozenset({B}))
    assert (claimed.epoch, claimed.owner, claimed.primary) == (1, "one:1", A)
    assert claimed.may_ack == {B}
    assert claimed == row(vault)
    assert store.term == 1


def test_a_claim_goes_above_what_agents_have_promised(vault: Vault, store: TopologyStore) -> None:
    assert claim(store, row(vault), at_least=41).epoch == 42


def test_a_claim_on_an_epoch_that_is_no_longer_current_is_lost(vault: Vault, store: TopologyStore) -> None:
    known = row(vault)
    claim(store, known)
    with pytest.raises(ClaimLost, match="epoch 0"):
        claim(store, known, primary=A)
    assert row(vault).primary == ""


def test_a_claim_without_the_lease_is_lost(vault: Vault, store: TopologyStore) -> None:
    ServiceLease.objects.filter(name=LEASE).update(expires_at=LONG_AGO)
    with pytest.raises(ClaimLost, match="no longer leads"):
        claim(store, row(vault))


def test_a_claim_of_a_former_leader_is_lost(
    vault: Vault, store: TopologyStore, stores: Callable[[RenewingLease], TopologyStore]
) -> None:
    ServiceLease.objects.filter(name=LEASE).update(expires_at=LONG_AGO)
    two = stores(leadership("two"))
    with pytest.raises(ClaimLost):
        claim(store, row(vault))
    assert claim(two, row(vault)).owner == "two:2"


def test_a_claim_under_an_old_term_of_the_same_process_is_lost(vault: Vault, store: TopologyStore) -> None:
    ServiceLease.objects.filter(name=LEASE).update(term=7)
    with pytest.raises(ClaimLost):
        claim(store, row(vault))


def test_an_amendment_keeps_the_epoch(vault: Vault, store: TopologyStore) -> None:
    claimed = claim(store, row(vault), primary=A, may_ack=frozenset({B}))
    published = amend(store, claimed, promotable=B)
    assert (published.epoch, published.promotable) == (claimed.epoch, B)


def test_an_amendment_by_another_owner_is_lost(
    vault: Vault, store: TopologyStore, stores: Callable[[RenewingLease], TopologyStore]
) -> None:
    """The new leader reads the epoch that the old one claimed: it may not use it."""
    claimed = claim(store, row(vault), primary=A)
    ServiceLease.objects.filter(name=LEASE).update(expires_at=LONG_AGO)
    two = stores(leadership("two"))
    with pytest.raises(ClaimLost):
        amend(two, claimed, promotable=B)
    assert row(vault).promotable == ""


def test_an_intent_is_kept_and_cleared(vault: Vault, store: TopologyStore) -> None:
    claimed = claim(store, row(vault), primary=A)
    begun = claim(store, claimed, promotable="", intent=OPEN)
    assert row(vault).intent == OPEN
    assert amend(store, begun, intent=None).intent is None


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"primary": A, "promotable": A}, id="the primary is not its own acker"),
        pytest.param({"primary": "", "promotable": B}, id="an acker needs a primary"),
        pytest.param({"primary": A, "promotable": B, "intent": OPEN}, id="an open intent publishes nobody"),
        pytest.param({"primary": "9" * 32}, id="a primary is a node"),
    ],
)
def test_the_database_refuses_a_row_that_breaks_the_rules(
    vault: Vault, store: TopologyStore, changes: dict[str, Any]
) -> None:
    before = row(vault)
    with pytest.raises(ClaimLost, match="did not take the change"):
        claim(store, before, **changes)
    assert row(vault) == before
    assert claim(store, before).epoch == 1, "the connection still works"


def test_a_node_that_the_row_names_cannot_be_deleted(vault: Vault, store: TopologyStore) -> None:
    claim(store, row(vault), primary=A, promotable=B)
    with pytest.raises((IntegrityError, DatabaseError)), transaction.atomic():
        Vault.objects.get(pk=vault.pk).nodes.get(pk=B).delete()


# --- what goes along with it: the high-water mark, and since when the vault is lossless


def test_what_is_claimed_is_marked_before_it_counts(vault: Vault, store: TopologyStore, tmp_path: Path) -> None:
    claim(store, row(vault), at_least=41)
    assert store.high_water(vault.pk) == HighWater(tmp_path).of(vault.pk) == 42


def test_a_claim_whose_mark_cannot_be_written_is_lost_and_nothing_can_be_done_under_it(
    vault: Vault, store: TopologyStore, tmp_path: Path
) -> None:
    known = row(vault)
    (tmp_path / "epochs.new").mkdir()  # stands in the way of the file that would be written
    with pytest.raises(ClaimLost, match="high-water mark of epochs cannot be written"):
        claim(store, known, primary=A)
    assert HighWater(tmp_path).of(vault.pk) == 0
    with pytest.raises(ClaimLost):
        amend(store, known, promotable=B)
    assert row(vault).promotable == ""
    (tmp_path / "epochs.new").rmdir()
    claimed = claim(store, row(vault))
    assert HighWater(tmp_path).of(vault.pk) == claimed.epoch > known.epoch + 1, "no epoch is given twice"


def test_lossless_since_follows_promotable(vault: Vault, store: TopologyStore) -> None:
    def since() -> Any:
        return Vault.objects.get(pk=vault.pk).lossless_since

    claimed = claim(store, row(vault), primary=A, may_ack=frozenset({B}))
    assert since() is None
    claimed = amend(store, claimed, promotable=B)
    proven = since()
    assert proven is not None
    claimed = amend(store, claimed, may_ack=frozenset({B}))
    assert since() == proven, "another change leaves the clock alone"
    amend(store, claimed, promotable="")
    assert since() is None


def test_a_standby_knows_the_epochs_of_the_leader_without_ever_having_led(
    vault: Vault, store: TopologyStore, tmp_path: Path
) -> None:
    """Or it would believe an older row when the database is restored."""
    far = tmp_path / "another host"
    far.mkdir()
    marks = HighWater(far)
    standby = RenewingLease(LEASE, holder("two"), standing_by=lambda: remember_epochs(marks))
    claim(store, row(vault), at_least=6)
    standby._renew()
    assert not standby.held
    assert HighWater(far).of(vault.pk) == 7
