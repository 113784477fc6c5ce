"""200 rows are cheap: as many queries as for two, little to send, and compressed on the way."""

import gzip
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from nodes.models import VaultNode
from tests.nodes.conftest import add
from tests.nodes.test_screens import VAULT, Pair, shown, stamp


@pytest.fixture
def many(pair: Pair, lead: Callable[..., None]) -> list[VaultNode]:
    """200 nodes, the pair included."""
    lead(answers={pair[0].pk: 0.1})
    for number in range(3, 201):
        add(pair[0].vault, "n", number, id=f"{number:032}", hostname=f"n{number}.example", agent_id=f"{number}")
    return list(VaultNode.objects.all())


def table(client: Client) -> str:
    return shown(client).partition('id="vault-nodes"')[2].partition("</table>")[0]


@pytest.mark.parametrize("partial", [True, False])
def test_200_rows_take_the_queries_of_two(
    admin: Client,
    plain: Client,
    pair: Pair,
    lead: Callable[..., None],
    partial: bool,
    django_assert_num_queries: Any,
    django_assert_max_num_queries: Any,
    request: pytest.FixtureRequest,
) -> None:
    client = admin if partial else plain
    lead()
    shown(client)
    with django_assert_max_num_queries(20) as few:
        shown(client)
    request.getfixturevalue("many")
    with django_assert_num_queries(len(few)):
        assert shown(client).count("<tr data-node=") == 200


def test_an_unchanged_poll_of_200_rows_takes_four_queries(
    admin: Client, many: list[VaultNode], django_assert_max_num_queries: Any
) -> None:
    current = stamp(admin, VAULT)
    with django_assert_max_num_queries(4):
        assert admin.get(VAULT, {"v": current}).status_code == 204


def test_a_browser_gets_it_compressed_and_in_a_fraction(plain: Client, many: list[VaultNode]) -> None:
    response = plain.get(VAULT, headers={"Accept-Encoding": "gzip, deflate, br"})
    assert response["Content-Encoding"] == "gzip"
    assert "Accept-Encoding" in response["Vary"]
    assert gzip.decompress(response.content).count(b"<tr data-node=") == 200
    assert len(response.content) < 60_000
    assert int(response["Content-Length"]) == len(response.content)


def test_the_length_tells_nobody_what_is_in_it(plain: Client, many: list[VaultNode]) -> None:
    """Against BREACH: the same page has another length each time."""
    lengths = {len(plain.get(VAULT, headers={"Accept-Encoding": "gzip"}).content) for _ in range(12)}
    assert len(lengths) > 1


def test_an_answer_that_is_empty_is_not_compressed(admin: Client, many: list[VaultNode]) -> None:
    response = admin.get(VAULT, {"v": stamp(admin, VAULT)}, headers={"Accept-Encoding": "gzip"})
    assert response.status_code == 204
    assert "Content-Encoding" not in response


def test_every_row_has_its_own_age(admin: Client, many: list[VaultNode]) -> None:
    text = table(admin)
    assert text.count('data-age-key="n') == 200
    assert 'data-age-key="n0" data-age=""' not in text
    assert text.count(">never</span>") == 199


def test_the_icon_is_drawn_once(admin: Client, many: list[VaultNode]) -> None:
    text = table(admin)
    assert "<path" not in text
    assert shown(admin).count('<symbol id="icon-delete"') == 1
    assert text.count('href="#icon-delete"') == 200
