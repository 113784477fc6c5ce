"""Help, Application, login and error pages in a browser: readable on a phone, accessible, and no click that ends in nothing."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.browser.chromium import complaints
from tests.browser.inventory import Site, site

HOSTS = "/admin/nodes/applicationnode/"
CHECKED = ("/admin/help/service/", "/admin/help/?q=zebra", HOSTS, "/admin/nothing/")
"""With the checker, which takes a second and more for a long page."""
PAGES = (
    "/admin/help/",
    "/admin/help/diagnosis/#d20",
    "/admin/help/reference-settings/",
    "/admin/help/?q=disk",
    HOSTS + "add/",
)


@pytest.fixture(scope="module")
def place(chromium_path: str) -> Iterator[Site]:
    directory = Path(tempfile.mkdtemp(prefix="vha-"))
    try:
        with site(directory, chromium_path) as place:
            yield place
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def too_wide(page: Page) -> bool:
    return bool(page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"))


def problems(page: Page) -> list[Any]:
    """What a checker of WCAG 2.1 AA finds, and anything that makes the page wider than the screen."""
    found = [
        (each["id"], [node["target"] for node in each["nodes"]][:3])
        for each in Axe()
        .run(page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]})
        .response["violations"]
    ]
    return [*found, *(["wider than the screen"] if too_wide(page) else [])]


@pytest.mark.parametrize(("scheme", "width"), [("light", 360), ("dark", 1360)])
def test_every_page_is_readable(place: Site, scheme: Any, width: int) -> None:
    with place.page(viewport={"width": width, "height": 800}, color_scheme=scheme) as page:
        heard = complaints(page)
        for address in CHECKED:
            page.goto(address)
            assert problems(page) == [], address
        for address in PAGES:
            page.goto(address)
            assert not too_wide(page), address
        page.goto(HOSTS)
        page.locator("#add-node").click()
        expect(page.locator("dialog #id_hostname")).to_be_focused()
        assert problems(page) == []
        assert [text for text in heard if "404" not in text] == []
    with place.page(logged_in=False, viewport={"width": width, "height": 800}, color_scheme=scheme) as page:
        heard = complaints(page)
        page.goto("/admin/login/")
        assert problems(page) == []
        expect(page.get_by_label("Username")).to_be_focused()
        page.get_by_label("Username").fill("nobody")
        page.get_by_label("Password").fill("wrong")
        page.get_by_role("button", name="Log in").click()
        expect(page.get_by_role("alert")).to_contain_text("do not fit together")
        assert not too_wide(page)
        assert heard == []


def test_a_question_mark_leads_to_the_section_and_leaves_the_screen_alone(place: Site) -> None:
    with place.page() as page:
        page.goto(HOSTS)
        with page.context.expect_page() as opened:
            page.get_by_role("link", name="Help on Not seen lately").first.click()
        assert opened.value.url.endswith("/admin/help/status/#host-not-seen-lately")
        expect(opened.value.locator("#host-not-seen-lately")).to_be_in_viewport()
        assert page.url.endswith(HOSTS)


def test_a_form_whose_token_is_old_keeps_what_was_typed_and_says_what_to_do(place: Site) -> None:
    with place.page() as page:
        page.goto(HOSTS)
        page.locator("#add-node").click()
        page.get_by_label("Hostname").fill("controller-9")
        page.get_by_label("IP Address").fill("192.0.2.9")
        page.context.clear_cookies(name="csrftoken")
        page.get_by_role("button", name="Save").click()
        expect(page.locator("dialog[open] [role=alert]")).to_contain_text("Nothing was changed")
        expect(page.get_by_label("Hostname")).to_have_value("controller-9")
        page.get_by_role("button", name="Save").click()
        expect(page.locator("dialog[open] [data-problem]")).to_have_count(1)


def test_what_has_been_deleted_or_broken_is_a_notice_that_stays(place: Site) -> None:
    with place.page() as page:
        page.goto(HOSTS)
        expect(page.locator("#application-hosts")).to_be_visible()
        host = page.locator("[data-host^='controller-2'] a[id^=edit-]")
        place.control.execute("ALTER TABLE nodes_applicationnode RENAME TO away")
        try:
            host.click()
            notice = page.locator("#notices [data-problem]")
            expect(notice).to_contain_text("Reference for its log: ")
            assert notice.inner_text().split("log: ")[1][:8] in place.control.full_log("web")
            page.goto(HOSTS)
            expect(page.locator(".error-page h1")).to_have_text("Something went wrong in the console")
        finally:
            place.control.execute("ALTER TABLE away RENAME TO nodes_applicationnode")


def test_a_click_that_nobody_answers_says_so(place: Site) -> None:
    with place.page() as page:
        page.goto(HOSTS)
        page.route("**/change/", lambda route: route.abort())
        page.locator("[data-host^='controller-2'] a[id^=edit-]").click()
        expect(page.locator("#notices [data-problem]")).to_contain_text("The console does not answer")
        page.locator("#notices [data-problem] .close").click()
        expect(page.locator("#notices [data-problem]")).to_have_count(0)
