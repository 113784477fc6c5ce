"""The pictures of README and documentation, from a real pair: `script/screenshots` runs this.

The pair, its failover and everything that is clicked is real. Two things are not: the figures of the lag chart's last hour, since nobody
waits an hour for a picture, and the clock, which is put to one moment in all of them, so that a picture made again differs by
what has changed.
"""

import contextlib
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import Browser, Locator, Page, ViewportSize, expect

import tests.conftest as environment  # before anything reads the settings
from tests.browser.chromium import WAIT_MS, browser, log_in
from tests.browser.console import SERVICE, WAITING, Console
from tests.stack import ADMINISTRATOR, Controller, controller
from tests.vault_host import VaultHost, vault_hosts
from tests.waiting import wait_for
from tests.writers import Writers, create_table

WIDE: ViewportSize = {"width": 1360, "height": 1020}
LOW: ViewportSize = {"width": 1360, "height": 800}
"""For what is full of text."""
PHONE: ViewportSize = {"width": 390, "height": 844}
LEAST = 640
"""Pixels of height: the whole menu."""
BOTTOM = "Math.ceil(document.getElementById('content-main').getBoundingClientRect().bottom)"
MOST_BYTES = 200_000
"""A picture in version control: larger ones make every clone slower."""
# The newest time on the page becomes five past two; all others keep their distance from it. Ages stand still.
STILL = """
() => {
  const at = (time) => Date.parse(time.getAttribute("datetime"));
  const lately = (time) => Math.abs(Date.now() - at(time)) < 86400000;
  const times = [...document.querySelectorAll("time[datetime]")].filter(lately);
  const newest = Math.max(...times.map(at));
  const lang = document.documentElement.lang;
  for (const time of times)
    time.textContent = new Date(Date.parse("2026-03-02T14:05:00Z") + at(time) - newest).toLocaleTimeString(lang, {timeZone: "UTC"});
  for (const age of document.querySelectorAll(".age"))
    if (/\\d/.test(age.textContent)) age.textContent = lang === "de" ? "gerade eben" : "just now";
  for (const utc of document.querySelectorAll(".event-head .quiet.tabular")) utc.textContent = "2026-03-02 14:05:00.000 UTC";
  for (const address of document.querySelectorAll("#permalink"))
    address.value = "https://console.example" + new URL(address.value).pathname;
  if (document.activeElement && !document.activeElement.closest("dialog")) document.activeElement.blur();
}
"""
# A wave that a busy hour might have, a few transactions high, and a backup at half past.
AN_HOUR = """
from datetime import timedelta
from math import sin
from django.utils import timezone
from nodes.models import LagSample, VaultNode
node, now = VaultNode.objects.get(hostname="vault-2"), timezone.now()
def behind(n):
    return 1.6 if 330 < n < 390 else max(0.0, 0.15 + 0.12 * sin(n / 23) + 0.08 * sin(n / 7))
LagSample.objects.bulk_create(LagSample(node=node, at=now - timedelta(seconds=5 * n + 10), seconds=round(behind(n), 2),
    transactions=round(40 * behind(n))) for n in range(720))
"""
ACCOUNTS = """CREATE TABLE vault.accounts (id INT AUTO_INCREMENT PRIMARY KEY, account VARCHAR(80) NOT NULL, host VARCHAR(80) NOT NULL,
    password VARBINARY(200) NOT NULL, rotated DATETIME NOT NULL DEFAULT '2026-03-02 14:00:00') ENGINE=InnoDB"""
SOME_ACCOUNTS = [
    ("root", "db-1"),
    ("postgres", "db-2"),
    ("administrator", "dc-1"),
    ("backup", "nas-1"),
    ("deploy", "web-1"),
]
A_SLOW_COPY = "3"
"""MiB per second: so that it is seen under way."""


