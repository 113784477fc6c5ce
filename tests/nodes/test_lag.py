"""The lag chart: gaps where nothing is known, the worst lines, its own address that answers 204, and a page without JavaScript."""

import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from html import unescape
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.cache import cache
from django.test import Client
from django.utils import timezone

from nodes.admin.vault.lag import HEIGHT, LABEL, chart_of
from nodes.models import LagSample, VaultNode
from replication.stores.lag import POINTS
from tests.nodes.conftest import add
from tests.nodes.test_screens import VAULT, shown

Pair = tuple[VaultNode, VaultNode]
LAG = f"{VAULT}lag/"


@pytest.fixture(autouse=True)
def nothing_cached() -> Iterator[None]:
    cache.clear()
    yield
    cache.clear()


@pytest.fixture
def still(monkeypatch: pytest.MonkeyPatch) -> None:
    """No half minute ends in the middle of the test."""
    now = timezone.now()
    monkeypatch.setattr("nodes.admin.vault.lag.timezone", SimpleNamespace(now=lambda: now))


def sample(node: VaultNode, ago: float, seconds: float | None, transactions: int | None = None) -> None:
    at = timezone.now() - timedelta(seconds=ago)
    LagSample.objects.create(node=node, at=at, seconds=seconds, transactions=transactions)


def paths(text: str) -> list[str]:
    return re.findall(r'<path class="line line-\d+" d="(M[^"]*)"><title>', text)


def rows(text: str) -> list[list[str]]:
    body = text.partition("<tbody>")[2].partition("</tbody>")[0]
    cells = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL) for row in re.findall(r"<tr>(.*?)</tr>", body)]
    return [[" ".join(unescape(re.sub(r"<[^>]+>", " ", cell)).split()) for cell in row] for row in cells]


def test_without_a_sample_it_says_so(admin: Client, pair: Pair) -> None:
    text = shown(admin, LAG)
    assert "Nothing was measured in this time" in text
    assert "<svg" not in text
    sample(pair[1], 2, 1.0)
    assert len(paths(shown(admin, LAG))) == 1, "and shows the first one at once"


def test_a_line_a_name_and_a_row(admin: Client, pair: Pair) -> None:
    for ago in range(0, 600, 5):
        sample(pair[1], ago, 4.2 if ago == 300 else 0.0, 7)
    text = shown(admin, LAG)
    assert len(paths(text)) == 1
    assert rows(text) == [["beta.example", "0 s", "7 transactions", "4.2 s"]]
    assert ">beta.example</text>" in text
    assert "beta.example: now 0 s, at worst 4.2 s." in text
    assert 'class="top" aria-hidden="true">5 s<' in text


def test_a_gap_is_not_zero(admin: Client, pair: Pair) -> None:
    for ago, seconds in ((1500, 1.0), (1470, 1.0), (1400, None), (1300, 1.0), (600, 1.0), (570, 1.0)):
        sample(pair[1], ago, seconds)
    (path,) = paths(shown(admin, LAG))
    assert path.count("M") == 3, "two lines and a dot"
    assert len(re.findall(r"M\d+ [\d.]+h0(?=M|$)", path)) == 1
    assert f" {float(HEIGHT)}" not in path, "never on the ground"


def test_what_is_not_known_is_said(admin: Client, pair: Pair) -> None:
    sample(pair[1], 20, 2.0, 5)
    sample(pair[1], 2, None)
    assert rows(shown(admin, LAG)) == [["beta.example", "not known", "not known", "2 s"]]


def test_the_worst_twelve_are_drawn_each_with_a_place_for_its_name(admin: Client, pair: Pair) -> None:
    for number in range(3, 20):
        node = add(pair[0].vault, "n", number, id=f"{number:032}", hostname=f"n{number}.example", agent_id=f"{number}")
        sample(node, 2, float(number % 3))
        sample(node, 40, float(number))
    text = shown(admin, LAG)
    assert len(paths(text)) == 12
    assert rows(text)[0][0] == "n19.example"
    assert "5 more fallbacks were never further behind than these." in text
    places = sorted(float(y) for y in re.findall(r'<text x="19" y="([\d.-]+)"', text))
    assert all(below - above >= LABEL for above, below in pairwise(places))
    assert places[0] >= 0
    assert places[-1] <= HEIGHT + LABEL


