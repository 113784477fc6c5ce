"""May this host become a node? Every reason against it, at its field, with what to do."""

from dataclasses import replace
from typing import Any

import pytest

from replication.core import limits
from replication.core.preflight import UNREACHABLE, Peer, Question, judge, judge_unreachable, version_of
from replication.core.roles import ProcessState, SystemRole, Witness
from replication.core.version import VERSION
from tests.builders import VAULT, ip_of, report

MASTER = Peer(
    hostname="a.example", system_role=SystemRole.PRIMARY, is_primary=True, database_version="10.11.19-MariaDB-log"
)
OLDER, NEWER = "10.6.2-MariaDB", "11.4.1-MariaDB"


def question(**changes: Any) -> Question:
    values: dict[str, Any] = {
        "ip": ip_of("b"),
        "port": limits.AGENT_PORT,
        "database_port": limits.DATABASE_PORT,
        "system_role": SystemRole.FALLBACK,
        "vault": VAULT,
        "our_version": VERSION,
        "controller_versions": [VERSION],
        "peers": [MASTER],
    }
    return Question(**{**values, **changes})


FRESH = {"vault": "", "node": "", "db": {"source": ""}}
ERRORS = [
    pytest.param({}, {"vault": "e" * 32}, {}, "F25", "ip_address", id="it belongs to another vault"),
    pytest.param({}, {"address_kind": "dynamic"}, {}, "F30", "ip_address", id="its address comes from DHCP"),
    pytest.param({}, {"address_kind": "ppp"}, {}, "F30", "ip_address", id="its address comes from a PPPoE link"),
    pytest.param({}, {"agent_version": "0.0.1"}, {}, "F35", "", id="another version of our application"),
    pytest.param({"controller_versions": [VERSION, "9.9"]}, {}, {}, "F36", "", id="the consoles differ"),
    pytest.param({}, {"db": {"version": OLDER}}, {}, "F40", "ip_address", id="a fallback older than its master"),
    pytest.param(
        {"system_role": SystemRole.PRIMARY, "peers": [replace(MASTER, is_primary=False, system_role=SystemRole.FALLBACK)]},
        {"db": {"version": NEWER}},
        {},
        "F40",
        "ip_address",
        id="a master newer than the fallback that is there",
    ),
    pytest.param({}, {"process": ProcessState.DEAD}, {}, "F45", "ip_address", id="its database does not run"),
    pytest.param({}, {"database": None}, {}, "F45", "ip_address", id="its database does not answer"),
    pytest.param({}, {"database_port": 3306}, {}, "F46", "ip_address", id="another database port"),
    pytest.param({}, {}, {"witness": Witness.SILENT}, "F50", "ip_address", id="a firewall before the database"),
]  # fmt: skip
WARNINGS = [
    pytest.param({"db": {"version": NEWER}}, "F41", id="a fallback newer than its master"),
    pytest.param({"quarantine": "extra transactions 0-1-7"}, "F55", id="it is held back"),
]


@pytest.mark.parametrize(("asked", "says", "seen", "rule", "field"), ERRORS)
def test_it_may_not(asked: Any, says: Any, seen: Any, rule: str, field: str) -> None:
    judgement = judge(question(**asked), report("b", **{**FRESH, **says}), seen.get("witness", Witness.ANSWERS))
    assert [(f.rule, f.field) for f in judgement.errors] == [(rule, field)]
    assert all(len(f.says) > 30 for f in judgement.errors)


@pytest.mark.parametrize(("says", "rule"), WARNINGS)
def test_it_may_with_a_warning(says: Any, rule: str) -> None:
    judgement = judge(question(), report("b", **{**FRESH, **says}), Witness.ANSWERS)
    assert judgement.errors == ()
    assert [f.rule for f in judgement.warnings] == [rule]


@pytest.mark.parametrize("kind", sorted(UNREACHABLE))
def test_an_agent_that_does_not_answer_is_said_with_its_address(kind: str) -> None:
    judgement = judge_unreachable(question(), kind, "version 7")
    (finding,) = judgement.errors
    assert (finding.rule, finding.field) == ("F10", "ip_address")
    assert ip_of("b") in finding.says
    assert "{" not in finding.says


def test_an_unknown_kind_of_failure_is_said_as_silence() -> None:
    assert judge_unreachable(question(), "never-heard-of", "") == judge_unreachable(question(), "silent", "")


def test_a_good_host_may() -> None:
    judgement = judge(question(), report("b", **FRESH), Witness.ANSWERS)
    assert (judgement.errors, judgement.warnings) == ((), ())


def test_a_node_of_this_vault_may_come_back() -> None:
    assert judge(question(), report("b"), Witness.ANSWERS).errors == ()


def test_all_reasons_come_at_once() -> None:
    bad = report("b", **{**FRESH, "address_kind": "ppp", "agent_version": "0", "process": ProcessState.DEAD})
    assert [f.rule for f in judge(question(), bad, Witness.ANSWERS).errors] == ["F30", "F35", "F45"]


def test_a_version_that_is_not_known_is_not_compared() -> None:
    unknown = [replace(MASTER, database_version="")]
    judgement = judge(question(peers=unknown), report("b", **{**FRESH, "db": {"version": OLDER}}), Witness.ANSWERS)
    assert judgement.errors == judgement.warnings == ()


def test_two_fallbacks_are_not_compared_with_each_other() -> None:
    peer = replace(MASTER, is_primary=False, system_role=SystemRole.FALLBACK)
    judgement = judge(question(peers=[peer]), report("b", **{**FRESH, "db": {"version": OLDER}}), Witness.ANSWERS)
    assert judgement.errors == judgement.warnings == ()


@pytest.mark.parametrize(
    ("text", "version"),
    [("10.11.19-MariaDB-log", (10, 11, 19)), ("8.0.36", (8, 0, 36)), ("", ()), ("MariaDB", ()), ("11", (11,))],
)
def test_versions(text: str, version: tuple[int, ...]) -> None:
    assert version_of(text) == version


def test_version_ten_is_newer_than_nine() -> None:
    assert version_of("10.2.0") > version_of("9.9.9")
