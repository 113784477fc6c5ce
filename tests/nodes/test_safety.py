"""The safety panel: green only when everything is known, and in words what losing the Master would lead to."""

import re
from collections.abc import Callable
from datetime import timedelta
from html import unescape
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from nodes.models import AppService, ServiceLease, Vault, VaultNode
from nodes.models.service import SERVICE_NAME
from replication.core.foresight import Loss
from replication.core.roles import NodeStatus
from tests.nodes.conftest import add, if_lost
from tests.nodes.test_screens import INTENT, VAULT, shown, stamp

Pair = tuple[VaultNode, VaultNode]
A, B = "a" * 32, "b" * 32
FRESH = {A: 0.1, B: 0.2, f"heard:{B}": 0.3}


def panel(client: Client) -> tuple[str, str]:
    """Its level and its text."""
    found = re.search(r'<section class="safety (\w+)"[^>]*>(.*?)</section>', shown(client), re.DOTALL)
    assert found is not None
    return found[1], " ".join(unescape(re.sub(r"<[^>]+>", " ", found[2])).split())


def foreseen(pair: Pair, **changes: Any) -> None:
    Vault.objects.update(if_lost=if_lost(*pair, **changes).to_json())


def nobody(rule: str, says: str) -> dict[str, Loss]:
    loss = Loss(rule=rule, says=says)
    return {"died": loss, "silent": loss}


def test_lossless_is_green_and_says_who_takes_over_and_how_fast(
    admin: Client, pair: Pair, lead: Callable[..., None]
) -> None:
    lead(answers=FRESH)
    level, text = panel(admin)
    assert level == "ok"
    assert "Lossless" in text
    assert (
        "If the Master died this second beta.example takes over in about 0.1 s when its database dies, about 1.7 s when its"
        " host falls silent; nothing acknowledged would be lost."
    ) in text
    assert "What to do Nothing to do." in text


def test_the_age_of_each_fact_is_there_and_counts_on_by_itself(
    admin: Client, pair: Pair, lead: Callable[..., None]
) -> None:
    lead(answers={A: 5.0, B: 7.0, f"heard:{B}": 9.0})
    text = panel(admin)[1]
    for fact in (
        r"Master alpha\.example answered [56] s ago",
        r"Fallback beta\.example answered [78] s ago",
        r"beta\.example heard the Master (9|10) s ago",
        r"Lease renewed just now",
    ):
        assert re.search(fact, text), fact
    before = stamp(admin, VAULT)
    lead(age=1, answers={A: 5.1, B: 7.3, f"heard:{B}": 8.5})
    assert stamp(admin, VAULT) == before


def test_before_the_first_failover_no_figure_is_invented(admin: Client, pair: Pair, lead: Callable[..., None]) -> None:
    lead(answers=FRESH)
    foreseen(pair, measured=0, died=Loss(node=B, seconds=0.04), silent=Loss(node=B, seconds=1.62))
    level, text = panel(admin)
    assert level == "ok"
    assert (
        "beta.example takes over at once when its database dies, and when its host has been silent for about 1.6 s"
        in text
    )
    assert "How long the take-over itself lasts is known after the first failover." in text


