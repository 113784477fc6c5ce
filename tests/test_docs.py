"""The pages that are not checked elsewhere: every setting and command has its heading, every pin its purpose, every link its target."""

import re
from pathlib import Path

import pytest

from replication.core.version import VERSION

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
SETTINGS = DOCS / "reference" / "settings.md"
COMMANDS = DOCS / "reference" / "commands.md"
PROGRAMS = [file for file in (ROOT / "script").iterdir() if file.is_file() and file.suffix == ""]


def headings(page: Path) -> list[str]:
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"^#+ +(.+?) *$", text, flags=re.MULTILINE)


def anchor(heading: str) -> str:
    """As GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def variables_in_code() -> set[str]:
    """Every variable that settings.py or a program in script/ reads; a NAME_FILE is explained once, for all of them."""
    files = [
        *(ROOT / "sectona_ha").rglob("*.py"),
        *(ROOT / "script").rglob("*.py"),
        *PROGRAMS,
        ROOT / "script" / "lib.sh",
    ]
    found = {name for file in files for name in re.findall(r"VAULT_HA_[A-Z_]*[A-Z]", file.read_text())}
    return {name.removesuffix("_FILE") for name in found}


def test_every_setting_has_a_heading_and_every_heading_a_setting() -> None:
    documented = [heading for heading in headings(SETTINGS) if heading.startswith("VAULT_HA_")]
    assert len(documented) == len(set(documented))
    assert set(documented) == variables_in_code()


def test_every_command_has_a_heading_and_every_heading_a_command() -> None:
    ours = (ROOT / "replication" / "management" / "commands").glob("[!_]*.py")
    commands = {f"script/{program.name}" for program in PROGRAMS} | {f"manage.py {file.stem}" for file in ours}
    documented = [heading for heading in headings(COMMANDS) if re.match(r"script/\w|manage\.py ", heading)]
    assert len(documented) == len(set(documented))
    assert set(documented) == commands


def test_every_program_in_script_is_shell_that_a_bare_system_can_run() -> None:
    for program in PROGRAMS:
        assert program.stat().st_mode & 0o111, f"{program.name} is not executable"
        assert program.read_text().startswith("#!/bin/sh\n"), program.name


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt"])
def test_every_pin_is_exact_and_has_a_line_of_purpose_above_it(name: str) -> None:
    lines = (ROOT / name).read_text().splitlines()
    pins = [number for number, line in enumerate(lines) if line and not line.startswith(("#", "-r "))]
    assert pins
    for number in pins:
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][0-9A-Za-z.]*", lines[number]), lines[number]
        assert lines[number - 1].startswith("# "), f"{lines[number]} has no purpose"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_between_pages_resolves(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, fragment = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.is_relative_to(ROOT), f"{target} leaves the project"
        assert file.exists(), f"{target} is not there"
        if fragment:
            assert fragment in map(anchor, headings(file)), f"{file.name} has no heading for #{fragment}"


def test_the_changelog_starts_with_this_version() -> None:
    versions = [heading for heading in headings(ROOT / "CHANGELOG.md") if heading[0].isdigit()]
    assert versions[0] == VERSION
    assert len(versions) == len(set(versions))


def test_the_readme_names_exactly_two_commands_to_set_up() -> None:
    section = (ROOT / "README.md").read_text().split("\n## Set up\n")[1].split("\n## ")[0]
    blocks = re.findall(r"^```\w*\n(.*?)^```", section, flags=re.MULTILINE | re.DOTALL)
    commands = [line.split("#")[0].strip() for block in blocks for line in block.splitlines()]
    assert commands == ["script/run", "script/test"]


def test_the_contributing_page_names_every_room_of_the_import_contract() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    layers = (ROOT / ".importlinter").read_text().split("layers =\n")[1].split("\n\n")[0]
    rooms = {name.replace(".", "/") for name in re.findall(r"[a-z_.]+", layers)}
    assert len(rooms) > 5
    assert not {room for room in rooms if room not in text and room.rpartition("/")[2] + ".py" not in text}
