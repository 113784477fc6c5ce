"""The Vault table by keyboard and near the edges of the window: menus, and the questions before safety is taken away."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.chromium import complaints
from tests.browser.inventory import Site

VAULT = "/admin/nodes/vaultnode/"
B, C, D = "b" * 32, "c" * 32, "d" * 32


@pytest.fixture
def page(console: Site) -> Iterator[Page]:
    with console.page(viewport={"width": 1360, "height": 900}) as page:
        heard = complaints(page)
        page.goto(VAULT)
        yield page
        assert heard == []


def items(page: Page, node: str) -> Locator:
    return page.locator(f"#action-{node} + ul")


def test_arrows_walk_through_what_is_possible_and_escape_leads_back(page: Page) -> None:
    action = page.locator(f"#action-{C}")
    action.focus()
    page.keyboard.press("ArrowDown")
    expect(page.locator(f"#resynchronize-{C}")).to_be_focused()
    page.keyboard.press("ArrowDown")
    expect(page.locator(f"#active-{C}")).to_be_focused()  # Make Master is impossible here
    page.keyboard.press("End")
    expect(items(page, C).get_by_role("link", name="What this status means")).to_be_focused()
    page.keyboard.press("ArrowDown")
    expect(page.locator(f"#resynchronize-{C}")).to_be_focused()
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Home")
    expect(page.locator(f"#resynchronize-{C}")).to_be_focused()
    page.keyboard.press("Escape")
    expect(items(page, C)).to_be_hidden()
    expect(action).to_be_focused()


def test_tab_reaches_every_possible_entry(page: Page) -> None:
    page.locator(f"#action-{B}").focus()
    page.keyboard.press("Enter")
    for name in ("resynchronize", "switchover", "active", "pause"):
        page.keyboard.press("Tab")
        expect(page.locator(f"#{name}-{B}")).to_be_focused()


def test_a_click_outside_closes_it_and_only_one_is_open(page: Page) -> None:
    page.locator(f"#action-{B}").click()
    page.locator(f"#action-{D}").click()
    expect(items(page, D)).to_be_visible()
    expect(items(page, B)).to_be_hidden()
    page.get_by_role("heading", name="Vault", exact=True).click()
    expect(items(page, D)).to_be_hidden()


@pytest.mark.parametrize("width", [360, 1360])
@pytest.mark.parametrize("edge", ["top", "bottom"])
def test_a_menu_at_the_edge_of_the_window_is_seen_whole(console: Site, width: int, edge: str) -> None:
    with console.page(viewport={"width": width, "height": 900}) as page:
        page.goto(VAULT)
        for node in (B, C):
            action = page.locator(f"#action-{node}")
            action.evaluate(
                "(button, edge) => window.scrollBy(0, edge === 'top' ? button.getBoundingClientRect().top - 2"
                " : button.getBoundingClientRect().bottom - innerHeight + 2)",
                edge,
            )
            action.focus()
            page.keyboard.press("Enter")
            expect(items(page, node)).to_be_in_viewport(ratio=0.99)
            page.keyboard.press("Escape")


def test_what_takes_safety_away_is_asked_with_the_focus_on_the_hostname(page: Page) -> None:
    page.locator(f"#edit-{B}").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Active").uncheck()
    dialog.get_by_role("button", name="Update").click()
    expect(dialog.get_by_label("Hostname")).to_be_focused()
    dialog.get_by_label("Hostname").fill("beta")
    dialog.get_by_role("button", name="Update").click()
    expect(dialog.get_by_text("Type beta.vault.example here to confirm")).to_be_visible()
    expect(dialog.get_by_label("Active")).not_to_be_checked()


def test_a_pause_is_seen_and_ended_from_the_banner(page: Page) -> None:
    page.locator(f"#action-{B}").click()
    page.locator(f"#pause-{B}").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Reason").fill("moving racks")
    dialog.get_by_role("button", name="Pause").click()
    banner = page.get_by_role("region", name="Pause")
    expect(banner).to_contain_text("by admin: “moving racks”.")
    banner.get_by_role("link", name="Resume").click()
    dialog.get_by_role("button", name="Yes").click()
    expect(banner).to_have_count(0)
