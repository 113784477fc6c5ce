"""The Events screens in a real browser: what only scripts do, and that they can be read."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.browser.chromium import complaints
from tests.browser.inventory import Site

EVENTS = "/admin/nodes/event/"
ZONE = "Asia/Kathmandu"
"""5:45 h before UTC: a zone that nothing mistakes for another."""


@pytest.fixture
def page(busy: Site) -> Iterator[Page]:
    with busy.page(timezone_id=ZONE) as made:
        yield made


def test_times_are_the_reader_s_and_the_address_is_in_utc(page: Page) -> None:
    heard = complaints(page)
    page.goto(EVENTS)
    page.get_by_label("From (your time)").fill("2026-01-01T05:45")
    page.locator("#f-level").select_option("problems")
    page.get_by_role("button", name="Show").click()
    expect(page).to_have_url(re.compile(r"/event/\?level=problems&from=2026-01-01T00%3A00Z$"))
    expect(page.locator("#f-from")).to_have_value("2026-01-01T05:45")
    expect(page.locator("tr[data-event]").filter(has_text="failover").first).to_be_visible()
    page.get_by_role("button", name="Show").click()
    expect(page).to_have_url(re.compile(r"/event/\?level=problems&from=2026-01-01T00%3A00Z$"))
    assert heard == []


def test_a_new_event_appears_and_who_reads_keeps_the_place(busy: Site, page: Page) -> None:
    page.goto(EVENTS)
    page.get_by_role("link", name="failover: b.example is Master now").focus()
    busy.tell("brand new")
    expect(page.get_by_role("link", name="brand new")).to_be_visible()
    expect(page.get_by_role("link", name="failover: b.example is Master now")).to_be_focused()


def test_a_permalink_is_copied(busy: Site, page: Page) -> None:
    heard = complaints(page)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto(EVENTS)
    page.get_by_role("link", name="failover: b.example is Master now").click()
    page.get_by_role("button", name="Copy").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == page.url
    assert heard == []
