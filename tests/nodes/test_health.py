"""What load balancers and container health checks see: no login, nothing secret, 503 with what does not answer."""

from collections.abc import Callable

import pytest
from django.db import connection
from django.test import Client

from nodes.models import AppService, Vault


@pytest.fixture
def anybody() -> Client:
    return Client()


def test_a_process_that_answers_is_alive_whatever_else_is_down(anybody: Client) -> None:
    response = anybody.get("/healthz")
    assert (response.status_code, response.content) == (200, b"ok\n")


def test_ready_is_database_redis_and_a_leader(
    anybody: Client, redis: None, vault: Vault, lead: Callable[..., None]
) -> None:
    lead(age=1)
    response = anybody.get("/readyz")
    found = response.json()
    assert response.status_code == 200
    assert (found["database"], found["redis"]) == ("ok", "ok")
    assert 1 <= found["lease_age_seconds"] < 5


def test_a_leader_that_fell_silent_is_not_ready(
    anybody: Client, redis: None, vault: Vault, lead: Callable[..., None]
) -> None:
    lead(age=30)
    response = anybody.get("/readyz")
    assert response.status_code == 503
    assert response.json()["lease_age_seconds"] >= 30


def test_before_any_worker_has_led_it_is_not_ready(anybody: Client, redis: None, service: AppService) -> None:
    response = anybody.get("/readyz")
    assert response.status_code == 503
    assert response.json() == {"database": "ok", "redis": "ok", "lease_age_seconds": None}


def test_without_redis_it_is_not_ready_and_says_so(anybody: Client, vault: Vault, lead: Callable[..., None]) -> None:
    lead()
    response = anybody.get("/readyz")
    assert response.status_code == 503
    assert response.json()["redis"] == "no answer"
    assert response.json()["database"] == "ok"


def test_without_the_database_it_is_not_ready_and_says_so(anybody: Client, redis: None, db: None) -> None:
    """The table is really gone, until the test's transaction is rolled back."""
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE nodes_servicelease")
    response = anybody.get("/readyz")
    assert response.status_code == 503
    assert response.json() == {"database": "no answer", "redis": "ok", "lease_age_seconds": None}
    assert anybody.get("/healthz").status_code == 200
