"""A pair loses its Master twice, told by a browser: once while automatic failover is paused, once on the word of its agent.

The pause: nobody is promoted, the screen says so, and Resume lets the fallback take over. The kill: the panel tells the truth
throughout, the event has its evidence, the report its figures. In between: the hold after a silence, a Setting and its history, Run Now,
a re-synchronization that cannot end and is cancelled, a fallback that diverges and is rebuilt from its row, what a Viewer and an Operator may, and the audit log of all of it.
"""

import contextlib
import json
import re
import time

from playwright.sync_api import expect

from tests.browser.chromium import WAIT_MS
from tests.browser.console import HOUSEKEEPING, SERVICE, WAITING, Console, Story, story
from tests.stack import ADMINISTRATOR
from tests.waiting import wait_for
from tests.writers import Writers, create_table, missing

KEEPS_WHAT_THE_PANEL_SAYS = """
() => {
  window.panel = [];
  document.body.addEventListener("htmx:afterSwap", () => window.panel.push(document.querySelector(".safety").innerText));
}
"""
RACKS, DISK, NOT_NOW, MINE = "moving racks", "the disk of the fallback is slow", "not now", "it was written by mistake"


def test_a_pair_loses_its_master(chromium_path: str) -> None:
    with story(chromium_path, ("127.0.70.1", "127.0.70.2")) as told:
        told.control.add_pair(told.primary, told.fallback)
        told.control.wait_vault(primary="vault-p", acker="vault-f")
        create_table(told.primary)
        console = told.console
        console.menu("Vault")
        with Writers([told.primary, told.fallback], 4, password=told.primary.client_password) as writers:
            writers.wait_acknowledged(time.monotonic(), 10, host=told.primary, count=50)
            _nobody_is_promoted_during_a_pause(told, writers)
            _the_hold_is_cleared(console)
            _the_agents_word_is_enough(told, writers)
        for host in (told.primary, told.fallback):
            wait_for(lambda host=host: missing(writers, host) == set(), 20, "every acknowledged row is on both")  # type: ignore[misc]
        _what_it_was_like(told)
        _a_resynchronization_that_cannot_end(told)
        _a_diverged_fallback_is_rebuilt(told)
        _a_setting_is_changed_and_a_pass_run(told)
        _others_see_what_they_may(told)
        _all_of_it_is_in_the_audit_log(told)


def _nobody_is_promoted_during_a_pause(told: Story, writers: Writers) -> None:
    console, page = told.console, told.page
    expect(console.safety).to_have_class("safety ok", timeout=WAIT_MS)
    expect(console.safety).to_contain_text("vault-f takes over")
    console.act("vault-p", "Pause automatic failover")
    console.fill(Reason=RACKS)
    console.press("Pause")
    banner = page.get_by_role("region", name="Pause")
    expect(banner).to_contain_text(f"by {ADMINISTRATOR}: “{RACKS}”")
    expect(console.safety).to_contain_text("Nobody would be promoted", timeout=WAIT_MS)
    expect(console.safety.get_by_role("link", name="C05")).to_be_visible()
    told.primary.kill_agent()
    lost = told.primary.kill_database()
    console.expect_row("vault-p", "Unreachable")
    wait_for(lambda: not writers.since(time.monotonic() - 2), 20, "no write is acknowledged any more")
    expect(console.safety).to_contain_text("Resume automatic failover as soon as the work is done.")
    expect(banner).to_contain_text("A Master that is lost is not replaced by itself.")
    assert told.control.vault()["primary"] == "vault-p"
    assert told.control.events("P30") == []
    banner.get_by_role("link", name="Resume").click()
    console.press("Yes")
    console.expect_row("vault-f", "Primary-1", "Master")
    expect(banner).to_have_count(0)
    writers.wait_acknowledged(lost, 20, host=told.fallback, count=50)
    told.primary.start()
    console.expect_row("vault-p", "Fallback-1", WAITING)
    told.control.wait_vault(primary="vault-f", acker="vault-p")


def _the_hold_is_cleared(console: Console) -> None:
    """It was decided on silence: the next such one has to wait, and the panel is not green until somebody clears that."""
    hold = console.page.get_by_role("region", name="Hold")
    expect(hold).to_contain_text("A failover on silence is held back")
    expect(console.safety).to_contain_text("not in every case", timeout=WAIT_MS)
    hold.get_by_role("link", name="Clear").click()
    console.press("Yes")
    expect(hold).to_have_count(0)
    expect(console.safety).to_have_class("safety ok", timeout=WAIT_MS)


