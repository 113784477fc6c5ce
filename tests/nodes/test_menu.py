"""The Action menu of a row: everything that is possible now, and what is not greyed with a sentence and without a link."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from nodes.models import Operation, Vault, VaultNode
from replication.core.roles import NodeStatus
from replication.stores.data_wishes import Around, why_not
from tests.nodes.conftest import add
from tests.nodes.test_screens import INTENT, VAULT, Pair, shown
from tests.nodes.test_switchover import menu

NOTHING_KEPT = "No old data is kept there: it was not rebuilt, or the old data was removed."


def entry(text: str, node: VaultNode, label: str) -> str:
    (found,) = (entry for entry in menu(text, node) if entry.startswith(label))
    return found


def addresses(text: str, node: VaultNode) -> list[str]:
    """Where the possible entries of a row lead to."""
    found = re.search(rf'id="action-{node.pk}".*?<ul>(.*?)</ul>', text, re.S)
    assert found is not None
    return re.findall(r'hx-get="([^"]+)"', found[1])


def test_a_healthy_fallback_offers_everything_that_is_possible(
    admin: Client, pair: Pair, lead: Callable[..., None]
) -> None:
    lead()
    text = shown(admin)
    assert menu(text, pair[1]) == [
        "Re-synchronize Master",
        "Make Master",
        "Make inactive",
        "Pause automatic failover",
        "Compare with the Master",
        "Rebuild (full copy)",
        f"Undo rebuild {NOTHING_KEPT}",
        "Export lost transactions Nothing is lost here: it follows the Master.",
        "Back up now",
        f"Remove old data {NOTHING_KEPT}",
        "What this status means",
    ]
    own = f"{VAULT}{pair[1].pk}/"
    assert addresses(text, pair[1]) == [
        own + "resynchronize/", own + "switchover/", own + "change/?active=0", VAULT + "pause/", own + "compare/",
        own + "rebuild/", own + "backup/",
    ]  # fmt: skip
    assert 'href="/admin/help/status/#node-slave--waiting-for-master-to-send-events" target="help"' in text


def test_the_master_may_not_leave_and_needs_no_copy(admin: Client, pair: Pair, lead: Callable[..., None]) -> None:
    lead()
    text = shown(admin)
    assert "alpha.example is the current primary" in entry(text, pair[0], "Make inactive")
    assert "It is the Master: the other nodes are copies of it" in entry(text, pair[0], "Rebuild")
    assert "Nothing is lost here: it is the Master." in entry(text, pair[0], "Export")
    own = f"{VAULT}{pair[0].pk}/"
    assert addresses(text, pair[0]) == [own + "resynchronize/", VAULT + "pause/", own + "compare/", own + "backup/"]


def test_an_inactive_node_can_be_made_active(admin: Client, pair: Pair, lead: Callable[..., None]) -> None:
    lead()
    VaultNode.objects.filter(pk=pair[1].pk).update(active=False, status=NodeStatus.INACTIVE, detached=True)
    text = shown(admin)
    assert f"{VAULT}{pair[1].pk}/change/?active=1" in addresses(text, pair[1])
    assert "is inactive: make it active first" in entry(text, pair[1], "Rebuild")
    assert 'id="id_active" checked' in shown(admin, f"{VAULT}{pair[1].pk}/change/?active=1")


def test_a_diverged_node_says_which_rows_and_where_they_are(
    admin: Client, pair: Pair, lead: Callable[..., None]
) -> None:
    lead()
    VaultNode.objects.filter(pk=pair[1].pk).update(
        status=NodeStatus.DIVERGED, status_detail="extra transactions 0-2-7<b>"
    )
    text = shown(admin)
    assert "<small>extra transactions 0-2-7&lt;b&gt;</small>" in text
    own = f"{VAULT}{pair[1].pk}/"
    assert {own + "export/", own + "rebuild/"} <= set(addresses(text, pair[1]))


@pytest.mark.parametrize("status", NodeStatus)
def test_for_every_status_a_copy_and_an_export_are_possible_or_refused_with_a_sentence_that_fits(
    pair: Pair, status: NodeStatus
) -> None:
    node = VaultNode(
        vault=pair[0].vault, hostname="c.example", status=status, report={}, active=status is not NodeStatus.INACTIVE
    )
    now = Around(watched=True, open=())
    rebuild, export = (why_not(kind, pair[0].vault, node, now) for kind in ("rebuild", "export"))
    assert (rebuild is None) == (status not in (NodeStatus.UNREACHABLE, NodeStatus.INACTIVE))
    assert (export is None) == (status is NodeStatus.DIVERGED), "only what is known to be lost is called lost"
    for refused in (rebuild, export):
        assert refused is None or refused.says.endswith((".", "!"))


def test_kept_old_data_can_be_put_back_or_removed(admin: Client, pair: Pair, lead: Callable[..., None]) -> None:
    lead()
    before = shown(admin)
    VaultNode.objects.filter(pk=pair[1].pk).update(report={"kept": {"operation": "k", "since": "", "bytes": 1}})
    own = f"{VAULT}{pair[1].pk}/"
    assert not {own + "undo/", own + "remove-kept/"} & set(addresses(before, pair[1]))
    assert {own + "undo/", own + "remove-kept/"} <= set(addresses(shown(admin), pair[1]))


def test_what_nobody_knows_is_not_called_healthy(admin: Client, pair: Pair) -> None:
    text = shown(admin)  # nobody leads
    assert "is stopped, or no worker runs it" in entry(text, pair[1], "Rebuild")
    assert "is stopped, or no worker runs it" in entry(text, pair[1], "Make Master")


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda a, b: VaultNode.objects.filter(pk=b.pk).update(active=False), id="made inactive"),
        pytest.param(lambda a, b: VaultNode.objects.filter(pk=b.pk).update(not_primary="R50 · too far"), id="a reason"),
        pytest.param(lambda a, b: VaultNode.objects.filter(pk=b.pk).update(status="diverged"), id="diverged"),
        pytest.param(lambda a, b: Vault.objects.update(primary=b, promotable=None), id="another Master"),
        pytest.param(lambda a, b: Vault.objects.update(primary=None, promotable=None), id="no Master"),
        pytest.param(
            lambda a, b: Vault.objects.update(promotable=None, intent=INTENT),
            id="a failover to it",
        ),
        pytest.param(
            lambda a, b: Vault.objects.update(promotable=None, intent={**INTENT, "target": a.pk}),
            id="a failover to another one",
        ),
        pytest.param(lambda a, b: Operation.objects.create(kind="switchover", vault=a.vault), id="a switchover"),
        pytest.param(lambda a, b: Operation.objects.create(kind="resynchronize", vault=a.vault), id="a resync"),
        pytest.param(lambda a, b: Vault.objects.update(paused_at=timezone.now()), id="paused"),
    ],
)
def test_a_row_that_is_kept_is_never_shown_when_its_menu_has_changed(
    admin: Client, pair: Pair, lead: Callable[..., None], change: Callable[[VaultNode, VaultNode], Any]
) -> None:
    """The HTML of a row is made once for all that it shows: every answer is what a process that never saw it would make."""
    from nodes.admin.vault import table as vault_table

    lead()
    before = menu(shown(admin), pair[1])
    change(*pair)
    kept = menu(shown(admin), pair[1])
    vault_table._kept.clear()
    assert menu(shown(admin), pair[1]) == kept
    assert kept != before


def test_rows_are_kept_apart_by_permission(
    admin: Client, user: Callable[..., User], enter: Callable[..., Client], pair: Pair, lead: Callable[..., None]
) -> None:
    lead()
    assert len(menu(shown(admin), pair[1])) == 11
    assert menu(shown(enter(user())), pair[1]) == ["What this status means"]
    assert len(menu(shown(admin), pair[1])) == 11


def test_no_more_rows_are_kept_than_that(
    admin: Client, pair: Pair, lead: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    from nodes.admin.vault import table as vault_table

    lead()
    monkeypatch.setattr(vault_table, "MOST_KEPT", 3)
    for number in range(3, 9):
        add(pair[0].vault, "n", number, id=f"{number:032}", hostname=f"n{number}.example", agent_id=f"{number}")
    assert shown(admin).count("<tr data-node=") == 8
    assert len(vault_table._kept) <= 3


def test_markup_in_names_and_reasons_is_text_in_every_entry(
    admin: Client, pair: Pair, lead: Callable[..., None]
) -> None:
    lead()
    VaultNode.objects.filter(pk=pair[1].pk).update(
        hostname="<i>b</i>{0}", not_primary="R50 · <script>alert(1)</script>", current_role="<u>"
    )
    text = shown(admin)
    assert "<i>b" not in text
    assert "<script>alert" not in text
    assert "<u>" not in text
    assert "&lt;i&gt;b&lt;/i&gt;{0}" in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
