"""Operations: the list and its filter, an operation's page, the lines on the Vault screen, Cancel; figures in words.

Every name and text of a row may be full of markup and comes out as text.
"""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from nodes.admin.operations import words
from nodes.admin.operations.filter import PAGE
from nodes.admin.operations.shown import SHOWN_AT_ONCE
from nodes.choices import OperationKind, OperationState
from nodes.models import AppService, Event, Operation, VaultNode
from replication.stores.cancelling import FORSAKEN_AFTER

Pair = tuple[VaultNode, VaultNode]
K, S = OperationKind, OperationState
LIST, VAULT = "/admin/nodes/operation/", "/admin/nodes/vaultnode/"
MARKUP = "<b>bold</b>&\"'"
SAMPLES = [[0.0, 0], [5.0, 1000], [10.0, 2000]]


@pytest.fixture
def make(pair: Pair) -> Callable[..., Operation]:
    def made(kind: str = K.RESYNCHRONIZE, state: str = S.SUCCEEDED, **changes: Any) -> Operation:
        now = timezone.now()
        values: dict[str, Any] = {
            "vault": pair[0].vault,
            "node": pair[1],
            "started_at": None if state == S.QUEUED else now - timedelta(seconds=12),
            "finished_at": None if state in (S.QUEUED, S.RUNNING) else now,
        }
        return Operation.objects.create(kind=kind, state=state, **{**values, **changes})

    return made


@pytest.fixture
def viewer(user: Callable[..., User], enter: Callable[..., Client]) -> Client:
    return enter(user("view_operation", "view_event"))


@pytest.fixture
def operator(user: Callable[..., User], enter: Callable[..., Client]) -> Client:
    return enter(user("view_operation", "view_event", "cancel_operation"))


def text_of(client: Client, url: str, **headers: str) -> str:
    response = client.get(url, headers=headers or None)
    assert response.status_code == 200, url
    return str(response.content.decode())


def shown(client: Client, url: str = LIST) -> list[str]:
    """Ids of the rows in the list, in order."""
    text = text_of(client, url)
    return [part.split('"', 1)[0] for part in text.split('data-operation-row="')[1:]]