class TestNeverGreenWhenNotKnown:
    """Each way not to know, from the green panel of the pair."""

    @pytest.fixture(autouse=True)
    def green(self, admin: Client, pair: Pair, lead: Callable[..., None]) -> None:
        lead(answers=FRESH)
        assert panel(admin)[0] == "ok"

    def test_the_service_is_stopped(self, admin: Client) -> None:
        AppService.objects.filter(name=SERVICE_NAME).update(desired_state="stopped")
        last = timezone.now() - timedelta(minutes=7)
        ServiceLease.objects.update(last_pass_at=last)
        level, text = panel(admin)
        assert level == "off"
        assert text.startswith("? Not watched")
        assert "Nothing would fail over: nobody watches the vault." in text
        assert f"Nothing is known since {last:%Y-%m-%d %H:%M:%S} UTC" in text
        assert "takes over" not in text
        assert "Start SystemHighAvailabilityService in App Services." in text
        before = stamp(admin, VAULT)
        ServiceLease.objects.update(last_pass_at=last + timedelta(microseconds=9))
        assert stamp(admin, VAULT) == before, "the same moment, computed again"

    def test_no_worker_has_ever_run(self, admin: Client) -> None:
        ServiceLease.objects.all().delete()
        level, text = panel(admin)
        assert level == "bad"
        assert "Unknown" in text
        assert "Nothing is known since ever: nobody has looked yet" in text
        assert "takes over" not in text

    def test_the_leader_is_stale(self, admin: Client, lead: Callable[..., None]) -> None:
        lead(age=60, answers=FRESH)
        level, text = panel(admin)
        assert level == "bad"
        assert "Unknown" in text
        assert "Nothing would fail over: nobody watches the vault." in text
        assert "Start the service worker on a controller host" in text

    @pytest.mark.parametrize("age", [2.5, 4.0])
    def test_the_leader_is_a_little_stale(self, admin: Client, lead: Callable[..., None], age: float) -> None:
        lead(age=age, answers=FRESH)
        level, text = panel(admin)
        assert level == "warn"
        assert "Unknown" in text

    @pytest.mark.parametrize(
        ("answers", "name"),
        [
            pytest.param({**FRESH, A: 2.5}, "alpha.example", id="the Master is silent"),
            pytest.param({**FRESH, B: 2.5}, "beta.example", id="the fallback is silent"),
            pytest.param({**FRESH, A: None}, "alpha.example", id="the Master never answered this leader"),
            pytest.param({B: 0.1}, "alpha.example", id="the leader has not looked at the Master yet"),
        ],
    )
    def test_a_node_is_silent(
        self, admin: Client, lead: Callable[..., None], answers: dict[str, float | None], name: str
    ) -> None:
        lead(answers=answers)
        level, text = panel(admin)
        assert level == "warn"
        assert "Unknown" in text
        assert f"{name} has not answered within 1.5 s, so nobody knows how it is" in text

    def test_with_a_long_interval_a_node_may_be_silent_for_longer(
        self, admin: Client, lead: Callable[..., None]
    ) -> None:
        AppService.objects.filter(name=SERVICE_NAME).update(trigger_interval=10)
        lead(answers={A: 25, B: 25})
        assert panel(admin)[0] == "ok"
        lead(answers={A: 35, B: 25})
        assert panel(admin)[0] == "warn"

    @pytest.mark.parametrize(
        "known",
        [
            pytest.param({}, id="there is none"),
            pytest.param({"epoch": 6}, id="it is of an older epoch"),
            pytest.param({"promotable": "c" * 32}, id="it is of another fallback"),
            pytest.param({"primary": "c" * 32}, id="it is of another Master"),
            pytest.param({"unreadable": 1}, id="it is of another version"),
        ],
    )
    def test_the_leader_has_not_said_what_would_happen(self, admin: Client, pair: Pair, known: dict[str, Any]) -> None:
        Vault.objects.update(if_lost={**if_lost(*pair).to_json(), **known} if known else {})
        level, text = panel(admin)
        assert level == "warn"
        assert "Unknown" in text
        assert "Not known yet: the service has not worked it out." in text
        assert "takes over" not in text

    @pytest.mark.parametrize("status", sorted(set(NodeStatus) - {NodeStatus.MASTER}))
    def test_the_master_is_not_well(self, admin: Client, pair: Pair, status: NodeStatus) -> None:
        VaultNode.objects.filter(pk=A).update(status=status)
        assert panel(admin)[0] == "warn"

    @pytest.mark.parametrize("status", sorted(set(NodeStatus) - {NodeStatus.WAITING, NodeStatus.CATCHING_UP}))
    def test_its_fallback_is_not_well(self, admin: Client, pair: Pair, status: NodeStatus) -> None:
        VaultNode.objects.filter(pk=B).update(status=status)
        assert panel(admin)[0] == "warn"


