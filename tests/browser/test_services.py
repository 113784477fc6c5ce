"""App Services in a browser: the menu, the Setting popup, and a log that is followed, paused, searched in the reader's own time."""

import re
from pathlib import Path

from playwright.sync_api import expect

from tests.browser.chromium import complaints
from tests.browser.inventory import Site

SERVICES = "/admin/nodes/appservice/"
ONE_MORE = (
    "INSERT INTO nodes_logline (service, at, host, process, level, text)"
    " VALUES ('SystemHighAvailabilityService', '2026-03-01 12:05:00', 'controller-1', 'a (pid 4711)', 20, ?)"
)


def test_a_setting_is_put_back_to_its_default_and_saved(busy: Site) -> None:
    with busy.page(color_scheme="dark") as page:
        heard = complaints(page)
        page.goto(SERVICES)
        row = page.locator('tr[data-service="SystemHighAvailabilityService"]')
        expect(row).to_contain_text("standby controller-1, b (pid 4712)")
        expect(row.locator("time[data-at-age]")).to_have_text(re.compile(r"\d"))
        for interval, press_default in (("2", False), ("0.5", True)):
            row.get_by_text("Action").click()
            row.get_by_text("Setting").click()
            field = page.get_by_label("Trigger interval")
            expect(field).to_be_focused()
            if press_default:
                page.get_by_role("button", name="Back to default").click()
                expect(page.get_by_text("Nothing is changed until you press Update.")).to_be_visible()
                expect(page.get_by_label("Trigger interval")).to_have_value("0.5")
                expect(field).to_be_focused()
            else:
                field.fill(interval)
            page.keyboard.press("Enter")
            expect(page.locator("#dialog")).to_be_hidden()
            expect(row).to_contain_text(f"{interval} s")
        row.get_by_text("Action").click()
        row.get_by_text("Setting").click()
        expect(page.locator(".history li").first).to_contain_text("2 → 0.5")
        assert heard == []


def test_the_log_is_followed_paused_and_searched_in_the_readers_time(busy: Site) -> None:
    with busy.page(timezone_id="Asia/Kolkata") as page:
        heard = complaints(page)
        page.goto(SERVICES)
        row = page.locator('tr[data-service="SystemHighAvailabilityService"]')
        row.get_by_text("Action").click()
        row.get_by_text("Log", exact=True).click()
        texts = page.locator(".log .text")
        expect(texts).to_have_count(3)

        busy.control.execute(ONE_MORE, "it comes by itself")
        expect(texts.first).to_have_text("it comes by itself")
        page.get_by_role("link", name="Pause").click()
        expect(page.locator(".log-tools")).to_contain_text("Paused")
        assert page.locator("#live").count() == 0, "nothing polls"
        busy.control.execute(ONE_MORE, "while it was paused")
        page.get_by_role("link", name="Go on").click()
        expect(texts.first).to_have_text("while it was paused")

        # 17:29 to 17:31 in Kolkata is 11:59 to 12:01 UTC.
        page.get_by_label("From (your time)").fill("2026-03-01T17:29")
        page.get_by_label("To (your time)").fill("2026-03-01T17:31")
        page.get_by_role("button", name="Show").click()
        page.wait_for_url(re.compile("since=2026-03-01T11%3A59Z&until=2026-03-01T12%3A01Z$"))
        expect(texts).to_have_count(3)
        expect(page.get_by_label("From (your time)")).to_have_value("2026-03-01T17:29")
        expect(page.locator("[data-zone]").first).to_have_attribute("title", re.compile("Asia/(Kolkata|Calcutta)"))

        with page.expect_download() as download:
            page.get_by_role("link", name="Download").click()
        said = Path(download.value.path()).read_text()
        assert "ERROR controller-1 a (pid 4711): a step failed\nTraceback: <b>no markup</b>" in said
        assert "comes by itself" not in said
        assert heard == []
