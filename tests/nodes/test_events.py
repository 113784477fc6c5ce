"""System → High Availability → Events: filter, pages, an event's page, export.

Proves: every filter finds what it says and a bad one says so and is ignored; pages neither lose nor repeat an event, also of
one moment; whatever an event says comes out as text, on screen and in a spreadsheet; the queries do not grow with the events.
"""

import csv
import io
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from html import unescape
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from nodes.admin.events.filter import ORDER, READERS, read_filter
from nodes.admin.events.screen import PAGE
from nodes.admin.paging import Cursor, page_of
from nodes.models import Event, Operation, Vault, VaultNode
from replication.core.evidence import evidence_of
from replication.core.roles import Witness
from replication.stores.wishes import request_resynchronize
from tests.builders import LONG, node, primary, report
from tests.builders import vault as view_of_vault

EVENTS = "/admin/nodes/event/"
MARKUP = """<script>alert("x")</script> & 'y'"""
NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
SEEN = evidence_of(
    view_of_vault(primary(silent=LONG, witness=Witness.SILENT), node("b", says={"db": {"heard_age": 9.0}}))
)


def happened(text: str, at: datetime = NOON, **fields: Any) -> Event:
    event = Event.objects.create(text=text, **fields)
    Event.objects.filter(pk=event.pk).update(at=at)  # it is written once, with the clock's time
    event.refresh_from_db()
    return event


def body(client: Client, url: str = EVENTS, **asked: str) -> str:
    response = client.get(url, asked)
    assert response.status_code == 200, response
    return response.content.decode()


def shown(client: Client, **asked: str) -> list[int]:
    """Ids of the events on a page, from top to bottom."""
    return [int(pk) for pk in re.findall(r'data-event="(\d+)"', body(client, **asked))]


def problem(text: str) -> str:
    found = re.search(r'<p class="form-error" role="alert">(.*?)</p>', text)
    return unescape(found[1]) if found else ""


def failover(vault: Vault, **fields: Any) -> Event:
    return happened(
        **{
            "text": "failover: beta is Master now", "vault": vault, "node_name": "beta.example", "rule": "P30", "diagnosis": "D70", "level": "warning",
            "operation": "f" * 32, "epoch": 8,
            "evidence": {
                "why": "x", "operation": "f" * 32, "seen": SEEN, "writable_after_ms": 41.5, "fence": MARKUP,
                "steps_ms": {"claimed": 5.5, f"revoke {MARKUP}": 12.0, "recorded": 30.0},
            },
            **fields,
        },
    )  # fmt: skip


# --- the filter


