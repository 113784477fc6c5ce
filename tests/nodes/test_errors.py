"""What is not allowed, not there, broken or out of date: a page or a sentence that says what to do, and gives nothing away."""

import logging
import re
from collections.abc import Callable
from html import unescape
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import Group, Permission, User
from django.db import OperationalError
from django.template.exceptions import TemplateDoesNotExist
from django.test import Client

from nodes.admin.application.screen import ApplicationNodeAdmin
from nodes.models import ApplicationNode, VaultNode
from nodes.roles import ADMINISTRATOR

Pair = tuple[VaultNode, VaultNode]
HOSTS, LOGIN = "/admin/nodes/applicationnode/", "/admin/login/"
SECRET = "the-password-in-the-message"


def words(response: Any) -> str:
    """What a person reads."""
    body = re.sub(r"<head>.*?</head>|<script.*?</script>", " ", response.content.decode(), flags=re.S)
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", body)).split())


def check_page(response: Any, status: int) -> None:
    """A whole page of ours, under the same policy as every other page."""
    assert response.status_code == status
    text = response.content.decode()
    assert '<section class="card error-page">' in text
    assert "Vault High Availability" in text
    assert not re.search(r"<script(?![^>]* src=)|\sstyle=|\son\w+=|javascript:", text)
    assert "default-src 'none'" in response["Content-Security-Policy"]
    assert response["Content-Type"].startswith("text/html")


def check_sentence(response: Any, status: int) -> str:
    """What htmx gets: text for a popup or notice."""
    assert response.status_code == status
    assert response["Content-Type"].startswith("text/plain")
    assert "HX-Request" in response["Vary"]
    text: str = response.content.decode()
    assert "<" not in text
    return text


@pytest.fixture(autouse=True)
def as_in_production(settings: Any) -> None:
    assert settings.DEBUG is False


