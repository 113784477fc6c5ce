"""What a new list leaves alone on every screen that keeps itself up to date: the focus, what is unfolded, a hidden tab's server.

And what happens when the console does not answer: every one of these screens says so within 9 s, and takes it back by itself.
"""

import contextlib
import signal

import pytest
from playwright.sync_api import Page, expect

from tests.browser.inventory import RUNNING, Site

VAULT = "/admin/nodes/vaultnode/"
LIVE = (
    VAULT,
    "/admin/nodes/appservice/",
    "/admin/nodes/appservice/1/log/",
    "/admin/nodes/applicationnode/",
    "/admin/nodes/event/",
    "/admin/nodes/operation/",
    f"/admin/nodes/operation/{RUNNING}/",
)
POLL_MS = 2100
STALE_MS = 9000

# Puts the focus on one place after the other, polls with the stamp of another list each time, and names those that lost it.
LOSES_FOCUS = """
async () => {
  const able = "#live :is(a[href], button:not(:disabled), summary, input, select)";
  const places = () => [...document.querySelectorAll(able)].filter((e) => e.checkVisibility({visibilityProperty: true}));
  const name = (e) => `${e.tagName} ${e.id} ${e.textContent.trim()} ${e.getAttribute("href") || ""}`;
  const lost = [];
  for (let i = 0; i < places().length; i += 1) {
    const place = places()[i], before = name(place), list = document.getElementById("live"), count = places().length;
    place.focus();
    const settled = new Promise((done) => document.body.addEventListener("htmx:afterSettle", done, {once: true}));
    document.getElementById("live").dataset.stamp = "old";
    htmx.trigger(document.getElementById("live"), "poll");
    await Promise.race([settled, new Promise((done) => setTimeout(done, 2000))]);
    if (list.isConnected) lost.push(`the list was not renewed below ${before}`);
    const now = document.activeElement;
    if (!now.isConnected || name(now) !== before || (places().length === count && places().indexOf(now) !== i)) lost.push(`${before} → ${name(now).slice(0, 60)}`);
  }
  return [places().length, lost];
}
"""
FOLDS_UP = """
async () => {
  const folded = [];
  for (let i = 0; i < document.querySelectorAll("#live details").length; i += 1) {
    document.querySelectorAll("#live details")[i].open = true;
    const settled = new Promise((done) => document.body.addEventListener("htmx:afterSettle", done, {once: true}));
    document.getElementById("live").dataset.stamp = "old";
    htmx.trigger(document.getElementById("live"), "poll");
    await Promise.race([settled, new Promise((done) => setTimeout(done, 2000))]);
    const box = document.querySelectorAll("#live details")[i];
    if (!box.open) folded.push(box.querySelector("summary").textContent.trim());
    box.open = false;
  }
  return folded;
}
"""


def opened(page: Page, address: str) -> None:
    page.goto(address)
    page.wait_for_function("() => document.readyState === 'complete' && !document.querySelector('.htmx-request')")


@pytest.mark.parametrize("address", LIVE)
def test_the_focus_stays_where_it_is_wherever_it_is(busy: Site, address: str) -> None:
    with busy.page() as page:
        opened(page, address)
        places, lost = page.evaluate(LOSES_FOCUS)
    assert places > 0
    assert lost == []


@pytest.mark.parametrize("address", LIVE)
def test_what_is_open_stays_open(busy: Site, address: str) -> None:
    with busy.page() as page:
        opened(page, address)
        assert page.evaluate(FOLDS_UP) == []


@pytest.mark.parametrize("address", LIVE)
def test_a_hidden_tab_asks_nothing_and_asks_at_once_when_it_is_seen_again(busy: Site, address: str) -> None:
    with busy.page() as page:
        page.clock.install()
        opened(page, address)
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        with page.expect_request(lambda request: address in request.url):
            page.clock.run_for(POLL_MS)
        hide(page, True)
        asked.clear()
        page.clock.run_for(10 * POLL_MS)
        assert asked == []
        with page.expect_request(lambda request: address in request.url):
            hide(page, False)
        expect(page.locator("#stale")).to_be_hidden()


def hide(page: Page, hidden: bool) -> None:
    page.evaluate(
        "(hidden) => { Object.defineProperty(document, 'hidden', {get: () => hidden, configurable: true});"
        " document.dispatchEvent(new Event('visibilitychange')); }",
        hidden,
    )


def test_a_console_that_stopped_answering_is_told_and_taken_back_on_every_screen(busy: Site) -> None:
    with contextlib.ExitStack() as stack:
        pages = []
        for address in LIVE:
            page = stack.enter_context(busy.page())
            page.clock.install()
            opened(page, address)
            page.clock.run_for(STALE_MS)
            expect(page.locator("#stale")).to_be_hidden()
            pages.append(page)
        stack.callback(lambda: "web" in busy.control.processes or busy.control.web())
        # Not SIGKILL: gunicorn's workers would go on answering for a while without their master.
        busy.control.kill("web", signal.SIGTERM)
        for page in pages:
            for _ in range(3):
                page.clock.run_for(STALE_MS // 3)
            expect(page.get_by_role("alert").filter(has_text="The console does not answer")).to_be_visible()
            assert page.locator("#live").evaluate("(live) => getComputedStyle(live).filter") != "none", "greyed"
        busy.control.web()
        for page in pages:
            page.clock.run_for(POLL_MS)
            expect(page.locator("#stale")).to_be_hidden()
            assert page.locator("#live").evaluate("(live) => getComputedStyle(live).filter") == "none"
