"""The screens as a browser without JavaScript, and as htmx, gets them: cheap while nothing changes, never more than known."""

import json
import re
from collections.abc import Callable
from datetime import timedelta
from html import unescape
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from django.utils.html import strip_tags

from nodes.choices import OperationKind, OperationState
from nodes.models import ApplicationNode, AppService, Event, Operation, ServiceLease, Vault, VaultNode
from replication.core.roles import NodeStatus
from replication.core.version import VERSION
from tests.nodes.conftest import add

Pair = tuple[VaultNode, VaultNode]
VAULT, SERVICES, HOSTS = "/admin/nodes/vaultnode/", "/admin/nodes/appservice/", "/admin/nodes/applicationnode/"
SCREENS = (VAULT, SERVICES, HOSTS)


INTENT = {
    "kind": "failover",
    "target": "b" * 32,
    "entitled": "b" * 32,
    "former_primary": "a" * 32,
    "must_revoke": ["b" * 32],
}
"""A failover from alpha to beta, half way."""


def stamp(client: Client, screen: str) -> str:
    found = re.search(r'data-stamp="(\w+)"', client.get(screen).content.decode())
    assert found is not None
    return found[1]


def cell(text: str, hostname: str, label: str) -> str:
    """What stands in a column of a node's row, as text."""
    row = re.search(rf'<tr data-node="{re.escape(hostname)}">(.*?)</tr>', text, re.S)
    assert row is not None, f"no row of {hostname}"
    found = re.search(rf'<td data-label="{label}"[^>]*>(.*?)</td>', row[1], re.S)
    assert found is not None, f"no column {label}"
    return " ".join(unescape(re.sub(r'<a class="help-mark".*?</a>|<[^>]+>', " ", found[1], flags=re.S)).split())


def shown(client: Client, screen: str = VAULT) -> str:
    response = client.get(screen)
    assert response.status_code == 200
    return response.content.decode()


