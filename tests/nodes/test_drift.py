"""A fallback whose data differs from the Master's is seen: on its row, in its popup, on the safety line.

Proves: named and linked, no longer green, also when it has become Master; nothing is said without a difference; an answer that was
kept is made anew when one is found or ends.
"""

from collections.abc import Callable

import pytest
from django.test import Client
from django.utils import timezone

from nodes.models import VaultNode
from tests.nodes.test_safety import foreseen, panel
from tests.nodes.test_screens import VAULT, Pair, shown, stamp

ACCOUNTS = "vault.accounts: 3 rows differ (other content: id=5; missing: id=7; extra: id=9)"
MORE = ["vault.b: the table is missing on beta.example", "vault.<c>: 1 row differs (extra: id=1)"]


def differ(node: VaultNode, *differences: str) -> None:
    VaultNode.objects.filter(pk=node.pk).update(drift=list(differences), verified_at=timezone.now())


@pytest.fixture
def looked_at(pair: Pair, lead: Callable[..., None]) -> Pair:
    lead(answers={node.pk: 0.1 for node in pair})
    foreseen(pair)
    return pair


def test_the_row_names_what_differs_and_is_not_green(admin: Client, looked_at: Pair) -> None:
    assert "Differs" not in shown(admin)
    differ(looked_at[1], ACCOUNTS, *MORE)
    page = shown(admin)
    says = "Differs from the Master: vault.accounts: 3 rows differ; vault.b: the table is missing on beta.example and 1 more"
    row = page.partition('<tr data-node="beta.example">')[2].partition("</tr>")[0]
    assert f"<small>{says}</small>" in row
    assert 'class="badge warn"' in row


def test_a_master_that_differed_before_says_so(admin: Client, looked_at: Pair) -> None:
    differ(looked_at[0], ACCOUNTS)
    assert "Became Master although it differed from the last one: vault.accounts: 3 rows differ" in shown(admin)


def test_the_safety_line_is_yellow_and_says_what_would_be_wrong(admin: Client, looked_at: Pair) -> None:
    assert panel(admin)[0] == "ok"
    differ(looked_at[1], ACCOUNTS)
    level, text = panel(admin)
    assert level == "warn"
    assert "differs from the Master" in text or "differs from the Master&#x27;s" in text
    assert "But what differs on beta.example would be wrong then: vault.accounts: 3 rows differ." in text
    assert "/W115" in text or "W115" in text


def test_the_popup_has_all_of_it_and_when(admin: Client, looked_at: Pair) -> None:
    VaultNode.objects.filter(pk=looked_at[1].pk).update(report={"agent_version": "1"})
    url = f"{VAULT}{looked_at[1].pk}/change/"
    assert "never" in admin.get(url).content.decode()
    differ(looked_at[1], ACCOUNTS, *MORE)
    page = admin.get(url).content.decode()
    for says in (ACCOUNTS, MORE[0], "vault.&lt;c&gt;: 1 row differs"):
        assert says in page
    differ(looked_at[1])
    page = admin.get(url).content.decode()
    assert "Compared with the Master" in page
    assert "equal" in page


def test_a_screen_that_is_open_learns_of_it(admin: Client, looked_at: Pair) -> None:
    current = stamp(admin, VAULT)
    assert admin.get(VAULT, {"v": current}).status_code == 204
    differ(looked_at[1], ACCOUNTS)
    assert "Differs from the Master" in admin.get(VAULT, {"v": current}).content.decode()
