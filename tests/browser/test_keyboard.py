"""From the login to a new Master with the keys alone."""

from playwright.sync_api import Page, expect

from tests.browser.inventory import Site
from tests.stack import ADMINISTRATOR

B = "b" * 32
MOST_TABS = 60


def tab_to(page: Page, wanted: str) -> None:
    """Press Tab until the focus is on what this selector names."""
    for _ in range(MOST_TABS):
        if page.evaluate("(wanted) => document.activeElement.matches(wanted)", wanted):
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"{MOST_TABS} times Tab do not lead to {wanted}")


def test_from_the_login_to_a_switchover(console: Site) -> None:
    with console.page(logged_in=False) as page:
        page.goto("/admin/login/")
        expect(page.get_by_label("Username")).to_be_focused()
        page.keyboard.type(ADMINISTRATOR)
        page.keyboard.press("Tab")
        page.keyboard.type(console.control.password)
        page.keyboard.press("Enter")
        expect(page.locator("#vault-nodes")).to_be_visible()
        page.keyboard.press("Tab")
        skip = page.get_by_role("link", name="Skip to main content")
        expect(skip).to_be_focused()
        expect(skip).to_be_in_viewport()
        page.keyboard.press("Enter")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.closest('#content-start') !== null"), "behind header and menu"
        tab_to(page, f"#action-{B}")
        page.keyboard.press("Enter")
        page.keyboard.press("ArrowDown")
        tab_to(page, f"#switchover-{B}")
        page.keyboard.press("Enter")
        dialog = page.get_by_role("dialog", name="Make beta.vault.example the Master?")
        expect(dialog.get_by_role("link", name="No")).to_be_focused()
        tab_to(page, "dialog button[type=submit]")
        page.keyboard.press("Enter")
        expect(dialog).to_be_hidden()
        expect(page.get_by_role("region", name="Operation").first).to_contain_text("Switchover to beta.vault.example")
        expect(page.locator(f"#action-{B}")).to_be_focused()
