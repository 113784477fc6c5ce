"""Events as both metadata databases keep them: what can be searched has its column, and pages hold on both.

Proves: operation and diagnosis are taken out of the evidence, whatever is in there; a page neither loses nor repeats an event of
one moment, and is read along an index.
"""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection

from nodes.admin.events.filter import ORDER, read_filter
from nodes.admin.paging import page_of
from nodes.models import Event
from replication.core.evidence import evidence_of
from replication.core.roles import Witness
from replication.stores.events import EventStore
from replication.stores.threads import DatabaseThread
from tests.builders import LONG, node, primary, vault

pytestmark = pytest.mark.django_db(transaction=True)

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
SEEN = evidence_of(vault(primary(silent=LONG, witness=Witness.SILENT), node("b", says={"db": {"heard_age": 9.0}})))


@pytest.mark.parametrize(
    ("evidence", "operation", "diagnosis"),
    [
        ({"operation": "f" * 32, "seen": SEEN}, "f" * 32, "D70"),
        ({"operation": "f" * 40}, "f" * 32, ""),
        ({}, "", ""),
        ({"seen": {"failed": "KeyError: 'x'"}}, "", ""),
        ({"seen": None, "operation": "x"}, "x", ""),
        ({"seen": {"diagnosis": "D70"}}, "", ""),
        ({"seen": {"diagnosis": {"rule": "x" * 40}}}, "", "x" * 20),
    ],
    ids=[
        "a failover",
        "too long an id",
        "none",
        "not put together",
        "nothing seen",
        "another shape",
        "too long a rule",
    ],
)
def test_what_is_searched_by_has_its_column(
    thread: DatabaseThread, evidence: dict[str, Any], operation: str, diagnosis: str
) -> None:
    record = EventStore(thread).record(
        vault="", node="b.example", epoch=6, rule="P30", text="failover", level="warning", evidence=evidence
    )
    asyncio.run(record)
    event = Event.objects.get()
    assert (event.operation, event.diagnosis, event.evidence) == (operation, diagnosis, evidence)


def test_pages_of_one_moment_on_this_database() -> None:
    Event.objects.bulk_create(Event(text=f"event {n}", level="error" if n % 3 else "info") for n in range(60))
    Event.objects.update(at=NOON + timedelta(microseconds=123_456))
    Event.objects.filter(text__endswith="5").update(at=NOON)
    events = Event.objects.filter(read_filter({"level": "error"}).where)
    wanted, found, page = list(events.order_by("-at", "-pk")), [], page_of(events, ORDER, None, None, 7)
    while True:
        found += page.rows
        if page.older is None:
            break
        page = page_of(events, ORDER, page.older, None, 7)
    assert found == wanted
    while page.newer is not None:
        page = page_of(events, ORDER, None, page.newer, 7)
    assert page.first
    assert page.rows == wanted[:7]


def test_a_page_is_read_along_an_index_on_this_database() -> None:
    Event.objects.bulk_create(Event(text=f"event {n}") for n in range(300))
    page = page_of(Event.objects.all(), ORDER, None, None, 20)
    assert page.older is not None
    how = Event.objects.filter(page.older.older).order_by("-at", "-pk")[:20].explain()
    if connection.vendor == "sqlite":
        assert "USING INDEX" in how
        assert "TEMP B-TREE" not in how
    else:
        assert "nodes_event_at" in how, how
        assert "filesort" not in how, how
