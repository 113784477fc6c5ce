"""Every screen and every popup of the console as a person with any screen, any colours and any aid would meet it.

One walk over all addresses of tests/nodes/addresses.py, so that a new one cannot be forgotten: axe finds no barrier (WCAG 2.2 AA, and
what it calls best practice) in light and dark, nothing is wider than its window from 360 to 2560 px, nothing violates the content
policy or makes the browser complain, each page has a title and one heading, and the focus is seen wherever it goes.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Page, expect

from tests.browser.chromium import complaints
from tests.browser.inventory import (
    BACKUP,
    DIVERGED,
    DRIFTED,
    EVENT,
    FAILED,
    FAILED_OVER,
    LOSS,
    REBUILDING,
    RUNNING,
    Site,
)
from tests.nodes.addresses import DOORS, addresses, url_of

VAULT = "/admin/nodes/vaultnode/"
Scheme = Literal["light", "dark"]
SCHEMES: tuple[Scheme, ...] = ("light", "dark")
WIDTHS = (360, 768, 1024, 1360, 2560)
RULES = {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
ONLY_COLOURS = {"type": "rule", "values": ["color-contrast", "link-in-text-block"]}
"""What differs between light and dark: everything else is asked once."""

LISTENS_FOR_VIOLATIONS = """
document.addEventListener("securitypolicyviolation", (e) =>
  console.error(`violates ${e.violatedDirective}: ${e.blockedURI} ${e.sourceFile}:${e.lineNumber} ${e.sample}`));
"""
# Without preloading: axe would put a style into the page, which the policy forbids.
FOUND_BY_AXE = """
async ([where, rules]) => {
  const found = await axe.run(where, {runOnly: rules, resultTypes: ["violations"], preload: false});
  return found.violations.map((v) => `${v.id}: ${v.nodes.slice(0, 4).map((n) =>
    n.html.slice(0, 140) + (n.any[0] && v.id === "color-contrast" ? " " + n.any[0].message : "")).join(" | ")}`);
}
"""
OVERFLOW = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"
# Everything that takes the focus and does not look different then. It has to be a keyboard's focus: a Tab comes first.
UNSEEN_FOCUS = """
(where) => {
  const look = (e) => { const s = getComputedStyle(e);
    const ring = s.outlineStyle !== "none" && parseFloat(s.outlineWidth) >= 1 && !s.outlineColor.endsWith(", 0)");
    return [ring, s.boxShadow, s.borderColor, s.backgroundColor].join(); };
  const able = "a[href], button:not(:disabled), input:not([type=hidden]):not(:disabled), select, textarea, summary, [tabindex='0']";
  const found = [];
  for (const e of document.querySelectorAll(`${where} :is(${able})`)) {
    if (!e.checkVisibility({visibilityProperty: true})) continue;
    document.activeElement.blur();
    const before = look(e);
    e.focus({preventScroll: true});
    if (document.activeElement === e && look(e) === before) found.push(e.outerHTML.slice(0, 120));
  }
  document.activeElement.blur();
  return found;
}
"""
READY = """
() => document.readyState === "complete" && !document.querySelector(".htmx-request, .htmx-swapping, .htmx-settling")
"""
# The places where somebody stands who has opened a screen: its own address, and what a filter or a state makes of it.
MORE_SCREENS = (
    f"{VAULT}{'b' * 32}/change/?active=0",
    *(f"{VAULT}{name * 32}/switchover/" for name in "ac"),
    f"{VAULT}{'a' * 32}/delete/",
    f"{VAULT}{DRIFTED}/change/",
    "/admin/nodes/event/?text=nothing+like+this&level=loud&rule=P30",
    "/admin/nodes/operation/?all=1&state=open",
    f"/admin/nodes/operation/{FAILED}/",
    "/admin/auditlog/logentry/?via=post",
    "/admin/help/status/",
    "/admin/help/?q=disk",
    "/admin/help/?q=zebra",
    "/admin/django_rq/dashboard/queue/ops/queued/",
    "/admin/nodes/vaultnode/lag/?hours=24",
)
# What a node's data is asked about, with something to say each: beside a running operation most are refused.
DATA_POPUPS = (
    *(f"{VAULT}{DIVERGED}/{name}/" for name in ("change", "rebuild", "undo", "remove-kept", "export", "resynchronize")),
    f"{VAULT}{'a' * 32}/resynchronize/",
)
NOTHING_RUNS = f"UPDATE nodes_operation SET state = 'failed', finished_at = CURRENT_TIMESTAMP WHERE id = '{RUNNING}'"
VARIANTS = {
    "paused": "UPDATE nodes_vault SET paused_at = CURRENT_TIMESTAMP, paused_by = 'admin', paused_reason = 'moving racks'",
    "nobody looks": "UPDATE nodes_servicelease SET renewed_at = '2026-01-01 00:00:00'",
    "solo": "UPDATE nodes_vault SET promotable_id = NULL, may_ack = '[]', reason = 'beta.vault.example does not answer'",
    "drifted": f"UPDATE nodes_vaultnode SET drift = '[\"vault.accounts: 3 rows differ (other content: id=5)\"]' WHERE id = '{'b' * 32}'",
    "no backup": "UPDATE nodes_backup SET fault = 'its file is gone'",
    "no service": "UPDATE nodes_appservice SET desired_state = 'stopped'",
}
EMPTY = """
from nodes.models import *
for model in (Event, Operation, LogLine, LagSample, ServiceWorker, ApplicationNode, ServiceLease, Backup, LossReport): model.objects.all().delete()
Vault.objects.update(primary=None, promotable=None, may_ack=[], if_lost={})
VaultNode.objects.all().delete()
AppService.objects.update(desired_state="stopped", started_on=None)
"""


@dataclass
class Looks:
    barriers: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    beyond: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    complaints: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    headings: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    unseen_focus: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    visited: list[str] = field(default_factory=list)
    popups: list[str] = field(default_factory=list)
    live: list[str] = field(default_factory=list)

    def note(self, page: Page, screen: str, *, where: str = "body") -> None:
        """Look at what is there now, in all schemes and widths."""
        self.visited.append(screen)
        page.set_viewport_size({"width": 1360, "height": 900})
        self.barriers[screen] += barriers(page, where, SCHEMES if where == "body" else SCHEMES[:1])
        page.keyboard.press("Tab")
        self.unseen_focus[screen] += page.evaluate(UNSEEN_FOCUS, where)
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 800})
            if (beyond := page.evaluate(OVERFLOW)) > 0:
                self.beyond[screen].append(f"{beyond} px at {width}")

    def visit(self, page: Page, address: str, *, status: int = 200) -> None:
        response = page.goto(address)
        assert response is not None
        assert response.status == status, address
        policy = response.headers["content-security-policy"]
        assert "unsafe" not in policy
        assert "default-src 'none'" in policy
        page.wait_for_function(READY)
        headings = page.get_by_role("heading", level=1).all_inner_texts()
        title = page.title()
        if len(headings) != 1 or not headings[0].strip() or title.strip(" |") == "" or title.startswith(" |"):
            self.headings[address] = [title, *headings]
        self.note(page, address)


def barriers(page: Page, where: str = "body", schemes: Iterable[Scheme] = SCHEMES) -> list[str]:
    """What axe finds. A popup's colours are those of the page that it is without JavaScript: its structure is enough."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE_SCRIPT)
    found: list[str] = []
    for scheme in schemes:
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        rules = RULES if scheme == "light" else ONLY_COLOURS
        found += [f"{scheme}: {each}" for each in page.evaluate(FOUND_BY_AXE, [where, rules])]
    page.emulate_media(color_scheme="light", reduced_motion="reduce")
    return found