@pytest.fixture
def history(pair: tuple[VaultNode, VaultNode]) -> dict[str, int]:
    """A name for each event, from the oldest to the newest."""
    vault, other = pair[0].vault, Vault.objects.create(name="Other")
    day = timedelta(days=1)
    made = {
        "added": happened("node added", NOON, vault=vault, node_name="alpha.example", actor="Ada"),
        "lossless": happened("the vault is lossless", NOON + day, vault=vault, node_name="beta.example", rule="P80",
                             diagnosis="D30"),
        "lost": failover(vault, at=NOON + 2 * day),
        "failed": happened("follow did not succeed: 100 % of <b>", NOON + 2 * day, vault=vault, rule="P70", level="error",
                           diagnosis="D30", node_name="Gone.Example"),
        "elsewhere": happened("something else", NOON + 3 * day, vault=other, rule="P60", diagnosis="D10"),
        "started": happened("the service started", NOON + 4 * day, rule="S10"),
    }  # fmt: skip
    return {name: event.pk for name, event in made.items()}


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({}, "started elsewhere failed lost lossless added"),
        ({"vault": "other"}, "elsewhere"),
        ({"node": "beta.example"}, "lost lossless"),
        ({"node": " BETA.example "}, "lost lossless"),
        ({"node": "Gone.Example"}, "failed"),
        ({"node": "nobody"}, ""),
        ({"level": "error"}, "failed"),
        ({"level": "problems"}, "failed lost"),
        ({"level": "info"}, "started elsewhere lossless added"),
        ({"rule": "P30"}, "lost"),
        ({"rule": "p"}, "elsewhere failed lost lossless"),
        ({"rule": "S"}, "started"),
        ({"rule": "D70"}, "lost"),
        ({"rule": "D"}, "elsewhere failed lost lossless"),
        ({"by": "people"}, "added"),
        ({"by": "service"}, "started elsewhere failed lost lossless"),
        ({"actor": "ada"}, "added"),
        ({"operation": "f" * 32}, "lost"),
        ({"text": "LOSSLESS"}, "lossless"),
        ({"text": "100 %"}, "failed"),
        ({"text": "%"}, "failed"),
        ({"text": "<b>"}, "failed"),
        ({"from": "2026-03-06"}, "started elsewhere failed lost"),
        ({"from": "2026-03-06T12:00Z"}, "started elsewhere failed lost"),
        ({"from": "2026-03-06T12:01"}, "started elsewhere"),
        ({"from": "2026-03-06T14:00+02:00"}, "started elsewhere failed lost"),
        ({"to": "2026-03-05"}, "lossless added"),
        ({"to": "2026-03-05T11:59:59Z"}, "added"),
        ({"from": "2026-03-05", "to": "2026-03-05"}, "lossless"),
        ({"node": "beta.example", "level": "warning", "rule": "P30", "by": "service"}, "lost"),
        ({"level": "", "node": "", "text": " "}, "started elsewhere failed lost lossless added"),
    ],
    ids=str,
)
def test_a_filter_finds_what_it_says(plain: Client, history: dict[str, int], asked: dict[str, str], found: str) -> None:
    if asked.get("vault"):
        asked = {"vault": Vault.objects.get(name="Other").pk}
    response = plain.get(EVENTS, asked, follow=True)
    ids = [int(pk) for pk in re.findall(r'data-event="(\d+)"', response.content.decode())]
    names = {pk: name for name, pk in history.items()}
    assert [names[pk] for pk in ids] == found.split()
    assert problem(response.content.decode()) == ""


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"level": "loud"}, "no level “loud”"),
        ({"rule": "30P"}, "is no rule"),
        ({"rule": MARKUP}, MARKUP),
        ({"by": "nobody"}, "choose people or the service"),
        ({"vault": "x"}, "no vault x"),
        ({"operation": "../.."}, "is no operation"),
        ({"from": "yesterday"}, "“yesterday” is no time"),
        ({"to": "2026-02-30"}, "is no time"),
        ({"from": "0001-01-01T00:00+14:00"}, "is no time"),
        ({"from": "0900-01-01"}, "out of range"),
        ({"to": "9999-12-31"}, "out of range"),
        ({"from": "2026-03-07", "to": "2026-03-06"}, "exchange them"),
    ],
    ids=str,
)
def test_what_cannot_be_understood_is_said_and_left_out(
    plain: Client, history: dict[str, int], asked: dict[str, str], says: str
) -> None:
    text = body(plain, **asked)
    assert says in problem(text)
    assert MARKUP not in text
    if len(asked) == 1:
        assert len(shown(plain, **asked)) == len(history), "it is as if it had not been asked"


@pytest.mark.parametrize("text", ["\0", "'; DROP TABLE nodes_event; --", "%_\\", "😀" * 500, "٣"])
def test_no_value_breaks_the_page(admin: Client, history: dict[str, int], text: str) -> None:
    for name in (*READERS, "before", "after"):
        assert admin.get(EVENTS, {name: text, "v": "x"}).status_code == 200, name
    assert admin.get(f"{EVENTS}?text=%FF%FE&from=%00").status_code == 200, "not even UTF-8"


def test_the_address_of_a_filter_is_short_and_the_form_shows_it(plain: Client, history: dict[str, int]) -> None:
    response = plain.get(EVENTS, {"text": "", "level": "error", "node": "", "from": ""})
    assert (response.status_code, response["Location"]) == (302, f"{EVENTS}?level=error")
    text = body(plain, node="beta.example", level="error", **{"from": "2026-03-05T14:00+02:00"})
    assert 'name="node" maxlength="253" list="f-nodes" value="beta.example"' in text
    assert '<option value="error" selected>' in text
    assert 'value="2026-03-05T12:00" data-utc="2026-03-05T12:00"' in text
    assert f'href="{EVENTS}export.csv?node=beta.example&amp;level=error&amp;from=2026-03-05T12%3A00Z"' in text


