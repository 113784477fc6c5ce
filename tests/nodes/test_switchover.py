"""Make Master and Clear: granted as rows that name who asked, refused with a rule and nothing changed; on screen and off."""

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from html import unescape
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from nodes.choices import DesiredState, OperationKind, OperationState
from nodes.models import AppService, Event, Operation, ServiceLease, Vault, VaultNode
from replication.core import limits
from replication.stores import wishes
from replication.stores.wishes import RefusedWish
from tests.nodes.conftest import add

Pair = tuple[VaultNode, VaultNode]
VAULT = "/admin/nodes/vaultnode/"
TOO_FAR = "R50 · it is too far behind the Master: wait until it has caught up"


def shown(client: Client, address: str = VAULT) -> str:
    response = client.get(address)
    assert response.status_code == 200
    return response.content.decode()


def menu(text: str, node: VaultNode) -> list[str]:
    """The entries of a row's Action menu, as text; what is not possible with its reason."""
    found = re.search(rf'id="action-{node.pk}".*?<ul>(.*?)</ul>', text, re.S)
    assert found is not None, f"no menu of {node.hostname}"
    return [
        " ".join(unescape(re.sub(r"<[^>]+>", " ", li)).split())
        for li in re.findall("<li[^>]*>(.*?)</li>", found[1], re.S)
    ]


def section(text: str, name: str) -> str:
    found = re.search(rf'<(section|details) class="{name}[ "].*?</\1>', text, re.S)
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", found[0])).split()) if found is not None else ""


class TestTheWish:
    def test_it_is_an_operation_that_waits_for_the_service_and_one_event(
        self, pair: Pair, lead: Callable[..., None], administrator: User
    ) -> None:
        lead()
        operation = wishes.request_switchover(pair[1], administrator, reason="kernel update")
        assert isinstance(operation, Operation)
        row = Operation.objects.get()
        assert (row.kind, row.state, row.node) == (OperationKind.SWITCHOVER, OperationState.QUEUED, pair[1])
        assert (row.requested_by, row.started_at) == (administrator, None)
        event = Event.objects.get()
        assert (event.text, event.node_name) == ("Make Master requested: kernel update", "beta.example")
        assert (event.actor, event.epoch) == (administrator.username, 7)

    def test_the_published_row_is_not_touched(self, pair: Pair, lead: Callable[..., None]) -> None:
        lead()
        before = Vault.objects.values().get()
        wishes.request_switchover(pair[1], None)
        assert Vault.objects.values().get() == before

    @pytest.mark.parametrize(
        ("change", "rule"),
        [
            pytest.param(lambda p: AppService.objects.update(desired_state=DesiredState.STOPPED), "W50", id="stopped"),
            pytest.param(
                lambda p: ServiceLease.objects.update(
                    renewed_at=timezone.now() - limits.LEASE_SILENCE - timedelta(seconds=1)
                ),
                "W50",
                id="the leader fell silent",
            ),
            pytest.param(lambda p: ServiceLease.objects.update(holder=""), "W50", id="the leader has gone"),
            pytest.param(lambda p: ServiceLease.objects.all().delete(), "W50", id="nobody ever led"),
            pytest.param(lambda p: Vault.objects.update(primary=None, promotable=None), "W51", id="no Master yet"),
            pytest.param(lambda p: Vault.objects.update(primary=p[1], promotable=None), "W52", id="it is the Master"),
            pytest.param(lambda p: VaultNode.objects.update(active=False), "W53", id="inactive"),
            pytest.param(lambda p: VaultNode.objects.update(removed_at=timezone.now()), "W32", id="deleted"),
            pytest.param(lambda p: VaultNode.objects.filter(pk=p[1].pk).delete(), "W32", id="its row is gone"),
            pytest.param(
                lambda p: Vault.objects.update(promotable=None, intent={"kind": "adopt", "target": ""}),
                "W54",
                id="a change is under way",
            ),
            pytest.param(
                lambda p: Operation.objects.create(kind=OperationKind.SWITCHOVER, vault=p[0].vault, state="running"),
                "W55",
                id="another one is open",
            ),
            pytest.param(
                lambda p: VaultNode.objects.filter(pk=p[1].pk).update(not_primary=TOO_FAR),
                "W56",
                id="the leader says no",
            ),
        ],
    )
    def test_it_is_refused_by_what_the_database_says_and_not_by_the_row_in_hand(
        self, pair: Pair, lead: Callable[..., None], change: Callable[[Pair], Any], rule: str
    ) -> None:
        lead()
        if rule == "W32":
            Vault.objects.update(promotable=None)
        change(pair)
        before = Operation.objects.count()
        refused = wishes.request_switchover(pair[1], None)
        assert isinstance(refused, RefusedWish)
        assert refused.rule == rule
        assert Operation.objects.count() == before
        assert not Event.objects.exists()

    def test_the_word_of_the_leader_is_repeated_with_its_rule(self, pair: Pair, lead: Callable[..., None]) -> None:
        lead()
        VaultNode.objects.filter(pk=pair[1].pk).update(not_primary=TOO_FAR)
        refused = wishes.request_switchover(pair[1], None)
        assert isinstance(refused, RefusedWish)
        assert refused.says == (
            "beta.example cannot become Master now: it is too far behind the Master: wait until it has caught up (R50)."
        )

    def test_the_second_of_two_clicks_is_refused_and_one_that_has_ended_is_no_obstacle(
        self, pair: Pair, lead: Callable[..., None]
    ) -> None:
        lead()
        first = wishes.request_switchover(pair[1], None)
        assert isinstance(first, Operation)
        second = wishes.request_switchover(pair[1], None)
        assert isinstance(second, RefusedWish)
        assert second.rule == "W55"
        assert wishes.finish_operation(first.pk, OperationState.FAILED, {})
        assert isinstance(wishes.request_switchover(pair[1], None), Operation)

    def test_a_re_synchronization_is_no_obstacle(self, pair: Pair, lead: Callable[..., None]) -> None:
        lead()
        Operation.objects.create(kind=OperationKind.RESYNCHRONIZE, vault=pair[0].vault, state=OperationState.RUNNING)
        assert isinstance(wishes.request_switchover(pair[1], None), Operation)