class Camera:
    def __init__(self, page: Page, directory: Path) -> None:
        self.page, self.directory = page, directory
        self.made: list[Path] = []

    def take(self, name: str, of: Locator | None = None) -> None:
        """A part of the page, or the screen: no taller than what it holds, no less than its menu."""
        self.page.evaluate(STILL)
        self.page.mouse.move(0, 0)
        file = self.directory / f"{name}.png"
        if of is None:
            window = self.page.viewport_size or WIDE
            filled = min(window["height"], max(self.page.evaluate(BOTTOM) + 24, LEAST))
            clip = {"x": 0.0, "y": 0.0, "width": float(window["width"]), "height": float(filled)}
            self.page.screenshot(path=file, clip=clip, animations="disabled")  # type: ignore[arg-type]
        else:
            of.screenshot(path=file, animations="disabled")
        self.made.append(file)

    def popup(self, name: str) -> None:
        dialog = self.page.get_by_role("dialog")
        expect(dialog).to_be_visible()
        self.take(name, dialog)


def take(directory: Path) -> list[Path]:
    """Bring up the pair, work with it, take the pictures; answers their files."""
    place = Path(tempfile.mkdtemp(prefix="vha-"))
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    assert chromium, "Chromium is missing: run script/screenshots, or apt install chromium."
    try:
        with contextlib.ExitStack() as stack:
            make = stack.enter_context(vault_hosts(place))
            hosts = [make(f"127.0.33.{n}", f"vault-{n}").init().start() for n in (1, 2, 3)]
            control = stack.enter_context(controller(place))
            url = control.web()
            control.service("a")
            control.service("b")
            control.housekeeping()
            control.ops()
            control.add_pair(*hosts[:2])
            control.wait_vault(primary="vault-1", acker="vault-2")
            create_table(hosts[0])
            control.manage("shell", "-v0", "-c", AN_HOUR)
            running = stack.enter_context(browser(chromium))
            with _window(running, directory) as camera:
                camera.page.goto(url)
                camera.take("login")
                log_in(camera.page, url, ADMINISTRATOR, control.password)
                _walk(camera, control, hosts)
                return camera.made
    finally:
        shutil.rmtree(place, ignore_errors=True)


@contextlib.contextmanager
def _window(running: Browser, directory: Path) -> Iterator[Camera]:
    with contextlib.closing(running.new_context(viewport=WIDE, reduced_motion="reduce", timezone_id="UTC")) as context:
        page = context.new_page()
        page.set_default_timeout(WAIT_MS)
        yield Camera(page, directory)


def _walk(camera: Camera, control: Controller, hosts: list[VaultHost]) -> None:
    console = Console(camera.page)
    with Writers(hosts[:2], 2, password=hosts[0].client_password) as writers:
        writers.wait_acknowledged(time.monotonic(), 10, host=hosts[0], count=50)
        _services(camera, console)
        _failover(camera, console, control, hosts, writers)
    _vault(camera, console, hosts)
    _records(camera, console)
    camera.page.set_viewport_size(WIDE)
    _a_rebuild(camera, console, hosts)
    _what_differs(camera, console, hosts)


def _services(camera: Camera, console: Console) -> None:
    page = camera.page
    console.menu("App Services")
    for interval in ("1", "0.5"):
        console.act(SERVICE, "Setting")
        page.get_by_label("Trigger interval").fill(interval)
        console.press("Update")
    _quiet(page)
    expect(page.locator("[data-light=started]")).to_have_count(2)
    camera.take("app-services")
    console.act(SERVICE, "Setting")
    camera.popup("setting")
    page.keyboard.press("Escape")


def _quiet(page: Page) -> None:
    """Notices are about the click; the picture is about what came of it."""
    while (closes := page.locator("[data-close-notice]")).count():
        closes.first.click()


def _failover(camera: Camera, console: Console, control: Controller, hosts: list[VaultHost], writers: Writers) -> None:
    """Make Master, then the new one dies: the vault is back where it was, with a story to tell."""
    page = camera.page
    console.menu("Vault")
    console.act("vault-2", "Make Master")
    console.fill(Reason="patches of tonight")
    camera.popup("make-master")
    console.press("Yes")
    expect(console.operation("Switchover to vault-2")).to_contain_text("Succeeded", timeout=WAIT_MS)
    control.wait_vault(primary="vault-2", acker="vault-1")
    writers.wait_acknowledged(time.monotonic(), 10, host=hosts[1], count=50)
    moment = hosts[1].kill_database()
    writers.wait_acknowledged(moment, 10, host=hosts[0], count=50)
    control.wait_vault(primary="vault-1", acker="vault-2")
    console.expect_row("vault-2", "Fallback-1", WAITING)
    console.menu("Operations")
    expect(page.get_by_text("First write seen").or_(console.row("Failover"))).to_be_visible()


