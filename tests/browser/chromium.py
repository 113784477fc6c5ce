"""Debian's Chromium under Playwright, as an administrator would sit in front of the console."""

import contextlib
from collections.abc import Iterator

from playwright.sync_api import Browser, ConsoleMessage, Page, Playwright, sync_playwright

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WAIT_MS = 30_000


_drivers: list[Playwright] = []
"""Playwright allows one per thread: whoever comes second takes the first one's."""


@contextlib.contextmanager
def driver() -> Iterator[Playwright]:
    if _drivers:
        yield _drivers[0]
        return
    with sync_playwright() as playwright:
        _drivers.append(playwright)
        try:
            yield playwright
        finally:
            _drivers.clear()


@contextlib.contextmanager
def browser(chromium_path: str) -> Iterator[Browser]:
    with driver() as playwright:
        running = playwright.chromium.launch(executable_path=chromium_path, args=ARGUMENTS)
        try:
            yield running
        finally:
            running.close()


def complaints(page: Page) -> list[str]:
    """Collects what the browser complains about from now on; refused forms (422) are answers, not complaints."""
    heard: list[str] = []

    def note(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and " 422 " not in message.text:
            heard.append(message.text)

    page.on("console", note)
    page.on("pageerror", lambda error: heard.append(str(error)))
    return heard


def log_in(page: Page, console: str, username: str, password: str) -> None:
    page.set_default_timeout(WAIT_MS)
    page.goto(console)
    page.get_by_label("Username").fill(username)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Log in").click()