@pytest.mark.parametrize(("hours", "shown_hours"), [("1", 1), ("6", 6), ("24", 24), ("7", 1), ("<b>", 1), ("", 1)])
def test_the_span_is_one_of_three(plain: Client, pair: Pair, hours: str, shown_hours: int) -> None:
    sample(pair[1], 2 * 3600, 3.0)
    text = shown(plain, f"{LAG}?hours={hours}")
    assert f'<span aria-current="true">{shown_hours} h</span>' in text
    assert (len(paths(text)) == 1) is (shown_hours > 1)


def test_without_javascript_it_is_a_page_of_its_own_that_the_screen_links_to(plain: Client, pair: Pair) -> None:
    assert f'<a href="{LAG}">' in shown(plain)
    text = shown(plain, LAG)
    assert "<html" in text
    assert "style=" not in text


def stamped(client: Client, hours: int) -> str:
    found = re.search(r"hours=\d+&amp;v=(\w+)", shown(client, f"{LAG}?hours={hours}"))
    assert found is not None
    return found[1]


@pytest.mark.usefixtures("still")
def test_nothing_new_is_204_for_few_queries(admin: Client, pair: Pair, django_assert_max_num_queries: Any) -> None:
    sample(pair[1], 2, 1.0)
    before = stamped(admin, 1)
    with django_assert_max_num_queries(4):
        response = admin.get(LAG, {"hours": 1, "v": before})
    assert response.status_code == 204, "within the same half minute"
    sample(pair[1], 1, 1.0)
    assert admin.get(LAG, {"hours": 1, "v": before}).status_code == 200


@pytest.mark.usefixtures("still")
@pytest.mark.parametrize("hours", [6, 24])
def test_the_lines_of_a_long_span_are_kept_for_a_moment_but_never_what_is_now(
    admin: Client, pair: Pair, django_assert_num_queries: Any, hours: int
) -> None:
    sample(pair[1], 7, 1.0)
    assert rows(shown(admin, f"{LAG}?hours={hours}")) == [["beta.example", "1 s", "not known", "1 s"]]
    sample(pair[1], 1, 4.0)
    with django_assert_num_queries(6):
        text = shown(admin, f"{LAG}?hours={hours}")
    assert rows(text) == [["beta.example", "4 s", "not known", "1 s"]]


def test_the_queries_do_not_depend_on_the_nodes(admin: Client, pair: Pair, django_assert_num_queries: Any) -> None:
    sample(pair[1], 2, 1.0)
    with django_assert_num_queries(8):
        shown(admin, LAG)
    for number in range(3, 40):
        node = add(pair[0].vault, "n", number, id=f"{number:032}", hostname=f"n{number}.example", agent_id=f"{number}")
        sample(node, 2, 1.0)
    cache.clear()
    with django_assert_num_queries(8):
        shown(admin, LAG)


def test_it_needs_the_right_to_see_the_vault(
    pair: Pair, user: Callable[..., User], enter: Callable[..., Client], client: Client
) -> None:
    assert enter(user(view=False)).get(LAG).status_code == 403
    assert enter(user()).get(LAG).status_code == 200
    assert client.get(LAG).status_code == 302


def test_the_lines_are_never_longer_than_their_points(pair: Pair) -> None:
    now = timezone.now()
    for ago in range(0, 3600, 5):
        LagSample.objects.create(node=pair[1], at=now - timedelta(seconds=ago), seconds=float(ago % 7))
    (line,) = chart_of([pair[1]], 1, now).lines
    assert len(re.findall(r"[ML]", line.path)) == POINTS


def test_names_are_text(admin: Client, pair: Pair) -> None:
    VaultNode.objects.filter(pk=pair[1].pk).update(hostname="<img src=x onerror=alert(1)>")
    sample(pair[1], 2, 1.0)
    text = shown(admin, LAG)
    assert "<img" not in text
    assert "&lt;img" in text