def things(site: Site) -> dict[str, Any]:
    """What the samples of the addresses stand for."""
    newest = site.control.rows("SELECT max(id) AS id FROM auditlog_logentry")[0]["id"]
    return {
        "node": "b" * 32, "host": 1, "service": 1, "user": 2, "group": 1, "event": EVENT, "operation": RUNNING,
        "failover": FAILED_OVER, "loss": LOSS, "backup": BACKUP, "entry": newest,
    }  # fmt: skip


def screens(site: Site) -> dict[str, int]:
    """Every address that answers an administrator with a page, and its status."""
    found = {}
    known = things(site)
    for address in addresses():
        door = DOORS[address.key]
        if address.key.startswith(("healthz", "readyz")) or door.get not in (200, 404):
            continue
        url = url_of(address, known).replace("some-job", "another-failed-job")
        found[url] = door.get
    return found


@pytest.fixture(scope="module")
def looks(shared_site: Site) -> Looks:
    """Everything, visited once."""
    made = Looks()
    site = shared_site
    site.restore("busy")
    with site.page(reduced_motion="reduce") as page:
        page.add_init_script(LISTENS_FOR_VIOLATIONS)
        heard = complaints(page)

        def done(screen: str) -> None:
            made.complaints[screen] += [text for text in heard if " 404 " not in text]
            heard.clear()

        plain = [url for url, status in screens(site).items() if status == 200 and is_page(page, url)]
        for url in (*plain, *MORE_SCREENS):
            made.visit(page, url)
            done(url)
            if page.locator("#dialog-title").count():
                made.popups.append(url)
            if page.locator("#live").count():
                made.live.append(url)
        made.visit(page, "/admin/there/is/no/such/page/", status=404)
        done("404")
        site.control.execute(NOTHING_RUNS)
        for url in DATA_POPUPS:
            made.visit(page, url)
            done(url)
            assert not page.locator(".form-error").count(), f"{url} is refused"
        made.popups += DATA_POPUPS
        page.goto(VAULT)
        for url in made.popups:
            page.evaluate("(url) => htmx.ajax('GET', url, '#dialog-body')", url)
            expect(page.get_by_role("dialog")).to_be_visible()
            page.wait_for_function(READY)
            made.note(page, f"popup {url}", where="#dialog")
            page.keyboard.press("Escape")
            expect(page.get_by_role("dialog")).to_be_hidden()
            done(f"popup {url}")
        unfolded(page, made)
        done("unfolded")
        for name, statement in VARIANTS.items():
            site.restore("busy")
            site.control.execute(statement)
            page.goto(VAULT)
            page.wait_for_function(READY)
            made.note(page, f"vault, {name}")
            done(f"vault, {name}")
        site.restore("busy")
        site.add(REBUILDING)
        for url in (VAULT, *(f"/admin/nodes/operation/{end}" for end in ("", f"{RUNNING}/", f"{RUNNING}/cancel/"))):
            made.visit(page, url)
            done(f"rebuilding {url}")
        site.add(EMPTY)
        for url in made.live:
            if RUNNING not in url and FAILED not in url and FAILED_OVER not in url:
                made.visit(page, url)
                done(f"empty {url}")
    with site.page(logged_in=False, reduced_motion="reduce") as page:
        page.add_init_script(LISTENS_FOR_VIOLATIONS)
        heard = complaints(page)
        made.visit(page, "/admin/login/")
        page.get_by_label("Username").fill("nobody")
        page.get_by_label("Password").fill("wrong")
        page.get_by_role("button", name="Log in").click()
        expect(page.get_by_role("alert")).to_be_visible()
        made.note(page, "login, refused")
        made.complaints["login"] += heard
    return made


