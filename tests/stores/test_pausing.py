"""A pause is one row, one event and one entry of the audit log; it ends by the database's clock, without a click."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from auditlog.models import LogEntry
from django.contrib.auth.models import User
from django.utils import timezone

from nodes.models import Event, Vault
from replication.stores.inventory import load_snapshot
from replication.stores.pausing import LONGEST, pause_failover, pause_of, paused, resume_failover
from replication.stores.status import vault_status

NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture
def anna(vault: Vault) -> User:
    return User.objects.create_user("anna", password=None)


def in_force(vault: Vault) -> str:
    """What the deciding core is told, by the database's clock."""
    (config,) = (c for c in load_snapshot().vaults if c.topology.vault == vault.pk)
    return config.paused


def row_of(vault: Vault) -> Vault:
    return Vault.objects.get(pk=vault.pk)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param({}, "", id="never"),
        pytest.param({"paused_at": NOW - HOUR, "paused_until": NOW}, "", id="over at this very moment"),
        pytest.param(
            {"paused_at": NOW - HOUR, "paused_until": NOW + HOUR, "paused_by": "anna", "paused_reason": "racks"},
            "until 2030-01-01 13:00:00 UTC, by anna: racks",
            id="with an end",
        ),
        pytest.param(
            {"paused_at": NOW - 1000 * HOUR, "paused_by": "", "paused_reason": "racks"},
            "until somebody resumes it, by the command line: racks",
            id="without one",
        ),
    ],
)
def test_whether_it_holds_now(fields: dict[str, object], expected: str) -> None:
    assert paused(Vault(**fields), NOW) == expected


def test_it_reaches_the_core_is_told_once_and_ends_by_itself(vault: Vault, anna: User) -> None:
    assert in_force(vault) == ""
    assert pause_failover(vault, HOUR, anna, reason="  moving\n the racks ") is None
    assert in_force(vault).endswith("UTC, by anna: moving the racks")
    event = Event.objects.get()
    assert event.text.startswith("automatic failover paused until 20")
    assert event.text.endswith("UTC: moving the racks")
    assert (event.actor, event.level) == ("anna", "warning")
    entry = LogEntry.objects.get_for_object(vault).get()
    assert entry.actor == anna
    assert entry.additional_data["reason"] == "moving the racks"
    assert "paused_until" in entry.changes
    Vault.objects.update(paused_until=timezone.now() - timedelta(seconds=1))
    assert in_force(vault) == ""
    assert Event.objects.count() == 1, "its end is no event: it was said when it began"


def test_until_it_is_resumed(vault: Vault, anna: User) -> None:
    pause_failover(vault, None, anna, reason="racks")
    assert in_force(vault) == "until somebody resumes it, by anna: racks"
    assert row_of(vault).paused_until is None
    for _ in range(2):
        resume_failover(vault, anna)
    assert in_force(vault) == ""
    texts = [event.text for event in Event.objects.order_by("pk")]
    assert texts == ["automatic failover paused until it is resumed: racks", "automatic failover resumed"]
    assert LogEntry.objects.get_for_object(vault).count() == 2
    assert Vault.objects.filter(pk=vault.pk).values_list("paused_at", "paused_by", "paused_reason").get() == (
        None,
        "",
        "",
    )


def test_resuming_what_has_ended_by_itself_is_no_event(vault: Vault, anna: User) -> None:
    Vault.objects.update(paused_at=timezone.now() - HOUR, paused_until=timezone.now() - timedelta(seconds=1))
    resume_failover(vault, anna)
    assert not Event.objects.exists()
    assert row_of(vault).paused_at is None


def test_a_second_pause_takes_the_place_of_the_first(vault: Vault, anna: User) -> None:
    pause_failover(vault, None, anna, reason="racks")
    pause_failover(vault, HOUR, None, reason="only the switch")
    row = row_of(vault)
    assert (row.paused_by, row.paused_reason) == ("", "only the switch")
    assert row.paused_until is not None
    assert row.paused_at is not None
    assert row.paused_until - row.paused_at == HOUR


@pytest.mark.parametrize(
    ("span", "reason", "rule", "field"),
    [
        pytest.param(HOUR, "", "W60", "reason", id="no reason"),
        pytest.param(HOUR, " \n ", "W60", "reason", id="blank"),
        pytest.param(LONGEST + timedelta(seconds=1), "racks", "W61", "span", id="too long"),
        pytest.param(timedelta(), "racks", "W61", "span", id="no time at all"),
        pytest.param(-HOUR, "racks", "W61", "span", id="the past"),
    ],
)
def test_it_is_refused_and_nothing_changes(
    vault: Vault, span: timedelta, reason: str, rule: str, field: str
) -> None:  # fmt: skip
    refused = pause_failover(vault, span, None, reason=reason)
    assert refused is not None
    assert (refused.rule, refused.field) == (rule, field)
    assert in_force(vault) == ""
    assert not Event.objects.exists()


def test_a_long_reason_is_cut_and_markup_stays_text(vault: Vault) -> None:
    assert pause_failover(vault, HOUR, None, reason="<b>" + "x" * 300) is None
    assert row_of(vault).paused_reason == "<b>" + "x" * 197


def test_vault_status_tells_it(vault: Vault, anna: User) -> None:
    def told() -> Any:
        return next(v for v in vault_status()["vaults"] if v["name"] == vault.name)["pause"]

    assert told() is None
    pause_failover(vault, None, anna, reason="racks")
    row = row_of(vault)
    assert row.paused_at is not None
    assert told() == {"since": row.paused_at.isoformat(), "until": None, "by": "anna", "reason": "racks"}
    assert pause_of(row, row.paused_at) is not None
