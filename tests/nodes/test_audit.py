"""The audit log: every wish is exactly one entry with who, from where, before and after; the screen reads and never changes."""

import csv
import importlib
import inspect
import io
import json
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from auditlog.models import LogEntry
from axes.models import AccessAttempt
from django.contrib.auth.models import Group, User
from django.contrib.contenttypes.models import ContentType
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.test import Client, RequestFactory
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

import replication.stores
from nodes.choices import OperationKind
from nodes.models import ApplicationNode, AppService, Backup, LossReport, Operation, Vault, VaultNode
from replication.stores import (
    application_wishes,
    audit,
    backups,
    cancelling,
    data_wishes,
    leaving,
    logins,
    losses,
    pausing,
    policy,
    service_setting,
    wishes,
)
from sectona_ha.middleware import AuditMiddleware

Pair = tuple[VaultNode, VaultNode]
LOG = "/admin/auditlog/logentry/"
HERE = "127.0.68.1"


# --- every wish


@dataclass(frozen=True)
class Wish:
    does: Callable[["World"], Any]
    changes: dict[str, tuple[Any, Any]]
    """Field → (before, after) as the entry has to say it; a value of None is not looked at."""
    reason: str = ""


@dataclass
class World:
    vault: Vault
    alpha: VaultNode
    beta: VaultNode
    service: AppService
    host: ApplicationNode
    operation: Operation
    actor: User


WHY = "because of the test"
_NEW = wishes.NewNode(
    hostname="gamma.example", port=5389, database_port=3307, system_role="fallback", ip_address="127.0.68.3"
)
_HOST = application_wishes.HostWish(
    hostname="controller-7.example", system_role="web", ip_address="127.0.68.7", active=True
)
_CHANGED = application_wishes.HostWish(
    hostname="controller-9.example", system_role="web", ip_address="127.0.68.10", active=True
)


def _loss(world: "World") -> LossReport:
    return LossReport.objects.create(vault=world.vault, node=world.beta, hostname="beta.example", path="/srv/lost")


