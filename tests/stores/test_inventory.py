"""The inventory as the service sees it, and what it writes back: notes, live columns, Start and Stop, Run Now."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.db.utils import OperationalError
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from nodes.choices import DesiredState
from nodes.models import AppService, Event, Operation, Vault, VaultNode
from nodes.models.service import SERVICE_NAME
from replication.core.errors import ReplicationError
from replication.core.foresight import Foresight, foresee
from replication.core.roles import NodeStatus, SystemRole
from replication.core.snapshot import NodeRow
from replication.core.view import RebuildWish
from replication.stores import inventory
from replication.stores.events import EventStore
from replication.stores.highwater import FILE_NAME, HighWater
from replication.stores.inventory import InventoryStore, failover_seconds, load_snapshot
from replication.stores.leases import RenewingLease, acquire, release
from replication.stores.threads import DatabaseThread
from tests import builders
from tests.builders import report
from tests.stores.conftest import LEASE, holder

pytestmark = pytest.mark.django_db(transaction=True)
A, B = "a" * 32, "b" * 32
IF_LOST = foresee(builders.vault())


@pytest.fixture
def lease(vault: Vault) -> RenewingLease:
    """A leadership whose thread does not run: it holds the lease as the row says."""
    made = RenewingLease(LEASE, holder("one"))
    made.term = acquire(LEASE, made.holder, ttl=timedelta(minutes=1)) or 0
    return made


@pytest.fixture
def store(lease: RenewingLease, marks: HighWater) -> Iterator[InventoryStore]:
    reads, notes = DatabaseThread("reads"), DatabaseThread("notes")
    yield InventoryStore(reads, notes, marks, lease)
    reads.close()
    notes.close()


def service() -> AppService:
    return AppService.objects.get(name=SERVICE_NAME)


def test_the_snapshot_holds_the_wishes(vault: Vault) -> None:
    AppService.objects.filter(name=SERVICE_NAME).update(
        desired_state=DesiredState.STARTED, trigger_interval=2.0, run_requested_at=timezone.now()
    )
    VaultNode.objects.filter(pk=B).update(active=False, resync_requested_at=timezone.now(), locked_out=True)
    seen = load_snapshot()
    assert (seen.running, seen.noted_running, seen.run_wanted) == (True, False, True)
    assert seen.interval == timedelta(seconds=2)
    assert seen.fresh
    config = next(c for c in seen.vaults if c.topology.vault == vault.pk)
    a, b = config.nodes
    assert (a.hostname, a.system_role, a.ordinal) == ("a.example", SystemRole.PRIMARY, 1)
    assert (b.active, b.resync_wanted, b.locked_out, b.removed) == (False, True, True, False)
    assert b.report is None, "what was seen is not read back"


def test_a_deleted_node_stays_in_the_snapshot_until_it_is_out(vault: Vault) -> None:
    VaultNode.objects.filter(pk=B).update(removed_at=timezone.now())
    (config,) = (c for c in load_snapshot().vaults if c.topology.vault == vault.pk)
    assert [n.removed for n in config.nodes] == [False, True]


def test_the_number_of_queries_does_not_grow(vault: Vault) -> None:
    with CaptureQueriesContext(connection) as few:
        load_snapshot()
    for n in range(10, 15):
        VaultNode.objects.create(vault=vault, hostname=f"n{n}.example", ip_address=f"127.0.31.{n}", ordinal=n)
    with CaptureQueriesContext(connection) as many:
        load_snapshot()
    assert len(many) == len(few)


def test_without_the_service_row_nothing_runs(vault: Vault) -> None:
    AppService.objects.all().delete()
    assert not load_snapshot().running


def test_a_database_that_does_not_answer_leaves_what_is_known(
    store: InventoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = asyncio.run(store.load())

    def fails() -> None:
        raise OperationalError("gone")

    monkeypatch.setattr(inventory, "load_snapshot", fails)
    seen = asyncio.run(store.load())
    assert not seen.fresh
    assert seen.vaults == known.vaults


def test_every_reading_raises_the_high_water_mark(vault: Vault, store: InventoryStore, marks: HighWater) -> None:
    Vault.objects.filter(pk=vault.pk).update(epoch=12)
    asyncio.run(store.load())
    assert marks.of(vault.pk) == 12
    Vault.objects.filter(pk=vault.pk).update(epoch=4)  # restored from a backup
    (config,) = (c for c in asyncio.run(store.load()).vaults if c.topology.vault == vault.pk)
    assert (config.topology.epoch, marks.of(vault.pk)) == (4, 12)


def test_without_its_mark_a_reading_is_not_taken_for_fresh(vault: Vault, store: InventoryStore, tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text("{")
    assert not asyncio.run(store.load()).fresh


def test_a_note_is_written_before_it_returns(store: InventoryStore) -> None:
    asyncio.run(store.mark(B, joined=True, locked_out=True))
    b = VaultNode.objects.get(pk=B)
    assert (b.joined, b.locked_out) == (True, True)


def test_who_no_longer_leads_notes_nothing(store: InventoryStore) -> None:
    """A leader that was stopped in the middle of a procedure, and goes on when another one has locked the node out."""
    release(LEASE, holder("one"))
    acquire(LEASE, holder("two"))
    VaultNode.objects.filter(pk=B).update(locked_out=True)
    with pytest.raises(ReplicationError, match="no longer leads"):
        asyncio.run(store.mark(B, locked_out=False))
    assert VaultNode.objects.get(pk=B).locked_out


def test_the_answer_to_a_wish_for_a_copy_replaces_that_wish_only(vault: Vault, store: InventoryStore) -> None:
    """An operator may take a wish back, and another one may be there by the time the leader answers the first."""
    wish = RebuildWish(operation="copy", source=A, bytes_per_second=7)
    VaultNode.objects.filter(pk=B).update(rebuild_wish=wish.to_json())
    (config,) = load_snapshot().vaults
    assert next(n for n in config.nodes if n.id == B).rebuild == wish
    assert config.work_is_waiting
    assert not asyncio.run(store.answer_rebuild(B, "another", None))
    refused = replace(wish, refused="K40 · its disk has no room", chosen=True)
    assert asyncio.run(store.answer_rebuild(B, "copy", refused))
    (config,) = load_snapshot().vaults
    seen = next(n for n in config.nodes if n.id == B)
    assert (seen.rebuild, seen.wish) == (refused, None)
    assert asyncio.run(store.answer_rebuild(B, "copy", None))
    assert VaultNode.objects.get(pk=B).rebuild_wish is None
    assert not asyncio.run(store.answer_rebuild(B, "copy", refused)), "it was taken back"
    assert VaultNode.objects.get(pk=B).rebuild_wish is None


def test_who_no_longer_leads_answers_no_wish(store: InventoryStore) -> None:
    wish = RebuildWish(operation="copy").to_json()
    VaultNode.objects.filter(pk=B).update(rebuild_wish=wish)
    release(LEASE, holder("one"))
    acquire(LEASE, holder("two"))
    with pytest.raises(ReplicationError, match="no longer leads"):
        asyncio.run(store.answer_rebuild(B, "copy", None))
    assert VaultNode.objects.get(pk=B).rebuild_wish == wish


def test_a_note_that_cannot_be_written_fails_the_step_and_not_the_service(store: InventoryStore) -> None:
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE nodes_vaultnode RENAME TO nodes_away")
    try:
        with pytest.raises(ReplicationError, match="did not take a note"):
            asyncio.run(store.mark(B, joined=True))
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE nodes_away RENAME TO nodes_vaultnode")


def test_only_a_node_that_an_operator_deleted_is_forgotten(store: InventoryStore) -> None:
    asyncio.run(store.forget(B))
    assert VaultNode.objects.filter(pk=B).exists()
    VaultNode.objects.filter(pk=B).update(removed_at=timezone.now())
    asyncio.run(store.forget(B))
    assert not VaultNode.objects.filter(pk=B).exists()


def test_live_columns_are_published(vault: Vault, store: InventoryStore) -> None:
    row = NodeRow(status=NodeStatus.CATCHING_UP, detail="7 s", current_role="Fallback-1", report=report("b").to_json())
    asyncio.run(store.publish(vault.pk, "no fallback is proven yet" + "." * 600, {B: row}, IF_LOST))
    b = VaultNode.objects.get(pk=B)
    assert (b.status, b.status_detail, b.current_role) == (NodeStatus.CATCHING_UP, "7 s", "Fallback-1")
    assert b.report["agent_id"] == "agent-b"
    assert Foresight.from_json(Vault.objects.get(pk=vault.pk).if_lost) == IF_LOST
    assert len(Vault.objects.get(pk=vault.pk).reason) == 500, "cut to what the column holds"
    gone = NodeRow(status=NodeStatus.UNREACHABLE, detail="silent", current_role="Fallback-1")
    asyncio.run(store.publish(vault.pk, "", {B: gone}, IF_LOST))
    assert VaultNode.objects.get(pk=B).report is not None, "the last report stays"


def test_a_report_says_when_it_was_said_and_silence_makes_it_no_younger(vault: Vault, store: InventoryStore) -> None:
    said = report("b").to_json()
    row = NodeRow(status=NodeStatus.WAITING, detail="", current_role="Fallback-1", report=said)
    asyncio.run(store.publish(vault.pk, "", {B: row}, IF_LOST))
    at = datetime.fromisoformat(VaultNode.objects.get(pk=B).report["recorded_at"])
    assert timedelta() <= timezone.now() - at < timedelta(minutes=1)
    gone = NodeRow(status=NodeStatus.UNREACHABLE, detail="silent", current_role="Fallback-1", report=said)
    asyncio.run(store.publish(vault.pk, "", {B: gone}, IF_LOST))
    kept = VaultNode.objects.get(pk=B)
    assert (kept.status, kept.report["recorded_at"]) == (NodeStatus.UNREACHABLE, at.isoformat())


def test_the_durations_of_the_last_failovers_go_with_the_inventory(vault: Vault, store: InventoryStore) -> None:
    now = timezone.now()
    told: list[Any] = [{"steps_ms": {"claim": 4.0, "open b.example": 70.0 + n}} for n in range(7)]
    for age, result in enumerate([{}, {"steps_ms": "odd"}, {"steps_ms": {"claim": 3.0}}, None, *told]):
        at, more = now - timedelta(minutes=age), {} if result is None else {"result": result}
        Operation.objects.create(kind="failover", state="succeeded", vault=vault, finished_at=at, **more)
    Operation.objects.create(kind="failover", state="failed", vault=vault, finished_at=now, result=told[6])
    expected = pytest.approx((0.070, 0.071, 0.072, 0.073, 0.074))
    assert failover_seconds()[vault.pk] == expected, "the newest five that succeeded and say how long opening took"
    (config,) = (c for c in asyncio.run(store.load()).vaults if c.topology.vault == vault.pk)
    assert config.failovers == expected


def test_a_failover_counts_as_soon_as_the_epoch_has_moved_on(vault: Vault, store: InventoryStore) -> None:
    def durations() -> tuple[float, ...]:
        return next(c.failovers for c in asyncio.run(store.load()).vaults if c.topology.vault == vault.pk)

    assert durations() == ()
    done = {"steps_ms": {"open b.example": 70.0}}
    Operation.objects.create(kind="failover", state="succeeded", vault=vault, finished_at=timezone.now(), result=done)
    assert durations() == (), "read once a minute"
    Vault.objects.filter(pk=vault.pk).update(epoch=vault.epoch + 1)
    assert durations() == (0.07,)


def test_start_and_stop_are_noted_with_an_event_each(store: InventoryStore) -> None:
    for started in (True, True, False):
        asyncio.run(store.note_service(started=started, pass_done=False))
        assert (service().started_on is not None) is started
    assert list(Event.objects.filter(rule="S10").order_by("pk").values_list("text", flat=True)) == [
        f"{SERVICE_NAME} started",
        f"{SERVICE_NAME} stopped",
    ]


def test_a_full_pass_answers_run_now(store: InventoryStore) -> None:
    AppService.objects.filter(name=SERVICE_NAME).update(run_requested_at=timezone.now())
    asyncio.run(store.note_service(started=True, pass_done=False))
    assert service().run_requested_at is not None
    asyncio.run(store.note_service(started=True, pass_done=True))
    assert service().run_requested_at is None
    assert service().last_completed_on is not None


def test_noting_start_and_stop_leaves_a_run_now_alone_that_comes_in_between(
    store: InventoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An operator presses Run Now after the service row was read and before it is written."""
    create = Event.objects.create

    def press_run_now(**fields: Any) -> Event:
        AppService.objects.filter(name=SERVICE_NAME).update(run_requested_at=timezone.now())
        return create(**fields)

    monkeypatch.setattr(Event.objects, "create", press_run_now)
    asyncio.run(store.note_service(started=True, pass_done=False))
    assert service().run_requested_at is not None


