"""The story of the vendor's manual, worked through in a browser on a real pair that starts with an empty inventory.

Starts the service, adds both nodes after their pre-flight, re-synchronizes and sees how far it is, deactivates and activates the
fallback with the service running and stopped, deletes it with a typed confirmation, purges it with the command that the page
names, adds it again, makes it Master under load and fails back. All of it is in the audit log.
"""

import contextlib
import shlex
import subprocess
import time
from collections.abc import Iterator

from playwright.sync_api import expect

from tests.browser.chromium import WAIT_MS
from tests.browser.console import SERVICE, WAITING, Console, Story, story
from tests.stack import ADMINISTRATOR, Controller
from tests.vault_host import VaultHost
from tests.waiting import wait_for
from tests.writers import TABLE, Writers, create_table, missing

REASON = "the story of the manual"


def test_the_story_of_the_manual(chromium_path: str) -> None:
    with story(chromium_path, ("127.0.54.1", "127.0.54.2")) as told:
        console, primary, fallback = told.console, told.primary, told.fallback
        _starts_service_and_adds_the_pair(console, primary, fallback)
        create_table(primary)
        _resynchronizes(console, primary, fallback)
        _deactivates_and_activates(console, primary, fallback)
        _deactivates_while_the_service_is_stopped(console, primary, fallback)
        _deletes_purges_and_adds_again(console, fallback)
        told.control.wait_vault(primary="vault-p", acker="vault-f")
        _makes_it_master_and_fails_back(console, told.control, primary, fallback)
        _all_of_it_is_in_the_audit_log(told)


def _starts_service_and_adds_the_pair(console: Console, primary: VaultHost, fallback: VaultHost) -> None:
    console.menu("App Services")
    expect(console.row(SERVICE)).to_contain_text("Stopped")
    console.service("Start")
    expect(console.row(SERVICE)).to_contain_text("Started", timeout=WAIT_MS)
    console.menu("Vault")
    expect(console.page.get_by_text("No nodes yet.")).to_be_visible()
    expect(console.safety).to_contain_text("No primary yet")
    console.add("vault-p", "primary", primary.ip)
    console.add("vault-f", "fallback", fallback.ip)
    console.expect_row("vault-p", "Primary-1", "Master")
    console.expect_row("vault-f", "Fallback-1", WAITING)


def _count(host: VaultHost) -> int:
    return int(host.sql(f"SELECT COUNT(*) AS n FROM vault.{TABLE}")[0]["n"])


def _write(host: VaultHost, first: int, count: int) -> None:
    with contextlib.closing(host.connect_client()) as connection, connection.cursor() as cursor:
        for number in range(count):
            cursor.execute(f"INSERT INTO {TABLE} VALUES (%s, 0)", [first + number])


@contextlib.contextmanager
def _applies_nothing(host: VaultHost) -> Iterator[None]:
    """It receives and acknowledges, and cannot write: its table is locked."""
    with contextlib.closing(host.connect()) as connection, connection.cursor() as cursor:
        cursor.execute(f"LOCK TABLES vault.{TABLE} WRITE")
        yield


def _resynchronizes(console: Console, primary: VaultHost, fallback: VaultHost) -> None:
    wait_for(lambda: fallback.sql("SHOW TABLES FROM vault") != [], 20, "the fallback has the table")
    with _applies_nothing(fallback):
        _write(primary, -1000, 100)
        console.act("vault-p", "Re-synchronize Master")
        console.press("Yes")
        line = console.operation("Re-synchronize Master")
        expect(line).to_contain_text("0 of 100 transactions", timeout=WAIT_MS)
        expect(line.get_by_role("link", name="Cancel")).to_be_visible()
    expect(console.operation("Synchronized to position")).to_be_visible(timeout=WAIT_MS)
    assert _count(fallback) == _count(primary) == 100


def _deactivate(console: Console) -> None:
    """It is the only other copy: asked once more, with its name and a reason."""
    console.open_update("vault-f")
    console.dialog.get_by_label("Active").set_checked(False)
    console.dialog.get_by_role("button", name="Update").click()
    _confirm(console)
    console.press("Update")
    console.expect_row("vault-f", "Inactive")


def _confirm(console: Console) -> None:
    expect(console.dialog).to_contain_text("loses its last other copy of the data")
    console.fill(Hostname="vault-f", Reason=REASON)


def _activate(console: Console) -> None:
    console.open_update("vault-f")
    console.dialog.get_by_label("Active").set_checked(True)
    console.press("Update")
    console.expect_row("vault-f", WAITING)