class TestTheMenu:
    def test_a_fallback_offers_it_and_the_master_does_not(
        self, admin: Client, pair: Pair, lead: Callable[..., None]
    ) -> None:
        lead()
        text = shown(admin)
        assert menu(text, pair[1])[:2] == ["Re-synchronize Master", "Make Master"]
        assert not [entry for entry in menu(text, pair[0]) if entry.startswith(("Make Master", "Fail back"))]
        assert f'hx-get="{VAULT}{pair[1].pk}/switchover/"' in text

    def test_after_a_failover_the_configured_primary_offers_to_fail_back(
        self, admin: Client, pair: Pair, lead: Callable[..., None]
    ) -> None:
        lead()
        add(pair[0].vault, "gamma", 3)
        Vault.objects.update(primary=pair[1], promotable=pair[0])
        text = shown(admin)
        assert "Fail back to Primary" in menu(text, pair[0])
        assert "Make Master" in menu(text, VaultNode.objects.get(hostname="gamma.example"))

    @pytest.mark.parametrize("running", [True, False])
    def test_what_is_not_possible_is_greyed_with_its_reason(
        self, admin: Client, pair: Pair, lead: Callable[..., None], running: bool
    ) -> None:
        if running:
            lead()
        VaultNode.objects.filter(pk=pair[1].pk).update(not_primary=TOO_FAR)
        text = shown(admin)
        entry = menu(text, pair[1])[1]
        assert entry.startswith("Make Master ")
        assert ("too far behind the Master" if running else "is stopped, or no worker runs it") in entry
        assert f"{VAULT}{pair[1].pk}/switchover/" not in text

    def test_a_new_reason_changes_the_stamp(self, admin: Client, pair: Pair, lead: Callable[..., None]) -> None:
        lead()
        found = re.search(r'data-stamp="(\w+)"', shown(admin))
        assert found is not None
        VaultNode.objects.filter(pk=pair[1].pk).update(not_primary=TOO_FAR)
        assert admin.get(VAULT, {"v": found[1]}).status_code == 200

    def test_who_may_only_switch_over_finds_that_alone_and_what_the_status_means(
        self, user: Callable[..., User], enter: Callable[..., Client], pair: Pair, lead: Callable[..., None]
    ) -> None:
        lead()
        text = shown(enter(user("switchover_vaultnode")))
        assert menu(text, pair[1]) == ["Make Master", "What this status means"]
        assert menu(text, pair[0]) == ["What this status means"]