WISHES: dict[str, Wish] = {
    "wishes.start_service": Wish(
        lambda w: wishes.start_service(w.service, w.actor), {"desired_state": ("stopped", "started")}
    ),
    "wishes.stop_service": Wish(
        lambda w: (AppService.objects.update(desired_state="started"), wishes.stop_service(w.service, w.actor))[1],
        {"desired_state": ("started", "stopped")},
    ),
    "wishes.run_service_now": Wish(
        lambda w: (
            AppService.objects.update(desired_state="started"),
            wishes.run_service_now(AppService.objects.get(pk=w.service.pk), w.actor),
        )[1],
        {"run_requested_at": ("", None)},
    ),
    "service_setting.change_setting": Wish(
        lambda w: service_setting.change_setting(
            w.service, interval=3.0, days={}, seen=w.service.changed_at, actor=w.actor
        ),
        {"trigger_interval": ("0.5", "3.0")},
    ),
    "wishes.add_node": Wish(
        lambda w: wishes.add_node(w.vault, _NEW, w.actor),
        {"hostname": ("", "gamma.example"), "ip_address": ("", "127.0.68.3"), "active": ("", "True")},
    ),
    "wishes.set_active": Wish(
        lambda w: wishes.set_active(w.beta, False, w.actor, reason=WHY), {"active": ("True", "False")}, WHY
    ),
    "wishes.remove_node": Wish(lambda w: wishes.remove_node(w.beta, w.actor, reason=WHY), {}, WHY),
    "leaving.make_inactive": Wish(
        lambda w: leaving.make_inactive(w.beta, w.actor, typed="beta.example", reason=WHY),
        {"active": ("True", "False")},
        WHY,
    ),
    "leaving.delete": Wish(lambda w: leaving.delete(w.beta, w.actor, typed="beta.example", reason=WHY), {}, WHY),
    "wishes.request_resynchronize": Wish(
        lambda w: (Operation.objects.all().delete(), wishes.request_resynchronize(w.beta, w.actor, lambda _id: None))[
            1
        ],
        {},
    ),
    "data_wishes.request": Wish(
        lambda w: data_wishes.request("verify", w.beta, w.actor, reason=WHY, enqueue=lambda _operation: None),
        {},
        WHY,
    ),
    "backups.request": Wish(
        lambda w: backups.request(
            "remove",
            w.vault,
            Backup.objects.create(
                vault=w.vault, node=w.beta, hostname="beta.example", taken_at=timezone.now(), path="/b"
            ),
            w.actor,
            lambda _operation: None,
            typed="beta.example",
            reason=WHY,
        ),
        {},
        WHY,
    ),
    "wishes.request_switchover": Wish(lambda w: wishes.request_switchover(w.beta, w.actor, reason=WHY), {}, WHY),
    "wishes.clear_silence_hold": Wish(
        lambda w: wishes.clear_silence_hold(w.vault, w.actor), {"silence_hold_seconds": ("60", "0")}
    ),
    "pausing.pause_failover": Wish(
        lambda w: pausing.pause_failover(w.vault, timedelta(hours=1), w.actor, reason=WHY),
        {"paused_until": ("", None), "paused_reason": ("", WHY)},
        WHY,
    ),
    "pausing.resume_failover": Wish(
        lambda w: (Vault.objects.update(paused_at=timezone.now()), pausing.resume_failover(w.vault, w.actor))[1],
        {"paused_until": ("until resumed", "")},
    ),
    "losses.deal_with": Wish(
        lambda w: losses.deal_with(_loss(w), w.actor, note=WHY),
        {"note": ("", WHY)},
        WHY,
    ),
    "losses.downloaded": Wish(lambda w: losses.downloaded(_loss(w), "csv", w.actor), {}),
    "policy.set_stay_writable": Wish(
        lambda w: policy.set_stay_writable(w.vault, False, w.actor, reason=WHY),
        {"stay_writable": ("True", "False")},
        WHY,
    ),
    "policy.set_data_policy": Wish(
        lambda w: policy.set_data_policy(w.vault, {"rebuild_policy": "never"}, w.actor, reason=WHY),
        {"rebuild_policy": ("nothing-lost", "never")},
        WHY,
    ),
    "cancelling.request_cancel": Wish(
        lambda w: cancelling.request_cancel(w.operation, w.actor, reason=WHY), {"state": ("Queued", "Cancelled")}, WHY
    ),
    "logins.unlock": Wish(
        lambda w: (
            AccessAttempt.objects.create(username="locked", failures_since_start=5, attempt_time=timezone.now()),
            logins.unlock("locked", w.actor),
        )[1],
        {},
    ),
    "application_wishes.add_host": Wish(
        lambda w: application_wishes.add_host(_HOST, w.actor), {"hostname": ("", "controller-7.example")}
    ),
    "application_wishes.update_host": Wish(
        lambda w: application_wishes.update_host(w.host, _CHANGED, w.actor, reason=WHY),
        {"ip_address": ("127.0.68.9", "127.0.68.10"), "system_role": ("controller", "web")},
        WHY,
    ),
    "application_wishes.remove_host": Wish(
        lambda w: application_wishes.remove_host(w.host, w.actor, reason=WHY), {}, WHY
    ),
}


@pytest.fixture
def world(pair: Pair, service: AppService, lead: Callable[..., None], held: Any, administrator: User) -> World:
    lead()
    AppService.objects.update(desired_state="started")
    host = ApplicationNode.objects.create(hostname="controller-9.example", ip_address="127.0.68.9")
    ApplicationNode.objects.create(hostname="controller-8.example", service_seen=timezone.now())
    operation = Operation.objects.create(kind=OperationKind.RESYNCHRONIZE, vault=pair[0].vault, node=pair[0])
    return World(Vault.objects.get(), *pair, service, host, operation, administrator)


