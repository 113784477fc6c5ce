"""High Availability → Application: what is said of each host, what may be asked for, what is refused, what is written down."""

import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from auditlog.models import LogEntry
from django.conf import settings
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from nodes.admin.application.screen import shared_host_warning
from nodes.models import ApplicationNode, Event, Vault, VaultNode
from replication.core.version import VERSION
from replication.stores import application_wishes as wishes
from sectona_ha.checks import one_host_per_sqlite
from tests.stack import Controller, controller
from tests.waiting import wait_for

Pair = tuple[VaultNode, VaultNode]
HOSTS = "/admin/nodes/applicationnode/"
WANTED = {"hostname": "controller-2.example", "system_role": "controller", "ip_address": "192.0.2.12", "active": "on"}


def host(name: str = "controller-1", *programs: str, age: float = 1, **values: Any) -> ApplicationNode:
    """A row; its programs (service, ops, web) were heard `age` seconds ago."""
    at = timezone.now() - timedelta(seconds=age)
    seen = {f"{program}_seen": at for program in programs}
    fixed = {"version": VERSION, "last_seen": at} if programs else {}
    return ApplicationNode.objects.create(hostname=name, **{**fixed, **seen, **values})


def shown(client: Client) -> str:
    response = client.get(HOSTS)
    assert response.status_code == 200
    return str(response.content.decode())


def row(text: str, name: str) -> str:
    found = re.search(rf'<tr data-host="{re.escape(name)}">(.*?)</tr>', text, re.S)
    assert found is not None, f"no row of {name}"
    return found[1]


def cell(text: str, name: str, label: str) -> str:
    found = re.search(rf'<td data-label="{label}"[^>]*>(.*?)</td>', row(text, name), re.S)
    assert found is not None, f"no column {label}"
    return " ".join(unescape(re.sub(r'<a class="help-mark".*?</a>|<[^>]+>', " ", found[1], flags=re.S)).split())


def stamp(client: Client) -> str:
    found = re.search(r'data-stamp="(\w+)"', shown(client))
    assert found is not None
    return found[1]


def why(response: Any) -> str:
    return " ".join(unescape(error) for error in re.findall(r'role="alert">([^<]*)<', response.content.decode()))


