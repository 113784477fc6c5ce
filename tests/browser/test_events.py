"""The Events screens in a real browser: what only scripts do, and that they can be read."""

import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.browser.chromium import complaints
from tests.browser.inventory import Site, site

EVENTS = "/admin/nodes/event/"
ZONE = "Asia/Kathmandu"
"""5:45 h before UTC: a zone that nothing mistakes for another."""
FAILOVER = """
from nodes.models import *
from replication.core.evidence import evidence_of
from tests.builders import *
from replication.core.roles import Witness
seen = evidence_of(vault(primary(silent=LONG, witness=Witness.SILENT), node("b", says={"db": {"heard_age": 9.0}})))
Event.objects.create(text="failover: b.example is Master now", rule="P30", diagnosis="D70", level="warning", operation="f" * 32,
    epoch=8, evidence={"seen": seen, "steps_ms": {"claimed": 5.0, "revoke b.example": 21.0, "open b.example": 52.0}})
"""


@pytest.fixture(scope="module")
def console(chromium_path: str) -> Iterator[Site]:
    directory = Path(tempfile.mkdtemp(prefix="vha-"))
    try:
        with site(directory, chromium_path) as made:
            made.control.manage("shell", "-v0", "-c", FAILOVER)
            yield made
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def page(console: Site) -> Iterator[Page]:
    with console.page(timezone_id=ZONE) as made:
        yield made


def test_times_are_the_reader_s_and_the_address_is_in_utc(page: Page) -> None:
    heard = complaints(page)
    page.goto(EVENTS)
    page.get_by_label("From (your time)").fill("2026-01-01T05:45")
    page.locator("#f-level").select_option("problems")
    page.get_by_role("button", name="Show").click()
    expect(page).to_have_url(re.compile(r"/event/\?level=problems&from=2026-01-01T00%3A00Z$"))
    expect(page.locator("#f-from")).to_have_value("2026-01-01T05:45")
    expect(page.locator("tr[data-event]").first).to_contain_text("failover")
    page.get_by_role("button", name="Show").click()
    expect(page).to_have_url(re.compile(r"/event/\?level=problems&from=2026-01-01T00%3A00Z$"))
    assert heard == []


def test_a_new_event_appears_and_who_reads_keeps_the_place(console: Site, page: Page) -> None:
    page.goto(EVENTS)
    page.get_by_role("link", name="failover: b.example is Master now").focus()
    console.control.manage("shell", "-v0", "-c", "from nodes.models import *; Event.objects.create(text='brand new')")
    expect(page.get_by_role("link", name="brand new")).to_be_visible()
    expect(page.get_by_role("link", name="failover: b.example is Master now")).to_be_focused()


def test_a_permalink_is_copied(console: Site, page: Page) -> None:
    heard = complaints(page)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto(EVENTS)
    page.get_by_role("link", name="failover: b.example is Master now").click()
    page.get_by_role("button", name="Copy").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == page.url
    assert heard == []


@pytest.mark.parametrize(("scheme", "width"), [("light", 360), ("dark", 1360)])
def test_it_can_be_read_at_every_width(console: Site, scheme: str, width: int) -> None:
    with console.page(viewport={"width": width, "height": 900}, color_scheme=scheme) as page:
        page.goto(EVENTS)
        last = page.get_by_role("link", name="failover: b.example is Master now").get_attribute("href")
        for url in (EVENTS, f"{EVENTS}?text=nothing+like+this&level=loud&rule=P30", str(last)):
            page.goto(url)
            found = Axe().run(page).response["violations"]
            assert [v["id"] for v in found if v["impact"] in ("serious", "critical")] == [], found
            assert page.evaluate("document.documentElement.scrollWidth") <= width