def _the_agents_word_is_enough(told: Story, writers: Writers) -> None:
    console = told.console
    expect(console.safety).to_contain_text("vault-p takes over")
    told.page.evaluate(KEEPS_WHAT_THE_PANEL_SAYS)
    lost = told.fallback.kill_database()
    writers.wait_acknowledged(lost, 10, host=told.primary, count=50)
    console.expect_row("vault-p", "Primary-1", "Master")
    console.expect_row("vault-f", "Fallback-1", WAITING)
    told.control.wait_vault(primary="vault-p", acker="vault-f")
    expect(console.safety).to_have_class("safety ok", timeout=WAIT_MS)
    expect(console.safety).to_contain_text("vault-f takes over in about")
    said = told.page.evaluate("window.panel")
    assert said, "the panel has changed"
    assert not [text for text in said if "vault-p takes over" in text], (
        "who died or took over was never called the fallback"
    )
    expect(console.safety).to_contain_text("vault-f heard the Master just now")
    lag = console.page.get_by_role("region", name="Lag").get_by_role("row").filter(has_text="vault-f")
    expect(lag).to_contain_text("transactions", timeout=WAIT_MS)


def _what_it_was_like(told: Story) -> None:
    console, page = told.console, told.page
    console.menu("Events")
    page.get_by_text("More", exact=True).click()
    page.get_by_label("Rule or family").fill("P30")
    page.get_by_role("button", name="Show").click()
    failovers = page.locator("#event-list tbody tr")
    expect(failovers).to_have_count(2)
    assert console.exported("CSV").count("P30") >= 2
    assert [event["rule"] for event in json.loads(console.exported("JSON"))["events"]] == ["P30", "P30"]
    failovers.first.get_by_role("link", name="vault-p").click()
    expect(page.get_by_role("heading", name="What each node said")).to_be_visible()
    expect(page.locator("#event-nodes")).to_contain_text("Master at that moment")
    page.locator(".operation-of a").first.click()
    page.get_by_role("link", name="Report").click()
    expect(page.get_by_text("Rows at risk: 0")).to_be_visible()
    timeline = page.locator(".steps")
    for phase in (
        "Detected",
        "Claimed",
        "Revoked",
        "applied all of it",
        "Recorded as Master",
        "open for writes",
        "First write seen",
    ):
        line = timeline.get_by_role("listitem").filter(has_text=phase)
        expect(line).to_have_text(re.compile(r"\d m?s"))
        expect(line).not_to_contain_text("not recorded")
    page.emulate_media(media="print")
    expect(page.locator("#header")).to_be_hidden()
    page.emulate_media(media="screen")
    console.menu("App Services")
    console.act(SERVICE, "Log")
    page.get_by_label("Text").fill("P30")
    page.get_by_role("button", name="Show").click()
    expect(page.get_by_role("list", name="Log lines")).to_contain_text("vault-p is Master")


def _a_resynchronization_that_cannot_end(told: Story) -> None:
    console = told.console
    console.menu("Vault")
    with contextlib.closing(told.fallback.connect()) as connection, connection.cursor() as cursor:
        cursor.execute("LOCK TABLES vault.written WRITE")
        with contextlib.closing(told.primary.connect_client()) as client, client.cursor() as writes:
            for number in range(20):
                writes.execute("INSERT INTO written VALUES (%s, 0)", [-1 - number])
        console.act("vault-p", "Re-synchronize Master")
        console.press("Yes")
        line = console.operation("Re-synchronize Master")
        expect(line).to_contain_text("0 of 20 transactions", timeout=WAIT_MS)
        line.get_by_role("link", name="Cancel").click()
        expect(console.dialog).to_contain_text("Only the watching ends")
        console.fill(Reason=DISK)
        console.press("Yes, cancel it")
        expect(console.operation("Cancelled")).to_be_visible(timeout=WAIT_MS)
    wait_for(
        lambda: told.fallback.sql("SELECT 1 AS one FROM vault.written WHERE id = -20") != [],
        20,
        "it goes on all the same",
    )


def _a_diverged_fallback_is_rebuilt(told: Story) -> None:
    """From its row to a fallback that follows again: what is kept is said before, each phase is seen, what only it had is listed."""
    console, page = told.console, told.page
    told.fallback.sql("SET GLOBAL read_only = 0")
    told.fallback.sql("INSERT INTO vault.written VALUES (-101, 0)")
    told.fallback.sql("SET GLOBAL read_only = 1")
    told.primary.sql("INSERT INTO vault.written VALUES (-102, 0)")
    told.fallback.kill_database()  # whoever comes back is asked what it has
    console.expect_row("vault-f", "Diverged")
    expect(page.get_by_role("link", name="What to rotate")).to_be_visible(
        timeout=WAIT_MS
    )  # exported without being asked
    console.act("vault-f", "Rebuild (full copy)")
    for says in ("what only it has is exported", "Its old data is kept", "at 50 MiB per second"):
        expect(console.dialog).to_contain_text(says)
    console.dialog.get_by_role("button", name="Yes", exact=True).click()
    expect(console.dialog.get_by_role("alert")).to_contain_text("Type vault-f here")
    console.fill(Hostname="vault-f", Reason=MINE)
    console.press("Yes")
    page.get_by_role("link", name="Rebuild (full copy): vault-f", exact=True).click()
    steps = page.locator(".steps")
    for phase in (
        "receives the copy",
        "makes the copy ready",
        "puts the copy in the place",
        "vault-f is compared with the Master",
    ):
        expect(steps).to_contain_text(phase, timeout=WAIT_MS)
    expect(page.get_by_role("region", name="State")).to_contain_text("Succeeded", timeout=WAIT_MS)
    expect(page.get_by_role("region", name="State")).to_contain_text("It is equal to the Master.")
    expect(steps.locator(".done")).to_have_count(8)
    console.menu("Vault")
    console.expect_row("vault-f", WAITING)
    console.row("vault-f").locator("summary").click()
    expect(console.row("vault-f").get_by_role("link", name="Undo rebuild")).to_be_visible(timeout=WAIT_MS)
    page.keyboard.press("Escape")
    told.control.wait_vault(primary="vault-p", acker="vault-f")
    assert told.fallback.sql("SELECT id FROM vault.written WHERE id < -100") == [{"id": -102}]


