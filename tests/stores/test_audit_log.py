"""The audit log and the roles on both metadata databases: written, filtered, paged, and granted alike."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from auditlog.models import LogEntry
from django.contrib.auth.models import Group, User
from django.utils import timezone

from nodes.admin.audit.filter import ORDER, read_filter
from nodes.admin.paging import page_of
from nodes.models import Vault
from nodes.roles import ROLES
from replication.stores import audit

MARK = "<b>O'Brien; 100% \\ “ü”"


@pytest.fixture
def entries(vault: Vault) -> Callable[..., list[int]]:
    """Three entries: by a user with a reason, on the command line, and long ago. Answers which a filter finds, by number."""
    user = User.objects.create_user("Operator.One", password=None)
    LogEntry.objects.all().delete()
    audit.record(vault, "first thing", {"name": ("a", MARK)}, actor=user, reason=MARK)
    with audit.command_line("vault start", reason="at night"):
        audit.record(vault, "second thing", {"api_token": ("secret-1", "secret-2")}, name="another.example")
    audit.record(vault, "third thing", {})
    keys = list(LogEntry.objects.order_by("pk").values_list("pk", flat=True))
    web = LogEntry.objects.get(pk=keys[0])
    LogEntry.objects.filter(pk=web.pk).update(
        additional_data={k: v for k, v in web.additional_data.items() if k != "via"}
    )
    LogEntry.objects.filter(pk=keys[2]).update(timestamp=timezone.now() - timedelta(days=30))

    def found(**asked: str) -> list[int]:
        chosen = read_filter(asked)
        assert chosen.problems == ()
        page = page_of(LogEntry.objects.filter(chosen.where), ORDER, None, None, 10)
        return [keys.index(entry.pk) + 1 for entry in page.rows]

    return found


def test_what_is_written_comes_back(entries: Callable[..., list[int]]) -> None:
    first, second, _third = LogEntry.objects.order_by("pk")
    assert first.changes == {"name": ["a", MARK]}
    assert first.additional_data["reason"] == MARK
    assert second.changes == {"api_token": [audit.MASK, audit.MASK]}
    assert second.additional_data["via"] == "command line: vault start"
    assert second.object_repr == "another.example"


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, [3, 2, 1]),
        ({"who": "operator.one"}, [1]),
        ({"text": "O'Brien; 100%"}, [1]),
        ({"text": "SECOND"}, [2]),
        ({"text": "100_"}, []),
        ({"via": "web"}, [1]),
        ({"via": "command"}, [3, 2]),
        ({"object": "another"}, [2]),
        ({"kind": "nodes.vault"}, [3, 2, 1]),
        ({"kind": "auth.user"}, []),
        ({"from": "yesterday"}, [2, 1]),
        ({"to": "yesterday"}, [3]),
    ],
    ids=str,
)
def test_filters_find_the_same(entries: Callable[..., list[int]], asked: dict[str, str], expected: list[int]) -> None:
    yesterday = f"{timezone.now() - timedelta(days=1):%Y-%m-%d}"
    assert entries(**{name: yesterday if text == "yesterday" else text for name, text in asked.items()}) == expected


def test_pages_go_forth_and_back(vault: Vault) -> None:
    LogEntry.objects.all().delete()
    for number in range(5):
        audit.record(vault, f"thing {number}", {})
    keys = list(LogEntry.objects.order_by("-pk").values_list("pk", flat=True))
    first = page_of(LogEntry.objects.all(), ORDER, None, None, 2)
    second = page_of(LogEntry.objects.all(), ORDER, ORDER.read(str(first.older)), None, 2)
    assert [entry.pk for entry in (*first.rows, *second.rows)] == keys[:4]
    back = page_of(LogEntry.objects.all(), ORDER, None, ORDER.read(str(second.newer)), 2)
    assert [entry.pk for entry in back.rows] == keys[:2]


def test_every_role_has_its_permissions(vault: Vault) -> None:
    for role in ROLES:
        held = Group.objects.get(name=role.name).permissions.select_related("content_type")
        assert {f"{p.content_type.app_label}.{p.codename}" for p in held} == set(role.permissions)
