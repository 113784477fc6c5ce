"""Backups in the console: rows follow what hosts say, a late one turns the safety line yellow, and only who may asks for anything."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from html import unescape
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from nodes.choices import OperationKind, OperationState
from nodes.models import Backup, Event, Operation, Vault, VaultNode
from replication.core.backups import Manifest
from replication.stores import backups
from replication.stores.status import vault_status
from replication.stores.wishes import RefusedWish
from tests.core.test_backups import GOOD
from tests.nodes.test_safety import FRESH, panel

Pair = tuple[VaultNode, VaultNode]
LIST = reverse("admin:nodes_backup_changelist")
DIRECTORY = "/srv/vault/backups"


def manifest(number: int = 1, **changes: Any) -> Manifest:
    taken = (timezone.now() - timedelta(hours=number)).isoformat()
    return replace(GOOD, name=f"b-{number}.mbstream.gz", taken_at=taken, **changes)


def recorded(pair: Pair, number: int = 1, **changes: Any) -> Backup:
    one = manifest(number, **changes)
    return backups.record(pair[1], "o" * 32, one, f"{DIRECTORY}/{one.name}", [])


class TestRowsFollowTheFiles:
    def test_one_that_was_made_is_a_row_and_an_event_and_those_that_went_for_it_are_gone(self, pair: Pair) -> None:
        old = recorded(pair, 48)
        new = manifest(1)
        backups.record(pair[1], "op", new, f"{DIRECTORY}/{new.name}", [old.path.rpartition("/")[2]])
        (row,) = Backup.objects.all()
        assert (row.hostname, row.path, row.size, row.position) == (
            "beta.example",
            f"{DIRECTORY}/{new.name}",
            5,
            "0-1-5",
        )
        assert Event.objects.filter(rule="W120", level="info").count() == 2

    def test_a_file_that_has_gone_is_shown_as_gone_and_said_once(self, pair: Pair) -> None:
        recorded(pair, 1)
        recorded(pair, 2)
        for _ in range(2):
            backups.reconcile(pair[1], DIRECTORY, [manifest(2)])
        assert {b.path[-14:]: b.fault for b in Backup.objects.all()} == {
            "b-1.mbstream.gz"[-14:]: "its file is gone", "b-2.mbstream.gz"[-14:]: ""
        }  # fmt: skip
        assert Event.objects.filter(rule="W123", level="error").count() == 1

    def test_one_that_comes_back_is_good_again(self, pair: Pair) -> None:
        recorded(pair)
        backups.reconcile(pair[1], DIRECTORY, [])
        backups.reconcile(pair[1], DIRECTORY, [manifest()])
        assert [b.fault for b in Backup.objects.all()] == [""]

    def test_what_the_console_has_forgotten_is_taken_over(self, pair: Pair) -> None:
        backups.reconcile(pair[1], DIRECTORY, [manifest(1), manifest(2, fault="its checksum is not right")])
        assert [b.fault for b in Backup.objects.order_by("-taken_at")] == ["", "its checksum is not right"]

    def test_the_rows_of_another_host_are_left_alone(self, pair: Pair) -> None:
        recorded(pair)
        backups.reconcile(pair[0], DIRECTORY, [])
        assert [b.fault for b in Backup.objects.all()] == [""]


class TestTheLastGoodOne:
    def test_a_faulty_one_does_not_count(self, pair: Pair, vault: Vault) -> None:
        good = recorded(pair, 30)
        recorded(pair, 1, fault="its checksum is not right")
        assert backups.last_good_backup(vault) == good

    @pytest.mark.parametrize(
        ("hours", "age", "late"),
        [
            pytest.param(24, 47, False, id="within two intervals"),
            pytest.param(24, 49, True, id="older than two intervals"),
            pytest.param(1, 49, True, id="a shorter interval"),
            pytest.param(None, 999, False, id="none is wanted"),
        ],
    )
    def test_late_is_older_than_two_intervals(
        self, pair: Pair, vault: Vault, hours: int | None, age: int, late: bool
    ) -> None:
        recorded(pair, age)
        vault.backup_every_hours = hours
        vault.save()
        assert (backups.overdue(vault, timezone.now()) is not None) is late
        assert vault_status()["vaults"][0]["backup"]["late"] is late

    def test_a_new_vault_has_time_and_an_old_one_without_any_is_late(self, pair: Pair, vault: Vault) -> None:
        assert backups.overdue(vault, timezone.now()) is None
        found = backups.overdue(vault, timezone.now() + timedelta(hours=49))
        assert found is not None
        assert found.last is None

    def test_the_safety_line_is_yellow_and_says_it(
        self, admin: Client, pair: Pair, vault: Vault, lead: Callable[..., None]
    ) -> None:
        recorded(pair, 1)
        lead(answers=FRESH)
        assert panel(admin)[0] == "ok"
        Backup.objects.update(taken_at=timezone.now() - timedelta(hours=49))
        level, text = panel(admin)
        assert level == "warn"
        assert "The last good backup is older than 48 h" in text


class TestTheScreen:
    def test_it_lists_them_with_state_and_age(self, admin: Client, pair: Pair) -> None:
        recorded(pair, 1)
        recorded(pair, 2, fault="its checksum is not right")
        recorded(pair, 3, checked_at=timezone.now().isoformat())
        page = unescape(admin.get(LIST).content.decode())
        for text in ("Written", "Damaged", "its checksum is not right", "Checked", "beta.example", "0-1-5"):
            assert text in page
        assert page.count("data-backup=") == 3

    def test_it_says_how_to_have_one_back_with_the_agents_own_command(self, admin: Client, pair: Pair) -> None:
        pair[1].report = {"purge_command": "/opt/vault/script/vault-agent purge --home /srv/vault"}
        pair[1].save()
        backup = recorded(pair)
        page = unescape(admin.get(reverse("admin:nodes_backup_detail", args=[backup.pk])).content.decode())
        assert f"/opt/vault/script/vault-agent restore --home /srv/vault --from {backup.path}" in page

    def test_a_viewer_sees_them_and_may_do_nothing(
        self, pair: Pair, user: Callable[..., User], enter: Callable[..., Client]
    ) -> None:
        backup, viewer = recorded(pair), enter(user("view_backup"))
        page = viewer.get(LIST).content.decode()
        assert "Back up now" not in page
        assert "Remove" not in page
        for name, args in (("make", []), ("look", []), ("check", [backup.pk]), ("remove", [backup.pk])):
            assert viewer.post(reverse(f"admin:nodes_backup_{name}", args=args)).status_code == 403
        assert not Operation.objects.exists()

    def test_removing_needs_the_hostname(self, admin: Client, pair: Pair) -> None:
        backup = recorded(pair)
        address = reverse("admin:nodes_backup_remove", args=[backup.pk])
        assert "only good one" in admin.get(address).content.decode()
        wrong = admin.post(address, {"confirm": "alpha.example", "reason": ""})
        assert wrong.status_code == 422
        assert "Type beta.example" in wrong.content.decode()
        assert not Operation.objects.exists()


class TestWishes:
    def test_each_is_an_operation_that_names_the_backup(self, pair: Pair, vault: Vault, administrator: User) -> None:
        backup, handed = recorded(pair), list[str]()
        for action in (backups.CHECK, backups.REMOVE):
            made = backups.request(action, vault, backup, administrator, lambda o: handed.append(o.pk))
            assert isinstance(made, Operation)
            assert made.arguments == {"action": action, "backup": backup.pk}
            Operation.objects.update(state=OperationState.SUCCEEDED, finished_at=timezone.now())

    def test_one_at_a_time(self, pair: Pair, vault: Vault) -> None:
        Operation.objects.create(kind=OperationKind.BACKUP, vault=vault)
        refused = backups.request(backups.LOOK, vault, None, None, lambda o: None)
        assert isinstance(refused, RefusedWish)
        assert refused.rule == "W108"

    def test_not_with_one_whose_host_was_deleted(self, pair: Pair, vault: Vault) -> None:
        backup = recorded(pair)
        VaultNode.objects.filter(pk=pair[1].pk).update(removed_at=timezone.now())
        backup.refresh_from_db()
        refused = backups.request(backups.CHECK, vault, backup, None, lambda o: None)
        assert isinstance(refused, RefusedWish)
        assert refused.rule == "W124"


def test_the_title_says_what_is_done(admin: Client, pair: Pair, vault: Vault) -> None:
    Operation.objects.create(kind=OperationKind.BACKUP, vault=vault, node=pair[1], arguments={"action": "check"})
    page = admin.get(LIST).content.decode()
    assert "Check of a backup: beta.example" in page
    assert json.loads(json.dumps(vault_status()))["vaults"][0]["backup"]["taken_at"] is None