class TestRows:
    def test_a_leader_a_standby_and_a_web_host(self, admin: Client, pair: Pair, lead: Callable[..., None]) -> None:
        lead(age=2)
        host("controller-1", "service", "web", "ops")
        host("controller-2", "service", age=4)
        host("web-1", "web", system_role="web", ip_address="192.0.2.40", addresses=["127.0.1.1"])
        text = shown(admin)
        assert cell(text, "controller-1", "Current Role") == "Leader 2 s ago Web just now Data work just now"
        assert cell(text, "controller-2", "Current Role") == "Standby 4 s ago"
        assert cell(text, "web-1", "Current Role") == "Web just now"
        assert cell(text, "web-1", "System Role") == "Web"
        assert cell(text, "web-1", "IP address") == "192.0.2.40 127.0.1.1"
        assert text.count('class="help-mark"') >= 5

    def test_a_leader_that_fell_silent_is_no_leader(self, admin: Client, pair: Pair, lead: Callable[..., None]) -> None:
        lead(age=7)
        host("controller-1", "service", age=7)
        assert re.fullmatch(r"Standby \d+ s ago", cell(shown(admin), "controller-1", "Current Role"))

    def test_a_host_of_whom_nothing_is_heard_is_not_shown_in_a_role(self, admin: Client, pair: Pair) -> None:
        host("controller-1", "service", "web", "ops", age=40)
        assert cell(shown(admin), "controller-1", "Current Role") == "Not seen lately"
        assert cell(shown(admin), "controller-1", "Last seen") == "40 s ago"

    def test_a_host_that_was_entered_and_never_heard_says_what_to_do(self, admin: Client, pair: Pair) -> None:
        host("controller-9", ip_address="192.0.2.9")
        text = shown(admin)
        assert cell(text, "controller-9", "Current Role").startswith("Never seen yet Start its workers")
        assert cell(text, "controller-9", "Last seen") == "never"
        assert "/admin/help/reference-commands/#managepy-runservice" in text

    def test_an_inactive_host_leads_nothing(self, admin: Client, pair: Pair) -> None:
        host("controller-1", "service", active=False)
        assert cell(shown(admin), "controller-1", "Current Role") == "Inactive just now"
        assert cell(shown(admin), "controller-1", "Active") == "No"

    def test_a_web_host_where_service_workers_run_says_so(self, admin: Client, pair: Pair) -> None:
        host("web-1", "service", system_role="web")
        assert cell(shown(admin), "web-1", "System Role") == "Web service workers run there"

    def test_another_version_is_marked(self, admin: Client, pair: Pair) -> None:
        host("controller-1", "service", version="0.0.1")
        assert cell(shown(admin), "controller-1", "Version") == f"0.0.1 this console: {VERSION}"

    def test_an_empty_list_says_when_it_fills(self, admin: Client, vault: Vault) -> None:
        assert "No host has registered yet" in shown(admin)

    @pytest.mark.parametrize(
        "change",
        [
            pytest.param({"active": False}, id="made inactive"),
            pytest.param({"system_role": "web"}, id="another role"),
            pytest.param({"ip_address": "192.0.2.1"}, id="an address"),
            pytest.param({"version": "9"}, id="a version"),
            pytest.param({"web_seen": timezone.now()}, id="another program"),
            pytest.param({"service_seen": None}, id="no service workers any more"),
        ],
    )
    def test_what_is_shown_changes_the_stamp(self, admin: Client, pair: Pair, change: dict[str, Any]) -> None:
        host("controller-1", "service")
        before = stamp(admin)
        assert admin.get(HOSTS, {"v": before}).status_code == 204
        ApplicationNode.objects.update(**change)
        assert stamp(admin) != before

    def test_ages_alone_do_not(self, admin: Client, pair: Pair, lead: Callable[..., None]) -> None:
        lead(age=0.5)
        host("controller-1", "service", "web")
        before = stamp(admin)
        lead(age=2)
        ApplicationNode.objects.update(web_seen=timezone.now() - timedelta(seconds=9))
        assert stamp(admin) == before


