"""The topology picture: who leads, who is Master, who follows and how; readable for two nodes and for two hundred."""

import re
from collections.abc import Callable
from datetime import timedelta
from html import unescape
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from nodes.models import AppService, ServiceWorker, Vault, VaultNode
from nodes.models.service import SERVICE_NAME
from replication.core.roles import NodeStatus
from tests.nodes.conftest import add
from tests.nodes.test_screens import VAULT, shown, stamp

Pair = tuple[VaultNode, VaultNode]
FRESH = {"a" * 32: 0.1, "b" * 32: 0.2}


def drawing(client: Client, kind: str = "wide") -> str:
    found = re.search(rf'<svg class="{kind}".*?</svg>', shown(client), re.DOTALL)
    assert found is not None
    return found[0]


def box(text: str, name: str) -> str:
    """The group of a box, by the full name in its title."""
    found = [g for g in re.findall(r"<g .*?</g>", text, re.DOTALL) if f"<title>{name}" in g]
    assert len(found) == 1, f"{name} is drawn {len(found)} times"
    return found[0]


def worker(host: str, process: str = "service-a (pid 1)", **changes: Any) -> ServiceWorker:
    now = timezone.now()
    values = {"id": f"{host} {process}", "service": SERVICE_NAME, "started_at": now, "seen_at": now}
    return ServiceWorker.objects.create(host=host, process=process, **{**values, **changes})


@pytest.mark.parametrize("kind", ["wide", "narrow"])
def test_a_pair(admin: Client, pair: Pair, lead: Callable[..., None], kind: str) -> None:
    lead(answers=FRESH)
    worker("controller-1", "service-a (pid 4711)")
    worker("controller-2")
    worker("gone", seen_at=timezone.now() - timedelta(minutes=1))
    worker("other", service="SystemHousekeepingService")
    text = drawing(admin, kind)
    assert 'class="ok"' in box(text, "alpha.example")
    assert "Primary-1 · 127.0.31.1" in box(text, "alpha.example")
    beta = box(text, "beta.example")
    assert 'class="link streams acknowledges"' in beta
    assert ">streams, acknowledges<" in beta
    assert "leads" in box(text, "controller-1")
    assert "stands by" in box(text, "controller-2")
    assert "watches" in text
    assert "gone" not in text
    assert "other" not in text


def test_it_says_the_same_in_words(admin: Client, pair: Pair, lead: Callable[..., None]) -> None:
    lead(answers=FRESH)
    text = drawing(admin)
    described = re.search(r'role="img" aria-labelledby="(\S+) (\S+)"', text)
    assert described is not None
    for id in described.groups():
        assert f'id="{id}"' in text
    said = re.search(r"<desc[^>]*>(.*?)</desc>", text)
    assert said is not None
    assert said[1] == "controller-1 leads. alpha.example is Master: Master. beta.example: link streams, acknowledges."


@pytest.mark.parametrize(
    ("status", "link", "words"),
    [
        (NodeStatus.CATCHING_UP, "slow", "catching up"),
        (NodeStatus.CONNECTING, "slow", "connecting"),
        (NodeStatus.ERROR, "broken", "broken"),
        (NodeStatus.UNREACHABLE, "broken", "broken"),
        (NodeStatus.NOT_FOLLOWING, "broken", "not following"),
        (NodeStatus.UNKNOWN, "unknown", "unknown"),
        (NodeStatus.INACTIVE, "unknown", "inactive"),
    ],
)
def test_each_link_has_a_word_and_a_form(
    admin: Client, pair: Pair, lead: Callable[..., None], status: NodeStatus, link: str, words: str
) -> None:
    lead(answers=FRESH)
    Vault.objects.update(promotable=None)
    VaultNode.objects.filter(pk=pair[1].pk).update(status=status)
    beta = box(drawing(admin), "beta.example")
    assert f'class="link {link}"' in beta
    assert f">{words}<" in beta