def _deactivates_and_activates(console: Console, primary: VaultHost, fallback: VaultHost) -> None:
    _deactivate(console)
    expect(console.safety).to_contain_text("Solo", timeout=WAIT_MS)
    assert fallback.sql("SHOW SLAVE STATUS") == []
    _write(primary, -2000, 10)
    assert _count(fallback) == 100
    _activate(console)
    wait_for(lambda: _count(fallback) == 110, 20, "the fallback has caught up")


def _deactivates_while_the_service_is_stopped(console: Console, primary: VaultHost, fallback: VaultHost) -> None:
    console.service("Stop")
    expect(console.row(SERVICE)).to_contain_text("Stopped", timeout=WAIT_MS)
    console.menu("Vault")
    console.expect_row("vault-p", "Unknown")
    expect(console.safety).to_contain_text("Not watched")
    _deactivate(console)
    wait_for(lambda: fallback.sql("SHOW SLAVE STATUS") == [], 10, "replication has stopped")
    _write(primary, -3000, 10)
    console.service("Start")
    console.menu("Vault")
    _activate(console)
    wait_for(lambda: _count(fallback) == 120, 20, "the fallback has caught up")


def _deletes_purges_and_adds_again(console: Console, fallback: VaultHost) -> None:
    console.row("vault-f").get_by_role("link", name="Delete vault-f").click()
    expect(console.dialog.get_by_role("link", name="No")).to_be_focused()
    _confirm(console)
    console.fill(Hostname="vault-p")
    console.dialog.get_by_role("button", name="Yes").click()
    expect(console.dialog).to_contain_text("Type vault-f here to confirm that you mean this node.")
    console.fill(Hostname="vault-f")
    console.press("Yes")
    expect(console.row("vault-f")).to_have_count(0)
    expect(console.safety).to_contain_text("Add a fallback.", timeout=WAIT_MS)
    notice = console.page.get_by_role("status").get_by_text("To remove its data")
    command = notice.inner_text().split("type on vault-f: ")[1]
    wait_for(lambda: fallback.report().vault == "", 20, "the node has left the vault")
    done = subprocess.run(shlex.split(command), input="vault-f\n", capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert not fallback.config_exists()
    fallback.wait_agent_ended()
    fallback.init().start()
    console.add("vault-f", "fallback", fallback.ip)
    console.expect_row("vault-f", "Fallback-1", WAITING)
    wait_for(lambda: _count(fallback) == 120, 20, "a purged and empty node has everything again")


def _makes_it_master_and_fails_back(
    console: Console, control: Controller, primary: VaultHost, fallback: VaultHost
) -> None:
    with Writers([primary, fallback], 4, password=primary.client_password) as writers:
        for new, old, entry in (("vault-f", "vault-p", "Make Master"), ("vault-p", "vault-f", "Fail back to Primary")):
            host = fallback if new == "vault-f" else primary
            console.act(new, entry)
            expect(console.dialog).to_contain_text("Writes pause for about a tenth of a second")
            console.fill(Reason=REASON)
            console.press("Yes")
            expect(console.operation(f"Switchover to {new}")).to_contain_text("Succeeded", timeout=WAIT_MS)
            writers.wait_acknowledged(time.monotonic(), 10, host=host, count=50)
            console.expect_row(new, "Primary-1", "Master")
            console.expect_row(old, "Fallback-1", WAITING)
            control.wait_vault(primary=new, acker=old)
    assert missing(writers, primary) == set()
    wait_for(lambda: missing(writers, fallback) == set(), 20, "the fallback has every acknowledged row")
    expect(console.page.get_by_text(f"Make Master requested: {REASON}")).to_have_count(2)
    console.menu("Operations")
    console.row("Switchover to vault-p").get_by_role("link", name="Report").click()
    expect(console.page.get_by_text("Rows at risk: 0")).to_be_visible()


def _all_of_it_is_in_the_audit_log(told: Story) -> None:
    made_inactive = ("node made inactive", "vault-f", REASON)
    made_active = ("node made active", "vault-f", "")
    assert told.console.audited() == [
        (ADMINISTRATOR, *entry)
        for entry in (
            ("logged in", ADMINISTRATOR, ""),
            (f"{SERVICE}: start requested", SERVICE, ""),
            (f"node added as Primary, {told.primary.ip}", "vault-p", ""),
            (f"node added as Fallback, {told.fallback.ip}", "vault-f", ""),
            ("Re-synchronize Master requested", "vault-p", ""),
            made_inactive,
            made_active,
            (f"{SERVICE}: stop requested", SERVICE, ""),
            made_inactive,
            (f"{SERVICE}: start requested", SERVICE, ""),
            made_active,
            ("node deleted", "vault-f", REASON),
            (f"node added as Fallback, {told.fallback.ip}", "vault-f", ""),
            ("Make Master requested", "vault-f", REASON),
            ("Make Master requested", "vault-p", REASON),
        )
    ]
