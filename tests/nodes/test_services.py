"""System → System Status → App Services: both services, who leads, who stands by, what can be asked for.

Proves: a standby that is missing or silent is said together with what to do; the housekeeping is steered like the first
service; a setting is refused field by field, kept with who changed it, and put back to its default only when that is saved.
"""

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from auditlog.models import LogEntry
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from nodes.choices import DesiredState
from nodes.models import AppService, Event, ServiceLease, ServiceWorker
from nodes.models.service import HOUSEKEEPING_NAME, SERVICE_NAME
from replication.stores.inventory import load_snapshot
from replication.stores.service_setting import change_setting

SERVICES = "/admin/nodes/appservice/"
EVIL = "<img src=x onerror=alert(1)>"
DEFAULTS = {"events_days": 365, "operations_days": 365, "log_days": 14, "lag_days": 2, "audit_days": 730}


@pytest.fixture
def housekeeping(vault: Any) -> AppService:
    return AppService.objects.get_or_create(
        name=HOUSEKEEPING_NAME, defaults={"desired_state": DesiredState.STARTED, "trigger_interval": 60}
    )[0]


def worker(id: str, *, service: str = SERVICE_NAME, age: float = 1, **more: Any) -> ServiceWorker:
    now = timezone.now()
    values = {"host": "controller-2", "process": f"b (pid {id})", "started_at": now, **more}
    return ServiceWorker.objects.create(pk=id, service=service, seen_at=now - timedelta(seconds=age), **values)


def text_of(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))


def row(client: Client, service: AppService) -> str:
    found = re.search(rf'<tr data-service="{service.name}">(.*?)</tr>', client.get(SERVICES).content.decode(), re.S)
    assert found
    return text_of(found[1])


def setting(service: AppService) -> str:
    return f"{SERVICES}{service.pk}/setting/"


def errors(html: str) -> list[str]:
    return re.findall(r'class="field-error"[^>]*>([^<]*)<', html)


class TestWorkers:
    def test_leader_and_standby_stand_beside_each_other_with_their_ages(
        self, admin: Client, service: AppService, lead: Callable[..., None]
    ) -> None:
        lead(age=3)
        worker("h" * 32, process="service-a (pid 4711)")
        worker("4712", age=4)
        text = row(admin, service)
        assert re.search(r"led by controller-1, service-a \(pid 4711\), term 3, lease renewed [34] s ago", text)
        assert re.search(r"standby controller-2, b \(pid 4712\), seen [45] s ago", text)
        assert text.count("standby") == 1, "the leader is no standby of itself"
        assert "No standby" not in text

    @pytest.mark.parametrize("age", [None, 17, 3600])
    def test_a_missing_standby_is_said_with_what_to_do(
        self, admin: Client, service: AppService, lead: Callable[..., None], age: float | None
    ) -> None:
        lead()
        if age is not None:
            worker("4712", age=age)
        text = row(admin, service)
        assert "No standby. When this worker ends, nobody takes over." in text
        assert "manage.py runservice --slot b" in text
        assert ("silent" in text) is (age is not None)

    def test_the_worker_of_another_service_is_no_standby(
        self, admin: Client, service: AppService, lead: Callable[..., None]
    ) -> None:
        lead()
        worker("4713", service=HOUSEKEEPING_NAME)
        assert "No standby." in row(admin, service)

    def test_nobody_at_all_says_how_to_start_a_worker(self, admin: Client, housekeeping: AppService) -> None:
        text = row(admin, housekeeping)
        assert "No worker" in text
        assert "Start a worker: manage.py runservice --service housekeeping" in text

    def test_the_screen_changes_when_a_standby_comes_falls_silent_or_goes(
        self, admin: Client, service: AppService, lead: Callable[..., None]
    ) -> None:
        lead()

        def unchanged(stamp: str) -> bool:
            return bool(admin.get(SERVICES, {"v": stamp}).status_code == 204)

        def stamp() -> str:
            found = re.search(r'data-stamp="(\w+)"', admin.get(SERVICES).content.decode())
            assert found
            return found[1]

        one = worker("4712")
        for change in (
            lambda: ServiceWorker.objects.update(seen_at=timezone.now() - timedelta(seconds=60)),
            one.delete,
        ):
            before = stamp()
            assert unchanged(before)
            change()
            assert not unchanged(before)

    def test_what_a_worker_says_of_itself_is_text(
        self, admin: Client, service: AppService, lead: Callable[..., None]
    ) -> None:
        lead()
        worker(EVIL, host=EVIL, process=EVIL)
        html = admin.get(SERVICES).content.decode()
        assert "<img" not in html
        assert "&lt;img src=x" in html

    def test_a_poll_that_changes_nothing_needs_few_queries(
        self, admin: Client, service: AppService, lead: Callable[..., None], django_assert_max_num_queries: Any
    ) -> None:
        lead()
        for n in range(20):
            worker(str(n))
        found = re.search(r'data-stamp="(\w+)"', admin.get(SERVICES).content.decode())
        assert found
        with django_assert_max_num_queries(4):
            assert admin.get(SERVICES, {"v": found[1]}).status_code == 204


