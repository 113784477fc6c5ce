"""The screens in a real browser: nothing that the content policy forbids, usable by keyboard, readable, narrow, honest."""

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.chromium import complaints
from tests.browser.inventory import Site
from tests.browser.test_looks import LISTENS_FOR_VIOLATIONS

VAULT, SERVICES, HOSTS = "/admin/nodes/vaultnode/", "/admin/nodes/appservice/", "/admin/nodes/applicationnode/"
POLL_MS = 2100


@pytest.fixture
def page(console: Site) -> Iterator[Page]:
    with console.page() as made:
        yield made


@pytest.fixture
def timed(console: Site) -> Iterator[Page]:
    """A page whose clock the test moves: `page.clock.run_for(ms)`."""
    with console.page() as made:
        made.clock.install()
        made.goto(VAULT)
        yield made


@pytest.fixture
def rename(console: Site) -> Callable[[str], None]:
    """Change the status text of gamma, as the service would."""

    def write(detail: str) -> None:
        console.control.execute("UPDATE nodes_vaultnode SET status_detail = ? WHERE id = ?", detail, "c" * 32)

    return write


def opened(page: Page, opener: Locator) -> Locator:
    """Open a popup by its button and answer it."""
    opener.click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_be_visible()
    return dialog


# --- nothing that the content policy forbids


def test_popups_polls_and_refusals_do_not_complain_either(timed: Page, rename: Callable[[str], None]) -> None:
    heard = complaints(timed)
    timed.evaluate(f"() => {{ {LISTENS_FOR_VIOLATIONS} }}")
    for opener in ("add-node", f"edit-{'b' * 32}", f"delete-{'b' * 32}", f"delete-{'a' * 32}"):
        dialog = opened(timed, timed.locator(f"#{opener}"))
        if opener == "add-node":
            dialog.get_by_role("button", name="Save").click()
            expect(dialog.get_by_text("Enter the hostname")).to_be_visible()
        timed.keyboard.press("Escape")
        expect(dialog).to_be_hidden()
    rename("a new word")
    timed.clock.run_for(POLL_MS)
    expect(timed.locator("#vault-nodes").get_by_text("a new word")).to_be_visible()
    assert heard == []


# --- by keyboard


@pytest.mark.parametrize("way", ["Escape", "Cancel", "backdrop"])
def test_a_popup_closes_and_the_focus_returns_to_what_opened_it(page: Page, way: str) -> None:
    page.goto(VAULT)
    for opener in (page.locator("#add-node"), page.get_by_role("link", name="beta.vault.example", exact=True)):
        opener.focus()
        page.keyboard.press("Enter")
        dialog = page.get_by_role("dialog")
        expect(dialog).to_be_visible()
        expect(dialog.locator("[autofocus]")).to_be_focused()
        if way == "Escape":
            page.keyboard.press("Escape")
        elif way == "Cancel":
            dialog.get_by_role("link", name="Cancel").click()
        else:
            page.mouse.click(5, 5)
        expect(dialog).to_be_hidden()
        expect(opener).to_be_focused()


def test_tab_walks_through_the_popup_and_never_behind_it(page: Page) -> None:
    page.goto(VAULT)
    dialog = opened(page, page.locator("#add-node"))
    expect(dialog.get_by_label("Hostname")).to_be_focused()  # a moment after it is seen
    seen = [page.evaluate("document.activeElement.name || document.activeElement.textContent.trim()")]
    for _ in range(7):
        page.keyboard.press("Tab")
        seen.append(page.evaluate("document.activeElement.name || document.activeElement.textContent.trim()"))
    assert seen == ["hostname", "port", "system_role", "ip_address", "active", "Check", "Cancel", "Save"]
    for _ in range(10):
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement === document.body || dialog.contains(document.activeElement)")
    expect(dialog).to_be_visible()


def test_the_whole_form_works_without_a_mouse_and_a_refusal_takes_the_focus_to_its_field(page: Page) -> None:
    page.goto(VAULT)
    dialog = opened(page, page.locator("#add-node"))
    expect(dialog.get_by_label("Hostname")).to_be_focused()
    page.keyboard.type("new.vault.example")
    page.keyboard.press("Tab")
    page.keyboard.type("70000")  # typed over the proposed port, which is selected
    page.keyboard.press("Enter")
    expect(dialog.get_by_text("A port is a number from 1 to 65535")).to_be_visible()
    expect(dialog.get_by_label("Port")).to_be_focused()
    expect(dialog.get_by_label("Port")).to_have_attribute("aria-invalid", "true")
    expect(dialog.get_by_label("Hostname")).to_have_value("new.vault.example")


def test_before_something_is_deleted_the_focus_is_on_no(page: Page) -> None:
    page.goto(VAULT)
    dialog = opened(page, page.locator(f"#delete-{'b' * 32}"))
    expect(dialog.get_by_role("link", name="No")).to_be_focused()


def test_before_the_master_is_changed_the_focus_is_on_no(page: Page) -> None:
    page.goto(VAULT)
    page.locator(f"#action-{'b' * 32}").click()
    dialog = opened(page, page.get_by_role("link", name="Make Master"))
    expect(dialog.get_by_role("link", name="No")).to_be_focused()