def test_nothing_is_shown_as_known_when_nobody_looks(admin: Client, pair: Pair, lead: Callable[..., None]) -> None:
    lead(age=60, answers=FRESH)
    text = drawing(admin)
    assert 'class="ok"' not in text
    assert "leads" not in text
    assert ">unknown<" in box(text, "beta.example")
    worker("controller-2")
    assert "does not watch" in drawing(admin)
    lead(answers=FRESH)
    AppService.objects.update(desired_state="stopped")
    assert "does not watch" in drawing(admin)


def test_a_vault_without_a_master_has_no_links(admin: Client, pair: Pair, lead: Callable[..., None]) -> None:
    lead(answers=FRESH)
    Vault.objects.update(primary=None, promotable=None)
    text = drawing(admin)
    assert "There is no Master." in text
    assert box(text, "alpha.example")
    assert "link streams" not in text


def test_an_empty_vault_has_no_picture(admin: Client, vault: Vault) -> None:
    assert 'class="wide"' not in shown(admin)


@pytest.mark.parametrize(("nodes", "drawn"), [(12, 12), (13, 13), (200, 13)])
def test_many_nodes_stay_readable(admin: Client, pair: Pair, lead: Callable[..., None], nodes: int, drawn: int) -> None:
    lead(answers=FRESH)
    for number in range(3, nodes + 1):
        add(pair[0].vault, "n", number, id=f"{number:032}", hostname=f"n{number}.example", agent_id=f"{number}", ip_address=f"127.0.{30 + number // 250}.{number % 250}")  # fmt: skip
    VaultNode.objects.filter(hostname=f"n{nodes}.example").update(status=NodeStatus.ERROR)
    text = drawing(admin)
    assert text.count("<rect") == drawn + 1, "the leader, the Master and the others"
    for name in ("alpha.example", "beta.example", f"n{nodes}.example"):
        assert box(text, name), "who matters and who is in trouble is drawn in any case"
    assert ("and 187 more: 187 streams" in shown(admin)) is (nodes == 200)
    boxes = [
        tuple(map(float, b)) for b in re.findall(r'<rect x="([\d.]+)" y="(\d+)" width="(\d+)" height="(\d+)"', text)
    ]
    width, height = map(int, re.search(r'viewBox="-1 0 (\d+) (\d+)"', text).groups())  # type: ignore[union-attr]
    for n, (x, y, w, h) in enumerate(boxes):
        assert x >= 0
        assert x + w <= width
        assert y + h <= height
        for x2, y2, w2, h2 in boxes[n + 1 :]:
            assert x + w <= x2 or x2 + w2 <= x or y + h <= y2 or y2 + h2 <= y, "no box covers another"


def test_names_are_text_and_cut_to_the_box(admin: Client, pair: Pair, lead: Callable[..., None]) -> None:
    lead(answers=FRESH)
    evil = "<img src=x onerror=alert(1)>" + "x" * 200
    VaultNode.objects.filter(pk=pair[1].pk).update(hostname=evil, status=NodeStatus.ERROR, status_detail="<b>")
    worker("<script>")
    for kind in ("wide", "narrow"):
        text = drawing(admin, kind)
        assert "<img" not in text
        assert "<script" not in text
        assert unescape(re.findall(r"<title>(&lt;img.*?)</title>", text)[0]) == evil, "in full as its title"
        names = re.findall(r'<text class="name"[^>]*>(.*?)</text>', text)
        assert max(len(unescape(name)) for name in names) <= 31


def test_a_standby_that_comes_or_goes_changes_the_screen(admin: Client, pair: Pair, lead: Callable[..., None]) -> None:
    lead(answers=FRESH)
    stamps = [stamp(admin, VAULT)]
    one = worker("controller-2")
    stamps.append(stamp(admin, VAULT))
    one.delete()
    worker("controller-3", started_at=timezone.now() + timedelta(seconds=1))
    stamps.append(stamp(admin, VAULT))
    assert len(set(stamps)) == 3
    ServiceWorker.objects.update(seen_at=timezone.now())
    assert stamp(admin, VAULT) == stamps[-1], "a sign of life alone is no news"