class TestList:
    def test_newest_first_and_routine_ones_only_when_asked(
        self, make: Callable[..., Operation], viewer: Client
    ) -> None:
        first, routine, second = make(), make(K.FOLLOW), make(K.FAILOVER)
        assert shown(viewer) == [second.pk, first.pk]
        assert shown(viewer, LIST + "?all=1") == [second.pk, routine.pk, first.pk]
        assert shown(viewer, LIST + "?kind=follow") == [routine.pk]

    @pytest.mark.parametrize("state", [S.RUNNING, S.NEEDS_PERSON])
    def test_what_runs_or_needs_a_person_is_no_routine(
        self, make: Callable[..., Operation], viewer: Client, state: str
    ) -> None:
        operation = make(K.FOLLOW, state)
        assert shown(viewer) == [operation.pk]

    @pytest.mark.parametrize(
        ("query", "found"),
        [
            ("state=open", "running"),
            ("state=trouble", "failed"),
            ("state=succeeded", "succeeded"),
            ("state=queued", ""),
            ("node=" + "b" * 32 + "&state=failed", "failed"),
            ("node=" + "a" * 32, ""),
        ],
    )
    def test_filter(self, make: Callable[..., Operation], viewer: Client, query: str, found: str) -> None:
        by_state = {state: make(state=state).pk for state in (S.SUCCEEDED, S.FAILED, S.RUNNING)}
        assert shown(viewer, f"{LIST}?{query}") == ([by_state[found]] if found else [])

    @pytest.mark.parametrize(
        "query", ["kind=nonsense", "state=%00", "node=x", "before=x", "before=20260101T000000.0Z-x"]
    )
    def test_what_makes_no_sense_is_said_and_left_out(
        self, make: Callable[..., Operation], viewer: Client, query: str
    ) -> None:
        operation = make()
        assert shown(viewer, f"{LIST}?{query}") == [operation.pk]
        said = 'class="form-error" role="alert"' in text_of(viewer, f"{LIST}?{query}")
        assert said is not ("before" in query or "%00" in query), "a place that is none is the beginning"

    def test_pages_do_not_lose_or_repeat_a_row(self, make: Callable[..., Operation], viewer: Client) -> None:
        made = [make() for _ in range(2 * PAGE + 3)]
        at = timezone.now()
        Operation.objects.update(created_at=at)  # all at the same moment
        seen: list[str] = []
        url = LIST
        while url:
            seen += shown(viewer, url)
            text = text_of(viewer, url)
            url = (
                text.split('href="' + LIST + "?before=")[-1].split('"')[0]
                if "?before=" in text and "Older" in text
                else ""
            )
            url = f"{LIST}?before={url}" if url else ""
        assert sorted(seen) == sorted(o.pk for o in made)
        assert len(seen) == len(set(seen))

    def test_it_is_polled_with_its_filter_and_answers_204(
        self, make: Callable[..., Operation], user: Callable[..., User], enter: Callable[..., Client]
    ) -> None:
        operation = make(state=S.RUNNING)
        client = enter(user("view_operation"), htmx=True)
        text = text_of(client, LIST + "?state=open")
        assert f'hx-get="{LIST}?state=open"' in text
        stamp = text.split('data-stamp="')[1].split('"')[0]
        assert client.get(f"{LIST}?state=open&v={stamp}").status_code == 204
        Operation.objects.filter(pk=operation.pk).update(percent=5, changed_at=timezone.now())
        assert client.get(f"{LIST}?state=open&v={stamp}").status_code == 200

    def test_a_poll_is_few_queries_however_many_rows(
        self,
        make: Callable[..., Operation],
        administrator: User,
        enter: Callable[..., Client],
        django_assert_max_num_queries: Any,
    ) -> None:
        for _ in range(30):
            make(state=S.FAILED)
        client = enter(administrator, htmx=True)
        stamp = text_of(client, LIST).split('data-stamp="')[1].split('"')[0]
        with django_assert_max_num_queries(4):
            assert client.get(f"{LIST}?v={stamp}").status_code == 204

    def test_names_and_texts_are_text(self, make: Callable[..., Operation], pair: Pair, viewer: Client) -> None:
        VaultNode.objects.filter(pk=pair[1].pk).update(hostname=MARKUP)
        step = {
            "name": f"drain {MARKUP}",
            "state": "failed",
            "began_ms": 0,
            "ms": 5,
            "says": MARKUP,
            "position": MARKUP,
        }
        operation = make(K.FAILOVER, S.FAILED, message=MARKUP, reason=MARKUP, result={"summary": MARKUP}, steps=[step])
        Event.objects.create(vault=pair[0].vault, text=MARKUP, operation=operation.pk)
        for url in (LIST, f"{LIST}{operation.pk}/", f"{LIST}{operation.pk}/report/", VAULT):
            text = text_of(viewer, url)
            assert "<b>bold</b>" not in text, url
            assert "&lt;b&gt;bold" in text, url


