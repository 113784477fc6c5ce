"""Update and Delete say what is left of the vault's safety; what takes it away needs the hostname and a reason."""

from collections.abc import Callable
from typing import Any

import pytest
from auditlog.models import LogEntry
from django.contrib.auth.models import User
from django.test import Client

from nodes.models import Event, Vault, VaultNode
from replication.core.roles import NodeStatus
from replication.stores import leaving
from replication.stores.leaving import Meaning, what_leaving_means
from tests.nodes.conftest import add
from tests.nodes.test_screens import VAULT, Pair, shown

SURE = {"confirm": "beta.example", "reason": "its host is replaced"}


def means(pair: Pair, node: VaultNode, *, watched: bool = True) -> Meaning:
    vault = Vault.objects.get()
    nodes = list(VaultNode.objects.present())
    return what_leaving_means(vault, nodes, VaultNode.objects.get(pk=node.pk), watched=watched)


@pytest.fixture
def gamma(pair: Pair) -> VaultNode:
    return add(pair[0].vault, "gamma", 3)


class TestWhatItMeans:
    def test_the_acker_with_nobody_else(self, pair: Pair) -> None:
        meaning = means(pair, pair[1])
        assert meaning.typed
        assert meaning.says.startswith("The vault goes solo and loses its last other copy of the data.")

    def test_the_acker_while_another_one_follows(self, pair: Pair, gamma: VaultNode) -> None:
        meaning = means(pair, pair[1])
        assert meaning.typed
        assert "goes solo" in meaning.says
        assert "(gamma.example)" in meaning.says
        assert "last other copy" not in meaning.says

    @pytest.mark.parametrize("status", [NodeStatus.UNREACHABLE, NodeStatus.DIVERGED, NodeStatus.ERROR])
    def test_the_acker_while_the_other_one_does_not_follow(
        self, pair: Pair, gamma: VaultNode, status: NodeStatus
    ) -> None:
        VaultNode.objects.filter(pk=gamma.pk).update(status=status)
        assert "loses its last other copy" in means(pair, pair[1]).says

    def test_another_one_than_the_acker(self, pair: Pair, gamma: VaultNode) -> None:
        meaning = means(pair, gamma)
        assert not meaning.typed
        assert meaning.says == "The vault stays lossless: every acknowledged write is also on beta.example."

    def test_nothing_is_said_to_stay_lossless_when_nobody_looks(self, pair: Pair, gamma: VaultNode) -> None:
        meaning = means(pair, gamma, watched=False)
        assert "lossless" not in meaning.says
        assert "nobody does now" in meaning.says

    def test_solo_with_another_that_follows(self, pair: Pair, gamma: VaultNode) -> None:
        Vault.objects.update(promotable=None)
        meaning = means(pair, gamma)
        assert not meaning.typed
        assert meaning.says == "The vault is solo, and stays so for now. Still following the Master: beta.example."

    @pytest.mark.parametrize("status", [NodeStatus.WAITING, NodeStatus.UNREACHABLE, NodeStatus.DIVERGED])
    def test_solo_and_the_last_other_copy_however_old(self, pair: Pair, status: NodeStatus) -> None:
        Vault.objects.update(promotable=None)
        VaultNode.objects.filter(pk=pair[1].pk).update(status=status)
        meaning = means(pair, pair[1])
        assert meaning.typed
        assert "loses its last other copy" in meaning.says

    def test_solo_and_nobody_looks(self, pair: Pair, gamma: VaultNode) -> None:
        Vault.objects.update(promotable=None)
        meaning = means(pair, gamma, watched=False)
        assert meaning.typed
        assert "Nobody watches the vault now" in meaning.says

    @pytest.mark.parametrize("change", [{"active": False}, {"joined": False}])
    def test_one_that_takes_no_part(self, pair: Pair, gamma: VaultNode, change: dict[str, Any]) -> None:
        VaultNode.objects.filter(pk=gamma.pk).update(**change)
        assert not means(pair, gamma).typed

    def test_a_vault_without_a_master(self, pair: Pair) -> None:
        Vault.objects.update(primary=None, promotable=None)
        assert not means(pair, pair[1]).typed