def _a_setting_is_changed_and_a_pass_run(told: Story) -> None:
    console, page = told.console, told.page
    console.menu("App Services")
    for interval in ("700", "1"):
        console.act(SERVICE, "Setting")
        page.get_by_label("Trigger interval").fill(interval)
        page.get_by_role("button", name="Update").click()
        if interval == "700":
            expect(console.dialog).to_contain_text("a number of seconds from 0.2 to 60")
            page.keyboard.press("Escape")
    expect(console.dialog).to_be_hidden()
    expect(console.row(SERVICE)).to_contain_text("1 s")
    console.act(SERVICE, "Setting")
    expect(page.locator(".history li").first).to_contain_text(
        re.compile(rf"{ADMINISTRATOR} from 127\.0\.0\.1.*0\.5 → 1", re.S)
    )
    page.keyboard.press("Escape")
    for service in (SERVICE, HOUSEKEEPING):
        expect(console.row(service)).to_contain_text("Started")
        console.service("Run Now", service)
        expect(console.row(service).locator("time[data-at-age]")).to_have_text(re.compile(r"\d"), timeout=WAIT_MS)


def _others_see_what_they_may(told: Story) -> None:
    with told.somebody("viewer") as page:
        seen = Console(page)
        expect(seen.safety).to_contain_text("Lossless")
        expect(page.get_by_role("link", name="Add Node")).to_have_count(0)
        seen.row("vault-f").locator("summary").click()
        expect(seen.row("vault-f").locator(".menu a")).to_have_count(1)  # what its status means
        expect(page.get_by_role("link", name="Audit log")).to_have_count(0)
        seen.menu("App Services")
        expect(page.get_by_role("link", name=re.compile("^Stop"))).to_have_count(0)
    with told.somebody("operator") as page:
        seen = Console(page)
        expect(page.get_by_role("link", name="Add Node")).to_have_count(0)
        expect(page.get_by_role("link", name=re.compile("^Delete"))).to_have_count(0)
        seen.act("vault-f", "Pause automatic failover")
        seen.fill(Reason=NOT_NOW)
        seen.press("Pause")
        expect(page.get_by_role("region", name="Pause")).to_contain_text("by operator")
        page.get_by_role("region", name="Pause").get_by_role("link", name="Resume").click()
        seen.press("Yes")


def _all_of_it_is_in_the_audit_log(told: Story) -> None:
    audited = [
        (who, re.sub(r" until .* UTC", "", what), of, reason) for who, what, of, reason in told.console.audited()
    ]
    assert audited == [
        (ADMINISTRATOR, "logged in", ADMINISTRATOR, ""),
        (ADMINISTRATOR, "automatic failover paused", "Vault", RACKS),
        (ADMINISTRATOR, "automatic failover resumed", "Vault", ""),
        (ADMINISTRATOR, "the hold after the last failover on silence was cleared", "Vault", ""),
        (ADMINISTRATOR, "Re-synchronize Master requested", "vault-p", ""),
        (ADMINISTRATOR, "Cancel of Re-synchronize Master requested", "Re-synchronize Master (Running)", DISK),
        (ADMINISTRATOR, "Rebuild (full copy) requested", "vault-f", MINE),
        (ADMINISTRATOR, f"{SERVICE}: trigger interval set to 1 s", SERVICE, ""),
        (ADMINISTRATOR, f"{SERVICE}: run requested", SERVICE, ""),
        (ADMINISTRATOR, f"{HOUSEKEEPING}: run requested", HOUSEKEEPING, ""),
        ("viewer", "logged in", "viewer", ""),
        ("operator", "logged in", "operator", ""),
        ("operator", "automatic failover paused", "Vault", NOT_NOW),
        ("operator", "automatic failover resumed", "Vault", ""),
    ]