def asked_for(user: User, does: Callable[[], Any]) -> Any:
    """As a view would: inside a request of this user, through the real middleware."""
    answers: list[Any] = []

    def view(request: HttpRequest) -> HttpResponse:
        answers.append(does())
        return HttpResponse()

    request = RequestFactory().post("/", REMOTE_ADDR=HERE)
    request.user = user
    AuditMiddleware(view)(request)
    return answers[0]


def test_every_function_that_takes_an_actor_is_in_the_table() -> None:
    found = set()
    for module in pkgutil.iter_modules(replication.stores.__path__):
        loaded = importlib.import_module(f"replication.stores.{module.name}")
        for name, function in inspect.getmembers(loaded, inspect.isfunction):
            own = function.__module__ == loaded.__name__ and not name.startswith("_")
            if own and "actor" in inspect.signature(function).parameters:
                found.add(f"{module.name}.{name}")
    assert found - {"audit.record", "audit.tell"} == set(WISHES)  # these two write, and are asked by the others


@pytest.mark.parametrize("name", WISHES)
def test_every_wish_is_one_entry_with_who_from_where_and_before_and_after(world: World, name: str) -> None:
    wish = WISHES[name]
    if "start_service" in name:
        AppService.objects.update(desired_state="stopped")
    answer = asked_for(world.actor, lambda: wish.does(world))
    assert not isinstance(answer, wishes.RefusedWish), answer
    assert not (isinstance(answer, list) and answer), answer
    # The users of the test are made before.
    entry = LogEntry.objects.exclude(content_type__model="user", action=LogEntry.Action.CREATE).get()
    assert (entry.actor, entry.remote_addr) == (world.actor, HERE)
    assert entry.additional_data["what"]
    assert entry.additional_data["actor"] == world.actor.username
    assert entry.additional_data.get("reason", "") == wish.reason
    assert "via" not in entry.additional_data
    for field, (before, after) in wish.changes.items():
        written = entry.changes[field]
        assert before is None or written[0] == before, field
        assert after is None or written[1] == after, field


# --- entries that nobody of us writes


class TestUsersAndGroups:
    def test_a_user_s_change_is_recorded_field_by_field_and_his_password_never(
        self, plain: Client, administrator: User
    ) -> None:
        user = User.objects.create_user("colleague", password="the old password")
        group = Group.objects.get(name="Viewer")
        LogEntry.objects.all().delete()
        data = {"username": "colleague", "email": "c@example.org", "is_active": "on", "groups": [group.pk]}
        assert plain.post(f"/admin/auth/user/{user.pk}/change/", data, REMOTE_ADDR=HERE).status_code == 302
        secret = {"password1": "a new long password", "password2": "a new long password", "usable_password": "true"}
        assert plain.post(f"/admin/auth/user/{user.pk}/password/", secret, REMOTE_ADDR=HERE).status_code == 302
        entries = list(LogEntry.objects.order_by("pk"))
        assert {(entry.actor, entry.remote_addr) for entry in entries} == {(administrator, HERE)}
        changes = [entry.changes for entry in entries]
        assert {"email": ["", "c@example.org"]} in changes
        assert {"groups": {"type": "m2m", "operation": "add", "objects": ["Viewer"]}} in changes
        assert {"password": [audit.MASK, audit.MASK]} in changes
        assert "pbkdf2" not in str(list(LogEntry.objects.values()))
        assert User.objects.get(pk=user.pk).password not in plain.get(LOG).content.decode()

    def test_the_name_stays_when_the_user_is_deleted(self, plain: Client, world: World) -> None:
        someone = User.objects.create_user("someone", password=None)
        asked_for(
            someone,
            lambda: service_setting.change_setting(world.service, interval=5.0, days={}, seen="", actor=someone),
        )
        someone.delete()
        entry = LogEntry.objects.get(content_type__model="appservice")
        assert entry.actor is None
        assert "someone" in plain.get(f"{LOG}{entry.pk}/").content.decode()

    def test_a_secret_is_masked_whoever_writes_it(self, world: World) -> None:
        audit.record(world.vault, "something", {"api_token": ("old-token", "new-token"), "name": ("a", "b")})
        entry = LogEntry.objects.latest("pk")
        assert entry.changes == {"api_token": [audit.MASK, audit.MASK], "name": ["a", "b"]}


