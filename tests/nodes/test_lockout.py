"""Too many failed logins lock a name for the address that they came from; where a request comes from cannot be invented."""

from datetime import timedelta
from typing import Any

import pytest
from auditlog.models import LogEntry
from axes.models import AccessAttempt
from django.conf import settings as configured
from django.contrib.auth.models import User
from django.http import HttpResponse
from django.test import Client, RequestFactory
from django.test.utils import override_settings
from django.utils import timezone

from sectona_ha.middleware import client_address

LOGIN = "/admin/login/"
RIGHT, WRONG = "the right password", "a wrong password"
HERE, THERE = "127.0.68.1", "127.0.68.2"


@pytest.fixture(autouse=True)
def quick_hashes(settings: Any) -> None:
    """How long a password takes to check is not what is tested here."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture
def somebody(db: None) -> User:
    return User.objects.create_user("somebody", password=RIGHT, is_staff=True)


def log_in(password: str, *, address: str = HERE, username: str = "somebody", **headers: str) -> HttpResponse:
    return Client(REMOTE_ADDR=address, headers=headers or None).post(
        LOGIN, {"username": username, "password": password}
    )


def fail(times: int = 5, **where: str) -> HttpResponse:
    answers = [log_in(WRONG, **where) for _ in range(times)]
    assert {answer.status_code for answer in answers[:-1]} <= {200}
    return answers[-1]


class TestLockout:
    def test_the_fifth_failure_locks_with_a_page_that_says_until_when(self, somebody: User) -> None:
        answer = fail()
        assert (answer.status_code, answer["Retry-After"]) == (429, "900")
        text = answer.content.decode()
        assert "Locked for a while" in text
        assert "15 minutes" in text
        assert "manage.py vault unlock" in text
        assert WRONG not in text
        assert "default-src" in answer["Content-Security-Policy"]

    def test_then_the_right_password_does_not_help_from_there(self, somebody: User) -> None:
        fail()
        assert log_in(RIGHT).status_code == 429

    def test_nobody_is_locked_out_from_everywhere_by_somebody_elsewhere(self, somebody: User) -> None:
        fail(address=THERE)
        assert log_in(RIGHT).status_code == 302

    def test_the_next_address_of_the_same_ipv6_network_does_not_help(self, somebody: User) -> None:
        for n in range(5):
            answer = log_in(WRONG, address=f"2001:db8:68::{n + 1:x}")
        assert answer.status_code == 429
        assert log_in(RIGHT, address="2001:db8:68:0:9::9").status_code == 429
        assert log_in(RIGHT, address="2001:db8:68:1::1").status_code == 302

    def test_another_name_is_not_locked(self, somebody: User) -> None:
        User.objects.create_user("colleague", password=RIGHT, is_staff=True)
        fail()
        assert log_in(RIGHT, username="colleague").status_code == 302

    def test_a_name_that_nobody_has_is_locked_alike(self, db: None) -> None:
        answer = fail(username="nobody")
        assert answer.status_code == 429
        assert "nobody" in answer.content.decode()

    def test_a_success_starts_the_count_afresh(self, somebody: User) -> None:
        fail(4)
        assert log_in(RIGHT).status_code == 302
        fail(4)
        assert log_in(RIGHT).status_code == 302

    def test_it_ends_after_its_time_and_tries_meanwhile_do_not_prolong_it(self, somebody: User) -> None:
        fail()
        locked_at = AccessAttempt.objects.get().attempt_time
        assert log_in(WRONG).status_code == 429
        assert AccessAttempt.objects.get().attempt_time == locked_at
        AccessAttempt.objects.update(attempt_time=timezone.now() - configured.AXES_COOLOFF_TIME - timedelta(seconds=1))
        assert log_in(RIGHT).status_code == 302

    def test_what_was_typed_is_text_on_the_page(self, db: None) -> None:
        text = fail(username="<img src=x onerror=alert(1)>").content.decode()
        assert "<img" not in text
        assert "&lt;img src=x" in text

    def test_no_password_is_kept(self, somebody: User) -> None:
        fail()
        assert WRONG not in str(AccessAttempt.objects.values().get())
        assert WRONG not in str(list(LogEntry.objects.values()))

    @override_settings(BEHIND_PROXY=True)
    def test_behind_a_proxy_it_counts_by_the_client_not_by_the_proxy(self, somebody: User) -> None:
        fail(**{"X-Forwarded-For": "198.51.100.1", "address": THERE})
        assert log_in(RIGHT, address=THERE, **{"X-Forwarded-For": "198.51.100.1"}).status_code == 429
        assert log_in(RIGHT, address=THERE, **{"X-Forwarded-For": "198.51.100.2"}).status_code == 302

    @override_settings(BEHIND_PROXY=True)
    def test_and_inventing_another_address_for_each_try_does_not_help(self, somebody: User) -> None:
        for n in range(5):
            answer = log_in(WRONG, address=THERE, **{"X-Forwarded-For": f"203.0.113.{n}, 198.51.100.1"})
        assert answer.status_code == 429


class TestEntries:
    def entries(self) -> list[tuple[str, str, str | None, str | None]]:
        found = LogEntry.objects.filter(action=LogEntry.Action.ACCESS).order_by("pk").select_related("actor")
        return [
            (e.object_repr, e.additional_data["what"], e.remote_addr, e.actor.username if e.actor else None)
            for e in found
        ]

    def test_login_and_logout_name_the_user_and_his_address(self, somebody: User) -> None:
        client = Client(REMOTE_ADDR=HERE)
        client.post(LOGIN, {"username": "somebody", "password": RIGHT})
        client.post("/admin/logout/")
        assert self.entries() == [
            ("somebody", "logged in", HERE, "somebody"),
            ("somebody", "logged out", HERE, "somebody"),
        ]
        assert "via" not in LogEntry.objects.first().additional_data

    def test_failures_keep_what_was_typed_and_one_entry_tells_of_the_lock(self, somebody: User) -> None:
        fail()
        log_in(WRONG)
        assert self.entries() == [
            *[("somebody", "login failed", HERE, None)] * 4,
            ("somebody", "login failed, and locked for 15 minutes", HERE, None),
        ]

    def test_a_name_as_long_as_a_novel_is_no_login_at_all(self, db: None) -> None:
        assert log_in(WRONG, username="n" * 5000).status_code == 200
        assert all(len(name) <= 150 for name, *_ in self.entries())

    def test_a_session_that_a_program_makes_is_no_login(self, somebody: User) -> None:
        Client().force_login(somebody)
        assert self.entries() == []


class TestClientAddress:
    @pytest.mark.parametrize(
        ("remote", "expected"),
        [
            pytest.param("192.0.2.1", "192.0.2.1", id="IPv4"),
            pytest.param("2001:DB8::0001", "2001:db8::1", id="IPv6 in one spelling"),
            pytest.param("::ffff:192.0.2.1", "192.0.2.1", id="IPv4 on a socket for both"),
            pytest.param("fe80::1%eth0", "fe80::1", id="with a zone"),
            pytest.param("", None, id="a unix socket has none"),
            pytest.param("garbage", None, id="garbage"),
        ],
    )
    def test_without_a_proxy_it_is_who_connects(self, remote: str, expected: str | None) -> None:
        request = RequestFactory().get("/", REMOTE_ADDR=remote, headers={"X-Forwarded-For": "203.0.113.9"})
        assert client_address(request) == expected

    @pytest.mark.parametrize(
        ("said", "proxies", "expected"),
        [
            pytest.param("198.51.100.1", 1, "198.51.100.1", id="one hop"),
            pytest.param(
                "203.0.113.9, 198.51.100.1", 1, "198.51.100.1", id="what the client invents stands on the left"
            ),
            pytest.param("203.0.113.9, 198.51.100.1, 192.0.2.8", 2, "198.51.100.1", id="two proxies of ours"),
            pytest.param("198.51.100.1", 2, "198.51.100.1", id="past the outer proxy"),
            pytest.param("[2001:db8::5]:4711", 1, "2001:db8::5", id="IPv6 with a port"),
            pytest.param("2001:db8::5", 1, "2001:db8::5", id="IPv6"),
            pytest.param("198.51.100.1:4711", 1, "198.51.100.1", id="IPv4 with a port"),
            pytest.param("unknown", 1, None, id="a proxy that does not know either"),
            pytest.param("203.0.113.9, <script>", 1, None, id="garbage"),
            pytest.param("", 1, "127.0.68.9", id="not through the proxy"),
        ],
    )
    def test_behind_a_proxy_it_is_what_our_own_proxies_wrote(
        self, said: str, proxies: int, expected: str | None
    ) -> None:
        request = RequestFactory().get("/", REMOTE_ADDR="127.0.68.9", headers={"X-Forwarded-For": said})
        with override_settings(BEHIND_PROXY=True, PROXIES=proxies):
            assert client_address(request) == expected

    @override_settings(BEHIND_PROXY=True)
    def test_garbage_does_not_keep_an_entry_from_being_written(self, somebody: User) -> None:
        assert log_in(RIGHT, **{"X-Forwarded-For": "not an address"}).status_code == 302
        assert LogEntry.objects.get(action=LogEntry.Action.ACCESS).remote_addr is None