class TestNobodyWouldBePromoted:
    def test_solo_says_why_and_what_a_loss_would_cost(
        self, admin: Client, pair: Pair, lead: Callable[..., None]
    ) -> None:
        lead(answers=FRESH)
        Vault.objects.update(promotable=None, reason="no fallback is proven to hold every write yet")
        why = "the vault is solo: no fallback is known to hold every acknowledged write"
        foreseen(pair, promotable="", **nobody("C10", why))
        level, text = panel(admin)
        assert level == "warn"
        assert "Solo" in text
        assert "no fallback is proven to hold every write yet" in text
        assert f"Nobody would be promoted, because {why}. C10" in text
        assert "Writes would stop until the Master is back." in text
        assert "every password changed since the fallbacks last heard of it is lost" in text
        assert "What to do Wait: it becomes lossless by itself" in text

    @pytest.mark.parametrize(
        ("change", "advice"),
        [
            pytest.param({"removed_at": timezone.now()}, "Add a fallback.", id="none"),
            pytest.param({"active": False}, "Make a fallback active.", id="none is active"),
            pytest.param({"status": NodeStatus.ERROR}, "Put a fallback in order", id="it has an error"),
        ],
    )
    def test_solo_says_what_to_do(
        self, admin: Client, pair: Pair, lead: Callable[..., None], change: dict[str, Any], advice: str
    ) -> None:
        lead(answers=FRESH)
        Vault.objects.update(promotable=None)
        VaultNode.objects.filter(pk=B).update(**change)
        assert f"What to do {advice}" in panel(admin)[1]

    def test_a_pause_is_a_warning_with_its_rule(self, admin: Client, pair: Pair, lead: Callable[..., None]) -> None:
        lead(answers=FRESH)
        foreseen(pair, **nobody("C05", "automatic failover is paused until 18:00, by admin: new switches"))
        level, text = panel(admin)
        assert level == "warn"
        assert "but nobody would take over now" in text
        assert "because automatic failover is paused until 18:00, by admin: new switches. C05" in text
        assert "Nothing acknowledged is lost as long as one of the two disks is intact." in text
        assert "Resume automatic failover as soon as the work is done." in text

    def test_a_master_lost_during_a_pause_is_put_in_order_or_given_free(
        self, admin: Client, pair: Pair, lead: Callable[..., None]
    ) -> None:
        lead(answers=FRESH)
        foreseen(pair, **nobody("C05", "automatic failover is paused until 18:00, by admin: new switches"))
        VaultNode.objects.filter(pk=A).update(status=NodeStatus.UNREACHABLE)
        level, text = panel(admin)
        assert level == "warn"
        assert "What to do Look at its host and network; see its row below. Resume automatic failover" in text

    def test_a_hold_concerns_silence_only(self, admin: Client, pair: Pair, lead: Callable[..., None]) -> None:
        lead(answers=FRESH)
        foreseen(pair, silent=Loss(rule="C70", says="another one is held back for a while"))
        level, text = panel(admin)
        assert level == "warn"
        assert "but not in every case would it take over now" in text
        assert "When its database dies: beta.example takes over in about 0.1 s, nothing acknowledged is lost." in text
        assert (
            "When its host falls silent: nobody would be promoted, because another one is held back for a while. C70"
            in text
        )

    def test_each_reason_leads_to_its_page_of_the_runbook(
        self, admin: Client, pair: Pair, lead: Callable[..., None]
    ) -> None:
        lead(answers=FRESH)
        foreseen(pair, **nobody("C20", "beta holds every acknowledged write but does not answer"))
        assert re.search(r'<a class="help-text" href="/admin/help/candidates/#c20"[^>]*>C20</a>', shown(admin))


class TestChanges:
    def test_a_failover_that_is_under_way(self, admin: Client, pair: Pair, lead: Callable[..., None]) -> None:
        lead(answers=FRESH)
        Vault.objects.update(promotable=None, intent=INTENT, reason="a failover is under way")
        foreseen(pair, promotable="")
        level, text = panel(admin)
        assert level == "warn"
        assert "Failing over" in text
        assert "Meanwhile Writes are held until beta.example is open." in text
        assert "If the Master died" not in text
        assert "What to do Wait" in text

    def test_a_new_vault(self, admin: Client, vault: Vault, lead: Callable[..., None]) -> None:
        lead()
        level, text = panel(admin)
        assert level == "off"
        assert "No primary yet" in text
        assert "Add a node with system role Primary." in text
        assert "If the Master died" not in text
        add(vault, "alpha", 1, system_role="primary", status=NodeStatus.UNKNOWN)
        assert "It is opened as soon as the node with system role Primary answers" in panel(admin)[1]

    def test_a_new_answer_of_the_leader_changes_the_stamp(
        self, admin: Client, pair: Pair, lead: Callable[..., None]
    ) -> None:
        lead(answers=FRESH)
        before = stamp(admin, VAULT)
        foreseen(pair, silent=Loss(node=B, seconds=2.7))
        assert stamp(admin, VAULT) != before


def test_what_others_wrote_is_text(admin: Client, pair: Pair, lead: Callable[..., None]) -> None:
    evil = "<img src=x onerror=alert(1)>%(name)s{{ 7 }}%"
    lead(answers=FRESH)
    VaultNode.objects.update(status=NodeStatus.MASTER)
    VaultNode.objects.filter(pk=B).update(hostname=evil, status=NodeStatus.WAITING)
    assert evil[1:] in panel(admin)[1]
    assert "<img" not in shown(admin)
    foreseen(pair, **nobody("C50", evil))
    assert "%(name)s{{ 7 }}%. C50" in panel(admin)[1]
    assert "<img" not in shown(admin)
