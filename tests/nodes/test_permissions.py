"""Who may what: without a permission there is no button, and the address behind it answers 403 to GET and POST alike."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import pytest
from django.contrib.auth.models import User
from django.test import Client

from nodes.models import AppService, Event, Operation, Vault, VaultNode

Pair = tuple[VaultNode, VaultNode]
VAULT, SERVICES, HOSTS = "/admin/nodes/vaultnode/", "/admin/nodes/appservice/", "/admin/nodes/applicationnode/"


@dataclass(frozen=True)
class Door:
    permission: str
    address: str
    """{node} and {service} are filled in."""
    screen: str


DOORS = (
    Door("add_vaultnode", VAULT + "add/", VAULT),
    Door("change_vaultnode", VAULT + "{node}/change/", VAULT),
    Door("delete_vaultnode", VAULT + "{node}/delete/", VAULT),
    Door("resynchronize_vaultnode", VAULT + "{node}/resynchronize/", VAULT),
    Door("switchover_vaultnode", VAULT + "{node}/switchover/", VAULT),
    Door("pause_vault", VAULT + "pause/", VAULT),
    Door("change_vault", VAULT + "policy/", VAULT),
    Door("clear_hold_vault", VAULT + "hold/clear/", VAULT),
    Door("start_stop_appservice", SERVICES + "{service}/start/", SERVICES),
    Door("start_stop_appservice", SERVICES + "{service}/stop/", SERVICES),
    Door("run_appservice", SERVICES + "{service}/run/", SERVICES),
    Door("change_appservice", SERVICES + "{service}/setting/", SERVICES),
)
PERMISSIONS = sorted({door.permission for door in DOORS})


@pytest.fixture
def address(pair: Pair, service: AppService, held: datetime) -> Callable[[Door], str]:
    return lambda door: door.address.format(node=pair[1].pk, service=service.pk)


def state() -> tuple[object, ...]:
    return (
        list(VaultNode.objects.values_list("pk", "active", "removed_at")),
        list(AppService.objects.values_list("desired_state", "run_requested_at", "trigger_interval")),
        list(Vault.objects.values_list("silence_failover_at", "silence_hold_seconds", "paused_at", "stay_writable")),
        Event.objects.count(),
        Operation.objects.count(),
    )


@pytest.mark.parametrize("htmx", [True, False])
@pytest.mark.parametrize("method", ["get", "post"])
def test_a_viewer_gets_403_at_every_door(
    user: Callable[..., User], enter: Callable[..., Client], address: Callable[[Door], str], method: str, htmx: bool
) -> None:
    client, before = enter(user(), htmx=htmx), state()
    answers = {address(door): getattr(client, method)(address(door)).status_code for door in DOORS}
    assert set(answers.values()) == {403}, answers
    assert state() == before


def test_a_viewer_sees_all_screens_and_no_button(
    user: Callable[..., User], enter: Callable[..., Client], address: Callable[[Door], str], lead: Callable[..., None]
) -> None:
    lead()
    client = enter(user())
    for screen in (VAULT, SERVICES, HOSTS):
        response = client.get(screen)
        assert response.status_code == 200
        text = response.content.decode()
        main = text[text.index('id="content-main"') :]
        assert "hx-get" in main  # the list itself
        assert 'hx-target="#dialog-body"' not in main
        assert "<form" not in main
        assert not [door for door in DOORS if address(door) in text]


@pytest.mark.parametrize("permission", PERMISSIONS)
def test_each_permission_opens_its_own_doors_only(
    user: Callable[..., User],
    enter: Callable[..., Client],
    address: Callable[[Door], str],
    lead: Callable[..., None],
    permission: str,
) -> None:
    lead()
    client = enter(user(permission))
    own = {address(door) for door in DOORS if door.permission == permission}
    opened = {address(door) for door in DOORS if client.get(address(door)).status_code == 200}
    assert opened == own
    foreign = {address(door) for door in DOORS} - own
    assert {client.post(url).status_code for url in foreign} == {403}


@pytest.mark.parametrize("permission", PERMISSIONS)
def test_each_permission_shows_its_own_buttons_only(
    user: Callable[..., User],
    enter: Callable[..., Client],
    address: Callable[[Door], str],
    lead: Callable[..., None],
    permission: str,
) -> None:
    """Started and stopped, since a service has one of Start and Stop at a time."""
    client = enter(user(permission))
    shown = client.get(VAULT).content.decode() + client.get(SERVICES).content.decode()
    lead()
    shown += client.get(VAULT).content.decode() + client.get(SERVICES).content.decode()
    buttons = {address(door) for door in DOORS if f'hx-get="{address(door)}"' in shown}
    assert buttons == {address(door) for door in DOORS if door.permission == permission}


@pytest.mark.parametrize("screen", [VAULT, SERVICES, HOSTS])
def test_a_screen_that_one_may_not_see_answers_403_and_is_not_in_the_menu(
    user: Callable[..., User], enter: Callable[..., Client], pair: Pair, screen: str
) -> None:
    client = enter(user(view=False))
    assert client.get(screen).status_code == 403
    assert f'href="{screen}"' not in client.get("/admin/password_change/").content.decode()


def test_staff_without_any_permission_reaches_a_page_that_says_so(
    user: Callable[..., User], enter: Callable[..., Client]
) -> None:
    response = enter(user(view=False)).get("/admin/")
    assert response.status_code == 200
    assert "permission" in response.content.decode()


@pytest.mark.parametrize("method", ["get", "post"])
def test_who_has_not_logged_in_is_sent_to_the_login_and_comes_back(address: Callable[[Door], str], method: str) -> None:
    client, before = Client(), state()
    for url in (VAULT, SERVICES, HOSTS, *(address(door) for door in DOORS)):
        response = getattr(client, method)(url)
        assert (response.status_code, response["Location"]) == (302, f"/admin/login/?next={url}")
    assert state() == before


def test_a_user_who_is_no_staff_stays_outside(db: None, enter: Callable[..., Client]) -> None:
    client = enter(User.objects.create_user("outsider", password=None))
    assert client.get(VAULT).status_code == 302


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.address.strip("/").replace("/", "-"))
def test_a_post_without_the_csrf_token_is_refused(
    administrator: User, address: Callable[[Door], str], door: Door
) -> None:
    client, before = Client(enforce_csrf_checks=True), state()
    client.force_login(administrator)
    assert client.post(address(door)).status_code == 403
    assert state() == before
