"""Lost transactions on the screen and in the store: one report for each export, open until somebody says what was done; a list that
may be downloaded by who may, each time with an entry; and nothing that others wrote is markup.
"""

import json
from typing import Any

import pytest
from auditlog.models import LogEntry
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from nodes.models import Event, LossReport, Vault, VaultNode
from replication.core.losses import MASK
from replication.stores import losses

LIST = "/admin/nodes/lossreport/"
WHY = "it has transactions that the primary does not have: 0-1-7"
EVIL = "<img src=x onerror=alert(1)>"


def result(**changes: Any) -> dict[str, Any]:
    """As an agent tells it."""
    told = {
        "count": 2, "never_acknowledged": 0, "ranges": "0-1-6…7", "not_known": 0, "not_known_ranges": "", "exported_before": 0,
        "first_at": "2026-01-31T14:05:00+00:00", "last_at": "2026-01-31T14:06:00+00:00", "position": "0-1-7", "bytes": 4711,
        "files": ["transactions.sql"], "directory": "/srv/vault/lost/20260131T140700Z-x", "database_up": True, "unnamed": [],
        "more": 0, "rotate_more": 0, "primary": "alpha.example",
        "transactions": [
            {"gtid": "0-1-6", "at": "2026-01-31T14:05:00+00:00", "whole": True, "changes": [
                {"table": "vault.accounts", "verb": "update", "key": {"id": "7"}, "shown": {"account": EVIL},
                 "changed": ["password"], "secrets": ["password"]},
            ]},
            {"gtid": "0-1-7", "at": "2026-01-31T14:06:00+00:00", "whole": True, "changes": [
                {"table": "vault.notes", "verb": "ddl", "says": "ALTER TABLE"},
            ]},
        ],
        "rotate": [{"table": "vault.accounts", "key": {"id": "7"}, "name": EVIL, "columns": ["password"],
                    "last_at": "2026-01-31T14:05:00+00:00", "times": 2}],
    }  # fmt: skip
    return {**told, **changes}


def nothing() -> dict[str, Any]:
    return result(
        count=0,
        ranges="",
        first_at="",
        last_at="",
        position="",
        bytes=0,
        files=[],
        directory="",
        transactions=[],
        rotate=[],
    )


@pytest.fixture
def report(pair: tuple[VaultNode, VaultNode]) -> LossReport:
    return losses.record(pair[1].pk, "a" * 32, WHY, result())


class TestStore:
    def test_it_is_written_once_with_an_event_that_names_tables_and_counts(
        self, pair: tuple[VaultNode, VaultNode]
    ) -> None:
        first = losses.record(pair[1].pk, "a" * 32, WHY, result())
        assert losses.record(pair[1].pk, "a" * 32, WHY, result(count=99)) == first
        assert LossReport.objects.get().transaction_count == 2
        assert (first.handled_at, first.why) == (None, WHY)
        event = Event.objects.get(rule=losses.FOUND)
        assert event.level == "error"
        assert event.text == (
            "2 transactions of beta.example are not in the vault (vault.accounts, vault.notes): rotate 1 credentials."
            " They are exported, and listed under Lost transactions."
        )
        assert list(losses.open_reports()) == [first]

    def test_a_report_of_nothing_is_dealt_with_and_no_alarm(self, pair: tuple[VaultNode, VaultNode]) -> None:
        found = losses.record(pair[1].pk, "a" * 32, WHY, nothing())
        assert found.handled_at is not None
        assert Event.objects.get(rule=losses.NOTHING).level == "info"
        assert not losses.open_reports()

    def test_what_is_not_known_is_no_all_clear(self, pair: tuple[VaultNode, VaultNode]) -> None:
        found = losses.record(pair[1].pk, "a" * 32, WHY, {**nothing(), "not_known": 5, "not_known_ranges": "0-1-1…5"})
        assert found.handled_at is None
        event = Event.objects.get(rule=losses.NOT_KNOWN)
        assert event.level == "error"
        assert "0-1-1…5" in event.text
        assert "cannot be said" in event.text

    def test_what_the_list_leaves_out_is_said_and_counted(self, pair: tuple[VaultNode, VaultNode]) -> None:
        told = result(never_acknowledged=3, more=7, rotate_more=11, unnamed=["vault.old"], exported_before=2)
        found = losses.record(pair[1].pk, "a" * 32, WHY, told)
        assert found.transaction_count == 5
        assert losses.rotations_of(found) == 12
        text = " ".join(found.notes)
        for word in ("3 of them were cut off", "7 changes more", "vault.old", "exported before"):
            assert word in text

    def test_it_stays_when_its_node_goes(self, report: LossReport) -> None:
        Vault.objects.update(promotable=None)
        VaultNode.objects.get(pk=report.node_id).delete()
        assert LossReport.objects.get().hostname == "beta.example"

    def test_dealt_with_needs_a_note_and_happens_once(self, report: LossReport, administrator: User) -> None:
        refused = losses.deal_with(report, administrator, note="  ")
        assert refused is not None
        assert refused.rule == losses.NO_NOTE
        assert losses.deal_with(report, administrator, note="rotated root@db") is None
        again = losses.deal_with(report, administrator, note="no, me")
        assert again is not None
        assert again.rule == losses.HANDLED_BEFORE
        report.refresh_from_db()
        assert (report.note, report.handled_by) == ("rotated root@db", administrator)