class TestPolling:
    @pytest.mark.parametrize("screen", SCREENS)
    def test_nothing_changed_is_204_with_the_ages_in_a_header(
        self, admin: Client, pair: Pair, lead: Callable[..., None], screen: str
    ) -> None:
        lead(answers={pair[0].pk: 0.4})
        response = admin.get(screen, {"v": stamp(admin, screen)})
        assert (response.status_code, response.content) == (204, b"")
        assert "ages" in json.loads(response["HX-Trigger"])

    def test_the_ages_travel_with_every_answer_and_are_as_old_as_the_lease_says(
        self, admin: Client, pair: Pair, lead: Callable[..., None]
    ) -> None:
        lead(age=2, answers={pair[0].pk: 0.5, pair[1].pk: None})
        for response in (admin.get(VAULT), admin.get(VAULT, {"v": stamp(admin, VAULT)})):
            header = response["HX-Trigger-After-Settle" if response.status_code == 200 else "HX-Trigger"]
            ages = json.loads(header)["ages"]
            assert 2.5 <= ages["n0"] < 10
            assert ages["n1"] is None

    def test_a_result_goes_from_the_screen_after_ten_minutes_although_no_row_changes(
        self, admin: Client, pair: Pair, lead: Callable[..., None]
    ) -> None:
        lead()
        operation = Operation.objects.create(
            kind=OperationKind.RESYNCHRONIZE, vault=pair[0].vault, state=OperationState.SUCCEEDED,
            finished_at=timezone.now(), result={"summary": "brought up to 0-1-7"},
        )  # fmt: skip
        before = stamp(admin, VAULT)
        assert "brought up to 0-1-7" in shown(admin)
        # update(): no other column moves, as when time alone passes.
        Operation.objects.filter(pk=operation.pk).update(finished_at=timezone.now() - timedelta(minutes=11))
        response = admin.get(VAULT, {"v": before})
        assert response.status_code == 200
        assert "brought up to 0-1-7" not in response.content.decode()

    def test_ages_alone_do_not_change_the_stamp(self, admin: Client, pair: Pair, lead: Callable[..., None]) -> None:
        lead(answers={node.pk: 0.1 for node in pair})
        before = stamp(admin, VAULT)
        lead(age=1, answers={node.pk: 0.6 for node in pair})
        assert stamp(admin, VAULT) == before

    @pytest.mark.parametrize(
        "change",
        [
            pytest.param(lambda a, b: VaultNode.objects.filter(pk=b.pk).update(status="unreachable"), id="a status"),
            pytest.param(lambda a, b: VaultNode.objects.filter(pk=b.pk).update(active=False), id="a wish"),
            pytest.param(lambda a, b: VaultNode.objects.filter(pk=b.pk).update(removed_at=timezone.now()), id="gone"),
            pytest.param(lambda a, b: Event.objects.create(vault=a.vault, text="something"), id="an event"),
            pytest.param(lambda a, b: Vault.objects.update(promotable=None), id="lossless became solo"),
            pytest.param(lambda a, b: Vault.objects.update(reason="another"), id="the reason"),
            pytest.param(lambda a, b: ServiceLease.objects.update(term=4), id="another leader"),
            pytest.param(
                lambda a, b: ServiceLease.objects.update(renewed_at=timezone.now() - timedelta(minutes=1)),
                id="the leader fell silent",
            ),
            pytest.param(lambda a, b: AppService.objects.update(desired_state="stopped"), id="the service stopped"),
            pytest.param(
                lambda a, b: Operation.objects.create(kind=OperationKind.RESYNCHRONIZE, vault=a.vault),
                id="an operation",
            ),
        ],
    )
    def test_whatever_is_on_the_screen_changes_the_stamp(
        self, admin: Client, pair: Pair, lead: Callable[..., None], change: Callable[[VaultNode, VaultNode], Any]
    ) -> None:
        lead()
        before = stamp(admin, VAULT)
        change(*pair)
        response = admin.get(VAULT, {"v": before})
        assert response.status_code == 200
        assert b"<html" not in response.content  # the list only

    @pytest.mark.parametrize("screen", SCREENS)
    def test_an_unchanged_poll_takes_four_queries_at_most(
        self, admin: Client, pair: Pair, lead: Callable[..., None], screen: str, django_assert_max_num_queries: Any
    ) -> None:
        lead()
        current = stamp(admin, screen)
        with django_assert_max_num_queries(4):
            assert admin.get(screen, {"v": current}).status_code == 204

    @pytest.mark.parametrize("screen", SCREENS)
    @pytest.mark.parametrize("partial", [True, False])
    def test_a_full_answer_takes_the_same_queries_for_two_nodes_and_for_forty(
        self,
        admin: Client,
        plain: Client,
        pair: Pair,
        lead: Callable[..., None],
        screen: str,
        partial: bool,
        django_assert_num_queries: Any,
        django_assert_max_num_queries: Any,
    ) -> None:
        client = admin if partial else plain
        lead()
        ApplicationNode.objects.create(hostname="c-0", version=VERSION, last_seen=timezone.now())
        with django_assert_max_num_queries(8) as few:
            shown(client, screen)
        for number in range(3, 41):
            add(pair[0].vault, "n", number, id=f"{number:032}", hostname=f"n{number}.example", agent_id=f"{number}")
            ApplicationNode.objects.create(hostname=f"c-{number}", version=VERSION, last_seen=timezone.now())
            Event.objects.create(vault=pair[0].vault, text=f"event {number}")
        with django_assert_num_queries(len(few)):
            shown(client, screen)

    @pytest.mark.parametrize("screen", SCREENS)
    def test_caches_keep_the_page_and_its_part_apart(self, admin: Client, vault: Vault, screen: str) -> None:
        assert "HX-Request" in admin.get(screen)["Vary"]

    def test_a_poll_after_the_session_has_ended_reloads_the_page_instead_of_showing_a_login_inside_the_list(
        self, vault: Vault
    ) -> None:
        response = Client(headers={"HX-Request": "true"}).get(VAULT, follow=True)
        assert response["HX-Refresh"] == "true"
        assert response.content == b""


