"""The Action menu of a row: everything that is possible now, and what is not greyed with a sentence and without a link."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from nodes.admin.vault.menu import why_no_export, why_no_rebuild
from nodes.admin.vault.rows import Row
from nodes.models import Operation, Vault, VaultNode
from replication.core.roles import NodeStatus
from tests.nodes.conftest import add
from tests.nodes.test_screens import INTENT, VAULT, Pair, shown
from tests.nodes.test_switchover import menu


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
        "Rebuild (full copy) It follows the Master: there is nothing to rebuild.",
        "Export lost transactions Nothing is lost here: it follows the Master.",
        "What this status means",
    ]
    own = f"{VAULT}{pair[1].pk}/"
    assert addresses(text, pair[1]) == [
        own + "resynchronize/", own + "switchover/", own + "change/?active=0", VAULT + "pause/",
    ]  # fmt: skip
    assert 'href="/admin/help/status/#node-slave--waiting-for-master-to-send-events" target="help"' in text


def test_the_master_may_not_leave_and_needs_no_copy(admin: Client, pair: Pair, lead: Callable[..., None]) -> None:
    lead()
    text = shown(admin)
    assert "alpha.example is the current primary" in entry(text, pair[0], "Make inactive")
    assert "It is the Master: the other nodes are copies of it." in entry(text, pair[0], "Rebuild")
    assert "Nothing is lost here: it is the Master." in entry(text, pair[0], "Export")
    assert addresses(text, pair[0]) == [f"{VAULT}{pair[0].pk}/resynchronize/", VAULT + "pause/"]


def test_an_inactive_node_can_be_made_active(admin: Client, pair: Pair, lead: Callable[..., None]) -> None:
    lead()
    VaultNode.objects.filter(pk=pair[1].pk).update(active=False, status=NodeStatus.INACTIVE, detached=True)
    text = shown(admin)
    assert f"{VAULT}{pair[1].pk}/change/?active=1" in addresses(text, pair[1])
    assert "make it active, and it catches up by itself" in entry(text, pair[1], "Rebuild")
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
    assert "they are in the binary logs on its host. What to do" in entry(text, pair[1], "Export")
    assert "This version cannot make a full copy yet. What to do" in entry(text, pair[1], "Rebuild")
    for rule in ("w65", "w68"):
        assert f'<a href="/admin/help/wishes/#{rule}" target="help">' in text


def row_with(status: NodeStatus, *, primary: bool = False, active: bool = True) -> Row:
    return Row(
        node=VaultNode(active=active), role="", shown=status, status="", level="", is_primary=primary, known=True,
        detail="", last_seen="",
    )  # fmt: skip


@pytest.mark.parametrize("status", NodeStatus)
def test_for_every_status_a_copy_and_an_export_are_refused_with_a_sentence_that_fits(status: NodeStatus) -> None:
    rebuild, export = why_no_rebuild(row_with(status)), why_no_export(row_with(status))
    assert rebuild.says.endswith((".", "!"))
    assert export.says.endswith((".", "!"))
    follows = status.value.startswith("slave-") and status is not NodeStatus.ERROR
    assert (rebuild.rule == "W64") == follows
    assert (export.rule == "W67") == follows
    assert (export.rule == "W68") == (status is NodeStatus.DIVERGED), "only what is known to be lost is called lost"
    assert (rebuild.rule == "W65") == (status in (NodeStatus.DIVERGED, NodeStatus.ERROR))


def test_what_nobody_knows_is_not_called_healthy(admin: Client, pair: Pair) -> None:
    text = shown(admin)  # nobody leads
    assert "Whether it needs one is not known" in entry(text, pair[1], "Rebuild")
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
    assert len(menu(shown(admin), pair[1])) == 7
    assert menu(shown(enter(user())), pair[1]) == ["What this status means"]
    assert len(menu(shown(admin), pair[1])) == 7


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
