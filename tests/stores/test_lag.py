"""Samples of lag: one write for all nodes; a chart's lines have at most 120 points, the worst of each part, and gaps."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from nodes.models import LagSample, Vault, VaultNode
from replication.core.lag import Lag
from replication.stores.lag import POINTS, Window, lag_lines, latest_lags, newest_sample, note_lag
from replication.stores.threads import DatabaseThread

pytestmark = pytest.mark.django_db(transaction=True)
A, B = "a" * 32, "b" * 32
NOW = datetime(2026, 3, 1, 12, 0, 29, tzinfo=UTC)
HOUR = Window.until(NOW, timedelta(hours=1))


def sample(node: str, ago: float, seconds: float | None, transactions: int | None = None) -> None:
    LagSample.objects.create(node_id=node, at=NOW - timedelta(seconds=ago), seconds=seconds, transactions=transactions)


def test_all_nodes_are_one_write(vault: Vault, thread: DatabaseThread) -> None:
    before = newest_sample()
    asyncio.run(note_lag(thread, {A: Lag(0.0, 3), B: Lag(None, None)}))
    rows = list(LagSample.objects.order_by("node"))
    assert [(r.node_id, r.seconds, r.transactions) for r in rows] == [(A, 0.0, 3), (B, None, None)]
    assert rows[0].at == rows[1].at
    assert newest_sample() > before
    with CaptureQueriesContext(connection) as none:
        asyncio.run(note_lag(thread, {}))
    assert not none.captured_queries
    with CaptureQueriesContext(connection) as one:
        LagSample.objects.bulk_create(LagSample(node_id=B, at=NOW) for _ in range(200))
    assert sum("INSERT" in q["sql"] for q in one.captured_queries) == 1


def test_a_sample_that_cannot_be_written_stops_nobody(vault: Vault, thread: DatabaseThread) -> None:
    asyncio.run(note_lag(thread, {"9" * 32: Lag(1.0, 1)}))
    assert not LagSample.objects.exists()


@pytest.mark.parametrize("hours", [1, 6, 24])
def test_a_window_ends_now_and_moves_in_whole_parts(hours: int) -> None:
    span = timedelta(hours=hours)
    window = Window.until(NOW, span)
    assert window.step * POINTS == span
    assert window.start <= NOW - span + window.step
    assert NOW < window.end <= NOW + window.step
    assert Window.until(window.end - timedelta(seconds=1), span) == window
    assert Window.until(window.end, span).start == window.start + window.step


def test_each_point_is_the_worst_of_its_part_and_what_is_not_known_is_a_gap(vault: Vault) -> None:
    sample(B, 3599, 8.0)
    for ago, seconds in ((1, 1.0), (5, 3.0), (20, 2.0)):  # the last part has begun 29 s ago
        sample(B, ago, seconds)
    sample(B, 45, None)
    sample(B, 100, 0.0)
    ((line,), others) = lag_lines([B], HOUR, 12)
    known = {i: s for i, s in enumerate(line.points) if s is not None}
    assert len(line.points) == POINTS
    assert known == {0: 8.0, 116: 0.0, 119: 3.0}, "a gap is not zero"
    assert (line.worst, others) == (8.0, 0)


def test_what_is_older_than_the_window_is_not_in_it(vault: Vault) -> None:
    sample(B, 3700, 8.0)
    assert lag_lines([B], HOUR, 12) == ([], 0)


def test_the_worst_are_drawn_and_the_others_counted(vault: Vault) -> None:
    for number, seconds in enumerate((0.0, 5.0, None, 2.0, 9.0)):
        id = f"{number:032}"
        VaultNode.objects.create(id=id, vault=vault, hostname=f"n{number}", ip_address=f"127.0.63.{number + 1}")
        sample(id, 2, seconds)
    sample(A, 2, 99.0)
    nodes = [f"{n:032}" for n in range(5)]
    lines, others = lag_lines(nodes, HOUR, 3)
    assert [line.worst for line in lines] == [9.0, 5.0, 2.0], "only of those that were asked for"
    assert others == 2
    assert lag_lines(nodes, HOUR, 5)[0][-1].worst is None, "who was never known comes last"


def test_the_latest_is_of_the_last_write_and_only_while_somebody_writes(vault: Vault) -> None:
    sample(B, 10, 4.0, 40)
    sample(A, 10, 1.0, 10)
    sample(A, 5, 2.0, 20)
    assert latest_lags([A, B], NOW) == {A: Lag(2.0, 20)}
    assert latest_lags([B], NOW) == {}
    assert latest_lags([A, B], NOW + timedelta(minutes=1)) == {}


def test_the_queries_do_not_depend_on_nodes_or_samples(vault: Vault) -> None:
    sample(B, 5, 1.0)
    with CaptureQueriesContext(connection) as few:
        lag_lines([A, B], HOUR, 12)
    for ago in range(6, 400, 5):
        sample(A, ago, 1.0)
    with CaptureQueriesContext(connection) as many:
        lag_lines([A, B], HOUR, 12)
    assert len(few) == len(many) == 2


def test_the_clock_of_the_samples_is_that_of_the_window(vault: Vault, thread: DatabaseThread) -> None:
    """Whatever the time zone of the database server: what was written just now is in the last part."""
    asyncio.run(note_lag(thread, {B: Lag(4.0, 4)}))
    now = timezone.now()
    ((line,), _) = lag_lines([B], Window.until(now, timedelta(hours=24)), 12)
    assert 4.0 in line.points[-2:]
    assert latest_lags([B], now) == {B: Lag(4.0, 4)}