# --- the screen


def write(count: int, **more: Any) -> list[LogEntry]:
    kind = ContentType.objects.get_for_model(VaultNode)
    common = {"content_type": kind, "object_pk": "x", "action": LogEntry.Action.UPDATE, "changes": {}}
    return LogEntry.objects.bulk_create(
        LogEntry(**{**common, "object_repr": f"node-{n:03}", "additional_data": {"what": f"thing {n:03}"}, **more})
        for n in range(count)
    )


def rows(client: Client, query: str = "") -> list[int]:
    response = client.get(LOG + query)
    assert response.status_code == 200
    return [row.entry.pk for row in response.context["rows"]]


@pytest.fixture
def reader(plain: Client) -> Client:
    """The administrator, before anything is in the log."""
    LogEntry.objects.all().delete()
    return plain


class TestScreen:
    def test_pages_by_key_forth_and_back_and_never_twice(self, reader: Client) -> None:
        made = [entry.pk for entry in write(120)][::-1]
        first, second, third = rows(reader), rows(reader, f"?before={made[49]}"), rows(reader, f"?before={made[99]}")
        assert first + second + third == made
        assert rows(reader, f"?after={made[50]}") == first
        assert rows(reader, f"?after={made[100]}") == second
        text = reader.get(f"{LOG}?before={made[49]}").content.decode()
        assert f"after={made[50]}" in text
        assert f"before={made[99]}" in text

    def test_an_entry_that_comes_meanwhile_moves_nothing(self, reader: Client) -> None:
        made = [entry.pk for entry in write(60)][::-1]
        write(5)
        assert rows(reader, f"?before={made[49]}") == made[50:]

    @pytest.mark.parametrize("nonsense", ["?before=-1", "?before=x", "?after=99999999999999999999", "?before=%00"])
    def test_a_place_that_is_none_is_the_first_page(self, reader: Client, nonsense: str) -> None:
        made = [entry.pk for entry in write(3)][::-1]
        assert rows(reader, nonsense) == made

    def test_filters(self, reader: Client, administrator: User) -> None:
        now = timezone.now()
        mine = write(1, actor=administrator, object_repr="alpha.example", remote_addr=HERE)[0].pk
        shell = write(1, additional_data={"what": "done", "via": "command line: vault", "system_user": "root"})[0].pk
        old = write(1, timestamp=now - timedelta(days=400), additional_data={"what": "old", "reason": "rotation"})[0].pk
        user = write(1, content_type=ContentType.objects.get_for_model(User), object_pk="77")[0].pk
        expected = {
            f"?who={administrator.username.upper()}": [mine],
            "?who=root": [shell],
            "?kind=auth.user": [user],
            "?object=ALPHA": [mine],
            "?object=77": [user],
            "?text=rotat": [old],
            f"?text={HERE}": [mine],
            "?via=command": [shell],
            "?via=web": [user, old, mine],
            f"?to={now - timedelta(days=399):%Y-%m-%d}": [old],
            f"?from={now - timedelta(days=1):%Y-%m-%dT%H:%M}&via=command": [shell],
            "?text=100%25_": [],
        }
        assert {query: rows(reader, query) for query in expected} == expected

    @pytest.mark.parametrize(
        "query", ["?from=yesterday", "?to=99999-01-01", "?via=post", "?kind=everything", "?from=0001-01-01"]
    )
    def test_a_filter_that_makes_no_sense_says_so_and_shows_the_rest(self, reader: Client, query: str) -> None:
        made = [entry.pk for entry in write(2)][::-1]
        assert rows(reader, query) == made
        assert 'class="form-error"' in reader.get(LOG + query).content.decode()

    def test_an_entry_has_a_permalink_with_before_and_after(self, reader: Client, world: World) -> None:
        asked_for(world.actor, lambda: wishes.set_active(world.beta, False, world.actor, reason="a new disk"))
        entry = LogEntry.objects.exclude(content_type__model="user").get()
        text = " ".join(reader.get(f"{LOG}{entry.pk}/").content.decode().split())
        for piece in ("Node made inactive", world.actor.username, HERE, "beta.example", "vault node", "a new disk"):
            assert piece in text
        assert ">yes</td>" in text
        assert ">no</td>" in text

    def test_strange_entries_of_other_versions_are_shown_too(self, reader: Client) -> None:
        gone = ContentType.objects.create(app_label="nodes", model="teapot")
        for data, changes in (
            (None, None),
            ([], []),
            ({}, {"a": None, "b": ["x"], "c": 3}),
            ({"what": None}, {"d": {}}),
        ):
            write(1, content_type=gone, additional_data=data, changes=changes)
        for pk in rows(reader):
            assert reader.get(f"{LOG}{pk}/").status_code == 200

    def test_its_cost_does_not_grow(self, reader: Client, administrator: User) -> None:
        write(2, actor=administrator)
        with CaptureQueriesContext(
            connection,
        ) as few:
            reader.get(LOG)
        write(48, actor=administrator)
        with CaptureQueriesContext(connection) as many:
            reader.get(LOG)
        assert len(many) == len(few) <= 6

    def test_nobody_changes_an_entry_in_the_web(self, reader: Client) -> None:
        pk = write(1)[0].pk
        before = list(LogEntry.objects.values())
        for address in ("add/", f"{pk}/change/", f"{pk}/delete/", f"{pk}/history/"):
            assert reader.get(LOG + address).status_code in (302, 404), address
            assert reader.post(LOG + address, {"post": "yes"}).status_code in (302, 404), address
        reader.post(LOG, {"action": "delete_selected", "_selected_action": [pk], "post": "yes"})
        reader.post(f"{LOG}{pk}/", {"object_repr": "forged"})
        assert list(LogEntry.objects.values()) == before