class TestSharedHost:
    """A controller on the Master's own host dies with it."""

    @pytest.fixture
    def master(self, pair: Pair) -> VaultNode:
        VaultNode.objects.filter(pk=pair[0].pk).update(ip_address="192.0.2.1")
        pair[0].refresh_from_db()
        return pair[0]

    @pytest.mark.parametrize(
        "values",
        [
            pytest.param({"ip_address": "192.0.2.1"}, id="entered with its address"),
            pytest.param({"addresses": ["198.51.100.1", "::ffff:192.0.2.1"]}, id="one of its own addresses"),
            pytest.param({"hostname": "ALPHA.example"}, id="the same name"),
        ],
    )
    def test_it_is_marked_and_warned_of(self, admin: Client, master: VaultNode, values: dict[str, Any]) -> None:
        name = values.pop("hostname", "controller-1")
        host(name, "service", **values)
        text = shown(admin)
        assert "it dies with the Master" in row(text, name)
        assert 'id="shared-host"' in text
        assert f"Every controller ({name}) runs on the Master&#x27;s own host alpha.example" in text

    def test_one_controller_elsewhere_is_enough(self, admin: Client, master: VaultNode) -> None:
        host("controller-1", "service", ip_address="192.0.2.1")
        host("controller-2", "service", ip_address="192.0.2.2")
        text = shown(admin)
        assert "it dies with the Master" in row(text, "controller-1")
        assert "it dies with the Master" not in row(text, "controller-2")
        assert 'id="shared-host"' not in text

    @pytest.mark.parametrize(
        "elsewhere",
        [
            pytest.param({"active": False}, id="inactive"),
            pytest.param({"service_seen": None}, id="without service workers"),
            pytest.param({"service_seen": timezone.now() - timedelta(hours=1)}, id="not seen lately"),
        ],
    )
    def test_one_elsewhere_that_could_not_lead_is_not(
        self, admin: Client, master: VaultNode, elsewhere: dict[str, Any]
    ) -> None:
        host("controller-1", "service", ip_address="192.0.2.1")
        host("controller-2", "service", **{"ip_address": "192.0.2.2", **elsewhere})
        assert 'id="shared-host"' in shown(admin)

    def test_a_web_host_beside_the_master_is_no_matter(self, admin: Client, master: VaultNode) -> None:
        host("web-1", "web", system_role="web", ip_address="192.0.2.1")
        assert "dies with the Master" not in shown(admin)

    def test_it_follows_the_master(self, admin: Client, master: VaultNode, pair: Pair) -> None:
        host("controller-1", "service", ip_address="192.0.2.1")
        before = stamp(admin)
        VaultNode.objects.filter(pk=pair[1].pk).update(ip_address="192.0.2.2")
        Vault.objects.update(primary=pair[1], promotable=None)
        assert "dies with the Master" not in shown(admin)
        assert stamp(admin) != before

    def test_on_one_machine_it_says_that_all_die_together(self, admin: Client, pair: Pair) -> None:
        assert pair[0].ip_address.startswith("127.")
        host("controller-1", "service", addresses=["192.0.2.1"])
        assert "is on this machine only" in shown(admin)

    def test_others_can_ask_the_same_without_a_query(
        self, master: VaultNode, django_assert_num_queries: Callable[[int], Any]
    ) -> None:
        rows = [host("controller-1", "service", ip_address="192.0.2.1")]
        vault = Vault.objects.select_related("primary").get()
        with django_assert_num_queries(0):
            said = shared_host_warning(vault, rows)
        assert "alpha.example" in said
        with django_assert_num_queries(1):
            assert shared_host_warning(vault) == said
        vault.primary = None
        assert shared_host_warning(vault, rows) == ""

    def test_the_vault_screen_says_so_at_the_next_poll_and_takes_it_back(
        self, admin: Client, master: VaultNode, django_assert_max_num_queries: Callable[[int], Any]
    ) -> None:
        def polled(stamp: str = "") -> tuple[bool, str]:
            """Whether a new list warns, and its stamp; after that nothing is new, for four queries."""
            text = admin.get("/admin/nodes/vaultnode/", {"v": stamp}).content.decode()
            found = re.search(r'data-stamp="(\w+)"', text)
            assert found is not None, "a new list"
            with django_assert_max_num_queries(4):
                assert admin.get("/admin/nodes/vaultnode/", {"v": found[1]}).status_code == 204
            return 'id="shared-host"' in text, found[1]

        warned, stamp = polled()
        assert not warned
        host("controller-1", "service", ip_address="192.0.2.1")
        warned, stamp = polled(stamp)
        assert warned
        host("controller-2", "service", ip_address="192.0.2.22")
        warned, stamp = polled(stamp)
        assert not warned


