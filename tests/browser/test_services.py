"""App Services in a browser: the menu, the Setting popup, and a log that is followed, paused, searched in the reader's own time.

Proves as well: no complaint of the browser (strict CSP), and no barrier that axe knows of, in light and dark.
"""

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

SERVICES = "/admin/nodes/appservice/"
WORKERS = """
from django.utils import timezone
from nodes.models import *
now = timezone.now()
for id, process in (("h" * 32, "a (pid 4711)"), ("b", "b (pid 4712)")):
    ServiceWorker.objects.create(id=id, service="SystemHighAvailabilityService", host="controller-1", process=process,
        started_at=now, seen_at=now)
for level, text in ((20, "the first line"), (30, "the disk is slow"), (40, "a step failed\\nTraceback: <b>no markup</b>")):
    LogLine.objects.create(service="SystemHighAvailabilityService", at="2026-03-01T12:00:00Z", host="controller-1",
        process="a (pid 4711)", level=level, text=text)
"""
ONE_MORE = (
    "INSERT INTO nodes_logline (service, at, host, process, level, text)"
    " VALUES ('SystemHighAvailabilityService', '2026-03-01 12:05:00', 'controller-1', 'a (pid 4711)', 20, ?)"
)


@pytest.fixture(scope="module")
def console(chromium_path: str) -> Iterator[Site]:
    directory = Path(tempfile.mkdtemp(prefix="vha-"))
    try:
        with site(directory, chromium_path) as made:
            made.control.manage("shell", "-v0", "-c", WORKERS)
            yield made
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def barriers(page: Page) -> list[str]:
    found = Axe().run(page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21aa"]}).response["violations"]
    return [f"{one['id']}: {[node['html'][:120] for node in one['nodes'][:3]]}" for one in found]


def test_a_setting_is_put_back_to_its_default_and_saved(console: Site) -> None:
    with console.page(color_scheme="dark") as page:
        heard = complaints(page)
        page.goto(SERVICES)
        row = page.locator('tr[data-service="SystemHighAvailabilityService"]')
        expect(row).to_contain_text("standby controller-1, b (pid 4712)")
        expect(row.locator("time[data-at-age]")).to_have_text(re.compile(r"\d"))
        assert barriers(page) == []
        for interval, press_default in (("2", False), ("0.5", True)):
            row.get_by_text("Action").click()
            row.get_by_text("Setting").click()
            field = page.get_by_label("Trigger interval")
            expect(field).to_be_focused()
            if press_default:
                page.get_by_role("button", name="Back to default").click()
                expect(page.get_by_text("Nothing is changed until you press Update.")).to_be_visible()
                expect(page.get_by_label("Trigger interval")).to_have_value("0.5")
                assert barriers(page) == []
            else:
                field.fill(interval)
            page.keyboard.press("Enter")
            expect(page.locator("#dialog")).to_be_hidden()
            expect(row).to_contain_text(f"{interval} s")
        row.get_by_text("Action").click()
        row.get_by_text("Setting").click()
        expect(page.locator(".history li").first).to_contain_text("2 → 0.5")
        assert heard == []


def test_the_log_is_followed_paused_and_searched_in_the_readers_time(console: Site) -> None:
    with console.page(timezone_id="Asia/Kolkata") as page:
        heard = complaints(page)
        page.goto(SERVICES)
        row = page.locator('tr[data-service="SystemHighAvailabilityService"]')
        row.get_by_text("Action").click()
        row.get_by_text("Log", exact=True).click()
        texts = page.locator(".log .text")
        expect(texts).to_have_count(3)
        assert barriers(page) == []

        console.control.execute(ONE_MORE, "it comes by itself")
        expect(texts.first).to_have_text("it comes by itself")
        page.get_by_role("link", name="Pause").click()
        expect(page.locator(".log-tools")).to_contain_text("Paused")
        assert page.locator("#live").count() == 0, "nothing polls"
        console.control.execute(ONE_MORE, "while it was paused")
        page.get_by_role("link", name="Go on").click()
        expect(texts.first).to_have_text("while it was paused")

        # 17:29 to 17:31 in Kolkata is 11:59 to 12:01 UTC.
        page.get_by_label("From", exact=True).fill("2026-03-01T17:29")
        page.get_by_label("To", exact=True).fill("2026-03-01T17:31")
        page.get_by_role("button", name="Search").click()
        page.wait_for_url(re.compile("since=2026-03-01T11%3A59&until=2026-03-01T12%3A01$"))
        expect(texts).to_have_count(3)
        expect(page.get_by_label("From", exact=True)).to_have_value("2026-03-01T17:29")
        expect(page.locator("[data-zone]")).to_have_text(re.compile("Asia/(Kolkata|Calcutta)"))

        with page.expect_download() as download:
            page.get_by_role("link", name="Download").click()
        said = Path(download.value.path()).read_text()
        assert "ERROR controller-1 a (pid 4711): a step failed\nTraceback: <b>no markup</b>" in said
        assert "comes by itself" not in said
        assert heard == []
