"""The story of the vendor's manual, worked through in a browser on a real pair that starts with an empty inventory.

Starts the service, adds both nodes, re-synchronizes, deactivates and activates the fallback with the service running and
stopped, deletes it, purges it with the command that the page names, adds it again, makes it Master under load and fails back,
and loses the primary: every acknowledged row is on the other one, and the killed one returns as fallback.
"""

import contextlib
import re
import shlex
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.chromium import WAIT_MS, browser, complaints, log_in
from tests.stack import ADMINISTRATOR, Controller, controller
from tests.vault_host import VaultHost, vault_hosts
from tests.waiting import wait_for
from tests.writers import Writers, create_table, missing

WAITING = "Slave – Waiting for Master to send events"


class Console:
    """The console as its user sees it: by labels and roles, never by internals."""

    def __init__(self, page: Page, url: str) -> None:
        self.page, self.url = page, url

    @property
    def dialog(self) -> Locator:
        return self.page.get_by_role("dialog")

    def menu(self, name: str) -> None:
        self.page.get_by_role("navigation", name="Main menu").get_by_role("link", name=name, exact=True).click()

    def row(self, name: str) -> Locator:
        table = self.page.locator("table.rows")
        return table.get_by_role("row").filter(has=self.page.get_by_role("rowheader", name=re.compile(f"^{name}")))

    def service(self, button: str) -> None:
        self.menu("App Services")
        self.row("SystemHighAvailabilityService").get_by_role("link", name=button).click()
        self.dialog.get_by_role("button", name="Yes").click()
        expect(self.dialog).to_be_hidden()

    def add(self, hostname: str, role: str, ip: str) -> None:
        self.page.get_by_role("link", name="Add Node").click()
        expect(self.dialog.get_by_label("Port")).to_have_value("5389")
        expect(self.dialog.get_by_label("Active")).to_be_checked()
        self.dialog.get_by_label("Hostname").fill(hostname)
        self.dialog.get_by_label("System Role").select_option(role)
        self.dialog.get_by_label("IP Address").fill(ip)
        self.dialog.get_by_role("button", name="Save").click()
        expect(self.dialog).to_be_hidden()
        expect(self.row(hostname)).to_be_visible()

    def set_active(self, hostname: str, active: bool) -> None:
        self.page.get_by_role("link", name=hostname, exact=True).click()
        self.dialog.get_by_label("Active").set_checked(active)
        self.dialog.get_by_role("button", name="Update").click()
        if not active:  # it is the only other copy
            self.confirm(hostname)
            self.dialog.get_by_role("button", name="Update").click()
        expect(self.dialog).to_be_hidden()

    def confirm(self, hostname: str) -> None:
        expect(self.dialog).to_contain_text("loses its last other copy of the data")
        self.dialog.get_by_label("Hostname").fill(hostname)
        self.dialog.get_by_label("Reason").fill("the story")

    def expect_row(self, hostname: str, *texts: str) -> None:
        for text in texts:
            expect(self.row(hostname)).to_contain_text(text, timeout=WAIT_MS)

    def resynchronize(self, hostname: str) -> None:
        self.row(hostname).locator("summary").click()
        self.row(hostname).get_by_role("link", name="Re-synchronize Master").click()
        self.dialog.get_by_role("button", name="Yes").click()
        expect(self.dialog).to_be_hidden()
        expect(self.page.get_by_role("status", name="Operation")).to_contain_text(
            "Synchronized to position", timeout=WAIT_MS
        )

    def make_master(self, hostname: str, entry: str) -> None:
        """By the entry of its row's Action menu; answers when the operation has succeeded."""
        menu = self.row(hostname)
        menu.locator("summary").click()
        expect(menu.get_by_role("link", name=entry)).to_be_visible(timeout=WAIT_MS)
        menu.get_by_role("link", name=entry).click()
        expect(self.dialog).to_contain_text("Writes pause for about a tenth of a second")
        self.dialog.get_by_label("Reason").fill("the story")
        self.dialog.get_by_role("button", name="Yes").click()
        expect(self.dialog).to_be_hidden()
        line = self.page.get_by_role("status", name="Operation").filter(has_text=f"Switchover to {hostname}")
        expect(line).to_contain_text("Succeeded", timeout=WAIT_MS)


@pytest.fixture
def place() -> Iterator[Path]:
    import shutil
    import tempfile

    directory = Path(tempfile.mkdtemp(prefix="vha-"))
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


def test_the_story_of_the_manual(place: Path, chromium_path: str) -> None:
    with contextlib.ExitStack() as stack:
        make = stack.enter_context(vault_hosts(place))
        primary = make("127.0.54.1", "vault-p").init().start()
        fallback = make("127.0.54.2", "vault-f").init().start()
        control = stack.enter_context(controller(place))
        url = control.web()
        control.service("a")
        control.service("b")
        control.ops()
        page = stack.enter_context(browser(chromium_path)).new_page()
        heard = complaints(page)
        log_in(page, url, ADMINISTRATOR, control.password)
        console = Console(page, url)

        _starts_service_and_adds_the_pair(console, primary, fallback)
        create_table(primary)
        _resynchronizes(console, primary, fallback)
        _deactivates_and_activates(console, primary, fallback)
        _deactivates_while_the_service_is_stopped(console, primary, fallback)
        _deletes_purges_and_adds_again(console, fallback)
        control.wait_vault(primary="vault-p", acker="vault-f")
        _makes_it_master_and_fails_back(console, control, primary, fallback)
        _loses_the_primary(console, control, primary, fallback)
        _is_safe_again(console)
        assert heard == []