class TestWishes:
    @pytest.mark.parametrize("htmx", [True, False])
    def test_a_host_is_entered_before_it_was_ever_heard(
        self, administrator: User, enter: Callable[..., Client], htmx: bool
    ) -> None:
        client = enter(administrator, htmx=htmx)
        assert "Hostname" in client.get(HOSTS + "add/").content.decode()
        response = client.post(HOSTS + "add/", WANTED)
        assert response.status_code == (200 if htmx else 302)
        made = ApplicationNode.objects.get()
        assert (made.hostname, made.ip_address, made.active, made.last_seen) == (
            *list(WANTED.values())[::2],
            True,
            None,
        )
        (event,) = Event.objects.all()
        assert (event.node_name, event.actor) == (made.hostname, "root-of-all")
        entry = LogEntry.objects.get_for_object(made).get(action=LogEntry.Action.CREATE)
        assert entry.changes["ip_address"] == ["", "192.0.2.12"]
        assert entry.actor == administrator

    @pytest.mark.parametrize(
        ("wrong", "says"),
        [
            ({"hostname": ""}, "Enter the hostname"),
            ({"hostname": "two words"}, "letters, digits"),
            ({"hostname": "192.0.2.7"}, "IP address"),
            ({"ip_address": ""}, "Enter the IP address"),
            ({"ip_address": "192.0.2"}, "no IP address"),
            ({"ip_address": "0.0.0.0"}, "any address"),
            ({"system_role": "primary"}, "Choose Controller or Web."),
            ({"hostname": "Controller-1"}, "controller-1 is already in the list"),
            ({"ip_address": "192.0.2.11"}, "192.0.2.11 is already the address of controller-1."),
        ],
    )
    def test_what_is_wrong_is_said_and_changes_nothing(self, admin: Client, wrong: dict[str, str], says: str) -> None:
        host("controller-1", ip_address="192.0.2.11")
        response = admin.post(HOSTS + "add/", {**WANTED, **wrong})
        assert response.status_code == 422
        assert says in why(response)
        assert ApplicationNode.objects.count() == 1
        assert not Event.objects.exists()

    def test_update_changes_what_was_asked_for_and_says_what_it_was(self, admin: Client, administrator: User) -> None:
        host("controller-1", "service")
        it = host("controller-2", "service", ip_address="192.0.2.3")
        response = admin.post(f"{HOSTS}{it.pk}/change/", {"system_role": "web", "ip_address": "192.0.2.4"})
        assert "controller-2 was updated." in response.content.decode()
        it.refresh_from_db()
        assert (it.system_role, it.ip_address, it.active) == ("web", "192.0.2.4", False)
        assert it.service_seen is not None
        entry = LogEntry.objects.get_for_object(it).latest("timestamp")
        assert entry.changes == {
            "ip_address": ["192.0.2.3", "192.0.2.4"],
            "system_role": ["controller", "web"],
            "active": ["True", "False"],
        }
        assert "inactive" in Event.objects.get().text

    def test_saying_the_same_again_is_no_change(self, admin: Client) -> None:
        it = host("controller-1", "service", ip_address="192.0.2.3")
        same = {"system_role": it.system_role, "ip_address": "192.0.2.3", "active": "on"}
        assert admin.post(f"{HOSTS}{it.pk}/change/", same).status_code == 200
        assert not Event.objects.exists()
        assert not LogEntry.objects.get_for_object(it).exists()

    def test_a_host_that_entered_itself_needs_no_address_to_be_updated(self, admin: Client) -> None:
        host("controller-1", "service")
        it = host("controller-2", "service")
        response = admin.post(f"{HOSTS}{it.pk}/change/", {"system_role": "controller", "ip_address": ""})
        assert response.status_code == 200
        it.refresh_from_db()
        assert (it.active, it.ip_address) == (False, None)

    def test_the_address_of_another_host_is_refused(self, admin: Client) -> None:
        host("controller-1", ip_address="2001:db8::1")
        it = host("controller-2")
        response = admin.post(
            f"{HOSTS}{it.pk}/change/", {"system_role": "web", "ip_address": "2001:DB8:0::1", "active": "on"}
        )
        assert response.status_code == 422
        assert "is already the address of controller-1" in why(response)

    def test_delete_says_that_a_running_host_comes_back(self, admin: Client) -> None:
        it = host("controller-1", "service", active=False)
        text = admin.get(f"{HOSTS}{it.pk}/delete/").content.decode()
        assert "enters itself again" in text
        assert "It is active then" in text
        assert admin.post(f"{HOSTS}{it.pk}/delete/").status_code == 200
        assert not ApplicationNode.objects.exists()
        entry = LogEntry.objects.filter(object_repr="controller-1").get(action=LogEntry.Action.DELETE)
        assert entry.changes["hostname"] == ["controller-1", ""]

    def test_making_the_leader_inactive_says_what_happens(self, admin: Client, lead: Callable[..., None]) -> None:
        lead()
        one, two = host("controller-1", "service"), host("controller-2", "service")
        assert "it hands over to another host" in admin.get(f"{HOSTS}{one.pk}/change/").content.decode()
        assert "it hands over to another host" not in admin.get(f"{HOSTS}{two.pk}/change/").content.decode()

    def test_deleting_the_leader_says_that_it_leads(self, admin: Client, lead: Callable[..., None]) -> None:
        lead()
        it = host("Controller-1", "service")
        assert "It leads at this moment" in admin.get(f"{HOSTS}{it.pk}/delete/").content.decode()
        admin.post(f"{HOSTS}{it.pk}/delete/")
        assert not ApplicationNode.objects.exists()

    def test_what_has_been_deleted_meanwhile_is_said(self, administrator: User) -> None:
        it = host("controller-1")
        ApplicationNode.objects.filter(pk=it.pk).delete()
        wish = wishes.HostWish(hostname="controller-1", system_role="web", ip_address=None, active=True)
        assert [refused.rule for refused in wishes.update_host(it, wish, administrator)] == ["W92"]
        refused = wishes.remove_host(it, administrator)
        assert refused is not None
        assert refused.rule == "W92"
        assert not Event.objects.exists()