class TestTheDialog:
    def test_it_says_what_happens_before_it_asks(self, admin: Client, pair: Pair, lead: Callable[..., None]) -> None:
        lead()
        text = shown(admin, f"{VAULT}{pair[1].pk}/switchover/")
        assert "Make beta.example the Master?" in text
        for said in ("about a tenth of a second", "Nothing that was acknowledged is lost", "get an error",
                     "alpha.example follows beta.example"):  # fmt: skip
            assert said in text
        assert not Operation.objects.exists(), "asking changes nothing"

    @pytest.mark.parametrize("htmx", [True, False])
    def test_yes_asks_the_service(
        self, administrator: User, enter: Callable[..., Client], pair: Pair, lead: Callable[..., None], htmx: bool
    ) -> None:
        lead()
        client = enter(administrator, htmx=htmx)
        response = client.post(f"{VAULT}{pair[1].pk}/switchover/", {"reason": "kernel update"})
        if htmx:
            assert "dialog:close" in response["HX-Trigger"]
            assert "beta.example is to become Master." in response.content.decode()
        else:
            assert (response.status_code, response["Location"]) == (302, VAULT)
        operation = Operation.objects.get()
        assert (operation.node, operation.requested_by) == (pair[1], administrator)
        assert operation.reason == "kernel update"

    def test_a_refusal_takes_the_place_of_the_question(
        self, admin: Client, pair: Pair, lead: Callable[..., None]
    ) -> None:
        lead()
        VaultNode.objects.filter(pk=pair[1].pk).update(not_primary=TOO_FAR)
        for method in (admin.get, admin.post):
            text = method(f"{VAULT}{pair[1].pk}/switchover/").content.decode()
            assert "too far behind the Master" in text
            assert ">Yes<" not in text
        assert not Operation.objects.exists()

    def test_a_reason_that_is_too_long_is_said_at_its_field(
        self, admin: Client, pair: Pair, lead: Callable[..., None]
    ) -> None:
        lead()
        response = admin.post(f"{VAULT}{pair[1].pk}/switchover/", {"reason": "x" * 201})
        assert response.status_code == 422
        assert "at most 200 characters" in response.content.decode()
        assert not Operation.objects.exists()


class TestTheOperationLine:
    @pytest.mark.parametrize(
        ("changes", "expected"),
        [
            pytest.param({}, "Switchover to beta.example Queued waiting for the service", id="queued"),
            pytest.param(
                {"state": "running", "message": "it receives the rest"},
                "Switchover to beta.example Running it receives the rest",
                id="running",
            ),
            pytest.param(
                {"kind": "failover", "state": "running", "message": "the primary is lost"},
                "Failover to beta.example Running the primary is lost",
                id="a failover",
            ),
            pytest.param(
                {"state": "succeeded", "finished_at": timezone.now(), "result": {"summary": "beta is Master"}},
                "Switchover to beta.example Succeeded beta is Master",
                id="succeeded",
            ),
            pytest.param(
                {"state": "needs-person", "finished_at": timezone.now(), "message": "it has diverged"},
                "Switchover to beta.example Needs a person it has diverged",
                id="needs a person",
            ),
        ],
    )
    def test_it_says_how_far_it_is_and_how_it_ended(
        self, admin: Client, pair: Pair, lead: Callable[..., None], changes: dict[str, Any], expected: str
    ) -> None:
        lead()
        values = {"kind": OperationKind.SWITCHOVER, "message": "waiting for the service", **changes}
        Operation.objects.create(vault=pair[0].vault, node=pair[1], **values)
        said = re.sub(r" (Cancel|×).*", "", section(shown(admin), "operation"))  # without its buttons
        assert said == expected

    def test_what_is_open_comes_before_what_has_ended_and_what_nobody_asked_for_is_not_shown(
        self, admin: Client, pair: Pair, lead: Callable[..., None]
    ) -> None:
        lead()
        common = {"vault": pair[0].vault, "node": pair[1]}
        Operation.objects.create(kind="switchover", state="running", message="still at it", **common)
        Operation.objects.create(kind="resynchronize", state="failed", finished_at=timezone.now(), **common)
        Operation.objects.create(kind="follow", state="running", message="beside it", **common)
        assert "still at it" in section(shown(admin), "operation")

    def test_an_open_one_refuses_its_own_kind_only(self, admin: Client, pair: Pair, lead: Callable[..., None]) -> None:
        lead()
        Operation.objects.create(kind="switchover", vault=pair[0].vault, node=pair[1])
        resync, switch = menu(shown(admin), pair[1])[:2]
        assert resync == "Re-synchronize Master"
        assert "Another switchover is open" in switch


class TestTheHold:
    def test_it_is_shown_with_its_clock_and_can_be_cleared(
        self, admin: Client, pair: Pair, held: datetime, lead: Callable[..., None], administrator: User
    ) -> None:
        lead()
        text = shown(admin)
        assert "A failover on silence is held back until" in section(text, "hold")
        shown_until = re.search(r'<section class="hold".*?<time datetime="([^"]+)"', text, re.S)
        assert shown_until is not None
        assert abs(datetime.fromisoformat(shown_until[1]) - held) < timedelta(seconds=1)
        assert "its fallback takes over at once" in shown(admin, VAULT + "hold/clear/")
        response = admin.post(VAULT + "hold/clear/")
        assert "dialog:close" in response["HX-Trigger"]
        assert section(shown(admin), "hold") == ""
        assert Vault.objects.values_list("silence_failover_at", "silence_hold_seconds").get() == (None, 0)
        event = Event.objects.get()
        assert (event.actor, event.epoch) == (administrator.username, 7)

    def test_clearing_it_again_is_no_event(self, pair: Pair, held: datetime) -> None:
        for _ in range(2):
            wishes.clear_silence_hold(pair[0].vault, None)
        assert Event.objects.count() == 1

    def test_while_the_vault_is_solo_its_clock_has_not_begun(
        self, admin: Client, held: datetime, lead: Callable[..., None]
    ) -> None:
        lead()
        Vault.objects.update(promotable=None, lossless_since=None)
        assert "until the vault has been lossless for 60 s" in section(shown(admin), "hold")

    def test_it_goes_by_itself_when_it_is_over(self, admin: Client, held: datetime, lead: Callable[..., None]) -> None:
        lead()
        Vault.objects.update(lossless_since=timezone.now() - timedelta(seconds=61))
        assert section(shown(admin), "hold") == ""


