"""Pause, Resume and the vault's policy on the screen: asked with what they mean, shown until they end, granted with a record."""

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from auditlog.models import LogEntry
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from nodes.models import Event, Vault
from replication.stores.pausing import pause_failover
from tests.nodes.test_menu import entry
from tests.nodes.test_screens import VAULT, Pair, shown, stamp
from tests.nodes.test_switchover import section

PAUSE, RESUME, POLICY = VAULT + "pause/", VAULT + "resume/", VAULT + "policy/"


class TestPause:
    @pytest.mark.parametrize(("span", "minutes"), [("15", 15), ("60", 60), ("240", 240), ("open", None)])
    def test_it_is_asked_for_and_shown_with_its_end_its_author_and_its_reason(
        self, admin: Client, pair: Pair, lead: Any, administrator: User, span: str, minutes: int | None
    ) -> None:
        lead()
        before = stamp(admin, VAULT)
        assert "when the Master is lost, writes wait" in shown(admin, PAUSE)
        assert not Event.objects.exists(), "asking changes nothing"
        response = admin.post(PAUSE, {"span": span, "reason": "moving <b>racks</b>"})
        assert "dialog:close" in response["HX-Trigger"]
        row = Vault.objects.get()
        assert row.paused_at is not None
        assert (row.paused_until and row.paused_until - row.paused_at) == (minutes and timedelta(minutes=minutes))
        assert admin.get(VAULT, {"v": before}).status_code == 200
        said = section(shown(admin), "hold")
        assert said.startswith("Automatic failover is paused until ")
        assert ("somebody resumes it" in said) == (minutes is None)
        assert f"by {administrator.username}: “moving <b>racks</b>”." in said
        assert "moving <b>" not in shown(admin)

    def test_everybody_sees_it_and_who_may_resumes_it(
        self, admin: Client, pair: Pair, lead: Any, user: Callable[..., User], enter: Callable[..., Client]
    ) -> None:
        lead()
        pause_failover(pair[0].vault, None, None, reason="racks")
        viewer = shown(enter(user()))
        assert "Automatic failover is paused" in viewer
        assert RESUME not in viewer
        keeper = enter(user("pause_vault"), htmx=True)
        text = shown(keeper)
        assert f'<a id="resume" class="button small" href="{RESUME}"' in text
        assert entry(text, pair[1], "Resume") == "Resume automatic failover"
        assert "its fallback takes over at once" in shown(keeper, RESUME)
        keeper.post(RESUME)
        assert "Automatic failover is paused" not in shown(keeper)
        assert entry(shown(keeper), pair[1], "Pause") == "Pause automatic failover"

    @pytest.mark.parametrize("method", ["get", "post"])
    def test_who_may_not_pause_may_not_resume_either(
        self, pair: Pair, user: Callable[..., User], enter: Callable[..., Client], method: str
    ) -> None:
        pause_failover(pair[0].vault, None, None, reason="racks")
        client = enter(user("change_vaultnode", "switchover_vaultnode"))
        assert getattr(client, method)(RESUME).status_code == 403
        assert Vault.objects.get().paused_at is not None

    def test_who_pauses_again_reads_what_is_replaced(self, admin: Client, pair: Pair) -> None:
        assert "takes the place" not in shown(admin, PAUSE)
        pause_failover(pair[0].vault, None, None, reason="<b>racks")
        assert "It is paused already, by –: “&lt;b&gt;racks”." in shown(admin, PAUSE)

    def test_resuming_what_is_not_paused_says_so(self, admin: Client, pair: Pair) -> None:
        text = shown(admin, RESUME)
        assert "Automatic failover is not paused: it is on." in text
        assert ">Yes<" not in text
        admin.post(RESUME)
        assert not Event.objects.exists()

    def test_it_ends_by_itself(self, admin: Client, pair: Pair, lead: Any) -> None:
        lead()
        pause_failover(pair[0].vault, timedelta(minutes=15), None, reason="racks")
        paused = stamp(admin, VAULT)
        Vault.objects.update(paused_until=timezone.now() - timedelta(seconds=1))
        assert admin.get(VAULT, {"v": paused}).status_code == 200
        assert section(shown(admin), "hold") == ""

    @pytest.mark.parametrize(
        ("data", "says"),
        [
            pytest.param({"span": "60"}, "Say why automatic failover is to be paused", id="no reason"),
            pytest.param({"span": "60", "reason": "  "}, "Say why automatic failover is to be paused", id="blank"),
            pytest.param({"reason": "racks"}, "Choose for how long.", id="no time: not for ever by mistake"),
            pytest.param({"span": "100000", "reason": "racks"}, "Choose one of the times.", id="another time"),
            pytest.param({"span": "60", "reason": "x" * 201}, "at most 200 characters", id="too long"),
        ],
    )
    def test_what_is_missing_is_said_at_its_field(
        self, admin: Client, pair: Pair, data: dict[str, str], says: str
    ) -> None:
        response = admin.post(PAUSE, data)
        assert response.status_code == 422
        assert says in response.content.decode()
        assert Vault.objects.get().paused_at is None

    def test_without_javascript(self, plain: Client, pair: Pair) -> None:
        assert "<html" in shown(plain, PAUSE)
        for address, data in ((PAUSE, {"span": "15", "reason": "racks"}), (RESUME, {})):
            response = plain.post(address, data)
            assert (response.status_code, response["Location"]) == (302, VAULT)
        assert "Automatic failover is on again." in shown(plain)


class TestPolicy:
    def test_it_says_what_each_choice_means_and_which_one_holds(self, admin: Client, pair: Pair) -> None:
        text = shown(admin, POLICY)
        assert "Clients go on writing" in text
        assert "nothing is lost, but nothing can be written" in text
        checked = re.search(r'<input type="radio" name="if_lost" value="(\w+)"[^>]*checked', text)
        assert checked is not None
        assert checked[1] == "writable"

    def test_it_is_changed_with_one_event_and_one_entry(
        self, admin: Client, pair: Pair, administrator: User
    ) -> None:  # fmt: skip
        for _ in range(2):
            admin.post(POLICY, {"if_lost": "block", "reason": "the auditors"})
        assert not Vault.objects.get().stay_writable
        event = Event.objects.get()
        assert event.text == "policy: block writes when the fallback is lost: the auditors"
        assert event.actor == administrator.username
        log = LogEntry.objects.get_for_object(pair[0].vault).get()
        assert log.changes == {"stay_writable": ["True", "False"]}
        assert log.additional_data["reason"] == "the auditors"
        admin.post(POLICY, {"if_lost": "writable", "reason": ""})
        assert Vault.objects.get().stay_writable

    @pytest.mark.parametrize("data", [{}, {"if_lost": "perhaps"}])
    def test_neither_of_the_two_is_a_sentence(self, admin: Client, pair: Pair, data: dict[str, str]) -> None:
        response = admin.post(POLICY, data)
        assert response.status_code == 422
        assert "Choose one of the two." in response.content.decode()
        assert not Event.objects.exists()

    def test_the_button_is_for_who_may(
        self, admin: Client, pair: Pair, user: Callable[..., User], enter: Callable[..., Client]
    ) -> None:
        assert 'id="vault-setting"' in shown(enter(user("change_vault")))
        assert 'id="vault-setting"' not in shown(enter(user("change_vaultnode")))