def _vault(camera: Camera, console: Console, hosts: list[VaultHost]) -> None:
    page = camera.page
    console.menu("Vault")
    expect(console.safety).to_have_class("safety ok")
    expect(console.safety).to_contain_text("vault-2 takes over in about")
    expect(console.safety).not_to_contain_text("never")  # the ages come a moment after the words
    lag = page.get_by_role("region", name="Lag").get_by_role("row").filter(has_text="vault-2")
    expect(lag).to_contain_text("transactions", timeout=WAIT_MS)
    _quiet(page)
    camera.take("vault")
    camera.take("safety", console.safety)
    page.emulate_media(color_scheme="dark")
    camera.take("vault-dark")
    page.emulate_media(color_scheme="light")
    page.set_viewport_size(PHONE)
    camera.take("vault-phone")
    page.set_viewport_size(WIDE)
    camera.take("topology-lag", page.locator(".pictures-of-now"))
    page.get_by_role("button", name="Deutsch").click()
    expect(page.get_by_text("Verlustfrei", exact=True)).to_be_visible()
    page.locator("#lag table").wait_for()
    camera.take("vault-german")
    page.get_by_role("button", name="English").click()
    expect(page.get_by_text("Lossless", exact=True)).to_be_visible()
    console.row("vault-2").locator("summary").click()
    camera.take("action-menu")
    page.keyboard.press("Escape")
    console.open_add_form("vault-3", "fallback", hosts[2].ip)
    expect(console.dialog.get_by_role("status")).to_have_text("Everything is in order: this host can be added.")
    camera.popup("add-node")
    page.keyboard.press("Escape")
    console.act("vault-1", "Pause automatic failover")
    console.fill(Reason="moving racks")
    camera.popup("pause")
    page.keyboard.press("Escape")
    _solo(camera, console)


def _solo(camera: Camera, console: Console) -> None:
    console.open_update("vault-2")
    console.dialog.get_by_label("Active").set_checked(False)
    console.dialog.get_by_role("button", name="Update").click()
    console.fill(Hostname="vault-2", Reason="a new disk")
    camera.popup("make-inactive")
    console.press("Update")
    console.expect_row("vault-2", "Inactive")
    expect(console.safety).to_contain_text("Solo")
    expect(console.safety).to_contain_text("Nobody would be promoted")
    _quiet(camera.page)
    camera.take("safety-solo", console.safety)
    console.open_update("vault-2")
    console.dialog.get_by_label("Active").set_checked(True)
    console.press("Update")
    console.expect_row("vault-2", WAITING)


def _records(camera: Camera, console: Console) -> None:
    page = camera.page
    page.set_viewport_size(LOW)
    console.menu("Operations")
    expect(console.row("Failover")).to_be_visible()
    _quiet(page)
    camera.take("operations")
    console.row("Failover").get_by_role("link", name="Report").click()
    expect(page.get_by_text("Rows at risk: 0")).to_be_visible()
    camera.take("report", page.locator("#content-main"))
    console.menu("Events")
    camera.take("events")
    page.get_by_role("link", name="vault-1 is Master now, vault-2 was lost").click()
    expect(page.get_by_role("heading", name="What each node said")).to_be_visible()
    page.set_viewport_size(WIDE)
    camera.take("event")
    page.set_viewport_size(LOW)
    console.menu("App Services")
    console.act(SERVICE, "Log")
    expect(page.get_by_role("heading", name=f"Log of {SERVICE}")).to_be_visible()
    camera.take("service-log")
    console.menu("Application")
    camera.take("application")
    console.menu("Audit log")
    camera.take("audit-log")
    page.goto(page.url.split("/admin/")[0] + "/admin/help/status/")
    camera.take("help")