class TestLastActiveHost:
    """If every host were inactive, nobody would lead."""

    @pytest.mark.parametrize(
        ("others", "own", "refused"),
        [
            pytest.param([], {}, True, id="the only host"),
            pytest.param([{"age": 90}], {}, True, id="the other one was not seen lately"),
            pytest.param([{"active": False}], {}, True, id="the other one is inactive"),
            pytest.param([{"service_seen": None}], {}, True, id="the other one has no service workers"),
            pytest.param([{}], {}, False, id="another one could lead"),
            pytest.param([{"age": 90}], {"age": 90}, False, id="neither was seen lately, one stays active"),
            pytest.param([{"active": False}], {"age": 90}, True, id="the last active one, though silent"),
        ],
    )
    def test_somebody_has_to_stay(
        self, admin: Client, others: list[dict[str, Any]], own: dict[str, Any], refused: bool
    ) -> None:
        for number, values in enumerate(others, start=2):
            host(f"controller-{number}", "service", **values)
        it = host("controller-1", "service", **own)
        response = admin.post(f"{HOSTS}{it.pk}/change/", {"system_role": "controller", "ip_address": ""})
        it.refresh_from_db()
        assert it.active is refused
        assert ("the only active host" in why(response)) is refused
        assert response.status_code == (422 if refused else 200)


class TestDoors:
    def doors(self) -> dict[str, str]:
        it = ApplicationNode.objects.first() or host("controller-1", "service")
        return {"add": f"{HOSTS}add/", "change": f"{HOSTS}{it.pk}/change/", "delete": f"{HOSTS}{it.pk}/delete/"}

    @pytest.mark.parametrize("method", ["get", "post"])
    @pytest.mark.parametrize("name", ["add", "change", "delete"])
    def test_each_permission_opens_its_own_door_only(
        self, user: Callable[..., User], enter: Callable[..., Client], name: str, method: str
    ) -> None:
        client, doors = enter(user(f"{name}_applicationnode")), self.doors()
        opened = {door for door, url in doors.items() if getattr(client, method)(url).status_code in (200, 302, 422)}
        assert opened == {name}
        shown_doors = {door for door, url in self.doors().items() if f'hx-get="{url}"' in shown(client)}
        assert shown_doors == {name}

    def test_a_get_changes_nothing(self, admin: Client) -> None:
        for url in self.doors().values():
            assert admin.get(url).status_code == 200
        assert ApplicationNode.objects.count() == 1
        assert not Event.objects.exists()

    def test_without_the_csrf_token_nothing_changes(self, administrator: User) -> None:
        client = Client(enforce_csrf_checks=True)
        client.force_login(administrator)
        for url in self.doors().values():
            assert client.post(url, WANTED).status_code == 403
        assert ApplicationNode.objects.count() == 1

    def test_a_host_that_is_not_there_is_404(self, admin: Client, vault: Vault) -> None:
        assert {admin.get(f"{HOSTS}4711/{name}/").status_code for name in ("change", "delete")} == {404}

    def test_names_full_of_markup_are_text(self, admin: Client, plain: Client) -> None:
        evil = "<img src=x onerror=alert(1)>'\"&"
        it = host(evil, "service", version=evil, addresses=[evil])
        for client in (admin, plain):
            for url in (HOSTS, f"{HOSTS}{it.pk}/change/", f"{HOSTS}{it.pk}/delete/"):
                text = client.get(url).content.decode()
                assert "<img" not in text
                assert "&lt;img src=x" in text