def _starts_service_and_adds_the_pair(console: Console, primary: VaultHost, fallback: VaultHost) -> None:
    console.menu("App Services")
    expect(console.row("SystemHighAvailabilityService")).to_contain_text("Stopped")
    console.service("Start")
    expect(console.row("SystemHighAvailabilityService")).to_contain_text("Started", timeout=WAIT_MS)
    console.menu("Vault")
    expect(console.page.get_by_text("No nodes yet.")).to_be_visible()
    console.add("vault-p", "Primary", primary.ip)
    console.add("vault-f", "Fallback", fallback.ip)
    console.expect_row("vault-p", "Primary-1", "Master")
    console.expect_row("vault-f", "Fallback-1", WAITING)


def _count(host: VaultHost) -> int:
    return int(host.sql("SELECT COUNT(*) AS n FROM vault.written")[0]["n"])


def _write(host: VaultHost, first: int, count: int) -> None:
    with contextlib.closing(host.connect_client()) as connection, connection.cursor() as cursor:
        cursor.executemany("INSERT INTO written VALUES (%s, 0)", [(first + n,) for n in range(count)])


def _resynchronizes(console: Console, primary: VaultHost, fallback: VaultHost) -> None:
    _write(primary, -1000, 100)
    console.resynchronize("vault-p")
    assert _count(fallback) == _count(primary) == 100


def _deactivates_and_activates(console: Console, primary: VaultHost, fallback: VaultHost) -> None:
    console.set_active("vault-f", False)
    console.expect_row("vault-f", "Inactive")
    assert fallback.sql("SHOW SLAVE STATUS") == []
    _write(primary, -2000, 10)
    assert _count(fallback) == 100
    console.set_active("vault-f", True)
    console.expect_row("vault-f", WAITING)
    wait_for(lambda: _count(fallback) == 110, 20, "the fallback has caught up")


def _deactivates_while_the_service_is_stopped(console: Console, primary: VaultHost, fallback: VaultHost) -> None:
    console.service("Stop")
    expect(console.row("SystemHighAvailabilityService")).to_contain_text("Stopped", timeout=WAIT_MS)
    console.menu("Vault")
    console.expect_row("vault-p", "Unknown")
    console.set_active("vault-f", False)
    console.expect_row("vault-f", "Inactive")
    wait_for(lambda: fallback.sql("SHOW SLAVE STATUS") == [], 10, "replication has stopped")
    _write(primary, -3000, 10)
    console.service("Start")
    console.menu("Vault")
    console.set_active("vault-f", True)
    console.expect_row("vault-f", WAITING)
    wait_for(lambda: _count(fallback) == 120, 20, "the fallback has caught up")


def _deletes_purges_and_adds_again(console: Console, fallback: VaultHost) -> None:
    console.row("vault-f").get_by_role("link", name="Delete vault-f").click()
    expect(console.dialog.get_by_role("link", name="No")).to_be_focused()
    console.confirm("vault-f")
    console.dialog.get_by_role("button", name="Yes").click()
    expect(console.row("vault-f")).to_have_count(0)
    notice = console.page.get_by_role("status").get_by_text("To remove its data")
    command = notice.inner_text().split("type on vault-f: ")[1]
    wait_for(lambda: fallback.report().vault == "", 20, "the node has left the vault")
    done = subprocess.run(shlex.split(command), input="vault-f\n", capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert not fallback.config_exists()
    fallback.wait_agent_ended()
    fallback.init().start()
    console.add("vault-f", "Fallback", fallback.ip)
    console.expect_row("vault-f", "Fallback-1", WAITING)
    wait_for(lambda: _count(fallback) == 120, 20, "a purged and empty node has everything again")


def _makes_it_master_and_fails_back(
    console: Console, control: Controller, primary: VaultHost, fallback: VaultHost
) -> None:
    with Writers([primary, fallback], 4, password=primary.client_password) as writers:
        for new, old, entry in (("vault-f", "vault-p", "Make Master"), ("vault-p", "vault-f", "Fail back to Primary")):
            host = fallback if new == "vault-f" else primary
            console.make_master(new, entry)
            writers.wait_acknowledged(time.monotonic(), 10, host=host, count=50)
            console.expect_row(new, "Primary-1", "Master")
            console.expect_row(old, "Fallback-1", WAITING)
            control.wait_vault(primary=new, acker=old)
    assert missing(writers, primary) == set()
    wait_for(lambda: missing(writers, fallback) == set(), 20, "the fallback has every acknowledged row")
    expect(console.page.get_by_text("Make Master requested: the story")).to_have_count(2)


def _loses_the_primary(console: Console, control: Controller, primary: VaultHost, fallback: VaultHost) -> None:
    password = primary.client_password
    with Writers([primary, fallback], 4, password=password) as writers:
        writers.wait_acknowledged(time.monotonic(), 10, host=primary, count=50)
        moment = primary.kill_database()
        writers.wait_acknowledged(moment, 10, host=fallback, count=50)
    console.expect_row("vault-f", "Primary-1", "Master")
    console.expect_row("vault-p", "Fallback-1", WAITING)
    assert missing(writers, fallback) == set()
    wait_for(lambda: missing(writers, primary) == set(), 20, "the killed node has every acknowledged row again")
    control.wait_vault(primary="vault-f", acker="vault-p")


def _is_safe_again(console: Console) -> None:
    """The panel says who would take over next, and the leader has sampled how far it is behind."""
    panel = console.page.get_by_role("region", name="Safety")
    expect(panel).to_contain_text("vault-p takes over", timeout=WAIT_MS)
    expect(panel).to_contain_text("vault-p heard the Master just now", timeout=WAIT_MS)
    expect(panel).to_have_class("safety ok")
    lag = console.page.get_by_role("region", name="Lag").get_by_role("row").filter(has_text="vault-p")
    expect(lag).to_contain_text("transactions", timeout=WAIT_MS)