class TestExport:
    def read(self, client: Client, kind: str, query: str = "") -> str:
        response = client.get(f"{LOG}export/{kind}/{query}")
        assert response.status_code == 200
        assert f'.{kind}"' in response["Content-Disposition"]
        return b"".join(response).decode("utf-8-sig")

    def test_csv_and_json_have_everything_that_the_filter_finds(self, reader: Client) -> None:
        made = [entry.pk for entry in write(1100)][::-1]
        write(1, additional_data={"what": "done", "via": "command line: vault"})
        table = list(csv.DictReader(io.StringIO(self.read(reader, "csv", "?via=web"))))
        assert [int(row["id"]) for row in table] == made
        told = json.loads(self.read(reader, "json", "?via=web"))
        assert [row["id"] for row in told["entries"]] == made
        assert told["filter"] == {"via": "web"}

    @pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
    def test_no_cell_is_a_formula(self, reader: Client, start: str) -> None:
        evil = f"{start}HYPERLINK(1)"
        write(1, object_repr=evil, additional_data={"what": evil, "reason": evil, "actor": evil})
        row = next(csv.DictReader(io.StringIO(self.read(reader, "csv"), newline="")))
        assert all(not str(value).startswith(("=", "+", "-", "@", "\t", "\r")) for value in row.values())
        assert row["object"] == f"'{evil}"
        assert json.loads(self.read(reader, "json"))["entries"][0]["object"] == evil

    def test_another_kind_is_404(self, reader: Client, db: None) -> None:
        assert reader.get(f"{LOG}export/xlsx/").status_code == 404
