"""+ Add Node asks the host before it saves: what an ops worker found is told at its field, and no answer saves nothing.

The form runs as it does in the web process; the job comes out of a real Redis and runs here, in a thread of its own.
"""

import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from html import unescape

import django_rq
import pytest
from django.db import connection
from django.test import Client
from pytest_django.fixtures import Settings

from nodes.choices import OperationState
from nodes.models import Event, Operation, Vault, VaultNode
from replication.jobs import preflight
from tests.nodes.test_forms import ADD, GOOD, refusals
from tests.vault_host import identity

NOBODY_LISTENS = "127.0.31.77"
NO_AGENT = "127.0.31.78"
SLACK_SECONDS = 2.0
"""What the form may take beyond its wait, on a busy machine."""

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def vault(transactional_db: None) -> Vault:
    return Vault.objects.create(name="Checked vault")


@pytest.fixture
def worker(redis: None) -> Iterator[list[str]]:
    """An ops worker: takes jobs from the real queue and runs them. Answers the ids it was given."""
    assert identity("controller") is not None
    taken: list[str] = []
    end = threading.Event()

    def work() -> None:
        queue = django_rq.get_queue("ops")
        while not end.wait(0.02):
            for id in queue.get_job_ids():
                job = queue.fetch_job(id)
                queue.remove(id)
                assert job is not None
                assert job.func is preflight
                taken.extend(job.args)
                job.func(*job.args)
        connection.close()

    thread = threading.Thread(target=work)
    thread.start()
    yield taken
    end.set()
    thread.join(20)


@pytest.fixture
def saves() -> Callable[[], tuple[int, int]]:
    return lambda: (VaultNode.objects.count(), Event.objects.count())


def test_where_nobody_listens_the_address_is_refused_with_what_to_do(
    admin: Client, vault: Vault, worker: list[str], saves: Callable[[], tuple[int, int]]
) -> None:
    response = admin.post(ADD, {**GOOD, "ip_address": NOBODY_LISTENS})
    assert response.status_code == 422
    assert refusals(response.content.decode()) == {
        "ip_address": [
            f"No vault agent answers on {NOBODY_LISTENS} port 5389: start it there with vault-agent serve, "
            "or correct the address."
        ]
    }
    assert saves() == (0, 0)
    operation = Operation.objects.get()
    assert worker == [operation.pk]
    assert operation.state == OperationState.SUCCEEDED  # the check itself went well
    assert operation.arguments["ip"] == NOBODY_LISTENS


def test_what_answers_there_but_is_no_agent_is_refused_at_its_address(
    admin: Client, vault: Vault, worker: list[str], saves: Callable[[], tuple[int, int]]
) -> None:
    def hang_up(listening: socket.socket) -> None:
        while True:
            try:
                listening.accept()[0].close()
            except OSError:
                return

    with socket.create_server((NO_AGENT, 5389)) as listening:
        thread = threading.Thread(target=hang_up, args=(listening,))
        thread.start()
        response = admin.post(ADD, {**GOOD, "ip_address": NO_AGENT})
        listening.shutdown(socket.SHUT_RDWR)
    thread.join(5)
    found = refusals(response.content.decode())
    assert list(found) == ["ip_address"]
    assert NO_AGENT in found["ip_address"][0]
    assert saves() == (0, 0)


def test_the_form_keeps_what_was_typed_after_a_refusal_by_the_host(
    admin: Client, vault: Vault, worker: list[str]
) -> None:
    text = admin.post(ADD, {**GOOD, "ip_address": NOBODY_LISTENS, "active": ""}).content.decode()
    assert 'value="vault-3.example"' in text
    assert f'value="{NOBODY_LISTENS}"' in text
    active = re.search(r'<input[^>]*name="active"[^>]*>', text)
    assert active is not None
    assert "checked" not in active[0]


def test_without_redis_it_says_so_at_once_and_saves_nothing(
    admin: Client, vault: Vault, saves: Callable[[], tuple[int, int]], settings: Settings
) -> None:
    started = time.monotonic()
    response = admin.post(ADD, GOOD)
    assert time.monotonic() - started < settings.PREFLIGHT_WAIT
    assert response.status_code == 422
    assert refusals(response.content.decode()) == {
        "": ["The host could not be checked: the work queue (Redis) does not answer. Nothing was saved."]
    }
    assert saves() == (0, 0)
    assert Operation.objects.get().state == OperationState.FAILED


def test_when_nobody_takes_the_check_it_says_so_in_time_and_saves_nothing(
    admin: Client, vault: Vault, redis: None, saves: Callable[[], tuple[int, int]], settings: Settings
) -> None:
    started = time.monotonic()
    response = admin.post(ADD, GOOD)
    took = time.monotonic() - started
    assert settings.PREFLIGHT_WAIT <= took < settings.PREFLIGHT_WAIT + SLACK_SECONDS
    assert response.status_code == 422
    (sentence,) = refusals(response.content.decode())[""]
    assert sentence == (
        f"The host was not checked within {settings.PREFLIGHT_WAIT} s, so nothing was saved: no worker took the check. "
        "See that an ops worker runs, then press Save again."
    )
    assert saves() == (0, 0)
    operation = Operation.objects.get()
    assert operation.state == OperationState.CANCELLED
    # A worker that comes later finds it ended and leaves it so.
    preflight(operation.pk)
    assert Operation.objects.get().state == OperationState.CANCELLED


def test_while_the_form_waits_others_can_write(
    administrator: object, admin: Client, vault: Vault, redis: None, settings: Settings
) -> None:
    """No transaction stays open: one would keep the leader from renewing its lease."""
    settings.PREFLIGHT_WAIT = 1.5
    answers: list[int] = []

    def post() -> None:
        try:
            answers.append(admin.post(ADD, GOOD).status_code)
        finally:
            connection.close()

    thread = threading.Thread(target=post)
    thread.start()
    slowest = 0.0
    while thread.is_alive():
        before = time.monotonic()
        Vault.objects.filter(pk=vault.pk).update(reason=f"written at {before}")
        slowest = max(slowest, time.monotonic() - before)
        thread.join(0.05)
    assert answers == [422]
    assert slowest < settings.PREFLIGHT_WAIT / 2


def test_a_check_that_breaks_still_ends_and_is_told(admin: Client, vault: Vault, worker: list[str]) -> None:
    """The worker cannot even read its certificate."""
    from django.conf import settings as real

    moved = real.PKI_DIR.rename(real.PKI_DIR.with_name("pki-away"))
    try:
        response = admin.post(ADD, {**GOOD, "ip_address": NOBODY_LISTENS})
    finally:
        moved.rename(real.PKI_DIR)
    assert response.status_code == 422
    assert unescape(response.content.decode()).count("The check itself failed; see the log of the ops worker.") == 1
    assert Operation.objects.get().state == OperationState.FAILED