class TestPage:
    def test_steps_progress_and_events(self, make: Callable[..., Operation], pair: Pair, viewer: Client) -> None:
        steps = [
            {"name": "ask alpha.example", "state": "done", "began_ms": 0, "ms": 40, "position": "0-1-9"},
            {
                "name": "catch-up beta.example",
                "state": "running",
                "began_ms": 40,
                "ms": 900,
                "says": "12 of 40 transactions",
            },
        ]
        operation = make(
            state=S.RUNNING, steps=steps, done=2000, total=6000, unit="transactions", result={"samples": SAMPLES}
        )
        Event.objects.create(vault=pair[0].vault, text="it was asked for", operation=operation.pk)
        text = text_of(viewer, f"{LIST}{operation.pk}/")
        for said in (
            "alpha.example says where it stands",
            "beta.example catches up",
            "12 of 40 transactions",
            "2,000 of 6,000 transactions",
            "200 transactions/s",
            "about 20 s left",
            "33 %",
            "it was asked for",
        ):
            assert said in text, said

    def test_what_was_not_reached_is_said(self, make: Callable[..., Operation], viewer: Client) -> None:
        operation = make(state=S.FAILED, steps=[{"name": "open b", "state": "waiting"}, {"odd": 1}, "odd", None])
        assert "not reached" in text_of(viewer, f"{LIST}{operation.pk}/")

    def test_a_copy_says_which_of_its_steps_it_is_at_and_what_hinders_it(
        self, make: Callable[..., Operation], viewer: Client
    ) -> None:
        states = ("done", "done", "running", "waiting", "waiting")
        steps = [
            {"name": f"{word} beta.example", "state": state, "ms": 5}
            for word, state in zip(("order", "begin", "transfer", "prepare", "swap"), states, strict=True)
        ]
        operation = make(K.REBUILD, S.RUNNING, steps=steps, message="beta.example does not answer")
        for url in (f"{LIST}{operation.pk}/", LIST, VAULT):
            text = text_of(viewer, url)
            assert "Step 3 of 5: beta.example receives the copy<" in text, url
            assert "<small>beta.example does not answer</small>" in text, url
        page = text_of(viewer, f"{LIST}{operation.pk}/")
        assert page.count('aria-current="step"') == 1
        assert page.count("to come") == 2

    def test_one_that_does_not_move_has_no_time_left(self, make: Callable[..., Operation], viewer: Client) -> None:
        samples = [[0.0, 70], [5.0, 70], [10.0, 70]]
        operation = make(state=S.RUNNING, done=70, total=100, unit="transactions", result={"samples": samples})
        assert "time left not known" in text_of(viewer, f"{LIST}{operation.pk}/")

    def test_a_copy_speaks_of_bytes(self, make: Callable[..., Operation], viewer: Client) -> None:
        samples = [[float(second), second * 25 * 2**20] for second in range(11)]
        operation = make(
            state=S.RUNNING, done=250 * 2**20, total=3260 * 2**20, unit="bytes", result={"samples": samples}
        )
        text = text_of(viewer, f"{LIST}{operation.pk}/")
        assert "250 MiB of 3.2 GiB" in text
        assert "25.0 MiB/s" in text
        assert "about 2 min left" in text

    def test_it_is_live(
        self, make: Callable[..., Operation], user: Callable[..., User], enter: Callable[..., Client]
    ) -> None:
        operation = make(state=S.RUNNING)
        client, url = enter(user("view_operation"), htmx=True), f"{LIST}{operation.pk}/"
        stamp = text_of(client, url).split('data-stamp="')[1].split('"')[0]
        assert client.get(f"{url}?v={stamp}").status_code == 204
        Operation.objects.filter(pk=operation.pk).update(message="further", changed_at=timezone.now())
        assert "further" in text_of(client, f"{url}?v={stamp}")

    @pytest.mark.parametrize("page", ["", "report/", "report.json", "cancel/"])
    def test_one_that_is_not_there_is_404(self, operator: Client, pair: Pair, page: str) -> None:
        assert operator.get(f"{LIST}{'9' * 32}/{page}").status_code == 404

    @pytest.mark.parametrize("page", ["", "0/", "0/report/", "0/report.json"])
    def test_it_needs_the_permission_to_view(
        self, make: Callable[..., Operation], user: Callable[..., User], enter: Callable[..., Client], page: str
    ) -> None:
        operation = make(K.FAILOVER)
        client = enter(user(view=False))
        assert client.get(LIST + page.replace("0/", operation.pk + "/", 1)).status_code == 403