def test_a_filter_that_is_read_again_is_the_same() -> None:
    asked = {"text": "a&b=c", "level": "problems", "from": "2026-03-05", "to": "2026-03-06T01:02:03+00:00"}
    once = read_filter(asked)
    assert once.values == {**asked, "to": "2026-03-06T01:02:03Z"}
    assert read_filter(once.values) == once


# --- pages


@pytest.fixture
def many(vault: Vault) -> list[int]:
    """More than four pages; most of one moment, as when a script does something. Ids as they have to be shown."""
    Event.objects.bulk_create(
        Event(vault=vault, text=f"event {n}", level="error" if n % 7 == 0 else "info") for n in range(230)
    )
    Event.objects.update(at=NOON)
    for place, pk in enumerate(Event.objects.order_by("pk").values_list("pk", flat=True)[:40]):
        Event.objects.filter(pk=pk).update(at=NOON + timedelta(microseconds=place % 3))
    return list(Event.objects.order_by("-at", "-pk").values_list("pk", flat=True))


def links(text: str) -> dict[str, str]:
    return {rel: unescape(url) for rel, url in re.findall(r'rel="(prev|next)" href="([^"]+)"', text)}


def test_pages_neither_lose_nor_repeat_an_event_in_both_directions(plain: Client, many: list[int]) -> None:
    found, pages, url = [], [], EVENTS
    while url:
        text = body(plain, url)
        pages.append(url)
        found.append([int(pk) for pk in re.findall(r'data-event="(\d+)"', text)])
        url = links(text).get("next", "")
    assert [pk for page in found for pk in page] == many
    assert [len(page) for page in found] == [PAGE] * 4 + [30]
    back = links(body(plain, pages[-1]))["prev"]
    for page in reversed(found[1:-1]):
        text = body(plain, back)
        assert [int(pk) for pk in re.findall(r'data-event="(\d+)"', text)] == page
        back = links(text)["prev"]
    first = body(plain, back)
    assert [int(pk) for pk in re.findall(r'data-event="(\d+)"', first)] == found[0]
    assert "prev" not in links(first)


def test_a_page_keeps_the_filter(plain: Client, many: list[int]) -> None:
    wanted = [pk for pk in many if Event.objects.get(pk=pk).level == "info"]
    text = body(plain, level="info")
    assert [int(pk) for pk in re.findall(r'data-event="(\d+)"', text)] == wanted[:PAGE]
    text = body(plain, links(text)["next"])
    assert [int(pk) for pk in re.findall(r'data-event="(\d+)"', text)] == wanted[PAGE : 2 * PAGE]


def test_events_that_come_meanwhile_move_nobody(many: list[int]) -> None:
    page = page_of(Event.objects.all(), ORDER, None, None, 20)
    happened("new", NOON + timedelta(days=1))
    older = page_of(Event.objects.all(), ORDER, page.older, None, 20)
    assert [event.pk for event in older.rows] == many[20:40]


@pytest.mark.parametrize("text", ["", "x", "20260304T120000.000000Z-0", "20260304T120000.000000Z-" + "9" * 30, "-5"])
def test_what_is_no_place_in_the_list_leads_to_its_beginning(plain: Client, many: list[int], text: str) -> None:
    assert ORDER.read(text) is None
    assert shown(plain, before=text) == many[:PAGE]


def test_below_the_last_event_there_is_nothing(plain: Client, many: list[int]) -> None:
    text = body(plain, before=str(Cursor(ORDER, 1, NOON - timedelta(days=1))))
    assert "There is nothing older." in text
    assert f'href="{EVENTS}"' in text