def test_an_event_is_one_row_with_its_evidence(vault: Vault, thread: DatabaseThread) -> None:
    record = EventStore(thread).record(
        vault=vault.pk,
        node="b.example",
        epoch=7,
        rule="P30",
        text="failover" + "!" * 2000,
        level="warning",
        evidence={"after": timedelta(seconds=1), "steps_ms": {"claimed": 2.5}},
    )
    asyncio.run(record)
    (event,) = Event.objects.filter(rule="P30")
    assert (event.epoch, event.node_name, event.level) == (7, "b.example", "warning")
    assert event.evidence["steps_ms"] == {"claimed": 2.5}
    assert len(event.text) == 1000


def test_an_event_that_cannot_be_written_stops_nobody(thread: DatabaseThread, vault: Vault) -> None:
    record = EventStore(thread).record(
        vault="9" * 32, node="", epoch=1, rule="P30", text="x", level="error", evidence={}
    )
    asyncio.run(record)
    assert not Event.objects.filter(rule="P30").exists()


def test_events_of_no_vault_are_fine(thread: DatabaseThread, vault: Vault) -> None:
    asyncio.run(EventStore(thread).record(vault="", node="", epoch=0, rule="", text="x", level="info", evidence={}))
    assert Event.objects.get(text="x").vault is None
