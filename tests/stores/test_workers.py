"""Service workers say that they are there: seen by the database's clock, gone at a clean end, forgotten when they died."""

from datetime import timedelta

import pytest
from django.db.models.functions import Now
from django.utils import timezone

from nodes.models import ServiceWorker
from replication.core import limits
from replication.stores import workers
from replication.stores.threads import DatabaseThread
from tests.stores.conftest import holder

pytestmark = pytest.mark.django_db(transaction=True)
SERVICE = "TestedService"


def test_signs_of_life_move_only_the_time_it_was_seen() -> None:
    workers.write_sign_of_life(SERVICE, holder("one"))
    long_ago = timezone.now() - timedelta(hours=1)
    ServiceWorker.objects.update(started_at=long_ago, seen_at=long_ago)
    workers.write_sign_of_life(SERVICE, holder("one"))
    row = ServiceWorker.objects.get()
    assert (row.pk, row.service, row.host, row.process) == ("one", SERVICE, "one.example", "one (pid 1)")
    assert abs(row.started_at - long_ago) < timedelta(seconds=1)
    assert timezone.now() - row.seen_at < timedelta(seconds=15)


def test_a_clean_end_takes_out_this_worker_only() -> None:
    for name in ("one", "two"):
        workers.write_sign_of_life(SERVICE, holder(name))
    workers.take_out(holder("one"))
    assert list(ServiceWorker.objects.values_list("pk", flat=True)) == ["two"]


def test_only_those_that_have_been_silent_for_long_are_forgotten() -> None:
    for name in ("alive", "silent", "dead"):
        workers.write_sign_of_life(SERVICE, holder(name))
    ServiceWorker.objects.filter(pk="silent").update(seen_at=Now() - limits.WORKER_SILENCE)
    ServiceWorker.objects.filter(pk="dead").update(seen_at=Now() - limits.WORKER_FORGOTTEN - timedelta(seconds=1))
    assert workers.forget_dead() == 1
    assert set(ServiceWorker.objects.values_list("pk", flat=True)) == {"alive", "silent"}


async def test_from_asyncio_too(thread: DatabaseThread) -> None:
    await workers.note_worker(thread, SERVICE, holder("one"))
    assert await thread.run(ServiceWorker.objects.count) == 1
    await workers.forget_worker(thread, holder("one"))
    assert await thread.run(ServiceWorker.objects.count) == 0