def test_the_list_is_read_along_an_index_however_it_is_filtered(many: list[int]) -> None:
    """No table scan, and no sorting of what was found."""
    cursor = Cursor(ORDER, many[100], NOON)
    for asked in (
        {},
        {"node": "x"},
        {"level": "error"},
        {"rule": "P30"},
        {"operation": "f" * 32},
        {"from": "2026-01-01"},
    ):
        events = Event.objects.filter(read_filter(asked).where).defer("evidence")
        for page in (events, events.filter(cursor.older)):
            how = page.order_by("-at", "-pk")[:PAGE].explain()
            assert "USING INDEX" in how, how
            if "node" not in asked and "operation" not in asked:
                assert "TEMP B-TREE" not in how, how


# --- live


def stamp(client: Client, **asked: str) -> str:
    found = re.search(r'data-stamp="(\w+)"', body(client, **asked))
    assert found is not None
    return found[1]


def test_a_new_event_appears_and_an_unchanged_list_is_204_with_one_query_of_its_own(
    admin: Client, history: dict[str, int], django_assert_max_num_queries: Any
) -> None:
    before = stamp(admin, level="error")
    with django_assert_max_num_queries(4):
        assert admin.get(EVENTS, {"level": "error", "v": before}).status_code == 204
    new = happened("again", NOON + timedelta(days=9), level="error")
    response = admin.get(EVENTS, {"level": "error", "v": before})
    text = response.content.decode()
    assert "<html" not in text
    assert re.findall(r'data-event="(\d+)"', text) == [str(new.pk), str(history["failed"])]
    assert f'hx-get="{EVENTS}?level=error"' in text, "it goes on with its filter"


@pytest.mark.parametrize(
    ("asked", "live"),
    [({}, True), ({"level": "info"}, True), ({"to": "2026-03-05"}, False), ({"before": "cursor"}, False)],
    ids=str,
)
def test_only_a_first_page_without_an_end_polls(
    plain: Client, many: list[int], asked: dict[str, str], live: bool
) -> None:
    if "before" in asked:
        asked = {"before": str(Cursor(ORDER, many[60], NOON))}
    text = body(plain, **asked)
    assert ('id="live"' in text) is live
    assert ("data-stale-since" in text) is live, "what does not ask cannot be found stale"


@pytest.mark.parametrize("htmx", [True, False])
def test_a_full_answer_takes_the_same_queries_for_two_events_and_for_two_hundred(
    admin: Client,
    plain: Client,
    pair: Any,
    django_assert_num_queries: Any,
    django_assert_max_num_queries: Any,
    htmx: bool,
) -> None:
    client = admin if htmx else plain
    failover(pair[0].vault)
    with django_assert_max_num_queries(8) as few:
        body(client)
    for number in range(200):
        failover(pair[0].vault, at=NOON + timedelta(seconds=number))
    with django_assert_num_queries(len(few)):
        body(client)


# --- an event's own page


def test_the_page_of_a_failover_shows_the_evidence(plain: Client, pair: Any) -> None:
    event = failover(pair[0].vault)
    text = body(plain, f"{EVENTS}{event.pk}/")
    words = " ".join(unescape(re.sub(r"<[^>]+>", " ", text[text.index('id="content-main"') :])).split())
    for part in (
        "P30 the primary is lost: promote the acker",
        "D70 the primary is silent, its port does not answer, and no replica hears it",
        "The database port 3307 of a.example did not answer the controller.",
        "Who might take over b.example",
        "silent for 15 s",
        "no, last 9.0 s before",
        "Writable after 42 ms",
        "6.5 ms at 12 ms",
        "Would take over b.example",
        "Everything that was recorded, as JSON",
    ):
        assert part in words, part
    assert f'value="http://testserver{EVENTS}{event.pk}/"' in text
    assert "#d70" in text, "what the diagnosis means is one click away"