class TestScreen:
    def test_open_ones_come_first_and_the_vault_screen_says_so(
        self, plain: Client, report: LossReport, pair: tuple[VaultNode, VaultNode]
    ) -> None:
        losses.record(pair[1].pk, "b" * 32, WHY, nothing())
        page = plain.get(LIST).content.decode()
        assert page.index('id="open-losses"') < page.index(f'data-loss="{"a" * 32}"') < page.index('id="losses"')
        assert page.index('id="losses"') < page.index(f'data-loss="{"b" * 32}"')
        vault = plain.get("/admin/nodes/vaultnode/").content.decode()
        assert "2 transactions of beta.example are not in the vault." in vault
        assert f'href="{LIST}{report.pk}/"' in vault
        LossReport.objects.update(handled_at=timezone.now())
        assert 'id="open-loss"' not in plain.get("/admin/nodes/vaultnode/").content.decode()

    @pytest.mark.parametrize(
        ("query", "shown"),
        [("state=open", True), ("state=dealt-with", False), ("node=beta", True), ("node=gamma", False)],
    )
    def test_the_filter(self, plain: Client, report: LossReport, query: str, shown: bool) -> None:
        assert (f'data-loss="{report.pk}"' in plain.get(f"{LIST}?{query}").content.decode()) is shown

    def test_the_report_tells_what_to_rotate_masks_the_rest_and_trusts_no_name(
        self, plain: Client, report: LossReport
    ) -> None:
        page = plain.get(f"{LIST}{report.pk}/").content.decode()
        assert EVIL not in page
        assert "&lt;img src=x" in page
        for word in ("Rotate these first (1)", "0-1-6", "ALTER TABLE", MASK, report.path, "transactions.txt", WHY):
            assert word in page, word

    def test_what_was_never_acknowledged_is_not_called_acknowledged(
        self, plain: Client, pair: tuple[VaultNode, VaultNode], report: LossReport
    ) -> None:
        assert "may have got an OK" in plain.get(f"{LIST}{report.pk}/").content.decode()
        cut = [{**entry, "cut": True} for entry in result()["transactions"]]
        found = losses.record(pair[1].pk, "c" * 32, WHY, result(count=0, never_acknowledged=2, transactions=cut))
        page = plain.get(f"{LIST}{found.pk}/").content.decode()
        assert "may have got an OK" not in page
        assert "Nobody ever got an OK" in page

    def test_a_long_report_comes_in_pages(self, plain: Client, pair: tuple[VaultNode, VaultNode]) -> None:
        rows = [{"table": "vault.t", "verb": "insert", "key": {"id": str(n)}} for n in range(450)]
        told = result(transactions=[{"gtid": "0-1-6", "at": "2026-01-31T14:05:00+00:00", "changes": rows}], rotate=[])
        found = losses.record(pair[1].pk, "a" * 32, WHY, told)
        address = f"{LIST}{found.pk}/"
        page = plain.get(address).content.decode()
        assert "> 199 " in page
        assert "> 200 " not in page
        assert "?from=200#changes" in page
        last = plain.get(f"{address}?from=400").content.decode()
        assert "> 449 " in last
        assert "?from=200#changes" in last
        for strange in ("from=99999", "from=x", "from=-5"):
            assert plain.get(f"{address}?{strange}").status_code == 200

    def test_a_download_is_as_masked_as_the_page_and_leaves_an_entry(
        self, plain: Client, report: LossReport, administrator: User
    ) -> None:
        answer = plain.post(f"{LIST}{report.pk}/download/json/")
        told = json.loads(b"".join(answer.streaming_content))  # type: ignore[attr-defined]  # it streams
        assert told["transactions"] == report.transactions
        assert told["rotate"][0]["name"] == EVIL
        sheet = b"".join(plain.post(f"{LIST}{report.pk}/download/csv/").streaming_content).decode()  # type: ignore[attr-defined]
        assert sheet.splitlines()[1].startswith("0-1-6,2026-01-31T14:05:00+00:00,perhaps,vault.accounts,update")
        entries = LogEntry.objects.filter(content_type__model="lossreport")
        assert [entry.additional_data["what"].rpartition(" ")[2] for entry in entries.order_by("pk")] == ["json", "csv"]
        assert {entry.actor for entry in entries} == {administrator}

    def test_dealt_with_in_the_popup(self, plain: Client, report: LossReport) -> None:
        address = f"{LIST}{report.pk}/dealt-with/"
        assert plain.post(address, {"note": " "}).status_code == 422
        assert plain.post(address, {"note": "rotated"}).status_code == 302
        report.refresh_from_db()
        assert report.note == "rotated"
        assert "rotated" in plain.get(f"{LIST}{report.pk}/").content.decode()
        assert "already: rotated" in plain.get(address).content.decode()