class TestHousekeeping:
    def test_it_is_a_row_like_the_other_and_stands_below_it(self, admin: Client, housekeeping: AppService) -> None:
        names = re.findall(r'<tr data-service="(\w+)"', admin.get(SERVICES).content.decode())
        assert names == [SERVICE_NAME, HOUSEKEEPING_NAME]

    def test_its_light_and_last_pass_follow_its_own_lease_and_row(
        self, admin: Client, housekeeping: AppService
    ) -> None:
        now = timezone.now()
        AppService.objects.filter(pk=housekeeping.pk).update(
            desired_state=DesiredState.STARTED, started_on=now, last_completed_on=now - timedelta(minutes=5)
        )
        ServiceLease.objects.create(name=HOUSEKEEPING_NAME, holder="k", term=1, expires_at=now, renewed_at=now)
        text = row(admin, housekeeping)
        assert "Started" in text
        assert "5 min ago" in text
        assert "No standby, and the vaults need none." in text

    def test_stopping_it_says_that_the_vaults_do_not_depend_on_it(
        self, admin: Client, housekeeping: AppService, service: AppService
    ) -> None:
        assert "The vaults do not depend on it." in admin.get(f"{SERVICES}{housekeeping.pk}/stop/").content.decode()
        assert "Nothing fails over while it is stopped." in admin.get(f"{SERVICES}{service.pk}/stop/").content.decode()

    def test_without_javascript_it_is_stopped_started_and_run(self, plain: Client, housekeeping: AppService) -> None:
        def now() -> AppService:
            return AppService.objects.get(pk=housekeeping.pk)

        for wish, state in (("stop", DesiredState.STOPPED), ("start", DesiredState.STARTED)):
            assert plain.post(f"{SERVICES}{housekeeping.pk}/{wish}/", follow=True).status_code == 200
            assert now().desired_state == state
        plain.post(f"{SERVICES}{housekeeping.pk}/run/")
        assert now().run_requested_at is not None

    def test_run_now_is_grey_while_it_is_stopped_and_refused(self, admin: Client, housekeeping: AppService) -> None:
        AppService.objects.filter(pk=housekeeping.pk).update(desired_state=DesiredState.STOPPED)
        assert "It is stopped: start it first." in row(admin, housekeeping)
        assert "is stopped: start it first" in admin.post(f"{SERVICES}{housekeeping.pk}/run/").content.decode()
        assert AppService.objects.get(pk=housekeeping.pk).run_requested_at is None


