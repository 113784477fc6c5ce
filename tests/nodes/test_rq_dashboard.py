"""Work queues: for who has the permission, read without changing anything in Redis, changed by POST only and recorded."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from auditlog.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.utils import timezone
from rq.job import Job, JobStatus
from rq.registry import FailedJobRegistry, StartedJobRegistry
from rq.results import Result
from rq.serializers import JSONSerializer

from nodes.admin.work_queues import contents as work_queues
from replication import jobs

BASE = "/admin/django_rq/dashboard/"
EVIL = "<img src=x onerror=alert(1)>"


@pytest.fixture
def queue(redis: None) -> Any:
    found = work_queues.queue("ops")
    found.connection.flushall()
    return found


@pytest.fixture
def failed(queue: Any) -> Job:
    """A job whose traceback is full of markup."""
    job = queue.enqueue(jobs.preflight, "0" * 32, job_id="failed-job")
    queue.connection.lrem(queue.key, 0, job.id)
    job.set_status(JobStatus.FAILED)
    FailedJobRegistry(queue=queue).add(job)
    Result.create_failure(job, ttl=3600, exc_string=f"Traceback {EVIL}")
    return job


@pytest.fixture
def forgotten(queue: Any) -> Job:
    """A job of a worker that died long ago: RQ would fail it as soon as it counts the running ones."""
    job = queue.enqueue(jobs.preflight, "1" * 32, job_id="forgotten-job")
    queue.connection.lrem(queue.key, 0, job.id)
    job.set_status(JobStatus.STARTED)
    long_ago = (timezone.now() - timedelta(hours=1)).timestamp()
    queue.connection.zadd(StartedJobRegistry(queue=queue).key, {f"{job.id}:execution": long_ago})
    queue.connection.sadd("rq:workers", "rq:worker:dead")
    return job


def everything(queue: Any) -> dict[bytes, Any]:
    """All of Redis, whatever it holds."""
    c = queue.connection
    read = {
        b"string": c.get, b"list": lambda k: c.lrange(k, 0, -1), b"set": c.smembers, b"hash": c.hgetall,
        b"zset": lambda k: c.zrange(k, 0, -1, withscores=True), b"stream": c.xrange,
    }  # fmt: skip
    return {key: read[c.type(key)](key) for key in sorted(c.keys("*"))}


def pages(*jobs_shown: Job) -> list[str]:
    listed = [f"{BASE}queue/ops/{state}/" for state in work_queues.STATES]
    details = [f"{BASE}job/{job.id}/{what}" for job in jobs_shown for what in ("", "requeue/", "delete/")]
    return [BASE, *listed, f"{BASE}queue/ops/empty/", *details]


def test_looking_at_every_page_changes_nothing_in_redis(plain: Client, queue: Any, failed: Job, forgotten: Job) -> None:
    before = everything(queue)
    for page in pages(failed, forgotten):
        assert plain.get(page).status_code == 200, page
    assert everything(queue) == before
    # What RQ itself would have done by counting:
    assert len(StartedJobRegistry(queue=queue)) == 0
    assert everything(queue) != before


def test_it_shows_queues_workers_and_why_a_job_failed_as_text(plain: Client, failed: Job) -> None:
    text = plain.get(BASE).content.decode()
    assert f'href="{BASE}queue/ops/failed/">1</a>' in text
    assert "No worker has registered" in text
    assert failed.id in plain.get(f"{BASE}queue/ops/failed/").content.decode()
    text = plain.get(f"{BASE}job/{failed.id}/").content.decode()
    assert EVIL not in text
    assert "Traceback &lt;img" in text


def test_only_who_has_the_permission_comes_in(
    user: Callable[..., User], enter: Callable[..., Client], queue: Any, failed: Job
) -> None:
    clerk = user()
    client, before = enter(clerk), everything(queue)
    for page in pages(failed):
        assert client.get(page).status_code == client.post(page).status_code == 403, page
    assert everything(queue) == before
    assert f'href="{BASE}"' not in client.get("/admin/nodes/vaultnode/").content.decode()
    clerk.user_permissions.add(Permission.objects.get(codename="admin", content_type__app_label="django_rq"))
    client = enter(User.objects.get(pk=clerk.pk))
    assert client.get(BASE).status_code == 200
    assert f'href="{BASE}"' in client.get("/admin/nodes/vaultnode/").content.decode()


@pytest.mark.parametrize("address", ["stats.json", "metrics/", "queues/0/empty/", "queues/0/requeue-all/"])
def test_the_stock_pages_are_not_there(plain: Client, db: None, address: str) -> None:
    assert plain.get(BASE + address).status_code == 404
    assert plain.post(BASE + address).status_code == 404
    assert Client().get(BASE + address).status_code in (302, 404)


def test_queueing_again_by_post_with_its_entry(plain: Client, queue: Any, failed: Job) -> None:
    assert plain.post(f"{BASE}job/{failed.id}/requeue/").status_code == 302
    assert queue.get_job_ids() == [failed.id]
    assert FailedJobRegistry(queue=queue).get_job_count(cleanup=False) == 0
    entry = LogEntry.objects.get(object_repr=failed.id)
    assert (entry.additional_data["what"], entry.changes) == ("job queued again", {"status": ["failed", "queued"]})


def test_a_job_that_has_not_failed_is_not_queued_again(plain: Client, queue: Any, forgotten: Job) -> None:
    response = plain.post(f"{BASE}job/{forgotten.id}/requeue/", follow=True)
    assert "Only a job that has failed" in response.content.decode()
    assert queue.get_job_ids() == []
    assert not LogEntry.objects.filter(object_repr=forgotten.id).exists()


def test_deleting_and_emptying_by_post_with_their_entries(plain: Client, queue: Any, failed: Job) -> None:
    assert plain.post(f"{BASE}job/{failed.id}/delete/").status_code == 302
    assert work_queues.find_job(failed.id) is None
    queue.enqueue(jobs.preflight, "2" * 32)
    assert plain.post(f"{BASE}queue/ops/empty/").status_code == 302
    assert queue.count == 0
    what = [entry.additional_data["what"] for entry in LogEntry.objects.filter(action=1).order_by("pk")]
    assert what == ["job deleted", "work queue emptied"]


def test_a_worker_is_shown_with_what_it_does(plain: Client, queue: Any) -> None:
    row = {"state": "busy", "queues": "ops", "hostname": EVIL, "current_job": "some-job", "last_heartbeat": "nonsense"}
    queue.connection.sadd("rq:workers", "rq:worker:w1")
    queue.connection.hset("rq:worker:w1", mapping=row)
    text = plain.get(BASE).content.decode()
    assert "w1" in text
    assert f'href="{BASE}job/some-job/"' in text
    assert EVIL not in text


def test_what_is_not_there_is_404(plain: Client, queue: Any) -> None:
    for address in ("queue/nobody/queued/", "queue/ops/nonsense/", "job/nobody/", "queue/ops/queued/?from=-3"):
        assert plain.get(BASE + address).status_code == (200 if "?" in address else 404), address
    assert plain.post(f"{BASE}queue/nobody/empty/").status_code == 404
    assert plain.post(f"{BASE}job/nobody/delete/").status_code == 404


def test_without_redis_every_page_says_so(plain: Client, db: None) -> None:
    for address in ("", "queue/ops/failed/", "job/some-job/"):
        assert "Redis does not answer" in plain.get(BASE + address).content.decode(), address
    response = plain.post(f"{BASE}queue/ops/empty/", follow=True)
    assert "nothing was changed" in response.content.decode()


def test_jobs_are_read_with_the_serializer_they_were_written_with(queue: Any, failed: Job) -> None:
    found = work_queues.find_job(failed.id)
    assert found is not None
    assert found.serializer is JSONSerializer
    assert work_queues.job_shown(found).what == "replication.jobs.preflight"
