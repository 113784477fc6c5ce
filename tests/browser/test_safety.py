"""The pictures of the Vault screen in a real browser: the chart loads by itself, outlives a new list, and everything fits."""

import pytest
from playwright.sync_api import expect

from tests.browser.chromium import complaints
from tests.browser.inventory import Site

VAULT = "/admin/nodes/vaultnode/"


def test_the_chart_loads_by_itself_and_a_new_list_leaves_it_alone(busy: Site) -> None:
    with busy.page() as page:
        heard = complaints(page)
        page.goto(VAULT)
        chart = page.locator("#lag")
        expect(chart.get_by_role("row").filter(has_text="beta.vault.example")).to_contain_text("6 s")
        chart.get_by_role("link", name="6 h").click()
        expect(chart).to_contain_text("Worst in 6 h")
        chart.evaluate("(element) => { element.dataset.mine = 'yes'; }")
        before = page.locator("#live").get_attribute("data-stamp")
        busy.tell("news")
        expect(page.locator("#live")).not_to_have_attribute("data-stamp", str(before))
        expect(page.locator("#live")).to_contain_text("news")
        assert chart.get_attribute("data-mine") == "yes", "the very same element"
        page.evaluate("htmx.trigger(document.getElementById('lag'), 'lag')")
        chart.get_by_role("link", name="1 h").click()
        expect(chart).to_contain_text("Worst in 1 h")
        assert heard == []


@pytest.mark.parametrize("width", [360, 1360, 2560])
def test_the_picture_that_fits_is_shown_and_nothing_sticks_out(busy: Site, width: int) -> None:
    with busy.page(viewport={"width": width, "height": 900}) as page:
        page.goto(VAULT)
        page.locator("#lag table").wait_for()
        shown = "narrow" if width == 360 else "wide"
        expect(page.locator(".topology svg:visible")).to_have_count(1)
        expect(page.locator(f".topology svg.{shown}")).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        smallest = page.locator(f".topology svg.{shown} text.name").first.evaluate(
            "(text) => text.getBoundingClientRect().height"
        )
        assert smallest >= 12, "names can be read"
        stick_out = page.locator(f".topology svg.{shown} g").evaluate_all(
            """(boxes) => boxes.filter((box) => {
                const room = box.querySelector("rect").getBBox();
                return [...box.querySelectorAll("text:not(.words)")].some((text) =>
                    text.getBBox().x + text.getBBox().width > room.x + room.width);
            }).length"""
        )
        assert stick_out == 0


def test_the_panel_is_read_out_with_its_name(busy: Site) -> None:
    with busy.page() as page:
        page.goto(VAULT)
        panel = page.get_by_role("region", name="Safety")
        expect(panel).to_contain_text("takes over in about 0.1 s when its database dies")
        expect(page.get_by_role("img", name="Who watches, who is Master, who follows")).to_have_count(1)