class TestCancel:
    def test_a_queued_one_is_cancelled_with_a_reason(self, make: Callable[..., Operation], operator: Client) -> None:
        operation = make(state=S.QUEUED)
        url = f"{LIST}{operation.pk}/cancel/"
        asked = text_of(operator, url)
        assert "Only the watching ends" in asked
        assert Operation.objects.get(pk=operation.pk).state == S.QUEUED, "looking changes nothing"
        response = operator.post(url, {"reason": "not tonight"})
        assert (response.status_code, response["Location"]) == (302, f"{LIST}{operation.pk}/")
        assert Operation.objects.get(pk=operation.pk).state == S.CANCELLED
        assert "not tonight" in Event.objects.get(operation=operation.pk).text

    def test_a_running_one_is_asked_and_the_screen_says_so(
        self, make: Callable[..., Operation], operator: Client
    ) -> None:
        operation = make(state=S.RUNNING)
        operator.post(f"{LIST}{operation.pk}/cancel/", {"reason": ""})
        text = text_of(operator, f"{LIST}{operation.pk}/")
        assert "asked to end" in text
        assert "It was asked to end a moment ago" in text

    def test_the_popup_closes_and_the_list_is_fetched(
        self, make: Callable[..., Operation], user: Callable[..., User], enter: Callable[..., Client]
    ) -> None:
        operation = make(state=S.QUEUED)
        client = enter(user("view_operation", "cancel_operation"), htmx=True)
        response = client.post(f"{LIST}{operation.pk}/cancel/", {"reason": ""})
        assert "list:changed" in response["HX-Trigger"]
        assert "was cancelled" in response.content.decode()

    @pytest.mark.parametrize("kind", [K.FAILOVER, K.SWITCHOVER, K.ADOPT, K.FOLLOW])
    def test_what_cannot_be_cancelled_says_why_and_stays(
        self, make: Callable[..., Operation], operator: Client, kind: str
    ) -> None:
        operation = make(kind, S.RUNNING)
        url = f"{LIST}{operation.pk}/"
        page = text_of(operator, url)
        assert f'href="{url}cancel/"' not in page
        assert 'aria-disabled="true"' in page
        answer = operator.post(url + "cancel/", {"reason": ""})
        assert 'role="alert"' in answer.content.decode()
        assert Operation.objects.get(pk=operation.pk).state == S.RUNNING

    def test_a_reason_that_is_too_long_is_refused_and_nothing_changes(
        self, make: Callable[..., Operation], operator: Client
    ) -> None:
        operation = make(state=S.QUEUED)
        answer = operator.post(f"{LIST}{operation.pk}/cancel/", {"reason": "x" * 201})
        assert answer.status_code == 422
        assert "at most 200 characters" in answer.content.decode()
        assert Operation.objects.get(pk=operation.pk).state == S.QUEUED

    @pytest.mark.parametrize("method", ["get", "post"])
    def test_it_needs_its_permission(self, make: Callable[..., Operation], viewer: Client, method: str) -> None:
        operation = make(state=S.QUEUED)
        assert getattr(viewer, method)(f"{LIST}{operation.pk}/cancel/").status_code == 403
        assert Operation.objects.get(pk=operation.pk).state == S.QUEUED
        assert "cancel/" not in text_of(viewer, LIST)
        assert "cancel/" not in text_of(viewer, VAULT)

    def test_a_post_without_the_csrf_token_is_refused(
        self, make: Callable[..., Operation], administrator: User
    ) -> None:
        operation, client = make(state=S.QUEUED), Client(enforce_csrf_checks=True)
        client.force_login(administrator)
        assert client.post(f"{LIST}{operation.pk}/cancel/").status_code == 403
        assert Operation.objects.get(pk=operation.pk).state == S.QUEUED