class TestTheWish:
    @pytest.mark.parametrize("wish", [leaving.delete, leaving.make_inactive])
    @pytest.mark.parametrize(
        ("typed", "reason", "rule", "field"),
        [
            pytest.param("", "why", "W62", "confirm", id="nothing typed"),
            pytest.param("alpha.example", "why", "W62", "confirm", id="another node"),
            pytest.param("beta.example", " ", "W63", "reason", id="no reason"),
        ],
    )
    def test_it_is_refused_and_nothing_changes(
        self, pair: Pair, wish: Callable[..., Any], typed: str, reason: str, rule: str, field: str
    ) -> None:
        refused = wish(pair[1], None, typed=typed, reason=reason)
        assert refused is not None
        assert (refused.rule, refused.field) == (rule, field)
        beta = VaultNode.objects.get(pk=pair[1].pk)
        assert (beta.active, beta.removed_at) == (True, None)
        assert not Event.objects.exists()

    @pytest.mark.parametrize("wish", [leaving.delete, leaving.make_inactive])
    def test_the_reason_is_in_the_event_and_in_the_audit_log(
        self, pair: Pair, wish: Callable[..., Any], administrator: User
    ) -> None:
        assert wish(pair[1], administrator, typed=" BETA.example ", reason="its host\n is replaced") is None
        event = Event.objects.get()
        assert event.text.endswith(": its host is replaced")
        assert event.actor == administrator.username
        entry = LogEntry.objects.get_for_object(pair[1]).latest("timestamp")
        assert entry.additional_data["reason"] == "its host is replaced"
        assert not VaultNode.objects.get(pk=pair[1].pk).active

    def test_what_became_the_acker_between_the_question_and_yes_is_asked_about(
        self, pair: Pair, gamma: VaultNode
    ) -> None:
        in_hand = VaultNode.objects.select_related("vault").get(pk=gamma.pk)
        assert not leaving.meaning_of(in_hand).typed
        Vault.objects.update(promotable=gamma)
        refused = leaving.delete(in_hand, None, typed="", reason="")
        assert refused is not None
        assert refused.rule == "W62"

    def test_the_master_stays_whatever_is_typed(self, pair: Pair) -> None:
        refused = leaving.delete(pair[0], None, typed="alpha.example", reason="why")
        assert refused is not None
        assert refused.rule == "W30"

    def test_one_that_takes_no_safety_away_goes_without_words(self, pair: Pair, gamma: VaultNode) -> None:
        assert leaving.delete(gamma, None, typed="", reason="") is None


