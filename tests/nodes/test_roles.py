"""Roles: what each may is one table, the groups follow it and keep what an administrator changed, nobody gives what he lacks."""

import itertools
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.core.management import call_command
from django.test import Client

from nodes.models import RoleGrant
from nodes.roles import ROLES

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "roles.md"
USERS, GROUPS = "/admin/auth/user/", "/admin/auth/group/"
PASSWORD = "correct horse battery"


def held(group: str) -> set[str]:
    found = Permission.objects.filter(group__name=group).select_related("content_type")
    return {f"{p.content_type.app_label}.{p.codename}" for p in found}


def permission(name: str) -> Permission:
    app, _dot, codename = name.partition(".")
    return Permission.objects.get(content_type__app_label=app, codename=codename)


@pytest.fixture
def boss(db: None) -> User:
    """An Administrator who is no superuser."""
    user = User.objects.create_user("boss", password=None, is_staff=True)
    user.groups.set([Group.objects.get(name="Administrator")])
    return user


@pytest.fixture
def office(boss: User, enter: Callable[..., Client]) -> Client:
    return enter(boss)


def member(role: str, name: str = "colleague", **more: bool) -> User:
    user = User.objects.create_user(name, password="the old password", is_staff=True, **more)
    user.groups.set(Group.objects.filter(name=role))
    return user


class TestTheTable:
    def test_each_role_has_everything_of_the_one_before(self) -> None:
        for lower, higher in itertools.pairwise(ROLES):
            assert set(lower.permissions) < set(higher.permissions)

    def test_every_permission_of_the_table_exists_and_every_group_has_its_own(self, db: None) -> None:
        for role in ROLES:
            assert held(role.name) == set(role.permissions)

    def test_every_permission_that_we_define_belongs_to_a_role(self, db: None) -> None:
        """A new one that nobody gave to a role would open its door to superusers only."""
        ours = Permission.objects.filter(content_type__app_label="nodes").exclude(
            codename__regex="^(add|change|delete|view)_"
        )
        given = {name for role in ROLES for name in role.permissions}
        assert {f"nodes.{p.codename}" for p in ours} - given == set()

    def test_the_reference_shows_the_same_table(self) -> None:
        rows = re.findall(r"^\| `([\w.]+)` \|[^|]*\|([^|]*)\|([^|]*)\|([^|]*)\|$", PAGE.read_text(), re.M)
        shown = {name: [mark.strip() == "yes" for mark in marks] for name, *marks in rows}
        every = dict.fromkeys(name for role in ROLES for name in role.permissions)
        assert shown == {name: [name in role.permissions for role in ROLES] for name in every}


class TestMigrating:
    def test_what_an_administrator_took_away_or_added_stays(self, db: None) -> None:
        viewer = Group.objects.get(name="Viewer")
        viewer.permissions.remove(permission("nodes.view_event"))
        viewer.permissions.add(permission("nodes.run_appservice"))
        call_command("migrate", verbosity=0)
        assert held("Viewer") == {*ROLES[0].permissions, "nodes.run_appservice"} - {"nodes.view_event"}

    def test_a_permission_that_is_new_in_a_version_comes_along(self, db: None) -> None:
        """As if the last version had not known it."""
        RoleGrant.objects.filter(role="Operator", permission="nodes.pause_vault").delete()
        Group.objects.get(name="Operator").permissions.remove(permission("nodes.pause_vault"))
        call_command("migrate", verbosity=0)
        assert "nodes.pause_vault" in held("Operator")

    def test_a_role_that_was_deleted_is_not_made_again(self, db: None) -> None:
        Group.objects.get(name="Viewer").delete()
        RoleGrant.objects.filter(role="Viewer", permission="nodes.view_event").delete()
        call_command("migrate", verbosity=0)
        assert not Group.objects.filter(name="Viewer").exists()

    def test_it_is_nobody_s_change(self, db: None) -> None:
        from auditlog.models import LogEntry

        RoleGrant.objects.all().delete()
        call_command("migrate", verbosity=0)
        assert not LogEntry.objects.exists()


class TestNewUsers:
    def test_the_form_offers_the_roles_in_words(self, office: Client) -> None:
        text = office.get(f"{USERS}add/").content.decode()
        for role in ROLES:
            assert f"{role.name} – {role.says}" in text

    def test_a_user_with_a_role_is_made_and_may_log_in(self, office: Client) -> None:
        data = {"username": "new", "usable_password": "true", "password1": PASSWORD, "password2": PASSWORD}
        data |= {"is_staff": "on", "groups": [Group.objects.get(name="Operator").pk]}
        assert office.post(f"{USERS}add/", data).status_code == 302
        made = User.objects.get(username="new")
        assert made.is_staff
        assert not made.is_superuser
        assert made.has_perm("nodes.switchover_vaultnode")
        assert not made.has_perm("nodes.change_vaultnode")

    def test_who_has_no_role_reads_whom_to_ask(
        self, boss: User, user: Callable[..., User], enter: Callable[..., Client]
    ) -> None:
        response = enter(user(view=False)).get("/admin/")
        text = response.content.decode()
        assert response.status_code == 200
        assert "You may see nothing yet" in text
        assert "boss" in text
        for role in ROLES:
            assert str(role.says) in text

    def test_who_may_see_only_users_lands_there(self, db: None, enter: Callable[..., Client]) -> None:
        only = User.objects.create_user("only", password=None, is_staff=True)
        only.user_permissions.add(permission("auth.view_user"))
        assert enter(only).get("/admin/")["Location"] == USERS


