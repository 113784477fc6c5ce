"""The screens in a real browser: nothing that the content policy forbids, usable by keyboard, readable, narrow, honest."""

import contextlib
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.chromium import complaints
from tests.browser.inventory import Site, site

VAULT, SERVICES, HOSTS = "/admin/nodes/vaultnode/", "/admin/nodes/appservice/", "/admin/nodes/applicationnode/"
POLL_MS = 2100
STALE_MS = 9000

FORMS = (
    VAULT + "add/",
    *(f"{VAULT}{'b' * 32}/{name}/" for name in ("change", "delete", "resynchronize", "switchover")),
    *(f"{VAULT}{name * 32}/switchover/" for name in "ac"),
    f"{VAULT}{'a' * 32}/delete/",
    f"{VAULT}{'b' * 32}/change/?active=0",
    *(f"{VAULT}{name}/" for name in ("hold/clear", "pause", "resume", "policy")),
    *(f"{SERVICES}1/{name}/" for name in ("start", "stop", "run", "setting")),
)
SCREENS = (
    VAULT, SERVICES, HOSTS, *FORMS,
    "/admin/password_change/",
    "/admin/auth/user/", "/admin/auth/user/add/", "/admin/auth/user/1/change/", "/admin/auth/user/1/history/",
    "/admin/auth/user/1/password/", "/admin/auth/group/", "/admin/auth/group/add/", "/admin/auth/group/1/change/",
    "/admin/auth/group/1/delete/",
)  # fmt: skip

LISTENS_FOR_VIOLATIONS = """
document.addEventListener("securitypolicyviolation", (e) =>
  console.error(`violates ${e.violatedDirective}: ${e.blockedURI} ${e.sourceFile}:${e.lineNumber} ${e.sample}`));
"""
# Every visible piece of text whose colour is too close to what is behind it (WCAG 2.1, 1.4.3).
TOO_FAINT = """
() => {
  const parse = (c) => { const n = c.match(/[\\d.]+/g).map(Number); return n.length < 4 ? [...n.slice(0, 3), 1] : n; };
  const over = (t, b) => [0, 1, 2].map((i) => t[i] * t[3] + b[i] * (1 - t[3]));
  const light = (c) => { const [r, g, b] = c.map((v) => { v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const behind = (el) => { const layers = [];
    for (let e = el; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor); if (c[3] > 0) { layers.push(c); if (c[3] === 1) break; } }
    return layers.reverse().reduce((under, c) => over(c, under), [255, 255, 255]); };
  const found = new Set();
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode.textContent.trim(), el = walker.currentNode.parentElement;
    if (!text || !el.checkVisibility({visibilityProperty: true}) || el.closest(".hidden-text, .visually-hidden, script, style, option, :disabled")) continue;
    const style = getComputedStyle(el), size = parseFloat(style.fontSize), big = size >= 24 || (size >= 18.6 && style.fontWeight >= 700);
    const a = light(over(parse(style.color), behind(el))), b = light(behind(el));
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < (big ? 3 : 4.5)) found.add(`${text.slice(0, 40)} (${el.tagName}.${el.className}): ${ratio.toFixed(2)}`);
  }
  return [...found];
}
"""


@pytest.fixture(scope="module")
def console(chromium_path: str) -> Iterator[Site]:
    directory = Path(tempfile.mkdtemp(prefix="vha-"))
    try:
        with site(directory, chromium_path) as made:
            yield made
    finally:
        shutil.rmtree(directory, ignore_errors=True)


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


def test_no_screen_violates_the_content_policy_or_complains(console: Site) -> None:
    with console.page() as page:
        page.add_init_script(LISTENS_FOR_VIOLATIONS)
        heard = complaints(page)
        for address in SCREENS:
            response = page.goto(address)
            assert response is not None
            assert response.status == 200, address
            policy = response.headers["content-security-policy"]
            assert "unsafe" not in policy
            assert "default-src 'none'" in policy
            page.evaluate("new Promise((drawn) => requestAnimationFrame(() => setTimeout(drawn)))")
            assert heard == [], address
    with console.page(logged_in=False) as page:
        page.add_init_script(LISTENS_FOR_VIOLATIONS)
        heard = complaints(page)
        page.goto("/admin/login/")
        page.get_by_label("Username").fill("nobody")
        page.get_by_label("Password").fill("wrong")
        page.get_by_role("button", name="Log in").click()
        expect(page.locator(".errornote")).to_be_visible()
        assert heard == []


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
    expect(timed.get_by_text("a new word")).to_be_visible()
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
    for _ in range(6):
        page.keyboard.press("Tab")
        seen.append(page.evaluate("document.activeElement.name || document.activeElement.textContent.trim()"))
    assert seen == ["hostname", "port", "system_role", "ip_address", "active", "Cancel", "Save"]
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
    expect(timed.get_by_text("seen while focused")).to_be_visible()
    expect(link).to_be_focused()


