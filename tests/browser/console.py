"""The console on a real pair, as whoever sits in front of it sees it: by labels and roles, never by internals."""

import contextlib
import csv
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Browser, Locator, Page, expect

from tests.browser.chromium import WAIT_MS, browser, complaints, log_in
from tests.stack import ADMINISTRATOR, Controller, controller
from tests.vault_host import VaultHost, vault_hosts

SERVICE, HOUSEKEEPING = "SystemHighAvailabilityService", "SystemHousekeepingService"
WAITING = "Slave – Waiting for Master to send events"
PASSWORD = "a long password of the story"
PEOPLE = """
from django.contrib.auth.models import Group, User
for role in ("Viewer", "Operator"):
    User.objects.create_user(role.lower(), password="%s", is_staff=True).groups.add(Group.objects.get(name=role))
"""


class Console:
    def __init__(self, page: Page) -> None:
        self.page = page

    @property
    def dialog(self) -> Locator:
        return self.page.get_by_role("dialog")

    @property
    def safety(self) -> Locator:
        return self.page.get_by_role("region", name="Safety")

    def menu(self, name: str) -> None:
        self.page.get_by_role("navigation", name="Main menu").get_by_role("link", name=name, exact=True).click()
        expect(self.page.get_by_role("heading", name=name, exact=True, level=1)).to_be_visible()

    def row(self, name: str) -> Locator:
        table = self.page.locator("table.rows")
        return table.get_by_role("row").filter(has=self.page.get_by_role("rowheader", name=re.compile(f"^{name}")))

    def expect_row(self, name: str, *texts: str) -> None:
        for text in texts:
            expect(self.row(name)).to_contain_text(text, timeout=WAIT_MS)

    def act(self, name: str, entry: str) -> None:
        """An entry of the row's Action menu. It may not be possible yet: the list becomes new by itself, the menu stays open."""
        row = self.row(name)
        row.locator("summary").click()
        link = row.get_by_role("link", name=entry)
        expect(link).to_be_visible(timeout=WAIT_MS)
        link.click()

    def press(self, button: str) -> None:
        """A button of the popup that ends it."""
        self.dialog.get_by_role("button", name=button, exact=True).click()
        expect(self.dialog).to_be_hidden()

    def fill(self, **texts: str) -> None:
        for label, text in texts.items():
            self.dialog.get_by_label(label.replace("_", " ")).fill(text)

    def service(self, button: str, name: str = SERVICE) -> None:
        self.menu("App Services")
        if button == "Run Now":
            self.act(name, button)
        else:
            self.row(name).get_by_role("link", name=button).click()
        self.press("Yes")

    def open_add_form(self, hostname: str, role: str, ip: str) -> None:
        self.page.get_by_role("link", name="Add Node").click()
        expect(self.dialog.get_by_label("Port")).to_have_value("5389")
        expect(self.dialog.get_by_label("Active")).to_be_checked()
        self.fill(Hostname=hostname, IP_Address=ip)
        self.dialog.get_by_label("System Role").select_option(role)

    def add(self, hostname: str, role: str, ip: str) -> None:
        """Save once the pre-flight has said that everything is in order."""
        self.open_add_form(hostname, role, ip)
        expect(self.dialog.get_by_role("status")).to_have_text("Everything is in order: this host can be added.")
        expect(self.dialog.get_by_role("listitem").first).to_contain_text(re.compile(r"OK\s+Vault agent"))
        self.press("Save")
        expect(self.row(hostname)).to_be_visible()

    def open_update(self, hostname: str) -> None:
        self.page.get_by_role("link", name=hostname, exact=True).click()

    def exported(self, kind: str) -> str:
        """What the link of this name gives: CSV or JSON of the list."""
        with self.page.expect_download() as download:
            self.page.get_by_role("link", name=kind, exact=True).click()
        return Path(download.value.path()).read_text(encoding="utf-8-sig")

    def audited(self) -> list[tuple[str, str, str, str]]:
        """The audit log from its screen, the oldest first: who, what, object, reason. Only what was asked for in a browser."""
        self.menu("Audit log")
        entries = [entry for entry in csv.DictReader(self.exported("CSV").splitlines()) if not entry["via"]]
        assert {entry["remote_addr"] for entry in entries} == {"127.0.0.1"}
        return [(e["who"], e["what"], e["object"], e["reason"]) for e in reversed(entries)]

    def operation(self, *says: str) -> Locator:
        """The line of an operation that runs, or of the last result."""
        line = self.page.get_by_role("status", name="Operation").or_(self.page.get_by_role("region", name="Operation"))
        for text in says:
            line = line.filter(has_text=text)
        return line


@dataclass(frozen=True)
class Story:
    control: Controller
    primary: VaultHost
    fallback: VaultHost
    url: str
    chromium: Browser
    page: Page

    @property
    def console(self) -> Console:
        return Console(self.page)

    @contextlib.contextmanager
    def somebody(self, username: str) -> Iterator[Page]:
        """The console of another user, in a browser profile of its own. Who there is: PEOPLE."""
        with contextlib.closing(self.chromium.new_context()) as context:
            page = context.new_page()
            log_in(page, self.url, username, PASSWORD)
            yield page


@contextlib.contextmanager
def story(chromium_path: str, addresses: tuple[str, str]) -> Iterator[Story]:
    """Two vault hosts that belong to nobody yet, a whole controller, a browser with its administrator.

    In the end: the browser has not complained, no page was a fault. When it fails, what the programs said is printed.
    """
    place = Path(tempfile.mkdtemp(prefix="vha-"))
    try:
        with contextlib.ExitStack() as stack:
            make = stack.enter_context(vault_hosts(place))
            hosts = [make(ip, name).init().start() for ip, name in zip(addresses, ("vault-p", "vault-f"), strict=True)]
            control = stack.enter_context(controller(place))
            control.manage("shell", "-v0", "-c", PEOPLE % PASSWORD)
            url = control.web()
            for slot in ("a", "b"):
                control.service(slot)
            control.housekeeping()
            control.ops()
            chromium = stack.enter_context(browser(chromium_path))
            page = chromium.new_context(accept_downloads=True).new_page()
            heard = complaints(page)
            try:
                log_in(page, url, ADMINISTRATOR, control.password)
                yield Story(control, hosts[0], hosts[1], url, chromium, page)
                assert heard == []
                assert "Traceback" not in control.full_log("web")
            except BaseException:
                _print_logs(control, hosts, page)
                raise
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _print_logs(control: Controller, hosts: list[VaultHost], page: Page) -> None:
    with contextlib.suppress(Exception):
        print(f"=== {page.url}\n{page.inner_text('body')[:4000]}", file=sys.stderr)
    for file in sorted(control.var.glob("*.log")):
        print(f"=== {file.name}\n{control.log(file.stem)}", file=sys.stderr)
    for host in hosts:
        print(f"=== {host.hostname}\n{host.log()[-4000:]}", file=sys.stderr)
