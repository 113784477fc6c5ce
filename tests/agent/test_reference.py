"""The reference pages keep up with the program: every verb, every reason of a refusal, every option is on them."""

import re
from pathlib import Path

import pytest

from replication.agent import bodies, cli, server
from replication.core.commands import Verb

ROOT = Path(__file__).resolve().parent.parent.parent
PROTOCOL = (ROOT / "docs" / "reference" / "agent-protocol.md").read_text()
COMMAND_LINE = (ROOT / "docs" / "reference" / "vault-agent.md").read_text()


@pytest.mark.parametrize("verb", list(Verb))
def test_every_verb_has_a_heading(verb: Verb) -> None:
    assert f"\n### {verb}\n" in PROTOCOL


def test_every_reason_of_a_refusal_is_explained() -> None:
    source = "".join(file.read_text() for file in (ROOT / "replication" / "procedures" / "vault").glob("*.py"))
    source += (ROOT / "replication" / "agent" / "core.py").read_text()
    found = set(re.findall(r'refusal\(\s*"([a-z-]+)"', source))
    found |= set(re.findall(r'StepFailed\([^,]+, [^,]+, "([a-z-]+)"', source))
    assert found, "the pattern finds them"
    assert [reason for reason in sorted(found) if f"`{reason}`" not in PROTOCOL] == []


@pytest.mark.parametrize("command", ["init", "serve", "status", "purge"])
def test_every_option_is_explained(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main([command, "--help"])
    options = set(re.findall(r"(?<![\w-])--[a-z-]+", capsys.readouterr().out)) - {"--help"}
    section = COMMAND_LINE.split(f"\n## vault-agent {command}\n")[1].split("\n## ")[0]
    # The home is explained where it is made.
    missing = [option for option in sorted(options) if f"`{option}" not in section and option != "--home"]
    assert missing == []


def test_the_limits_on_the_page_are_those_in_the_code() -> None:
    limits = PROTOCOL.split("\n### Limits\n")[1].split("\n## ")[0]
    for figure in (
        f"{server.BODY_MAX_BYTES // 1024} KiB",
        f"{server.HEADER_MAX_BYTES} bytes",
        f"{server.HEADERS_MAX} headers",
        f"{server.HANDSHAKE_SECONDS} s for the handshake",
        f"{server.IDLE_SECONDS} s",
        f"{server.CONNECTIONS_MAX} connections",
    ):
        assert figure in limits
    assert server.HANDSHAKE_SECONDS == bodies.BODY_SECONDS
