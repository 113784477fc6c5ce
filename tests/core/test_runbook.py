"""Every rule id of the code has its heading in the runbook, every heading its rule, and each says what an operator needs."""

import re
from pathlib import Path

import pytest

from replication.core import diagnosis, plan, sources, switchover

ROOT = Path(__file__).parents[2]
RUNBOOK = ROOT / "docs" / "runbook"
FAMILIES = "DCPFWSRK"
FULL = ("You see", "It means", "The system", "Check", "Act", "Can be lost", "Undo")
REFUSAL = ("You see", "It means", "Check", "Act")


def ids_in_code() -> set[str]:
    """Rule ids as string literals, wherever they are."""
    literal = re.compile(rf'"([{FAMILIES}]\d{{2,3}})"')
    files = [file for room in ("replication", "nodes", "sectona_ha") for file in (ROOT / room).rglob("*.py")]
    return {id for file in files for id in literal.findall(file.read_text())}


def sections() -> dict[str, str]:
    """Rule id → its heading and text. The page of the status words is no page of rules: tests/nodes/test_help.py has its test."""
    found: dict[str, str] = {}
    for page in sorted(set(RUNBOOK.glob("*.md")) - {RUNBOOK / "status.md"}):
        for section in re.split(r"^## ", page.read_text(), flags=re.MULTILINE)[1:]:
            id = section.split(" ", 1)[0]
            assert id not in found, f"{id} has two headings"
            found[id] = section
    return found


def test_every_rule_has_a_heading_and_every_heading_a_rule() -> None:
    assert set(sections()) == ids_in_code()


@pytest.mark.parametrize("id", sorted(sections()))
def test_a_section_says_what_an_operator_needs(id: str) -> None:
    labels = REFUSAL if id[0] in "FWRK" else FULL
    positions = [sections()[id].find(f"- **{label}**: ") for label in labels]
    assert -1 not in positions, f"{id} lacks {labels[positions.index(-1)]}"
    assert positions == sorted(positions), "always in the same order"


def test_headings_say_what_the_screen_says() -> None:
    for rule in (*diagnosis.RULES, *plan.RULES, *switchover.RULES, *sources.RULES):
        heading = sections()[rule.id].splitlines()[0]
        assert heading == f"{rule.id} · {rule.says}"


def test_every_family_is_on_the_first_page() -> None:
    first = (RUNBOOK / "README.md").read_text()
    pages = {page.name for page in RUNBOOK.glob("*.md")} - {"README.md"}
    assert all(f"]({page})" in first for page in pages)
    assert all(re.search(rf"^\| {family}\d\d", first, re.MULTILINE) for family in FAMILIES)