def is_page(page: Page, url: str) -> bool:
    """Not a download, a list of words or a fragment."""
    answer = page.request.get(url)
    return answer.headers.get("content-type", "").startswith("text/html") and "<h" in answer.text()[:100000]


def unfolded(page: Page, made: Looks) -> None:
    """What is open only after a click, and a form that was refused."""
    page.goto(VAULT)
    page.locator("#fences").click()
    made.note(page, "unfolded: fences")
    for node in "bc":
        page.locator(f"#action-{node * 32}").click()
        # The menu alone: what it covers while it is open is no target.
        made.note(page, f"unfolded: menu of {node}", where="details.menu[open]")
        page.keyboard.press("Escape")
    page.locator("#add-node").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="Save").click()
    expect(dialog.get_by_text("Enter the hostname")).to_be_visible()
    made.note(page, "popup: add, refused", where="#dialog")
    page.keyboard.press("Escape")


def test_axe_finds_no_barrier_in_light_and_dark(looks: Looks) -> None:
    assert only_found(looks.barriers) == {}


def test_nothing_is_wider_than_its_window(looks: Looks) -> None:
    assert only_found(looks.beyond) == {}


def test_nothing_violates_the_content_policy_or_makes_the_browser_complain(looks: Looks) -> None:
    assert only_found(looks.complaints) == {}


def test_every_page_has_a_title_and_one_heading(looks: Looks) -> None:
    assert only_found(looks.headings) == {}


def test_the_focus_is_seen_wherever_it_goes(looks: Looks) -> None:
    assert only_found(looks.unseen_focus) == {}


def test_the_walk_has_seen_what_there_is(looks: Looks) -> None:
    """Against a walk that ends in front of a login page and finds nothing wrong there."""
    for part in (
        "vaultnode/add/",
        "switchover/",
        "setting/",
        "cancel/",
        "applicationnode/",
        "delete/",
        "pause/",
        "policy/",
        "rebuild/",
        "undo/",
        "remove-kept/",
        "data-policy/",
        "backup/make/",
    ):
        assert any(part in url for url in looks.popups), part
    for part in (
        "vaultnode/",
        "appservice/",
        "/log/",
        "applicationnode/",
        "event/",
        "operation/",
        "backup/",
        "lossreport/",
    ):
        assert any(part in url for url in looks.live), part
    assert len(looks.visited) > 80


def test_the_walk_finds_what_is_planted(console: Site) -> None:
    with console.page(viewport={"width": 1360, "height": 900}) as page:
        page.add_init_script(LISTENS_FOR_VIOLATIONS)
        heard = complaints(page)
        made = Looks()
        made.visit(page, VAULT)
        clean = {name: only_found(getattr(made, name)) for name in ("barriers", "beyond", "headings", "unseen_focus")}
        page.evaluate("""() => {
            const planted = document.createElement("div");
            planted.innerHTML = `<button type="button"></button><h1>Another</h1><p class="faint">hardly there</p><div class="wide">.</div>
                <button type="button" class="ringless">no ring</button>`;
            document.getElementById("content").append(planted);
            const css = (name, rules) => { for (const [k, v] of Object.entries(rules)) planted.querySelector(name).style[k] = v; };
            css(".faint", {color: "#ccc", background: "#fff"});
            css(".wide", {width: "3000px"});
            css(".ringless", {outline: "none"});
            document.head.append(Object.assign(document.createElement("style"), {textContent: "body { color: red }"}));
        }""")
        made.note(page, "planted")
    assert clean == {"barriers": {}, "beyond": {}, "headings": {}, "unseen_focus": {}}
    found = " ".join(made.barriers["planted"])
    assert "button-name" in found
    assert "hardly there" in found
    assert len(made.beyond["planted"]) == len(WIDTHS)
    assert "no ring" in " ".join(made.unseen_focus["planted"])
    assert any("violates style-src" in text for text in heard)


def only_found(notes: dict[str, list[str]]) -> dict[str, list[str]]:
    return {screen: found for screen, found in notes.items() if found}