def test_an_open_menu_survives_a_poll(timed: Page, rename: Callable[[str], None]) -> None:
    timed.locator(f"#action-{'c' * 32}").click()
    rename("seen below an open menu")
    timed.clock.run_for(POLL_MS)
    expect(timed.get_by_text("seen below an open menu")).to_be_visible()
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
    expect(timed.get_by_text("seen above the fences")).to_be_visible()
    expect(said).to_be_visible()


def test_a_popup_and_what_is_typed_in_it_survive_a_poll(timed: Page, rename: Callable[[str], None]) -> None:
    dialog = opened(timed, timed.locator("#add-node"))
    expect(dialog.get_by_label("Hostname")).to_be_focused()
    timed.keyboard.type("half a na")
    rename("seen below a popup")
    timed.clock.run_for(POLL_MS)
    expect(timed.get_by_text("seen below a popup")).to_have_count(1)
    expect(dialog.get_by_label("Hostname")).to_be_focused()
    expect(dialog.get_by_label("Hostname")).to_have_value("half a na")


def test_ages_count_on_between_polls_that_bring_nothing_new(timed: Page) -> None:
    age = timed.locator("[data-age-key=n2]")
    expect(age).to_have_text("4 min ago")
    expect(timed.locator("[data-age-key=n3]")).to_have_text("never")


# --- readable


WIDTHS = (360, 768, 1024, 1360)
SCHEMES = ("light", "dark")
OVERFLOW = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"


@dataclass
class Looks:
    faint: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    """(screen, scheme) → texts that hardly stand out."""
    beyond: dict[tuple[str, int], int] = field(default_factory=dict)
    """(screen, width) → pixels by which the page is wider than its window."""

    def note(self, page: Page, screen: str) -> None:
        for scheme in SCHEMES:
            page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            if faint := page.evaluate(TOO_FAINT):
                self.faint[screen, scheme] = faint
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 800})
            if (beyond := page.evaluate(OVERFLOW)) > 0:
                self.beyond[screen, width] = beyond


@pytest.fixture(scope="module")
def looks(console: Site) -> Looks:
    """Every screen in both schemes and all widths, visited once."""
    made = Looks()
    with console.page() as page:
        for address in SCREENS:
            page.goto(address)
            made.note(page, address)
        page.goto(VAULT)
        page.locator("#fences").click()
        page.locator(f"#action-{'c' * 32}").click()
        made.note(page, "unfolded: fences, menu")
        page.keyboard.press("Escape")
        page.locator(f"#action-{'b' * 32}").click()
        opened(page, page.locator(f"#switchover-{'b' * 32}"))
        made.note(page, "popup: make master")
        page.keyboard.press("Escape")
        opened(page, page.locator(f"#delete-{'c' * 32}"))
        made.note(page, "popup: delete")
        page.keyboard.press("Escape")
        dialog = opened(page, page.locator("#add-node"))
        dialog.get_by_role("button", name="Save").click()
        expect(dialog.get_by_text("Enter the hostname")).to_be_visible()
        made.note(page, "popup: add, refused")
    with console.page(logged_in=False) as page:
        page.goto("/admin/login/")
        made.note(page, "login")
    return made


def test_every_text_stands_out_from_what_is_behind_it_in_light_and_dark(looks: Looks) -> None:
    assert looks.faint == {}


def test_no_screen_scrolls_sideways_at_any_width(looks: Looks) -> None:
    assert looks.beyond == {}


@pytest.mark.parametrize("width", WIDTHS)
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


def test_a_console_that_stopped_answering_is_told_and_taken_back(console: Site) -> None:
    """Last in this file: it stops the web server and starts it again."""
    with console.page() as page, contextlib.ExitStack() as stack:
        page.clock.install()
        page.goto(VAULT)
        banner = page.get_by_role("alert").filter(has_text="The console does not answer: what you see is old.")
        page.clock.run_for(STALE_MS)
        expect(banner).to_be_hidden()
        stack.callback(lambda: "web" in console.control.processes or console.control.web())
        # Not SIGKILL: gunicorn's workers would go on answering for a while without their master.
        console.control.kill("web", signal.SIGTERM)
        for _ in range(3):
            page.clock.run_for(STALE_MS // 3)
        expect(banner).to_be_visible()
        console.control.web()
        page.clock.run_for(POLL_MS)
        expect(banner).to_be_hidden()