@pytest.fixture(scope="module")
def hosts() -> Iterator[tuple[Controller, Controller]]:
    directory = Path(tempfile.mkdtemp(prefix="vha-"))
    try:
        with controller(directory) as one, controller(directory, name="controller-2", like=one) as two:
            yield one, two
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def test_an_own_row_that_was_typed_in_capitals_is_no_second_host_on_sqlite(db: None) -> None:
    host(settings.HOST_NAME.upper(), "service")
    assert one_host_per_sqlite(None, databases=["default"]) == []
    host("another-host", "service")
    assert [message.id for message in one_host_per_sqlite(None, databases=["default"])] == ["sectona_ha.E001"]


class TestPrograms:
    """The real programs of two controller hosts on one metadata database."""

    @staticmethod
    def seen(control: Controller, name: str = "controller-1") -> dict[str, Any]:
        found = control.rows("SELECT * FROM nodes_applicationnode WHERE hostname = ?", name)
        return found[0] if found else {}

    def heard(self, control: Controller, *programs: str) -> Callable[[], bool]:
        return lambda: all(self.seen(control).get(f"{program}_seen") for program in programs)

    def test_each_program_is_heard_and_a_command_is_none(self, hosts: tuple[Controller, Controller]) -> None:
        one, _ = hosts
        one.manage("check")
        assert not self.seen(one)
        one.web()
        wait_for(self.heard(one, "web"), 20, lambda: one.log("web"))
        assert self.seen(one)["system_role"] == "web"
        one.ops()
        one.service("a")
        wait_for(self.heard(one, "ops", "service"), 20, lambda: one.log("ops") + one.log("service-a"))
        assert self.seen(one)["system_role"] == "controller"

    def test_a_leader_whose_host_is_made_inactive_hands_over_in_well_under_two_seconds(
        self, hosts: tuple[Controller, Controller]
    ) -> None:
        one, two = hosts
        if "service-a" not in one.processes:
            one.service("a")
        wait_for(lambda: one.leader().get("host") == one.name, 30, lambda: one.log("service-a"))
        two.service("a")
        wait_for(lambda: self.seen(one, two.name), 30, lambda: two.log("service-a"))
        term = one.leader()["term"]
        one.execute("UPDATE nodes_applicationnode SET active = 0 WHERE hostname = ?", one.name)
        wait_for(lambda: "gives the leadership back" in one.full_log("service-a"), 15, lambda: one.log("service-a"))
        moment = time.monotonic()
        wait_for(lambda: one.leader()["host"] == two.name, 15, lambda: two.log("service-a"))
        assert time.monotonic() - moment < 1.2  # its lease alone would have lasted as long
        assert one.leader()["term"] == term + 1
        # Nobody leads on an inactive host, also when the leader dies; made active, it leads again.
        two.kill("service-a")
        one.execute("UPDATE nodes_applicationnode SET active = 1 WHERE hostname = ?", one.name)
        wait_for(lambda: one.leader()["host"] == one.name, 15, lambda: one.log("service-a"))