def test_after_a_popup_from_a_menu_the_focus_returns_to_the_menu(page: Page) -> None:
    page.goto(VAULT)
    action = page.locator(f"#action-{'b' * 32}")
    action.focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    expect(dialog).to_be_visible()
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(action).to_be_focused()


def test_after_its_row_is_deleted_the_focus_goes_to_the_heading_not_to_the_top_of_the_page(
    page: Page, console: Site
) -> None:
    page.goto(VAULT)
    dialog = opened(page, page.locator(f"#delete-{'d' * 32}"))
    dialog.get_by_role("button", name="Yes").click()
    try:
        expect(page.locator(f"#delete-{'d' * 32}")).to_have_count(0)
        expect(page.get_by_role("heading", name="Vault", exact=True)).to_be_focused()
        expect(page.get_by_role("status").get_by_text("vault-agent purge")).to_be_visible()
    finally:
        console.control.execute("UPDATE nodes_vaultnode SET removed_at = NULL WHERE id = ?", "d" * 32)


# --- while the list is renewed


def test_the_focus_survives_a_poll(timed: Page, rename: Callable[[str], None]) -> None:
    link = timed.get_by_role("link", name="gamma.branch-office.vault.example", exact=True)
    link.focus()
    rename("seen while focused")
    timed.clock.run_for(POLL_MS)
    expect(timed.locator("#vault-nodes").get_by_text("seen while focused")).to_be_visible()
    expect(link).to_be_focused()


def test_an_open_menu_survives_a_poll(timed: Page, rename: Callable[[str], None]) -> None:
    timed.locator(f"#action-{'c' * 32}").click()
    rename("seen below an open menu")
    timed.clock.run_for(POLL_MS)
    expect(timed.locator("#vault-nodes").get_by_text("seen below an open menu")).to_be_visible()
    item = timed.locator(f"#resynchronize-{'c' * 32}")
    expect(item).to_be_visible()
    expect(timed.locator(f"#action-{'c' * 32}")).to_be_focused()
    timed.keyboard.press("Escape")
    expect(item).to_be_hidden()


def test_what_was_unfolded_stays_unfolded(timed: Page, rename: Callable[[str], None]) -> None:
    timed.locator("#fences").click()
    said = timed.get_by_text("Needs root and nftables on the vault host.").first
    expect(said).to_be_visible()
    rename("seen above the fences")
    timed.clock.run_for(POLL_MS)
    expect(timed.locator("#vault-nodes").get_by_text("seen above the fences")).to_be_visible()
    expect(said).to_be_visible()


def test_a_popup_and_what_is_typed_in_it_survive_a_poll(timed: Page, rename: Callable[[str], None]) -> None:
    dialog = opened(timed, timed.locator("#add-node"))
    expect(dialog.get_by_label("Hostname")).to_be_focused()
    timed.keyboard.type("half a na")
    rename("seen below a popup")
    timed.clock.run_for(POLL_MS)
    expect(timed.locator("#vault-nodes").get_by_text("seen below a popup")).to_have_count(1)
    expect(dialog.get_by_label("Hostname")).to_be_focused()
    expect(dialog.get_by_label("Hostname")).to_have_value("half a na")


def test_ages_count_on_between_polls_that_bring_nothing_new(timed: Page) -> None:
    age = timed.locator("[data-age-key=n2]")
    expect(age).to_have_text("4 min ago")
    expect(timed.locator("[data-age-key=n3]")).to_have_text("never")


# --- at every width


@pytest.mark.parametrize("width", [360, 1360])
def test_without_javascript_the_menu_and_the_whole_list_are_seen(console: Site, width: int) -> None:
    with console.page(viewport={"width": width, "height": 900}, java_script_enabled=False) as page:
        page.goto(VAULT)
        expect(
            page.get_by_role("navigation", name="Main menu").get_by_role("link", name="App Services")
        ).to_be_visible()
        for seen in (page.get_by_role("heading", name="Vault", exact=True), page.locator("#vault-nodes")):
            box = seen.bounding_box()
            assert box is not None
            assert 0 <= box["x"] < box["x"] + box["width"] <= width
        page.locator(f"#action-{'b' * 32}").click()
        page.get_by_role("link", name="Make Master").click()
        expect(page.get_by_role("heading", name="Make beta.vault.example the Master?")).to_be_visible()
        page.get_by_role("link", name="No").click()
        expect(page.locator("#vault-nodes")).to_be_visible()


@pytest.mark.parametrize("width", [360, 1360])
def test_an_open_menu_is_seen_whole(console: Site, width: int) -> None:
    with console.page(viewport={"width": width, "height": 900}) as page:
        page.goto(VAULT)
        for name in "abcd":
            action = page.locator(f"#action-{name * 32}")
            action.click()
            items = page.locator(f"#action-{name * 32} + ul")
            box = items.bounding_box()
            assert box is not None
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= width
            items.scroll_into_view_if_needed()
            expect(items).to_be_in_viewport(ratio=0.99)
            page.keyboard.press("Escape")


# --- honest


def test_a_session_that_has_ended_leads_to_the_login(console: Site) -> None:
    with console.page() as page:
        page.clock.install()
        page.goto(VAULT)
        page.context.clear_cookies()
        page.clock.run_for(POLL_MS)
        page.wait_for_url("**/admin/login/**")
        expect(page.get_by_label("Username")).to_be_visible()