class TestOnTheVaultScreen:
    @pytest.fixture
    def led(self, lead: Callable[..., None], service: AppService) -> None:
        lead()

    def test_all_running_ones_up_to_three_and_how_many_more(
        self, make: Callable[..., Operation], led: None, viewer: Client
    ) -> None:
        made = [make(K.DETACH, S.RUNNING) for _ in range(SHOWN_AT_ONCE + 2)]
        text = text_of(viewer, VAULT)
        assert [f'data-running="{o.pk}"' in text for o in made] == [True] * SHOWN_AT_ONCE + [False] * 2
        assert "2 more operations under way" in text

    def test_what_comes_by_itself_is_shown_when_it_takes_long(
        self, make: Callable[..., Operation], led: None, viewer: Client
    ) -> None:
        now = timezone.now()
        quick, slow = make(K.FOLLOW, S.RUNNING, started_at=now), make(K.BECOME_ACKER, S.RUNNING)
        text = text_of(viewer, VAULT)
        assert f'data-running="{slow.pk}"' in text
        assert f'data-running="{quick.pk}"' not in text

    def test_step_figures_and_cancel(self, make: Callable[..., Operation], led: None, operator: Client) -> None:
        steps = [{"name": "catch-up beta.example", "state": "running", "began_ms": 0, "ms": 9}]
        operation = make(
            state=S.RUNNING, steps=steps, done=2000, total=6000, unit="transactions", result={"samples": SAMPLES}
        )
        text = text_of(operator, VAULT)
        for said in ("beta.example catches up", "33 %", "200 transactions/s", "about 20 s left"):
            assert said in text, said
        assert f'hx-get="{LIST}{operation.pk}/cancel/"' in text

    def test_the_last_result_stays_beside_what_runs_while_it_is_news(
        self, make: Callable[..., Operation], led: None, viewer: Client
    ) -> None:
        make(state=S.RUNNING)
        ended = make(K.FAILOVER, result={"summary": "beta is Master now"})
        text = text_of(viewer, VAULT)
        assert "beta is Master now" in text
        assert f'href="{LIST}{ended.pk}/report/"' in text
        Operation.objects.filter(pk=ended.pk).update(finished_at=timezone.now() - timedelta(hours=1))
        assert "beta is Master now" not in text_of(viewer, VAULT)

    def test_a_worker_that_is_not_heard_of_changes_the_screen(
        self, make: Callable[..., Operation], led: None, user: Callable[..., User], enter: Callable[..., Client]
    ) -> None:
        operation = make(state=S.RUNNING)
        Operation.objects.filter(pk=operation.pk).update(changed_at=timezone.now() - FORSAKEN_AFTER)
        assert "no word of its worker" in text_of(enter(user("view_operation")), VAULT)


@pytest.mark.parametrize(
    ("count", "unit", "text"),
    [
        (0, "bytes", "0 bytes"),
        (999, "bytes", "999 bytes"),
        (1000, "bytes", "1000 bytes"),
        (2**10, "bytes", "1.0 KiB"),
        (1_360_000, "bytes", "1.3 MiB"),
        (2**20 - 40, "bytes", "1.0 MiB"),
        (250 * 2**20, "bytes", "250 MiB"),
        (3300 * 2**20, "bytes", "3.2 GiB"),
        (7 * 2**40, "bytes", "7.0 TiB"),
        (1, "transactions", "1 transaction"),
        (12_345, "transactions", "12,345 transactions"),
        (7, "", "7"),
    ],
)
def test_amounts_in_words(count: int, unit: str, text: str) -> None:
    assert words.amount(count, unit) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "time left not known"),
        (1.2, "a moment left"),
        (7.6, "about 8 s left"),
        (21.9, "about 20 s left"),
        (200, "about 3 min left"),
        (8000, "about 2 h left"),
        (400_000, "about 5 days left"),
    ],
)
def test_time_left_in_words(seconds: float | None, text: str) -> None:
    assert words.time_left(seconds) == text


@pytest.mark.parametrize(
    ("speed", "unit", "text"),
    [
        (None, "bytes", ""),
        (12.5 * 2**20, "bytes", "12.5 MiB/s"),
        (0.4, "transactions", "0.4 transactions/s"),
        (1234.4, "transactions", "1,234 transactions/s"),
        (0.0, "transactions", "0.0 transactions/s"),
    ],
)
def test_rates_in_words(speed: float | None, unit: str, text: str) -> None:
    assert words.rate(speed, unit) == text