def test_markup_comes_out_as_text(plain: Client, pair: Any) -> None:
    event = failover(pair[0].vault, node_name=MARKUP, text=MARKUP, actor=MARKUP, rule="<b>", operation="<i>")
    Event.objects.filter(pk=event.pk).update(
        evidence={
            MARKUP: MARKUP, "traceback": MARKUP, "steps_ms": {MARKUP: 3},
            "seen": {
                "diagnosis": {"rule": MARKUP, "says": MARKUP}, "choice": {"rule": MARKUP, "says": MARKUP},
                "witness": {"says": "silent", "node": MARKUP, "port": MARKUP},
                "row": {"state": MARKUP, "primary": MARKUP, "may_ack": [MARKUP], "intent": {"kind": MARKUP}},
                "nodes": [{"node": MARKUP, "link": MARKUP, "order": MARKUP, "epoch": MARKUP, "quarantine": MARKUP}],
                "others": {MARKUP: MARKUP}, "failed": MARKUP,
            },
        }
    )  # fmt: skip
    for url in (EVENTS, f"{EVENTS}{event.pk}/", "/admin/nodes/vaultnode/"):
        text = body(plain, url)
        assert "<script>alert" not in text
        assert "&lt;script&gt;alert" in text


@pytest.mark.parametrize(
    "evidence",
    [
        {}, [], "x", 5,
        {"seen": None, "steps_ms": None}, {"seen": [], "steps_ms": []}, {"seen": {"nodes": {}, "row": [], "witness": 1}},
        {"seen": {"nodes": [None, 1, {"silence_s": "x", "epoch": None}], "others": []}},
        {"steps_ms": {"a": "x", "b": None, "c": True, "d": 0}}, {"steps_ms": {"a": -1e300, "b": 1e300}},
        {"seen": {"choice": {"node": {}}, "diagnosis": {"rule": 5}, "row": {"intent": []}}},
    ],
    ids=str,
)  # fmt: skip
def test_old_and_strange_evidence_still_has_a_page(plain: Client, vault: Vault, evidence: Any) -> None:
    event = happened("something", vault=vault)
    Event.objects.filter(pk=event.pk).update(evidence=evidence)
    assert "Everything that was recorded" in body(plain, f"{EVENTS}{event.pk}/")


def test_the_events_of_an_operation_lead_to_each_other(plain: Client, vault: Vault) -> None:
    one, two, three = (happened(f"part {n}", vault=vault, operation="e" * 32) for n in range(3))
    happened("another", vault=vault, operation="d" * 32)
    text = body(plain, f"{EVENTS}{two.pk}/")
    assert links(text) == {"prev": f"{EVENTS}{one.pk}/", "next": f"{EVENTS}{three.pk}/"}
    assert f'href="{EVENTS}?operation={"e" * 32}"' in text
    assert links(body(plain, f"{EVENTS}{one.pk}/")) == {"next": f"{EVENTS}{two.pk}/"}


def test_what_a_person_asked_for_is_the_first_event_of_its_operation(
    pair: Any, lead: Callable[..., None], administrator: User
) -> None:
    lead(answers={pair[0].pk: 0.1, pair[1].pk: 0.1})
    VaultNode.objects.update(report=report("b").to_json())
    made = request_resynchronize(pair[1], administrator, lambda pk: None)
    assert isinstance(made, Operation), made
    event = Event.objects.get(operation=made.pk)
    assert (event.actor, event.node_name) == (administrator.username, "beta.example")


def test_a_page_leads_to_its_operation_and_takes_few_queries(
    plain: Client, pair: Any, django_assert_max_num_queries: Any
) -> None:
    event = failover(pair[0].vault)
    assert "/admin/nodes/operation/" not in body(plain, f"{EVENTS}{event.pk}/").split('id="content-main"')[1]
    Operation.objects.create(id="f" * 32, kind="failover", vault=pair[0].vault)
    with django_assert_max_num_queries(7):
        text = body(plain, f"{EVENTS}{event.pk}/")
    assert f'href="/admin/nodes/operation/{"f" * 32}/"' in text, "it leads to its operation as soon as there is one"


def test_an_event_that_does_not_exist_is_404(plain: Client, vault: Vault) -> None:
    assert plain.get(f"{EVENTS}{2**62}/").status_code == 404
    assert plain.get(f"{EVENTS}{10**30}/").status_code == 404
    assert plain.get(f"{EVENTS}x/").status_code in (302, 404)


# --- export


def exported(client: Client, kind: str, **asked: str) -> str:
    response = client.get(f"{EVENTS}export.{kind}", asked)
    assert response.status_code == 200
    name = re.fullmatch(rf'attachment; filename="events-\d{{8}}T\d{{6}}Z\.{kind}"', response["Content-Disposition"])
    assert name is not None
    return response.getvalue().decode()