class TestSetting:
    def test_it_proposes_what_is_set_and_names_default_and_range(self, admin: Client, housekeeping: AppService) -> None:
        AppService.objects.filter(pk=housekeeping.pk).update(configuration={"log_days": 3})
        html = admin.get(setting(housekeeping)).content.decode()
        assert re.search(r'name="log_days"[^>]*value="3"|value="3"[^>]*name="log_days"', html)
        assert "Days to keep, at least 1. Default: 14." in html
        assert "Days to keep, at least 365. Default: 730." in html
        assert "Seconds between two passes, 10 to 86400. Default: 60." in html

    def test_a_change_is_kept_with_its_event_its_audit_entry_and_who_made_it(
        self, admin: Client, administrator: User, housekeeping: AppService
    ) -> None:
        wished = {**DEFAULTS, "log_days": 30, "trigger_interval": 120}
        assert admin.post(setting(housekeeping), wished).status_code == 200
        changed = AppService.objects.get(pk=housekeeping.pk)
        assert (changed.trigger_interval, changed.changed_by) == (120, administrator)
        assert changed.configuration == {**DEFAULTS, "log_days": 30}
        assert Event.objects.get().text == (
            f"{HOUSEKEEPING_NAME}: trigger interval set to 120 s, Log lines kept for 30 days"
        )
        entry = LogEntry.objects.get_for_object(changed).get()
        assert entry.changes_dict == {"trigger_interval": ["60.0", "120.0"], "log_days": ["14", "30"]}
        assert entry.actor == administrator

        text = text_of(admin.get(setting(housekeeping)).content.decode())
        assert re.search(rf"{administrator.username} from 127.0.0.1 Trigger interval: 60 → 120", text)
        assert "Log lines, days: 14 → 30" in text

    def test_saving_what_is_set_already_is_no_change(self, admin: Client, housekeeping: AppService) -> None:
        html = admin.post(setting(housekeeping), {**DEFAULTS, "trigger_interval": 60}).content.decode()
        assert "is set like that already." in html
        assert not Event.objects.exists()
        assert not LogEntry.objects.get_for_object(housekeeping).exists()

    @pytest.mark.parametrize(
        ("wished", "says"),
        [
            ({"trigger_interval": "9"}, "The trigger interval is a number of seconds from 10 to 86400."),
            ({"trigger_interval": "86401"}, "The trigger interval is a number of seconds from 10 to 86400."),
            ({"log_days": "0"}, "Log lines are kept for a whole number of days from 1 to 3650."),
            ({"log_days": "1.5"}, "Log lines are kept for a whole number of days from 1 to 3650."),
            ({"events_days": ""}, "Events are kept for a whole number of days from 1 to 3650."),
            ({"audit_days": "364"}, "Audit entries are kept for a whole number of days from 365 to 3650."),
            ({"lag_days": EVIL}, "Lag samples are kept for a whole number of days from 1 to 3650."),
        ],
    )
    def test_what_makes_no_sense_is_refused_at_its_field_and_changes_nothing(
        self, admin: Client, housekeeping: AppService, wished: dict[str, str], says: str
    ) -> None:
        response = admin.post(setting(housekeeping), {**DEFAULTS, "trigger_interval": 60, **wished})
        assert response.status_code == 422
        assert errors(response.content.decode()) == [says]
        assert "<img" not in response.content.decode()
        unchanged = AppService.objects.get(pk=housekeeping.pk)
        assert (unchanged.trigger_interval, unchanged.configuration, unchanged.changed_at) == (60, {}, None)

    def test_whoever_asks_past_the_form_is_refused_too(self, housekeeping: AppService, service: AppService) -> None:
        for asked in (
            change_setting(housekeeping, interval=60, days={"audit_days": 1}, seen="", actor=None),
            change_setting(housekeeping, interval=1, days={}, seen="", actor=None),
            change_setting(service, interval=3600, days={}, seen="", actor=None),
            change_setting(service, interval=float("nan"), days={}, seen="", actor=None),
        ):
            assert getattr(asked, "rule", None) == "W80"
        assert not Event.objects.exists()

    def test_back_to_default_fills_the_form_and_saves_nothing(self, admin: Client, service: AppService) -> None:
        AppService.objects.filter(pk=service.pk).update(trigger_interval=5)
        response = admin.post(setting(service), {"trigger_interval": "5", "default": "1"})
        assert response.status_code == 200
        html = response.content.decode()
        assert re.search(r'<input[^>]*name="trigger_interval"[^>]*value="0.5"', html)
        assert "Nothing is changed until you press Update." in html
        assert AppService.objects.get(pk=service.pk).trigger_interval == 5
        admin.post(setting(service), {"trigger_interval": "0.5"})
        assert AppService.objects.get(pk=service.pk).trigger_interval == 0.5

    def test_a_change_that_another_administrator_made_meanwhile_is_not_overwritten_unseen(
        self, admin: Client, service: AppService
    ) -> None:
        def seen(html: str) -> str:
            found = re.search(r'name="seen" value="([^"]*)"', html)
            assert found
            return found[1]

        opened = seen(admin.get(setting(service)).content.decode())
        change_setting(service, interval=3, days={}, seen="", actor=None)
        refused = admin.post(setting(service), {"trigger_interval": "9", "seen": opened})
        assert refused.status_code == 422
        html = refused.content.decode()
        assert "Somebody else has changed this setting meanwhile" in html
        assert AppService.objects.get(pk=service.pk).trigger_interval == 3
        assert admin.post(setting(service), {"trigger_interval": "9", "seen": seen(html)}).status_code == 200
        assert AppService.objects.get(pk=service.pk).trigger_interval == 9

    def test_the_history_shows_the_last_ten_newest_first_also_start_and_stop(
        self, admin: Client, plain: Client, service: AppService
    ) -> None:
        for n in range(1, 11):
            change_setting(service, interval=n, days={}, seen="", actor=None)
        plain.post(f"{SERVICES}{service.pk}/start/")
        html = admin.get(setting(service)).content.decode()
        entries = [text_of(entry) for entry in re.findall(r"<li>(.*?)</li>", html.split('class="history"')[1], re.S)]
        assert len(entries) == 10
        assert "Status: Stopped → Started" in entries[0]
        assert "Trigger interval: 9 → 10" in entries[1]

    def test_who_may_not_change_it_sees_no_entry_and_gets_403(
        self, user: Callable[..., User], enter: Callable[..., Client], service: AppService
    ) -> None:
        client = enter(user())
        html = client.get(SERVICES).content.decode()
        assert "Setting" not in html
        assert "Run Now" not in html
        assert client.get(setting(service)).status_code == 403
        assert client.post(setting(service), {"trigger_interval": "9"}).status_code == 403
        assert AppService.objects.get(pk=service.pk).trigger_interval == 0.5


@pytest.mark.parametrize(("row_says", "used"), [(86400, 60), (0.2, 0.2), (60, 60)])
def test_the_first_service_survives_an_interval_that_is_right_for_another(
    service: AppService, row_says: float, used: float
) -> None:
    AppService.objects.filter(pk=service.pk).update(trigger_interval=row_says)
    assert load_snapshot().interval == timedelta(seconds=used)


@pytest.mark.parametrize("nonsense", [{}, {"log_days": "x"}, {"log_days": None}, {"log_days": True}, {"log_days": 1.5}])
def test_a_configuration_that_was_written_past_the_form_has_its_defaults(
    admin: Client, housekeeping: AppService, nonsense: dict[str, Any]
) -> None:
    AppService.objects.filter(pk=housekeeping.pk).update(configuration=nonsense)
    html = admin.get(setting(housekeeping)).content.decode()
    assert re.search(r'name="log_days"[^>]*value="14"|value="14"[^>]*name="log_days"', html)
