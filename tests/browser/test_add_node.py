"""The popup of `+ Add Node` by keyboard alone, on a real vault host and a real ops worker.

Proves: the checklist comes by itself after the last key, once for a whole address, and takes neither focus nor what is being typed;
it is announced by a live region; Enter saves, and an error keeps the popup open at its field; Check asks as well.
"""

import contextlib
import json
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, Route, expect

from tests.browser.chromium import WAIT_MS, browser, complaints, log_in
from tests.stack import ADMINISTRATOR, Controller, controller
from tests.vault_host import VaultHost, vault_hosts

HOST, NOBODY = "127.0.62.51", "127.0.62.52"
AFTER_LAST_KEY_MS = 600
IN_ORDER = "Everything is in order: this host can be added."


@pytest.fixture
def place() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="vha-"))
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(autouse=True)
def patience() -> Iterator[None]:
    """A busy machine is no failure."""
    expect.set_options(timeout=WAIT_MS)
    yield
    expect.set_options(timeout=None)


WATCHES = """
window.checks = [];
const note = (word) => (event) => { if (event.detail.pathInfo.requestPath.endsWith("/add/check/")) window.checks.push(word); };
document.body.addEventListener("htmx:beforeSend", note("asked"));
document.body.addEventListener("htmx:afterRequest", note("answered"));
"""


def checks_of(page: Page) -> Callable[[], list[str]]:
    """What happens to requests for a check, from now on: "asked" and "answered", in the order in which the page itself met
    them. The browser tells of an answer's end later, perhaps after the next request has begun.
    """
    page.evaluate(WATCHES)
    return lambda: list(page.evaluate("window.checks"))


def test_a_node_is_added_by_keyboard_while_its_host_is_checked(place: Path, chromium_path: str) -> None:
    with contextlib.ExitStack() as stack:
        host = stack.enter_context(vault_hosts(place))(HOST, "vault-new", client=False).init().start()
        control = stack.enter_context(controller(place))
        url = control.web()
        control.ops()
        page = stack.enter_context(browser(chromium_path)).new_page()
        heard = complaints(page)
        log_in(page, url, ADMINISTRATOR, control.password)
        page.get_by_role("navigation", name="Main menu").get_by_role("link", name="Vault", exact=True).click()
        _adds_it(page, host, control)
        assert heard == []


def _adds_it(page: Page, host: VaultHost, control: Controller) -> None:
    dialog, keys = page.get_by_role("dialog"), page.keyboard
    page.get_by_role("link", name="Add Node").focus()
    keys.press("Enter")
    hostname, address = dialog.get_by_label("Hostname"), dialog.get_by_label("IP Address")
    expect(hostname).to_be_focused()
    says = dialog.get_by_role("status")
    expect(says).to_have_attribute("aria-live", "polite")
    expect(says).to_have_text("The host is checked when hostname, port and IP address are there.")
    seen = checks_of(page)

    # --- typed as people do, key by key: one check, when the address is whole
    keys.type("vault-new")
    for _ in range(3):
        keys.press("Tab")
    expect(address).to_be_focused()
    keys.type(host.ip, delay=40)
    expect(says).to_have_text(IN_ORDER)
    expect(address).to_be_focused()
    expect(address).to_have_value(host.ip)
    assert seen() == ["asked", "answered"]
    lines = dialog.get_by_role("listitem")
    expect(lines).to_have_count(13)
    expect(lines.first).to_contain_text(re.compile(r"OK\s+Vault agent"))
    assert control.rows("SELECT COUNT(*) AS n FROM nodes_vaultnode")[0]["n"] == 0

    # --- more is typed while an answer is on its way: it stays, and is asked about afterwards, never beside
    held: list[Route] = []

    def hold_the_first(route: Route) -> None:
        held.append(route)
        if len(held) > 1:
            route.continue_()

    page.route("**/add/check/", hold_the_first)
    keys.press("Backspace")
    with page.expect_request("**/add/check/"):
        keys.type("2")
    expect(page.locator("#checks-busy")).to_be_visible()
    keys.type("9")
    page.wait_for_timeout(AFTER_LAST_KEY_MS + 200)  # that nothing is asked cannot be waited for
    assert len(held) == 1
    held[0].continue_()
    expect(lines.first).to_have_text(re.compile(r"Not known\s+Not checked yet\s+IP Address: This is no IP address"))
    expect(address).to_have_value(f"{NOBODY}9")
    keys.press("Backspace")
    expect(says).to_have_text("1 error: this host cannot be added as it is.")
    expect(lines.first).to_contain_text(f"No vault agent answers on {NOBODY} port 5389")
    expect(lines.first).to_contain_text("Error")
    expect(page.locator("#checks-busy")).to_be_hidden()
    expect(address).to_have_value(NOBODY)
    expect(address).to_be_focused()
    met = seen()
    assert met == ["asked", "answered"] * (len(met) // 2), "never two at a time"

    # --- Enter is Save: refused at its field, the popup stays
    keys.press("Enter")
    refusal = dialog.locator("#id_ip_address_error")
    expect(refusal).to_contain_text("No vault agent answers")
    expect(address).to_be_focused()
    expect(address).to_have_attribute("aria-invalid", "true")
    expect(hostname).to_have_value("vault-new")
    assert seen() == met, "Save is not Check"
    flaws = Axe().run(page).response["violations"]
    assert [flaw["id"] for flaw in flaws if flaw["impact"] in ("serious", "critical")] == [], flaws

    # --- Check by its button; then Save
    keys.press("End")
    keys.press("Backspace")
    keys.type("1")
    expect(refusal).to_have_count(0)  # it was about another address
    check = dialog.get_by_role("button", name="Check")
    expect(says).to_have_text(IN_ORDER)
    check.focus()
    with page.expect_response(lambda response: response.url.endswith("/add/check/")):
        keys.press("Enter")
    expect(says).to_have_text(IN_ORDER)
    expect(check).to_be_focused()
    address.focus()
    keys.press("Enter")
    expect(dialog).to_be_hidden()
    expect(page.get_by_role("row").filter(has_text=host.ip)).to_be_visible()
    done = control.rows("SELECT state, result FROM nodes_operation WHERE kind = 'preflight' ORDER BY created_at")
    assert {row["state"] for row in done} == {"succeeded"}
    assert any(json.loads(row["result"])["summary"].startswith("F10 · No vault agent answers") for row in done)