class TestTheFences:
    def test_what_is_armed_on_the_master_and_what_is_not_is_said_in_words(
        self, admin: Client, pair: Pair, lead: Callable[..., None]
    ) -> None:
        lead()
        VaultNode.objects.filter(pk=pair[0].pk).update(report={"fences": ["sigkill", "admin-port"]})
        VaultNode.objects.filter(pk=pair[1].pk).update(report={"fences": ["lease"]})
        text = section(shown(admin), "fences")
        assert "Fences on alpha.example 2 of 5 armed" in text
        assert "kill, reserved connection; not armed: lease, kernel lease, link cut" in text
        assert "A hanging agent cannot close the database port. Needs root and nftables" in text

    def test_all_armed_says_nothing_of_what_is_not(self, admin: Client, pair: Pair, lead: Callable[..., None]) -> None:
        lead()
        every = ["sigkill", "nftables-cut", "lease", "kernel-lease", "admin-port"]
        VaultNode.objects.filter(pk=pair[0].pk).update(report={"fences": every})
        text = section(shown(admin), "fences")
        assert "5 of 5 armed" in text
        assert "not armed" not in text

    @pytest.mark.parametrize("report", [None, {}, {"fences": None}])
    def test_what_is_not_known_is_not_said(
        self, admin: Client, pair: Pair, lead: Callable[..., None], report: Any
    ) -> None:
        lead()
        VaultNode.objects.filter(pk=pair[0].pk).update(report=report)
        assert section(shown(admin), "fences") == ""

    def test_when_nobody_watches_none_is_claimed(self, admin: Client, pair: Pair, lead: Callable[..., None]) -> None:
        lead(age=3600)
        VaultNode.objects.filter(pk=pair[0].pk).update(report={"fences": ["sigkill"]})
        assert section(shown(admin), "fences") == ""

    def test_a_fence_that_is_armed_or_lost_changes_the_stamp(
        self, admin: Client, pair: Pair, lead: Callable[..., None]
    ) -> None:
        lead()
        VaultNode.objects.filter(pk=pair[0].pk).update(report={"fences": ["sigkill"]})
        found = re.search(r'data-stamp="(\w+)"', shown(admin))
        assert found is not None
        VaultNode.objects.filter(pk=pair[0].pk).update(report={"fences": ["sigkill", "lease"]})
        assert admin.get(VAULT, {"v": found[1]}).status_code == 200


@pytest.mark.parametrize(
    ("status", "detail", "words", "level"),
    [
        ("master-read-only", "", "Master – read-only, set by hand", "warn"),
        ("master-fenced", "", "Master – closed itself: no controller renews its lease", "bad"),
        ("master-full", "151 of 151", "Master – no connection is free (151 of 151)", "warn"),
        ("disk-error", "No space left on device", "Disk takes no writes: No space left on device", "bad"),
    ],
)
def test_new_words_of_the_status_column(
    admin: Client, pair: Pair, lead: Callable[..., None], status: str, detail: str, words: str, level: str
) -> None:
    lead()
    VaultNode.objects.filter(pk=pair[0].pk).update(status=status, status_detail=detail)
    text = shown(admin)
    assert f'<span class="badge {level}">{words}</span>' in text
    assert 'class="safety ok"' not in text, "a Master that is not simply one is not green"


@pytest.mark.parametrize(
    ("kind", "word"), [("failover", "Failing over"), ("switchover", "Switching over"), ("adopt", "Asking the agents")]
)
def test_an_open_intent_is_named(admin: Client, pair: Pair, lead: Callable[..., None], kind: str, word: str) -> None:
    lead()
    ids = {"target": pair[1].pk, "entitled": pair[1].pk, "former_primary": pair[0].pk, "must_revoke": [pair[1].pk]}
    Vault.objects.update(promotable=None, intent={"kind": kind, **ids})
    assert f"<strong>{word}</strong>" in shown(admin)
