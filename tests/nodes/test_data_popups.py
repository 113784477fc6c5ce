"""Popups of copies: what will happen is said before, what could be lost asks for its hostname, a rate of 0 is refused in words."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from django.utils.html import strip_tags

from nodes.choices import OperationKind
from nodes.models import Event, Operation, Vault, VaultNode
from replication.core.roles import NodeStatus
from tests.nodes.conftest import add
from tests.nodes.test_screens import VAULT, Pair

WHY = "because of the test"
DIVERGED = {"status": NodeStatus.DIVERGED, "report": {"quarantine": "extra transactions 0-2-7"}}
LACKING = {"status": NodeStatus.ERROR, "report": {"needs_rebuild": "the primary no longer has the binary logs"}}
MASTER = {"report": {"data_bytes": 3 * 2**30, "database": {"gtid_binlog_pos": "0-1-100"}}}
FOLLOWS = {"report": {"process": "up", "database": {"gtid_slave_pos": "0-1-60"}}}


@pytest.fixture(autouse=True)
def led(lead: Callable[..., None], pair: Pair) -> None:
    lead()
    become(pair[0], **MASTER)
    become(pair[1], **FOLLOWS)


def become(node: VaultNode, **fields: Any) -> None:
    VaultNode.objects.filter(pk=node.pk).update(**fields)


def place(node: VaultNode, name: str) -> str:
    return f"{VAULT}{node.pk}/{name}/"


def text_of(client: Client, url: str) -> str:
    return " ".join(strip_tags(client.get(url).content.decode()).split())


class TestRebuild:
    def test_says_how_much_it_is_and_how_long_it_takes(self, admin: Client, pair: Pair) -> None:
        text = text_of(admin, place(pair[1], "rebuild"))
        assert "About 3.0 GiB: some 61 s at 50 MiB per second." in text
        assert "Its old data is kept beside the copy" in text
        assert "the vault goes solo" in text, "it is the acker"

    def test_wants_the_hostname_of_what_follows_well(self, admin: Client, pair: Pair) -> None:
        answer = admin.post(place(pair[1], "rebuild"), {"confirm": "alpha.example", "reason": WHY})
        assert answer.status_code == 422
        assert "Type beta.example here" in answer.content.decode()
        assert not Operation.objects.exists()

    def test_is_one_row_with_what_was_chosen(self, admin: Client, pair: Pair) -> None:
        gamma = add(pair[0].vault, "gamma", 3)
        said = {"confirm": "beta.example", "reason": WHY, "source": gamma.pk, "mib_per_second": "", "compare": "on"}
        assert admin.post(place(pair[1], "rebuild"), said).status_code == 200
        made = Operation.objects.get()
        assert (made.kind, made.node, made.reason) == (OperationKind.REBUILD, pair[1], WHY)
        assert made.arguments == {"source": gamma.pk, "mib_per_second": None, "compare": True, "without_list": False}

    def test_a_rate_of_0_is_refused_in_words(self, admin: Client, pair: Pair) -> None:
        said = {"confirm": "beta.example", "reason": WHY, "mib_per_second": "0"}
        answer = admin.post(place(pair[1], "rebuild"), said)
        assert answer.status_code == 422
        assert "0 would never end: leave it empty for no limit." in answer.content.decode()
        assert not Operation.objects.exists()

    def test_without_a_list_is_only_offered_where_something_could_be_lost(self, admin: Client, pair: Pair) -> None:
        url = place(pair[1], "rebuild")
        assert "without_list" not in admin.get(url).content.decode()
        become(pair[1], **DIVERGED)
        assert "without_list" in admin.get(url).content.decode()

    def test_of_the_master_only_says_why_not(self, admin: Client, pair: Pair) -> None:
        text = admin.get(place(pair[0], "rebuild")).content.decode()
        assert "so its data is never replaced" in text
        assert "submit" not in text


class TestResynchronize:
    @pytest.mark.parametrize(
        ("state", "says"),
        [
            pytest.param(FOLLOWS, "beta.example: incremental: 40 transactions", id="behind"),
            pytest.param(
                {"report": {"process": "up", "database": {"gtid_slave_pos": "0-1-100"}}},
                "beta.example: incremental: nothing is missing",
                id="there",
            ),
            pytest.param(
                LACKING,
                "full copy, because the primary no longer has the binary logs. Its old data is kept. About 3.0 GiB",
                id="purged",
            ),
            pytest.param(
                DIVERGED,
                "full copy, because it has diverged (extra transactions 0-2-7). What only it has is exported first",
                id="diverged",
            ),
            pytest.param({"status": NodeStatus.UNREACHABLE}, "it does not answer", id="silent"),
            pytest.param({"report": {"process": "dead", "database": None}}, "its database does not run", id="dead"),
        ],
    )
    def test_says_for_each_fallback_what_will_happen(
        self, admin: Client, pair: Pair, state: dict[str, Any], says: str
    ) -> None:
        become(pair[1], **state)
        text = text_of(admin, place(pair[0], "resynchronize"))
        assert says in text
        assert ("Hostname" in text) == (state is DIVERGED)

    def test_a_diverged_one_is_confirmed_and_only_that_one_is_replaced(self, admin: Client, pair: Pair) -> None:
        become(pair[1], **DIVERGED)
        add(pair[0].vault, "gamma", 3, **LACKING)
        url = place(pair[0], "resynchronize")
        assert admin.post(url, {"confirm": "", "reason": WHY}).status_code == 422
        assert admin.post(url, {"confirm": "beta.example", "reason": " "}).status_code == 422
        assert not Operation.objects.exists()
        assert admin.post(url, {"confirm": "Beta.example", "reason": WHY}).status_code == 200
        made = Operation.objects.get()
        assert (made.arguments, made.reason) == ({"replace": [pair[1].pk]}, WHY)

    def test_two_diverged_ones_are_both_named(self, admin: Client, pair: Pair) -> None:
        become(pair[1], **DIVERGED)
        gamma = add(pair[0].vault, "gamma", 3, **DIVERGED)
        url = place(pair[0], "resynchronize")
        assert admin.post(url, {"confirm": "beta.example", "reason": WHY}).status_code == 422
        assert admin.post(url, {"confirm": "gamma.example beta.example", "reason": WHY}).status_code == 200
        assert set(Operation.objects.get().arguments["replace"]) == {pair[1].pk, gamma.pk}

    def test_who_follows_well_is_asked_nothing(self, admin: Client, pair: Pair) -> None:
        assert admin.post(place(pair[1], "resynchronize")).status_code == 200
        assert Operation.objects.get().arguments == {"replace": []}


@pytest.mark.parametrize(
    ("name", "kind", "on_vault"),
    [("compare", OperationKind.VERIFY, True), ("backup", OperationKind.BACKUP, True), ("compare", OperationKind.VERIFY, False)],
)  # fmt: skip
def test_on_the_master_it_is_about_the_vault(admin: Client, pair: Pair, name: str, kind: str, on_vault: bool) -> None:
    node = pair[0] if on_vault else pair[1]
    assert admin.post(place(node, name), {"reason": ""}).status_code == 200
    made = Operation.objects.get()
    assert (made.kind, made.node) == (kind, None if on_vault else node)


@pytest.mark.parametrize(("name", "kind"), [("undo", OperationKind.UNDO), ("remove-kept", OperationKind.REMOVE_KEPT)])
def test_old_data_is_named_and_its_hostname_typed(admin: Client, pair: Pair, name: str, kind: str) -> None:
    kept = {"operation": "o" * 32, "since": "2026-11-25T10:00:00+00:00", "bytes": 2 * 2**30}
    become(pair[1], report={"kept": kept})
    url = place(pair[1], name)
    assert re.search(r"The data of before the rebuild of 2026-11-25 \d\d:00 [A-Z]+ \(2.0 GiB\)", text_of(admin, url))
    assert admin.post(url, {"confirm": "", "reason": WHY}).status_code == 422
    assert admin.post(url, {"confirm": "beta.example", "reason": WHY}).status_code == 200
    assert Operation.objects.get().kind == kind


class TestSetting:
    URL = VAULT + "data-policy/"
    SAID = {
        "rebuild_policy": "never", "copy_mib_per_second": "20", "keep_old_hours": "48", "verify_every_hours": "",
        "backup_every_hours": "12", "backups_kept": "3", "reason": WHY,
    }  # fmt: skip

    def test_is_changed_at_once_with_an_event(self, admin: Client, pair: Pair) -> None:
        assert admin.post(self.URL, self.SAID).status_code == 200
        vault = Vault.objects.get()
        assert (vault.rebuild_policy, vault.copy_mib_per_second, vault.verify_every_hours) == ("never", 20, None)
        assert (vault.keep_old_hours, vault.backup_every_hours, vault.backups_kept) == (48, 12, 3)
        assert Event.objects.get().text == f"setting of copies and backups changed: {WHY}"

    def test_the_same_again_is_no_event(self, admin: Client, pair: Pair) -> None:
        for _ in range(2):
            admin.post(self.URL, self.SAID)
        assert Event.objects.count() == 1

    def test_empty_is_no_limit_and_0_is_refused_in_words(self, admin: Client, pair: Pair) -> None:
        refused = admin.post(self.URL, {**self.SAID, "copy_mib_per_second": "0"})
        assert refused.status_code == 422
        assert "0 would never end: leave it empty for no limit." in refused.content.decode()
        assert admin.post(self.URL, {**self.SAID, "copy_mib_per_second": ""}).status_code == 200
        assert Vault.objects.get().copy_mib_per_second is None