class TestThePopups:
    def test_yes_alone_where_nothing_is_lost(self, admin: Client, pair: Pair, gamma: VaultNode, lead: Any) -> None:
        lead()
        text = shown(admin, f"{VAULT}{gamma.pk}/delete/")
        assert "The vault stays lossless" in text
        assert 'name="confirm"' not in text
        assert "dialog:close" in admin.post(f"{VAULT}{gamma.pk}/delete/")["HX-Trigger"]
        assert VaultNode.objects.present().count() == 2

    @pytest.mark.parametrize("htmx", [True, False])
    def test_deleting_the_acker_asks_for_its_name_and_why(
        self, admin: Client, plain: Client, pair: Pair, lead: Any, htmx: bool
    ) -> None:
        lead()
        client, address = (admin if htmx else plain), f"{VAULT}{pair[1].pk}/delete/"
        text = shown(client, address)
        assert "goes solo and loses its last other copy" in text
        assert "Type beta.example to confirm." in text
        response = client.post(address, {"confirm": "beta", "reason": "why"})
        assert response.status_code == 422
        assert "Type beta.example here to confirm" in response.content.decode()
        assert 'value="why"' in response.content.decode()
        assert client.post(address, SURE).status_code == (200 if htmx else 302)
        assert not VaultNode.objects.present().filter(pk=pair[1].pk).exists()

    @pytest.mark.parametrize("htmx", [True, False])
    def test_making_the_acker_inactive_asks_first_and_is_not_taken_for_done(
        self, admin: Client, plain: Client, pair: Pair, lead: Any, htmx: bool
    ) -> None:
        lead()
        client, address = (admin if htmx else plain), f"{VAULT}{pair[1].pk}/change/"
        assert 'name="confirm"' not in shown(client, address), "only when Active is unticked"
        response = client.post(address, {})
        assert response.status_code == 200
        assert "HX-Trigger" not in response
        text = response.content.decode()
        assert 'name="confirm"' in text
        assert "checked" not in text
        assert "field-error" not in text, "it is a question, not a mistake"
        assert VaultNode.objects.get(pk=pair[1].pk).active
        refused = client.post(address, {"confirm": "beta.example", "reason": ""})
        assert refused.status_code == 422
        assert "Say why" in refused.content.decode()
        client.post(address, SURE)
        assert not VaultNode.objects.get(pk=pair[1].pk).active

    def test_the_shortcut_asks_at_once(self, admin: Client, pair: Pair, lead: Any) -> None:
        lead()
        text = shown(admin, f"{VAULT}{pair[1].pk}/change/?active=0")
        assert 'name="confirm"' in text
        assert "checked" not in text

    def test_ticked_again_nothing_is_asked_and_nothing_happens(self, admin: Client, pair: Pair, lead: Any) -> None:
        lead()
        response = admin.post(f"{VAULT}{pair[1].pk}/change/", {"active": "on", "confirm": "", "reason": ""})
        assert "dialog:close" in response["HX-Trigger"]
        assert not Event.objects.exists()


REPORT = {
    "agent_version": "0.2.0",
    "address_kind": "dynamic",
    "certificate_expires": "2020-01-02T03:04:05+00:00",
    "disk_free_bytes": 5 * 1024**3,
    "database": {
        "version": "10.11.19-MariaDB<b>",
        "server_id": 4711,
        "repaired": ["sync_binlog was 0"],
        "drift": ["log_bin is OFF, must be ON"],
    },
}


class TestWhatIsKnownOfANode:
    def test_it_says_what_its_agent_said_and_when(self, admin: Client, pair: Pair) -> None:
        VaultNode.objects.filter(pk=pair[1].pk).update(report={**REPORT, "recorded_at": "2020-01-01T00:00:00+00:00"})
        text = shown(admin, f"{VAULT}{pair[1].pk}/change/")
        for said in (
            "10.11.19-MariaDB&lt;b&gt; · agent 0.2.0", "4711", "dynamic (DHCP): it may change", "5.0 GiB free",
            "expired", '<time datetime="2020-01-02T03:04:05+00:00"', "sync_binlog was 0", "log_bin is OFF, must be ON",
            "days ago</span>",
        ):  # fmt: skip
            assert said in text, said

    def test_without_a_time_it_says_so(self, admin: Client, pair: Pair) -> None:
        VaultNode.objects.filter(pk=pair[1].pk).update(report=REPORT)
        assert "it is not known when" in shown(admin, f"{VAULT}{pair[1].pk}/change/")

    @pytest.mark.parametrize(
        "report",
        [
            None,
            {},
            {"fences": ["sigkill"]},
            {"database": None, "certificate_expires": "soon", "disk_free_bytes": None},
            {"certificate_expires": "2020-99-99T00:00:00+00:00"},
            [1, 2],
        ],
    )
    def test_what_is_not_known_is_not_shown(self, admin: Client, pair: Pair, report: Any) -> None:
        VaultNode.objects.filter(pk=pair[1].pk).update(report=report)
        assert "What its agent said" not in shown(admin, f"{VAULT}{pair[1].pk}/change/")
