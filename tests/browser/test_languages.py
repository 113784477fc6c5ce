"""Languages and times in a real browser: the switch, the words of the scripts, and clocks of readers elsewhere."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.browser.chromium import complaints
from tests.browser.inventory import Site

VAULT, EVENTS = "/admin/nodes/vaultnode/", "/admin/nodes/event/"
UTC = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC$")


@pytest.fixture
def german(console: Site) -> Iterator[Page]:
    with console.page(locale="de-DE", timezone_id="Asia/Kathmandu", viewport={"width": 1360, "height": 900}) as made:
        yield made


def test_the_scripts_speak_the_language_of_the_page(german: Page) -> None:
    heard = complaints(german)
    german.goto(VAULT)
    expect(german.locator("html")).to_have_attribute("lang", "de")
    row = german.get_by_role("row").filter(has_text="gamma.branch-office")
    # Counted on in the browser, by its own words; written first by the server, by others.
    expect(row.locator(".age")).to_have_text(re.compile(r"^vor 4\smin$"))
    german.evaluate("""document.body.dispatchEvent(new CustomEvent("ages", {detail: {n2: 7300}}))""")
    expect(row.locator(".age")).to_have_text(re.compile(r"^vor 2\sh$"))
    assert heard == []


def test_the_button_leads_back_to_the_same_page_in_the_other_language(german: Page) -> None:
    german.goto(f"{EVENTS}?level=error")
    german.get_by_role("button", name="English").click()
    expect(german.locator("html")).to_have_attribute("lang", "en")
    expect(german.get_by_role("heading", name="Events")).to_be_visible()
    assert german.url.endswith(f"{EVENTS}?level=error")
    german.get_by_role("button", name="Deutsch").click()
    expect(german.get_by_role("heading", name="Ereignisse")).to_be_visible()


def test_times_are_in_the_reader_s_zone_and_language_and_utc_on_hover(console: Site) -> None:
    """An English browser, a German page, a zone that is off by a quarter of an hour."""
    console.tell("now")
    with console.page(locale="en-US", timezone_id="Asia/Kathmandu") as page:
        page.goto(EVENTS)
        shown = page.locator("#event-list time").first
        expect(shown).to_have_text(re.compile(r"^\d{1,2}:\d\d:\d\d [AP]M$"))
        page.get_by_role("button", name="Deutsch").click()
        expect(shown).to_have_text(re.compile(r"^\d\d:\d\d:\d\d$"))
        text, hover = shown.inner_text(), shown.get_attribute("title") or ""
        assert UTC.match(hover)
        here, utc = (int(t[-5:-3]) for t in (text, hover.removesuffix(" UTC")))
        assert (here - utc) % 60 == 45


def test_without_scripts_the_switch_works_and_times_say_that_they_are_utc(console: Site) -> None:
    with console.page(java_script_enabled=False, locale="de-DE") as page:
        page.goto(EVENTS)
        expect(page.locator("#event-list time").first).to_have_text(UTC)
        page.get_by_role("button", name="English").click()
        expect(page.locator("html")).to_have_attribute("lang", "en")


def test_who_has_not_logged_in_may_choose_too(console: Site) -> None:
    with console.page(logged_in=False, locale="en-US") as page:
        heard = complaints(page)
        page.goto(VAULT)
        page.get_by_role("button", name="Deutsch").click()
        expect(page.get_by_role("button", name="Anmelden")).to_be_visible()
        expect(page.locator("input[name=next]").last).to_have_value(VAULT)
        assert heard == []


@pytest.mark.parametrize("width", [360, 1360])
@pytest.mark.parametrize(
    "path",
    [VAULT, EVENTS, "/admin/nodes/appservice/", "/admin/nodes/applicationnode/", "/admin/login/"],
)
def test_longer_words_do_not_make_the_page_wider(console: Site, path: str, width: int) -> None:
    with console.page(locale="de-DE", viewport={"width": width, "height": 800}, logged_in="login" not in path) as page:
        page.goto(path)
        expect(page.locator("html")).to_have_attribute("lang", "de")
        assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0


LISTS = (VAULT, "/admin/nodes/backup/", "/admin/nodes/lossreport/", "/admin/nodes/operation/")
BEYOND = "(tables) => tables.map((t) => Math.max(0, t.scrollWidth - t.parentElement.clientWidth))"


def test_a_list_and_all_its_buttons_are_seen_without_scrolling(busy: Site) -> None:
    with busy.page(locale="de-DE", viewport={"width": 1360, "height": 900}) as page:
        found = {}
        for path in LISTS:
            page.goto(path)
            found[path] = max(page.locator("table").evaluate_all(BEYOND))
        assert found == dict.fromkeys(LISTS, 0)
