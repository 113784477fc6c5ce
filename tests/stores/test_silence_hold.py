"""Anti-flapping as the rows keep it: how long, doubled up to the most, forgotten, and how much of it is left."""

import asyncio
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.utils import timezone

from nodes.models import Vault
from replication.core import limits
from replication.stores.highwater import HighWater
from replication.stores.inventory import InventoryStore, hold_left, load_snapshot
from replication.stores.leases import RenewingLease
from replication.stores.threads import DatabaseThread
from tests.stores.conftest import LEASE, holder

pytestmark = pytest.mark.django_db(transaction=True)
NOW = timezone.now()


@pytest.fixture
def note(vault: Vault, thread: DatabaseThread, marks: HighWater) -> Callable[[], Vault]:
    """A failover on silence happens; answers the row."""

    def write() -> Vault:
        asyncio.run(
            InventoryStore(thread, thread, marks, RenewingLease(LEASE, holder("one"))).note_silence_failover(vault.pk)
        )
        return Vault.objects.get(pk=vault.pk)

    return write


def test_each_one_doubles_the_hold_up_to_the_most(note: Callable[[], Vault]) -> None:
    held = [note().silence_hold_seconds for _ in range(6)]
    assert held == [60, 120, 240, 480, 600, 600]


def test_after_a_long_calm_it_begins_anew(vault: Vault, note: Callable[[], Vault]) -> None:
    for _ in range(3):
        note()
    Vault.objects.filter(pk=vault.pk).update(silence_failover_at=timezone.now() - limits.SILENCE_HOLD_FORGET)
    assert note().silence_hold_seconds == limits.SILENCE_HOLD.total_seconds()


def test_after_it_was_cleared_it_begins_anew(vault: Vault, note: Callable[[], Vault]) -> None:
    note()
    Vault.objects.filter(pk=vault.pk).update(silence_failover_at=None, silence_hold_seconds=0)
    assert note().silence_hold_seconds == limits.SILENCE_HOLD.total_seconds()


def test_its_moment_is_noted(note: Callable[[], Vault]) -> None:
    before = timezone.now()
    noted = note().silence_failover_at
    assert noted is not None
    assert before <= noted <= timezone.now()


def ago(**duration: float) -> object:
    return NOW - timedelta(**duration)


@pytest.mark.parametrize(
    ("fields", "left"),
    [
        pytest.param({}, 0, id="there was none"),
        pytest.param({"silence_failover_at": ago(seconds=5)}, 60, id="solo: the clock has not begun"),
        pytest.param(
            {"silence_failover_at": ago(seconds=50), "lossless_since": ago(seconds=20)}, 40, id="lossless for 20 s"
        ),
        pytest.param({"silence_failover_at": ago(seconds=90), "lossless_since": ago(seconds=60)}, 0, id="served"),
        pytest.param(
            {"silence_failover_at": ago(hours=1), "lossless_since": ago(seconds=1)}, 0, id="too long ago to matter"
        ),
    ],
)
def test_what_is_left(fields: dict[str, object], left: float) -> None:
    vault = Vault(silence_hold_seconds=60, **fields)
    assert hold_left(vault, NOW) == timedelta(seconds=left)


def test_the_snapshot_tells_it_by_the_clock_of_the_database(vault: Vault, note: Callable[[], Vault]) -> None:
    note()
    (config,) = (c for c in load_snapshot().vaults if c.topology.vault == vault.pk)
    assert config.silence_hold == limits.SILENCE_HOLD