def _a_rebuild(camera: Camera, console: Console, hosts: list[VaultHost]) -> None:
    """A fallback with transactions of its own: what to rotate, the question, the copy under way; then a backup."""
    page, (primary, fallback) = camera.page, hosts[:2]
    primary.sql(ACCOUNTS)
    for account, host in SOME_ACCOUNTS:
        primary.sql("INSERT INTO vault.accounts (account, host, password) VALUES (%s, %s, 'as it was')", account, host)
    console.menu("Vault")
    console.expect_row("vault-2", WAITING)
    wait_for(lambda: len(fallback.sql("SELECT id FROM vault.accounts")) == len(SOME_ACCOUNTS), 20, "it has them too")
    fallback.sql("SET GLOBAL read_only = 0")
    for id in (1, 3):
        fallback.sql(
            "UPDATE vault.accounts SET password = 'changed here only', rotated = '2026-03-02 14:04:40' WHERE id = %s",
            id,
        )
    fallback.sql("SET GLOBAL read_only = 1")
    primary.sql("UPDATE vault.accounts SET rotated = '2026-03-02 14:05:00' WHERE id = 5")
    fallback.kill_database()  # whoever comes back is asked what it has
    console.expect_row("vault-2", "Diverged")
    page.get_by_role("link", name="What to rotate").click(timeout=WAIT_MS)
    expect(page.get_by_role("heading", name="Rotate these first (2)")).to_be_visible()
    camera.take("lost-transactions")
    console.menu("Vault")
    console.act("vault-2", "Rebuild (full copy)")
    console.fill(Hostname="vault-2", Reason="it was written by mistake")
    camera.popup("rebuild")
    console.fill(Rate_in_MiB_per_second=A_SLOW_COPY)
    console.press("Yes")
    page.get_by_role("link", name="Rebuild (full copy): vault-2", exact=True).click()
    page.set_viewport_size(LOW)
    half = page.locator(".op-head .percent").filter(has_text=re.compile("[3-7][0-9] %"))
    expect(half).to_be_visible(timeout=WAIT_MS)
    expect(page.locator(".op-head .op-figures")).to_contain_text("left")
    camera.take("rebuild-running")
    expect(page.get_by_role("region", name="State")).to_contain_text("Succeeded", timeout=2 * WAIT_MS)
    console.menu("Vault")
    page.get_by_role("link", name="What to rotate").click()
    page.get_by_role("link", name="Dealt with").click()
    console.fill(What_was_done="both passwords were changed")
    console.press("Yes")
    console.menu("Backups")
    page.get_by_role("link", name="Back up now").click()
    console.press("Yes")
    expect(page.locator("#backups tbody .badge")).to_be_visible(timeout=WAIT_MS)
    page.locator("#backups").get_by_role("link", name="Check").click()
    console.press("Yes")
    expect(page.locator("#backups")).to_contain_text("Checked", timeout=WAIT_MS)
    _quiet(page)
    camera.take("backups")


def _what_differs(camera: Camera, console: Console, hosts: list[VaultHost]) -> None:
    page = camera.page
    page.set_viewport_size(WIDE)
    for what in (
        "UPDATE vault.accounts SET password = 'not that of the Master' WHERE id = 2",
        "DELETE FROM vault.accounts WHERE id = 4",
    ):
        hosts[1].sql(f"SET STATEMENT sql_log_bin = 0 FOR {what}")
    console.menu("Vault")
    console.expect_row("vault-2", WAITING)
    console.act("vault-2", "Compare with the Master")
    console.press("Yes")
    console.expect_row("vault-2", "Differs from the Master")
    expect(console.operation("Compare with the Master: vault-2")).to_contain_text("Needs a person", timeout=WAIT_MS)
    expect(console.safety).to_contain_text("differs from the Master")
    _quiet(page)
    camera.take("drift")


def main(directory: Path) -> int:
    directory.mkdir(parents=True, exist_ok=True)
    try:
        made = take(directory)
    finally:
        shutil.rmtree(environment.VAR, ignore_errors=True)
    for file in sorted(set(directory.glob("*.png")) - set(made)):
        print(f"{file} is not made any more: remove it.")
    too_large = [file for file in made if file.stat().st_size > MOST_BYTES]
    for file in made:
        print(f"{file}: {file.stat().st_size // 1000} kB")
    for file in too_large:
        print(f"{file} is larger than {MOST_BYTES // 1000} kB: show less in it.", file=sys.stderr)
    return 1 if too_large else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