class TestNobodyGivesWhatHeLacks:
    def change(self, client: Client, user: User, **more: object) -> int:
        data: dict[str, object] = {"username": user.username, "is_active": "on", "is_staff": "on"}
        return client.post(f"{USERS}{user.pk}/change/", {**data, **more}).status_code

    def test_an_administrator_makes_nobody_a_superuser(self, office: Client, boss: User) -> None:
        for user in (member("Viewer"), boss):
            groups = list(user.groups.values_list("pk", flat=True))
            assert self.change(office, user, is_superuser="on", groups=groups) == 302
            user.refresh_from_db()
            assert not user.is_superuser
        assert "is_superuser" not in office.get(f"{USERS}{boss.pk}/change/").content.decode()

    def test_a_superuser_is_out_of_his_reach(self, office: Client, administrator: User) -> None:
        administrator.set_password("the old password")
        administrator.save()
        before = User.objects.values().get(pk=administrator.pk)
        page = f"{USERS}{administrator.pk}/"
        assert self.change(office, administrator) == 403
        for data in ({}, {"password1": PASSWORD, "password2": PASSWORD, "usable_password": "true"}):
            assert office.post(f"{page}password/", data).status_code == 403
        assert office.post(f"{page}delete/", {"post": "yes"}).status_code == 403
        data = {"action": "delete_selected", "_selected_action": [administrator.pk], "post": "yes"}
        assert office.post(USERS, data).status_code == 403
        assert User.objects.values().get(pk=administrator.pk) == before

    def test_also_while_that_one_is_inactive(self, office: Client, administrator: User) -> None:
        User.objects.filter(pk=administrator.pk).update(is_active=False)
        assert self.change(office, administrator) == 403

    def test_and_whoever_may_do_more_than_he(self, office: Client) -> None:
        other = member("Viewer", is_active=False)
        other.user_permissions.add(permission("sessions.delete_session"))
        assert self.change(office, other) == 403
        assert (
            office.post(f"{USERS}{other.pk}/password/", {"password1": PASSWORD, "password2": PASSWORD}).status_code
            == 403
        )

    def test_a_single_permission_that_he_lacks_is_refused_with_its_name(
        self, db: None, enter: Callable[..., Client]
    ) -> None:
        clerk, user = member("Viewer", "clerk"), member("Viewer")
        clerk.user_permissions.set([permission("auth.change_user"), permission("auth.view_user")])
        data = {"username": "colleague", "user_permissions": [permission("nodes.pause_vault").pk]}
        response = enter(clerk).post(f"{USERS}{user.pk}/change/", data)
        assert response.status_code == 200
        text = response.content.decode()
        assert "what you may not do yourself: Can pause and resume automatic failover" in text
        assert not user.user_permissions.exists()

    def test_the_forms_offer_what_opens_something_and_keep_what_is_held(self, plain: Client) -> None:
        group = Group.objects.create(name="Powerful")
        group.permissions.add(permission("sessions.delete_session"))
        for pk, there in ((group.pk, True), (Group.objects.get(name="Viewer").pk, False)):
            text = plain.get(f"{GROUPS}{pk}/change/").content.decode()
            assert ("Can delete session" in text) is there
            assert "Can make another vault node the Master" in text
            assert "Can add content type" not in text
        data = {"name": "Powerful", "permissions": [permission("sessions.delete_session").pk]}
        assert plain.post(f"{GROUPS}{group.pk}/change/", data).status_code == 302
        assert held("Powerful") == {"sessions.delete_session"}

    def test_nor_by_way_of_a_group(self, office: Client) -> None:
        user, group = member("Viewer"), Group.objects.create(name="Powerful")
        group.permissions.add(permission("sessions.delete_session"))
        assert self.change(office, user, groups=[group.pk]) == 200
        assert set(user.groups.values_list("name", flat=True)) == {"Viewer"}

    def test_nor_by_filling_a_group_of_his_own(self, office: Client, boss: User) -> None:
        own = Group.objects.get(name="Administrator")
        wanted = [*own.permissions.values_list("pk", flat=True), permission("sessions.delete_session").pk]
        data = {"name": own.name, "permissions": wanted}
        assert office.post(f"{GROUPS}{own.pk}/change/", data).status_code == 200
        assert "sessions.delete_session" not in held("Administrator")

    def test_a_group_that_may_do_more_is_out_of_his_reach(self, office: Client) -> None:
        group = Group.objects.create(name="Powerful")
        group.permissions.add(permission("sessions.delete_session"))
        assert office.post(f"{GROUPS}{group.pk}/change/", {"name": "Mine"}).status_code == 403
        assert office.post(f"{GROUPS}{group.pk}/delete/", {"post": "yes"}).status_code == 403
        assert Group.objects.filter(name="Powerful").exists()

    def test_who_manages_users_only_cannot_become_an_administrator(
        self, db: None, enter: Callable[..., Client]
    ) -> None:
        clerk = member("Viewer", "clerk")
        clerk.user_permissions.set([permission("auth.change_user"), permission("auth.view_user")])
        group = Group.objects.get(name="Administrator")
        assert self.change(enter(clerk), clerk, groups=[group.pk]) == 200
        assert not clerk.groups.filter(pk=group.pk).exists()

    def test_what_he_has_he_gives_and_takes(self, office: Client) -> None:
        user, operator = member("Viewer"), Group.objects.get(name="Operator")
        assert self.change(office, user, groups=[operator.pk]) == 302
        assert set(user.groups.values_list("name", flat=True)) == {"Operator"}
        assert office.post(f"{USERS}{user.pk}/delete/", {"post": "yes"}).status_code == 302
        assert not User.objects.filter(pk=user.pk).exists()

    def test_a_superuser_still_makes_superusers(self, plain: Client) -> None:
        user = member("Viewer")
        assert self.change(plain, user, is_superuser="on") == 302
        user.refresh_from_db()
        assert user.is_superuser