class TestNotAllowed:
    def test_it_names_the_permission_and_whom_to_ask(
        self, user: Callable[..., User], enter: Callable[..., Client]
    ) -> None:
        group, _ = Group.objects.get_or_create(name=ADMINISTRATOR)
        group.permissions.add(Permission.objects.get(codename="add_applicationnode"))
        User.objects.create_user("nina", is_staff=True).groups.add(group)
        response = enter(user()).get(HOSTS + "add/")
        check_page(response, 403)
        assert "It needs the permission Can add application node" in words(response)
        assert f"The role {ADMINISTRATOR} has it." in words(response)
        assert "nina" in words(response)
        assert f'href="{HOSTS}"' in response.content.decode()  # the menu is there

    def test_htmx_gets_a_sentence(self, user: Callable[..., User], enter: Callable[..., Client]) -> None:
        said = check_sentence(enter(user(), htmx=True).post(HOSTS + "add/"), 403)
        assert said.startswith("You may not do this: it needs the permission “Can add application node”.")

    @pytest.mark.parametrize(
        ("address", "permission"),
        [
            ("/admin/nodes/vaultnode/add/", "Can add vault node"),
            ("/admin/nodes/vaultnode/{node}/change/", "Can change vault node"),
            ("/admin/nodes/vaultnode/{node}/switchover/", "Can make another vault node the Master"),
            ("/admin/nodes/appservice/{service}/start/", "Can start and stop services"),
            ("/admin/nodes/appservice/{service}/run/", "Can run a service now"),
            ("/admin/nodes/appservice/{service}/setting/", "Can change app service"),
            ("/admin/auth/user/", "Can view user"),
        ],
    )
    def test_other_screens_say_it_too(
        self,
        user: Callable[..., User],
        enter: Callable[..., Client],
        pair: Pair,
        service: Any,
        address: str,
        permission: str,
    ) -> None:
        response = enter(user()).get(address.format(node=pair[1].pk, service=service.pk))
        check_page(response, 403)
        assert permission in words(response)

    def test_without_the_database_it_still_says_so(
        self, user: Callable[..., User], enter: Callable[..., Client], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def away(*_: object) -> None:
            raise OperationalError("gone")

        monkeypatch.setattr("sectona_ha.errors._missing", away)
        response = enter(user()).get(HOSTS + "add/")
        check_page(response, 403)
        assert "Your account does not have the permission that it needs." in words(response)


class TestNotThere:
    @pytest.mark.parametrize(
        "address", [HOSTS + "4711/change/", "/admin/nothing/here/", "/nothing", "/admin/help/nothing/"]
    )
    def test_staff_finds_the_way_back(self, admin: Client, plain: Client, address: str) -> None:
        response = plain.get(address)
        check_page(response, 404)
        assert "There is nothing here" in words(response)
        assert f'href="{HOSTS}"' in response.content.decode()  # the menu is there
        assert "no longer there" in check_sentence(admin.get(address), 404)

    def test_others_learn_nothing(self, db: None) -> None:
        response = Client().get("/nothing/<script>alert(1)</script>")
        check_page(response, 404)
        assert "<script>alert" not in response.content.decode()
        assert "alert(1)" not in words(response), "only the language switch knows the way back"
        assert HOSTS not in response.content.decode()


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ValueError(SECRET)

    monkeypatch.setattr(ApplicationNodeAdmin, "snapshot", fail)


def careless(client: Client) -> Client:
    """As a browser, which gets an answer instead of the exception."""
    client.raise_request_exception = False
    return client


class TestBroken:
    def reference(self, text: str, log: pytest.LogCaptureFixture) -> str:
        """The reference on the page, which has to stand in the log before the traceback."""
        found = re.search(r"\b[0-9a-f]{8}\b", text)
        assert found is not None
        places = [number for number, record in enumerate(log.records) if found[0] in record.getMessage()]
        traceback = [
            number for number, record in enumerate(log.records) if record.exc_info and SECRET in str(record.exc_info[1])
        ]
        assert places
        assert traceback
        assert places[0] < traceback[0]
        return found[0]

    def test_the_page_has_a_reference_and_no_secret(
        self, plain: Client, broken: None, caplog: pytest.LogCaptureFixture
    ) -> None:
        response = careless(plain).get(HOSTS)
        check_page(response, 500)
        self.reference(words(response), caplog)
        assert "The vault and its failover do not depend on it" in words(response)
        text = response.content.decode()
        assert SECRET not in text
        assert "ValueError" not in text
        assert settings.SECRET_KEY not in text
        assert "<time datetime=" in text

    def test_htmx_gets_a_sentence(self, admin: Client, broken: None, caplog: pytest.LogCaptureFixture) -> None:
        said = check_sentence(careless(admin).get(HOSTS), 500)
        self.reference(said, caplog)
        assert SECRET not in said

    def test_two_errors_have_two_references(
        self, admin: Client, broken: None, caplog: pytest.LogCaptureFixture
    ) -> None:
        careless(admin)
        assert len({admin.get(HOSTS).content for _ in range(3)}) == 3

    def test_the_page_asks_no_database(
        self, plain: Client, broken: None, monkeypatch: pytest.MonkeyPatch, django_assert_num_queries: Any
    ) -> None:
        with django_assert_num_queries(2):  # session and user, before it broke
            assert careless(plain).get(HOSTS).status_code == 500

    def test_when_even_the_page_fails_a_sentence_is_left(
        self, plain: Client, broken: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def missing(*_: object) -> str:
            raise TemplateDoesNotExist("500.html")

        monkeypatch.setattr("sectona_ha.errors.render_to_string", missing)
        with caplog.at_level(logging.ERROR):
            said = check_sentence(careless(plain).get(HOSTS), 500)
        self.reference(said, caplog)


class TestOutOfDate:
    def client(self, who: User, **headers: str) -> Client:
        client = Client(enforce_csrf_checks=True, headers=headers)
        client.force_login(who)
        return client

    def test_a_form_without_its_token_says_how_to_go_on(self, administrator: User) -> None:
        client = self.client(administrator)
        client.cookies[settings.CSRF_COOKIE_NAME] = "x" * 32
        response = client.post(HOSTS + "add/", {"hostname": "a"}, headers={"referer": f"http://testserver{HOSTS}"})
        check_page(response, 403)
        assert "Nothing was changed." in words(response)
        assert "before you last logged in" in words(response)
        assert f'href="http://testserver{HOSTS}"' in response.content.decode()
        assert not ApplicationNode.objects.exists()

    def test_a_browser_without_cookies_is_told_so(self, administrator: User) -> None:
        response = self.client(administrator).post(HOSTS + "add/")
        check_page(response, 403)
        assert "Allow cookies" in words(response)

    def test_a_proxy_that_hides_our_address_is_told_of(self, administrator: User) -> None:
        response = self.client(administrator).post(HOSTS + "add/", headers={"origin": "https://vault.example.net"})
        check_page(response, 403)
        assert "VAULT_HA_TRUSTED_ORIGINS" in words(response)

    def test_no_link_leads_to_another_site(self, administrator: User) -> None:
        response = self.client(administrator).post(HOSTS + "add/", headers={"referer": "https://evil.example/x"})
        assert "evil" not in response.content.decode()

    def test_htmx_gets_a_sentence(self, administrator: User) -> None:
        client = self.client(administrator, **{"HX-Request": "true"})
        assert "Reload it and try again" in check_sentence(client.post(HOSTS + "add/"), 403)

    def test_a_login_form_that_is_too_old(self, db: None) -> None:
        response = Client(enforce_csrf_checks=True).post(LOGIN, {"username": "a", "password": "b"})
        check_page(response, 403)


def test_a_hostname_that_is_not_ours_is_said(db: None) -> None:
    response = Client().get(LOGIN, headers={"host": "other.example"})
    assert response.status_code == 400
    assert "VAULT_HA_ALLOWED_HOSTS" in words(response)
    assert "other.example" not in words(response)


class TestLogin:
    def test_it_says_what_this_is_and_helps_password_managers(self, db: None) -> None:
        response = Client().get(LOGIN)
        text = response.content.decode()
        assert "Vault High Availability" in words(response)
        assert 'autocomplete="username"' in text
        assert 'autocomplete="current-password"' in text
        assert text.count("<h1>") == 1
        assert not re.search(r"\sstyle=|\son\w+=", text)

    def test_a_wrong_password_is_one_sentence_at_the_top(self, administrator: User) -> None:
        response = Client().post(LOGIN, {"username": "root-of-all", "password": "wrong"})
        assert len(re.findall(r'class="form-error" role="alert"', response.content.decode())) == 1
        assert "do not fit together" in words(response)
        other = Client().post(LOGIN, {"username": "nobody", "password": "wrong"})
        assert words(other) == words(response), "it tells which users exist"

    def test_an_empty_field_is_said_at_the_field(self, db: None) -> None:
        text = Client().post(LOGIN, {"username": "", "password": "x"}).content.decode()
        assert 'id="id_username_error" role="alert"' in text

    def test_who_may_log_in_but_is_no_staff_is_told_so(self, db: None, enter: Callable[..., Client]) -> None:
        client = enter(User.objects.create_user("outsider <b>", password=None))
        text = client.get(LOGIN).content.decode()
        assert "You are logged in as outsider &lt;b&gt;" in text

    def test_it_leads_to_where_one_wanted_to_go(self, db: None) -> None:
        User.objects.create_superuser("nina", password="twelve-chars-long")
        sent = {"username": "nina", "password": "twelve-chars-long", "next": HOSTS}
        assert Client().post(LOGIN, sent)["Location"] == HOSTS
        assert Client().post(LOGIN, {**sent, "next": "https://evil.example/"})["Location"] == "/admin/"