HOSTILE = [
    MARKUP,
    'a "quote", a comma',
    "two\nlines\r\nthree",
    "=cmd|'/c calc'!A0",
    "+1",
    "-1",
    "@x",
    "\tx",
    "\rx",
    "ü 😀",
]


def test_an_export_is_read_back_as_it_was(plain: Client, vault: Vault) -> None:
    events = [
        happened(
            text, NOON + timedelta(seconds=n), vault=vault, node_name=text[:200], actor=text, evidence={"k": [text]}
        )
        for n, text in enumerate(HOSTILE)
    ][::-1]
    found = json.loads(exported(plain, "json"))
    assert [(e["id"], e["text"], e["node"], e["evidence"]) for e in found["events"]] == [
        (e.pk, e.text, e.node_name, e.evidence) for e in events
    ]
    assert found["filter"] == {}
    text = exported(plain, "csv")
    assert text.startswith("\ufeffid,at,")
    rows = list(csv.DictReader(io.StringIO(text.removeprefix("\ufeff"), newline="")))
    for row, event in zip(rows, events, strict=True):
        assert row["id"] == str(event.pk)
        assert datetime.fromisoformat(row["at"]) == event.at
        assert json.loads(row["evidence"]) == event.evidence
        assert row["text"].removeprefix("'") == event.text
        for cell in row.values():
            assert not cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n")), "a spreadsheet would run it"


def test_an_export_has_everything_that_the_filter_finds_and_nothing_else(plain: Client, many: list[int]) -> None:
    wanted = [pk for pk in many if Event.objects.get(pk=pk).level == "error"]
    found = json.loads(exported(plain, "json", level="error"))
    assert [event["id"] for event in found["events"]] == wanted
    assert found["filter"] == {"level": "error"}
    assert json.loads(exported(plain, "json", node="nobody"))["events"] == []


def test_an_export_goes_in_pieces(
    plain: Client, vault: Vault, django_assert_num_queries: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr("nodes.admin.export.PIECE", 100)
    Event.objects.bulk_create(Event(vault=vault, text=f"event {n}") for n in range(250))
    Event.objects.update(at=NOON)
    response = plain.get(f"{EVENTS}export.csv")
    with django_assert_num_queries(3):  # three pieces
        rows = list(csv.DictReader(io.StringIO(response.getvalue().decode().removeprefix("\ufeff"))))
    assert len({row["id"] for row in rows}) == 250


# --- who may


@pytest.mark.parametrize("url", ["", "export.csv", "export.json", "{pk}/"])
def test_events_are_for_who_may_see_them(
    user: Callable[..., User], enter: Callable[..., Client], vault: Vault, url: str
) -> None:
    url = EVENTS + url.format(pk=happened("something", vault=vault).pk)
    assert enter(user()).get(url).status_code == 403
    allowed = enter(user("view_event"))
    assert allowed.get(url).status_code == 200
    assert allowed.post(url).status_code == 405, "nothing is changed here"
    assert Client().get(url).status_code == 302


def test_nobody_writes_changes_or_deletes_an_event_here(plain: Client, vault: Vault) -> None:
    event = happened("something", vault=vault)
    for url in ("add/", f"{event.pk}/change/", f"{event.pk}/delete/"):
        assert plain.post(EVENTS + url, {"post": "yes"}).status_code in (302, 404)
    assert Event.objects.get(pk=event.pk).text == "something"


def test_the_short_list_links_to_the_events_for_who_may_see_them(
    user: Callable[..., User], enter: Callable[..., Client], pair: Any, lead: Callable[..., None]
) -> None:
    lead()
    event = failover(pair[0].vault, at=timezone.now())
    link = f'href="{EVENTS}{event.pk}/"'
    assert link in body(enter(user("view_event")), "/admin/nodes/vaultnode/")
    text = body(enter(user()), "/admin/nodes/vaultnode/")
    assert event.text in text
    assert link not in text
    assert f'href="{EVENTS}"' not in text, "neither below the list nor in the menu"
