"""Action → Log: found, paged, followed and downloaded; whatever a line says is text."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from nodes.models import AppService, LogLine
from nodes.models.service import HOUSEKEEPING_NAME, SERVICE_NAME

T0 = datetime(2026, 3, 1, 12, tzinfo=UTC)
EVIL = "<script>alert('x')</script>"


@pytest.fixture
def log(service: AppService) -> str:
    return f"/admin/nodes/appservice/{service.pk}/log/"


def line(text: str, *, minute: int = 0, level: int = 20, host: str = "one", service: str = SERVICE_NAME) -> LogLine:
    at = T0 + timedelta(minutes=minute)
    return LogLine.objects.create(service=service, at=at, host=host, process="a (pid 1)", level=level, text=text)


def texts(client: Client, address: str, **asked: Any) -> list[str]:
    html = client.get(address, asked).content.decode()
    return re.findall(r'<span class="text" lang="en">(.*?)</span></li>', html, re.S)


@pytest.fixture
def lines(log: str) -> None:
    line("began", minute=0)
    line("disk is Slow", minute=1, level=30)
    line("ended\nTraceback: 100% wrong_", minute=2, level=40, host="two")
    line("of the other service", minute=3, service=HOUSEKEEPING_NAME)


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        pytest.param({}, ["ended\nTraceback: 100% wrong_", "disk is Slow", "began"], id="everything, newest first"),
        pytest.param({"q": "slow"}, ["disk is Slow"], id="text, whatever its case"),
        pytest.param({"q": "100% wrong_"}, ["ended\nTraceback: 100% wrong_"], id="signs that SQL reads otherwise"),
        pytest.param({"q": "1%w"}, [], id="and that stand for nothing else"),
        pytest.param({"q": "' OR 1=1 --"}, [], id="no SQL"),
        pytest.param({"level": "30"}, ["ended\nTraceback: 100% wrong_", "disk is Slow"], id="warnings and errors"),
        pytest.param({"level": "40"}, ["ended\nTraceback: 100% wrong_"], id="errors"),
        pytest.param({"host": "one"}, ["disk is Slow", "began"], id="host"),
        pytest.param({"host": "gone"}, [], id="a host that nobody knows"),
        pytest.param({"since": "2026-03-01T12:01", "until": "2026-03-01T12:01"}, ["disk is Slow"], id="from, to"),
        pytest.param({"since": "2026-03-01T12:01:30"}, ["ended\nTraceback: 100% wrong_"], id="with seconds"),
    ],
)
def test_what_is_looked_for_is_found(
    admin: Client, plain: Client, log: str, lines: None, asked: dict[str, str], found: list[str]
) -> None:
    assert texts(admin, log, **asked) == found
    assert texts(plain, log, **asked) == found
    downloaded = b"".join(plain.get(log + "download/", asked).streaming_content).decode()
    assert [text for text in found if text not in downloaded] == []
    assert downloaded.count("Z ") == len(found)


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"since": "yesterday"}, "“yesterday” is no time"),
        ({"until": "2026-13-01T00:00"}, "is no time"),
        ({"since": "2026-03-02T00:00", "until": "2026-03-01T00:00"}, "exchange them"),
        ({"level": "99"}, "take one of the list"),
        ({"q": "x" * 254}, "is too long"),
    ],
)
def test_a_filter_that_makes_no_sense_is_said_and_left_out_and_downloads_nothing(
    plain: Client, log: str, lines: None, asked: dict[str, str], says: str
) -> None:
    html = plain.get(log, asked).content.decode()
    assert says in re.findall(r'<p class="form-error" role="alert">(.*?)</p>', html)[0]
    if len(asked) == 1:
        assert len(texts(plain, log, **asked)) == 3, "it is as if it had not been asked"
    refused = plain.get(log + "download/", asked)
    assert refused.status_code == 400
    assert says in refused.content.decode()


def test_pages_stay_the_same_while_new_lines_come(plain: Client, log: str) -> None:
    for n in range(250):
        line(f"line {n}.", minute=n)

    def page(address: str) -> tuple[list[str], dict[str, str]]:
        html = plain.get(address).content.decode()
        links = {
            name: url.replace("&amp;", "&") for url, name in re.findall(r'href="([^"]*)">\W*(Older|Newer)\b', html)
        }
        return re.findall(r'<span class="text" lang="en">(.*?)</span></li>', html), links

    first, links = page(log + "?q=line")
    assert (first[0], first[-1], set(links)) == ("line 249.", "line 150.", {"Older"})
    line("line 250.", minute=250)
    second, links = page(links["Older"])
    assert (second[0], second[-1], set(links)) == ("line 149.", "line 50.", {"Older", "Newer"})
    third, links = page(links["Older"])
    assert (third[0], third[-1], set(links)) == ("line 49.", "line 0.", {"Newer"})
    back, _ = page(links["Newer"])
    assert back == second


def test_the_newest_page_follows_and_says_204_while_nothing_new_is_there(
    admin: Client, log: str, lines: None, django_assert_max_num_queries: Any
) -> None:
    def stamp(html: str) -> str:
        found = re.search(r'id="live"[^>]*data-stamp="(\w+)"', html)
        assert found
        return found[1]

    before = stamp(admin.get(log, {"q": "began"}).content.decode())
    with django_assert_max_num_queries(6):
        assert admin.get(log, {"q": "began", "v": before}).status_code == 204
    line("began again", minute=9)
    answer = admin.get(log, {"q": "began", "v": before})
    assert answer.status_code == 200
    assert re.findall(r'<span class="text" lang="en">(.*?)</span></li>', answer.content.decode()) == [
        "began again",
        "began",
    ]
    assert 'hx-get="' + log + '?q=began"' in answer.content.decode()


@pytest.mark.parametrize("asked", [{"paused": "1"}, {"before": "9999999"}])
def test_a_paused_log_and_an_older_page_stay_as_they_are(
    plain: Client, log: str, lines: None, asked: dict[str, str]
) -> None:
    html = plain.get(log, {"q": "began", **asked}).content.decode()
    assert 'id="live"' not in html
    assert f'href="{log}?q=began"' in html, "the way back to the newest lines keeps the filter"


def test_a_download_is_plain_text_oldest_first_and_ends_though_lines_keep_coming(plain: Client, log: str) -> None:
    LogLine.objects.bulk_create(
        LogLine(service=SERVICE_NAME, at=T0, host="one", process="a (pid 1)", level=30, text=f"line {n}.")
        for n in range(2500)
    )
    response = plain.get(log + "download/")
    assert response["Content-Type"] == "text/plain; charset=utf-8"
    assert re.fullmatch(
        rf'attachment; filename="{SERVICE_NAME}-\d{{8}}T\d{{6}}Z\.log"', response["Content-Disposition"]
    )
    assert response["X-Content-Type-Options"] == "nosniff"
    assert response.streaming
    parts = iter(response.streaming_content)
    got = next(parts)
    line("came meanwhile")
    got += b"".join(parts)
    rows = got.decode().splitlines()
    assert rows[0] == "2026-03-01 12:00:00.000000Z WARNING one a (pid 1): line 0."
    assert len(rows) == 2500
    assert rows[-1].endswith("line 2499.")


def test_what_was_logged_is_text(plain: Client, admin: Client, log: str) -> None:
    LogLine.objects.create(service=SERVICE_NAME, at=T0, host=EVIL, process=EVIL, level=40, text=EVIL)
    for client in (plain, admin):
        html = client.get(log, {"q": EVIL, "host": EVIL}).content.decode()
        assert EVIL not in html
        assert "&lt;script&gt;alert(&#x27;x&#x27;)" in html


def test_a_very_long_line_is_folded_and_unfolded_when_it_was_looked_for(plain: Client, log: str) -> None:
    line("begins " + "x" * 400 + " the end")
    html = plain.get(log).content.decode()
    assert re.search(
        r'<details class="keep long"><summary id="line-\d+"><span class="short" lang="en">begins x{233}…', html
    )
    assert "the end</span></details>" in html
    assert '<details class="keep long" open>' in plain.get(log, {"q": "the end"}).content.decode()


def test_an_empty_log_says_why(plain: Client, log: str) -> None:
    assert "Nothing has been logged yet" in plain.get(log).content.decode()
    line("something")
    assert "No line matches." in plain.get(log, {"q": "else"}).content.decode()


def test_the_log_has_a_permission_of_its_own(
    user: Callable[..., User], enter: Callable[..., Client], log: str, lines: None
) -> None:
    stranger, viewer = enter(user("view_appservice", view=False)), enter(user())
    services = "/admin/nodes/appservice/"
    assert f'href="{log}"' in viewer.get(services).content.decode()
    assert f'href="{log}"' not in stranger.get(services).content.decode()
    for address in (log, log + "download/"):
        assert stranger.get(address).status_code == 403
        assert Client().get(address).status_code == 302
        assert viewer.get(address).status_code == 200
    assert viewer.get("/admin/nodes/appservice/999/log/").status_code == 404