class TestWhatIsKnown:
    def test_a_led_vault_shows_what_the_service_wrote(
        self, admin: Client, pair: Pair, lead: Callable[..., None]
    ) -> None:
        lead(answers={pair[0].pk: 0.1, pair[1].pk: 0.2})
        text = shown(admin)
        assert cell(text, "alpha.example", "Status") == "Master"
        assert cell(text, "beta.example", "Status") == "Slave – Waiting for Master to send events"
        assert cell(text, "alpha.example", "Current Role") == "Primary-1"
        assert cell(text, "beta.example", "Last answer") == "just now"
        assert 'class="safety ok"' in text
        assert "<strong>Lossless</strong>" in text

    def test_a_stopped_service_knows_nothing(self, admin: Client, pair: Pair) -> None:
        text = shown(admin)
        assert cell(text, "alpha.example", "Status") == "Unknown last seen: Master"
        assert cell(text, "beta.example", "Status") == "Unknown last seen: Slave – Waiting for Master to send events"
        assert "<strong>Not watched</strong>" in text
        assert 'class="safety off"' in text

    @pytest.mark.parametrize("age", [6, 3600])
    def test_a_leader_that_fell_silent_knows_nothing(
        self, admin: Client, pair: Pair, lead: Callable[..., None], age: float
    ) -> None:
        lead(age=age, answers={pair[0].pk: 0.1})
        text = shown(admin)
        assert cell(text, "alpha.example", "Status") == "Unknown last seen: Master"
        assert "<strong>Unknown</strong>" in text
        assert "last sign of life" in text
        assert 'class="safety bad"' in text
        assert cell(text, "alpha.example", "Last answer") != "just now"
        services = shown(admin, SERVICES)
        assert "No worker" in services
        assert re.search(r"no worker runs this service, last sign of life <span[^>]*>\d+ (s|min) ago", services)

    def test_app_services_says_who_leads_and_how_old_that_word_is(
        self, admin: Client, pair: Pair, lead: Callable[..., None]
    ) -> None:
        lead(age=3)
        assert re.search(r"led by .*, lease renewed <span[^>]*>[34] s ago", shown(admin, SERVICES))

    def test_the_level_of_an_event_is_a_word_not_only_a_colour(self, admin: Client, pair: Pair) -> None:
        for level in ("info", "warning", "error"):
            Event.objects.create(vault=pair[0].vault, level=level, text=f"something of level {level}")
        said = re.findall(
            r'<span class="what">(.*?)</span></li>|<span class="what">(.*?)</span><code', shown(admin), re.S
        )
        lines = [strip_tags(first or second) for first, second in said]
        assert lines == [
            "Error something of level error",
            "Warning something of level warning",
            "Information: something of level info",
        ]

    def test_lossless_is_not_green_while_its_primary_is_not_seen_as_one(
        self, admin: Client, pair: Pair, lead: Callable[..., None]
    ) -> None:
        lead()
        VaultNode.objects.filter(pk=pair[0].pk).update(status=NodeStatus.UNREACHABLE)
        assert 'class="safety warn"' in shown(admin)

    def test_an_inactive_node_reads_inactive_also_when_nobody_watches(self, admin: Client, pair: Pair) -> None:
        VaultNode.objects.filter(pk=pair[1].pk).update(active=False, status=NodeStatus.INACTIVE)
        assert cell(shown(admin), "beta.example", "Status") == "Inactive"

    @pytest.mark.parametrize(
        ("published", "word"),
        [
            pytest.param({}, "Solo", id="solo"),
            pytest.param({"intent": INTENT}, "Failing over", id="an open intent"),
            pytest.param({"primary": None}, "No primary yet", id="a new vault"),
        ],
    )
    def test_only_lossless_is_green(
        self, admin: Client, pair: Pair, lead: Callable[..., None], published: dict[str, Any], word: str
    ) -> None:
        lead()
        Vault.objects.update(promotable=None, **published)
        text = shown(admin)
        assert f"<strong>{word}</strong>" in text
        assert 'class="safety ok"' not in text

    def test_the_current_primary_stands_first(self, admin: Client, pair: Pair, lead: Callable[..., None]) -> None:
        lead()
        Vault.objects.update(primary=pair[1], promotable=None)
        assert re.findall(r'<tr data-node="(\w+)', shown(admin)) == ["beta", "alpha"]

    def test_an_empty_vault_says_what_to_do(self, admin: Client, vault: Vault) -> None:
        assert "No nodes yet. Add the primary first" in shown(admin)

    def test_hosts_of_another_version_or_long_unseen_are_marked(self, admin: Client, vault: Vault) -> None:
        now = timezone.now()
        ApplicationNode.objects.create(hostname="fine.example", version=VERSION, last_seen=now)
        ApplicationNode.objects.create(hostname="old.example", version="0.0.1", last_seen=now - timedelta(hours=1))
        text = shown(admin, HOSTS)
        assert text.count("this console:") == 1
        assert text.count(">Not seen lately<") == 1
