"""The popups behind the buttons: what they ask, refuse and do; the same as pages of their own without JavaScript."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from nodes.choices import OperationKind
from nodes.models import AppService, Event, Operation, ServiceLease, Vault, VaultNode
from tests.nodes.test_screens import SCREENS, SERVICES, VAULT, Pair, shown

SURE = {"confirm": "beta.example", "reason": "its host is replaced"}
"""What beta, the fallback that would take over, has to be let go with."""


class TestWishes:
    @pytest.mark.parametrize("name", ["change", "delete"])
    def test_the_current_primary_is_neither_deactivated_nor_deleted(self, admin: Client, pair: Pair, name: str) -> None:
        response = admin.post(f"{VAULT}{pair[0].pk}/{name}/", {})
        text = response.content.decode()
        assert response.status_code in (200, 422)
        assert "alpha.example is the current primary" in text
        assert "HX-Trigger" not in response  # the popup stays
        alpha = VaultNode.objects.get(pk=pair[0].pk)
        assert (alpha.active, alpha.removed_at) == (True, None)

    def test_the_question_before_deleting_the_primary_is_a_refusal_without_yes(self, admin: Client, pair: Pair) -> None:
        text = shown(admin, f"{VAULT}{pair[0].pk}/delete/")
        assert "alpha.example is the current primary" in text
        assert "Yes" not in text

    def test_update_takes_effect_and_says_so(self, admin: Client, pair: Pair) -> None:
        response = admin.post(f"{VAULT}{pair[1].pk}/change/", SURE)
        assert response.status_code == 200
        assert json.loads(response["HX-Trigger"]) == {"dialog:close": "", "list:changed": ""}
        assert "beta.example was updated." in response.content.decode()
        assert not VaultNode.objects.get(pk=pair[1].pk).active
        admin.post(f"{VAULT}{pair[1].pk}/change/", {"active": "on"})
        assert VaultNode.objects.get(pk=pair[1].pk).active

    def test_a_deleted_node_is_gone_and_the_notice_names_the_command_that_purges_it(
        self, admin: Client, pair: Pair
    ) -> None:
        VaultNode.objects.filter(pk=pair[1].pk).update(report={"purge_command": "vault-agent purge --home /srv/b"})
        asked = shown(admin, f"{VAULT}{pair[1].pk}/delete/")
        assert "Delete beta.example?" in asked
        assert VaultNode.objects.present().count() == 2
        response = admin.post(f"{VAULT}{pair[1].pk}/delete/", SURE)
        text = response.content.decode()
        assert "type on beta.example: vault-agent purge --home /srv/b" in text
        assert "data-sticky" in text
        assert 'data-node="beta.example"' not in shown(admin)
        assert 'data-node="alpha.example"' in shown(admin)

    def test_without_a_known_command_the_notice_still_says_what_to_do(self, admin: Client, pair: Pair) -> None:
        assert "vault-agent purge --home" in admin.post(f"{VAULT}{pair[1].pk}/delete/", SURE).content.decode()

    @pytest.mark.parametrize(
        ("prepare", "reason"),
        [
            pytest.param(
                lambda: VaultNode.objects.filter(hostname="beta.example").update(active=False),
                "beta.example is inactive",
                id="inactive",
            ),
            pytest.param(
                lambda: Vault.objects.update(primary=None, promotable=None), "no primary yet", id="no primary"
            ),
            pytest.param(
                lambda: Operation.objects.create(kind=OperationKind.RESYNCHRONIZE, vault=Vault.objects.get()),
                "already running",
                id="one runs",
            ),
        ],
    )
    def test_a_resynchronization_that_is_impossible_is_greyed_with_its_reason(
        self, admin: Client, pair: Pair, lead: Callable[..., None], prepare: Callable[[], Any], reason: str
    ) -> None:
        lead()
        address = f"{VAULT}{pair[1].pk}/resynchronize/"
        assert f'href="{address}"' in shown(admin)
        prepare()
        text = shown(admin)
        assert f'href="{address}"' not in text
        grey = re.findall(r'<span class="impossible" aria-disabled="true">(.*?)</span>', text, re.S)
        assert any(reason in one for one in grey)
        before = Operation.objects.count()
        assert reason in admin.post(address).content.decode()
        assert Operation.objects.count() == before

    @pytest.mark.parametrize("name", ["change", "delete", "resynchronize"])
    def test_a_node_that_is_gone_is_404(self, admin: Client, pair: Pair, name: str) -> None:
        VaultNode.objects.filter(pk=pair[1].pk).update(removed_at=timezone.now())
        for pk in (pair[1].pk, "0" * 32, "' OR 1=1 --"):
            assert admin.get(f"{VAULT}{pk}/{name}/").status_code == 404
            assert admin.post(f"{VAULT}{pk}/{name}/").status_code == 404

    def test_run_now_on_a_stopped_service_says_to_start_it(self, admin: Client, service: AppService) -> None:
        text = admin.post(f"{SERVICES}{service.pk}/run/").content.decode()
        assert "is stopped: start it first, then run it." in text
        assert AppService.objects.get(name="SystemHighAvailabilityService").run_requested_at is None

    def test_looking_changes_nothing(self, admin: Client, plain: Client, pair: Pair, service: AppService) -> None:
        def everything() -> list[Any]:
            models = (Vault, VaultNode, AppService, Event, Operation, ServiceLease)
            return [list(model.objects.order_by("pk").values()) for model in models]

        before = everything()
        dialogs = [
            VAULT + "add/",
            *(f"{VAULT}{n.pk}/{d}/" for n in pair for d in ("change", "delete", "resynchronize")),
        ]
        dialogs += [f"{SERVICES}{service.pk}/{name}/" for name in ("start", "stop", "run", "setting")]
        for client in (admin, plain):
            for address in (*SCREENS, *dialogs):
                assert client.get(address, {"active": "", "trigger_interval": "9"}).status_code == 200
                assert client.head(address).status_code == 200
        assert everything() == before


class TestWithoutJavascript:
    def test_every_popup_is_a_page_of_its_own(self, plain: Client, pair: Pair, service: AppService) -> None:
        for address in (
            VAULT + "add/",
            *(f"{VAULT}{pair[1].pk}/{name}/" for name in ("change", "delete", "resynchronize")),
            *(f"{SERVICES}{service.pk}/{name}/" for name in ("start", "stop", "run", "setting")),
        ):
            text = shown(plain, address)
            assert "<html" in text
            assert f'method="post" action="{address}"' in text

    def test_a_wish_leads_back_to_the_list_which_shows_the_notice(
        self, plain: Client, pair: Pair, service: AppService
    ) -> None:
        for address, back, says in (
            (f"{VAULT}{pair[1].pk}/change/", VAULT, "beta.example was updated."),
            (f"{VAULT}{pair[1].pk}/delete/", VAULT, "vault-agent purge"),
            (f"{SERVICES}{service.pk}/start/", SERVICES, "is asked to start."),
            (f"{SERVICES}{service.pk}/stop/", SERVICES, "is asked to stop."),
            (f"{SERVICES}{service.pk}/run/", SERVICES, "is stopped: start it first"),
        ):
            response = plain.post(address, SURE)
            assert (response.status_code, response["Location"]) == (302, back)
            assert says in shown(plain, back)

    def test_a_refused_form_is_the_page_again_with_what_was_typed(self, plain: Client, vault: Vault) -> None:
        response = plain.post(VAULT + "add/", {"hostname": "a b", "port": "1", "system_role": "primary"})
        assert response.status_code == 422
        text = response.content.decode()
        assert "<html" in text
        assert 'value="a b"' in text
