"""May this host become a node? Each check has an outcome, at its field, with what to do; what was not answered is not known.

The good host of these tables is "c", which is to become a fallback beside "a", the Master, and "b".
"""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from replication.core import limits
from replication.core.checks import (
    PEERS_ASKED,
    SILENT,
    CheckName,
    Judgement,
    Look,
    Outcome,
    Peer,
    Question,
    Seen,
    clock_ahead,
    doors_of,
)  # fmt: skip
from replication.core.preflight import UNREACHABLE, judge, judge_unreachable, version_of
from replication.core.probe import Door, ProbeAnswer, Reach, Target
from replication.core.roles import ProcessState, SystemRole, Witness
from replication.core.version import VERSION
from tests.builders import VAULT, ip_of, report

GB = 10**9
NOW = datetime(2029, 6, 1, 12, tzinfo=UTC)
OLDER, SAME, NEWER = "10.6.2-MariaDB", "10.11.19-MariaDB-log", "11.4.1-MariaDB"


def peer(name: str, **changes: Any) -> Peer:
    leads = name == "a"
    values: dict[str, Any] = {
        "hostname": f"{name}.example",
        "ip": ip_of(name),
        "port": limits.AGENT_PORT,
        "database_port": limits.DATABASE_PORT,
        "system_role": SystemRole.PRIMARY if leads else SystemRole.FALLBACK,
        "is_primary": leads,
        "leads": leads,
        "active": True,
        "agent_id": f"agent-{name}",
        "database_version": SAME,
        "server_id": ord(name),
    }
    return Peer(**{**values, **changes})


MASTER, SLAVE = peer("a"), peer("b")


def question(**changes: Any) -> Question:
    values: dict[str, Any] = {
        "hostname": "c.example",
        "ip": ip_of("c"),
        "port": limits.AGENT_PORT,
        "database_port": limits.DATABASE_PORT,
        "system_role": SystemRole.FALLBACK,
        "vault": VAULT,
        "our_version": VERSION,
        "controller_versions": [VERSION],
        "peers": [MASTER, SLAVE],
    }
    return Question(**{**values, **changes})


def look(targets: tuple[Target, ...], *, data: int | None = 2 * GB, **changes: Any) -> Look:
    """Everything answers, except `ip:port` → Reach in `but`."""
    but: dict[str, Reach] = changes.pop("but", {})
    reached = {t: but.get(f"{t.ip}:{t.port}", Reach.ANSWERS) for t in targets}
    answer = ProbeAnswer(clock=0.0, server_id=1, data_bytes=data, reached=tuple(reached.values()))
    return Look(answer=answer, reached=reached, **changes)


def judged(asked: Question | None = None, says: dict[str, Any] | None = None, **seen: Any) -> Judgement:
    """What is said of a good host with these changes."""
    asked = asked or question()
    fresh: dict[str, Any] = {
        "vault": "",
        "node": "",
        "db": {"source": "", "server_id": 3, **(says or {}).get("db", {})},
    }
    values: dict[str, Any] = {
        "report": report("c", **{**fresh, **{k: v for k, v in (says or {}).items() if k != "db"}}),
        "witness": Witness.ANSWERS,
        "look": look(asked.their_doors, data=GB // 10),
        "peers": {p.hostname: look(asked.own_doors) for p in asked.asked},
        "now": NOW,
    }
    return judge(asked, Seen(**{**values, **seen}))


def found(judgement: Judgement) -> list[tuple[str, str, str]]:
    """Everything that is not in order and has a rule."""
    return [(c.rule, c.outcome.value, c.field) for c in judgement.checks if c.rule]


def at(name: str, port: int = limits.DATABASE_PORT) -> str:
    return f"{ip_of(name)}:{port}"


def from_peers(asked: Question, **but: Look) -> dict[str, Look]:
    return {p.hostname: but.get(p.hostname[0], look(asked.own_doors)) for p in asked.asked}


AGENT = limits.AGENT_PORT
Q = question()
ANSWERED = [
    pytest.param({}, {"vault": "e" * 32}, {}, "F25", "error", "ip_address", id="it belongs to another vault"),
    pytest.param({}, {"address_kind": "dynamic"}, {}, "F30", "error", "ip_address", id="its address comes from DHCP"),
    pytest.param({}, {"address_kind": "ppp"}, {}, "F30", "error", "ip_address", id="its address comes from a PPPoE link"),
    pytest.param({}, {"agent_version": "0.0.1"}, {}, "F35", "error", "", id="another version of our application"),
    pytest.param({"controller_versions": [VERSION, "9.9"]}, {}, {}, "F36", "error", "", id="the consoles differ"),
    pytest.param({}, {"db": {"version": OLDER}}, {}, "F40", "error", "ip_address", id="a fallback older than its master"),
    pytest.param({}, {"db": {"version": NEWER}}, {}, "F41", "warning", "", id="a fallback newer than its master"),
    pytest.param(
        {"system_role": SystemRole.PRIMARY, "peers": [SLAVE]}, {"db": {"version": NEWER}}, {}, "F40", "error", "ip_address",
        id="a master newer than the fallback that is there",
    ),
    pytest.param({}, {"db": {"version": "9.7.4-2"}}, {}, "F42", "error", "ip_address", id="MySQL beside MariaDB"),
    pytest.param({}, {"process": ProcessState.DEAD}, {}, "F45", "error", "ip_address", id="its database does not run"),
    pytest.param({}, {"database_port": 3306}, {}, "F46", "error", "ip_address", id="another database port"),
    pytest.param({}, {}, {"witness": Witness.SILENT}, "F50", "error", "ip_address", id="a firewall before the database"),
    pytest.param({}, {"quarantine": "extra transactions 0-1-7"}, {}, "F55", "warning", "", id="it is held back"),
    pytest.param({}, {"needs_rebuild": "logs were purged"}, {}, "F56", "warning", "", id="it needs a full copy"),
    pytest.param(
        {}, {}, {"look": look(Q.their_doors, data=0, but={at("a"): Reach.SILENT})}, "F60", "error", "ip_address",
        id="it does not reach the Master's database",
    ),
    pytest.param(
        {}, {}, {"look": look(Q.their_doors, data=0, but={at("a", AGENT): Reach.CERTIFICATE})}, "F60", "error", "ip_address",
        id="it does not trust the Master's agent",
    ),
    pytest.param(
        {}, {}, {"look": look(Q.their_doors, data=0, but={at("b"): Reach.REFUSED})}, "F61", "warning", "",
        id="it does not reach the other fallback",
    ),
    pytest.param(
        {}, {}, {"peers": from_peers(Q, a=look(Q.own_doors, but={at("c", AGENT): Reach.STRANGE}))}, "F62", "error",
        "ip_address", id="the Master does not reach its agent",
    ),
    pytest.param(
        {}, {}, {"peers": from_peers(Q, b=look(Q.own_doors, but={at("c"): Reach.SILENT}))}, "F63", "warning", "",
        id="the other fallback does not reach its database",
    ),
    pytest.param({}, {"agent_id": "agent-b"}, {}, "F65", "error", "ip_address", id="it is a node already, by another address"),
    pytest.param({}, {"db": {"server_id": ord("b")}}, {}, "F66", "error", "ip_address", id="a copied disk"),
    pytest.param({"hostname": "d.example"}, {}, {}, "F67", "warning", "hostname", id="it calls itself by another name"),
    pytest.param({"hostname": "c.example.net"}, {}, {}, "F67", "warning", "hostname", id="a name of another domain"),
    pytest.param({}, {}, {"look": look(Q.their_doors, data=0, clock_ahead=timedelta(seconds=2.1))}, "F70", "warning", "",
                 id="its clock is ahead"),
    pytest.param({}, {}, {"look": look(Q.their_doors, data=0, clock_ahead=timedelta(minutes=-3))}, "F70", "warning", "",
                 id="its clock is behind"),
    pytest.param({}, {}, {"look": look(Q.their_doors, data=0, clock_ahead=timedelta(days=-1))}, "F71", "error", "ip_address",
                 id="its clock is of another day"),
    pytest.param({}, {"certificate_expires": "2029-06-01T12:00:00+00:00"}, {}, "F76", "error", "ip_address",
                 id="its certificate has expired"),
    pytest.param({}, {"certificate_expires": "2029-07-01T11:59:59+00:00"}, {}, "F79", "warning", "",
                 id="its certificate expires within 30 days"),
    pytest.param({}, {"disk_error": "No space left on device"}, {}, "F80", "error", "ip_address", id="its disk is full"),
    pytest.param({}, {"disk_free_bytes": 19 * GB // 10 - 1}, {}, "F81", "error", "ip_address", id="the data has no room"),
    pytest.param({}, {"disk_free_bytes": 22 * GB // 10}, {}, "F82", "warning", "", id="the data nearly fills its disk"),
    pytest.param({}, {"db": {"drift": ("log_bin is 0, must be 1",)}}, {}, "F85", "warning", "", id="its settings are not safe"),
]  # fmt: skip


@pytest.mark.parametrize(("asked", "says", "seen", "rule", "outcome", "field"), ANSWERED)
def test_one_thing_is_wrong(asked: Any, says: Any, seen: Any, rule: str, outcome: str, field: str) -> None:
    judgement = judged(question(**asked), says, **seen)
    assert found(judgement) == [(rule, outcome, field)]
    assert all(len(c.says) > 30 and "{" not in c.says for c in judgement.checks if c.rule)
    assert rule in judgement.summary


def test_a_good_host_may() -> None:
    judgement = judged()
    assert [(c.name, c.outcome) for c in judgement.checks] == [(name, Outcome.OK) for name in CheckName]
    assert (judgement.errors, judgement.warnings) == ((), ())
    assert judgement.summary == "Nothing speaks against it."


def test_the_first_host_of_a_vault_may() -> None:
    judgement = judged(question(peers=[], system_role=SystemRole.PRIMARY))
    assert {c.outcome for c in judgement.checks} == {Outcome.OK}


def test_a_node_of_this_vault_may_come_back() -> None:
    assert found(judged(says={"vault": VAULT})) == []


def test_the_short_name_of_a_host_is_its_name_too() -> None:
    assert found(judged(question(hostname="C"))) == []


@pytest.mark.parametrize("why_not", ["silent", "refused", "certificate", "protocol"])
def test_a_master_that_cannot_be_asked_is_reason_enough_to_wait(why_not: str) -> None:
    judgement = judged(peers=from_peers(Q, a=Look(why_not=why_not)))
    assert found(judgement) == [("F64", "error", "")]


def test_an_agent_of_the_master_that_answers_nobody_is_told_once() -> None:
    shut = look(Q.their_doors, data=0, but={at("a", AGENT): Reach.SILENT})
    assert [rule for rule, *_ in found(judged(look=shut, peers=from_peers(Q, a=SILENT)))] == ["F64"]


@pytest.mark.parametrize("why_not", ["lacks", "busy"])
def test_an_older_or_busy_agent_of_the_master_is_not_known(why_not: str) -> None:
    judgement = judged(peers=from_peers(Q, a=Look(why_not=why_not)))
    assert found(judgement) == []
    unknown = {c.name for c in judgement.checks if c.outcome is Outcome.UNKNOWN}
    assert unknown == {CheckName.REACHED, CheckName.DISK}


@pytest.mark.parametrize("why_not", ["silent", "refused", "certificate", "protocol", "lacks", "busy"])
def test_another_silent_node_fails_nobody(why_not: str) -> None:
    judgement = judged(peers=from_peers(Q, b=Look(why_not=why_not)))
    assert found(judgement) == []
    (line,) = [c for c in judgement.checks if c.outcome is Outcome.UNKNOWN]
    assert line.name is CheckName.REACHED
    assert line.says.startswith("Whether b.example reaches c.example: ")


def test_a_silent_first_primary_of_a_vault_that_never_opened_fails_nobody() -> None:
    asked = question(peers=[peer("a", leads=False)])
    assert found(judged(asked, peers={"a.example": SILENT})) == []


@pytest.mark.parametrize("why_not", ["lacks", "busy", "silent"])
def test_a_host_that_answers_but_does_not_look_around_is_not_known(why_not: str) -> None:
    judgement = judged(look=Look(why_not=why_not))
    assert found(judgement) == []
    assert {c.name for c in judgement.checks if c.outcome is Outcome.UNKNOWN} == {CheckName.REACHES, CheckName.CLOCK}


def test_a_port_that_an_agent_may_not_look_at_is_not_known() -> None:
    but = {at("c", 6000): Reach.NOT_ALLOWED}
    asked = question(port=6000, peers=[MASTER])
    judgement = judged(asked, peers={"a.example": look(asked.own_doors, but=but)})
    assert found(judgement) == []
    assert any("port 6000" in c.says for c in judgement.checks if c.outcome is Outcome.UNKNOWN)


def test_a_database_that_answers_nobody_is_told_once() -> None:
    shut = look(Q.own_doors, but={at("c"): Reach.SILENT})
    judgement = judged(witness=Witness.SILENT, peers=from_peers(Q, a=shut, b=shut))
    assert [rule for rule, *_ in found(judgement)] == ["F50"]


def test_all_reasons_come_at_once() -> None:
    bad = {"address_kind": "ppp", "agent_version": "0", "process": ProcessState.DEAD, "database": None}
    judgement = judged(says=bad, look=look(Q.their_doors, but={at("a"): Reach.SILENT}))
    assert [c.rule for c in judgement.errors] == ["F45", "F60", "F35", "F30"]
    not_known = {c.name for c in judgement.checks if c.outcome is Outcome.UNKNOWN}
    assert not_known == {CheckName.DATABASE_VERSION, CheckName.IDENTITY, CheckName.SETTINGS}


def test_nodes_that_are_out_are_not_asked() -> None:
    asked = question(peers=[SLAVE, MASTER, peer("d", active=False), peer("e", ip=ip_of("c"))])
    assert [p.hostname for p in asked.asked] == ["a.example", "b.example"]


def test_no_agent_is_asked_for_more_than_it_may_look_at() -> None:
    many = [peer(name) for name in "bdefghijklmnop"] + [MASTER]
    assert len(question(peers=many).asked) == PEERS_ASKED
    assert question(peers=many).asked[0] == MASTER


def test_what_is_there_already_needs_no_room() -> None:
    room = {"disk_free_bytes": GB}
    assert found(judged(says=room, look=look(Q.their_doors, data=2 * GB))) == []
    assert [rule for rule, *_ in found(judged(says=room, look=look(Q.their_doors, data=None)))] == ["F81"]


def test_ipv6_addresses_are_asked_and_told_like_others() -> None:
    asked = question(ip="2001:db8::12", peers=[peer("a", ip="2001:db8::11")])
    assert asked.own_doors[0] == Target("2001:db8::12", 3307, Door.DATABASE)
    shut = {f"2001:db8::12:{limits.DATABASE_PORT}": Reach.REFUSED}
    judgement = judged(asked, peers={"a.example": look(asked.own_doors, but=shut)})
    assert [rule for rule, *_ in found(judgement)] == ["F62"]
    assert "to 2001:db8::12" in judgement.errors[0].says


@pytest.mark.parametrize("kind", sorted(UNREACHABLE))
def test_an_agent_that_does_not_answer_is_said_with_its_address(kind: str) -> None:
    judgement = judge_unreachable(question(), kind, "version 7")
    (error,) = judgement.errors
    assert (error.rule, error.field) == ("F10", "ip_address")
    assert ip_of("c") in error.says
    assert "{" not in error.says
    assert [c.name for c in judgement.checks] == list(CheckName)
    assert {c.outcome for c in judgement.checks if c is not error} == {Outcome.UNKNOWN}


@pytest.mark.parametrize(
    ("detail", "rule"),
    [
        ("certificate verify failed: certificate has expired (_ssl.c:1006)", "F76"),
        ("certificate verify failed: certificate is not yet valid (_ssl.c:1006)", "F77"),
        ("certificate verify failed: IP address mismatch, certificate is not valid for '127.0.31.3'.", "F78"),
        ("certificate verify failed: self-signed certificate in certificate chain", "F10"),
    ],
)
def test_a_certificate_that_does_not_count_says_why(detail: str, rule: str) -> None:
    (error,) = judge_unreachable(question(), "certificate", detail).errors
    assert (error.rule, error.field) == (rule, "ip_address")


def test_an_unknown_kind_of_failure_is_said_as_silence() -> None:
    assert judge_unreachable(question(), "never-heard-of", "") == judge_unreachable(question(), "silent", "")


def test_a_version_that_is_not_known_is_not_compared() -> None:
    judgement = judged(question(peers=[replace(MASTER, database_version="")]), {"db": {"version": OLDER}})
    assert found(judgement) == []
    assert [c.outcome for c in judgement.checks if c.name is CheckName.DATABASE_VERSION] == [Outcome.UNKNOWN]


def test_two_fallbacks_are_not_compared_with_each_other() -> None:
    assert found(judged(question(peers=[SLAVE]), {"db": {"version": OLDER}})) == []


@pytest.mark.parametrize(
    ("told", "ahead"),
    [
        pytest.param(100.5, 0.0, id="within the time that the question took"),
        pytest.param(103.0, 2.0, id="ahead of the answer's arrival"),
        pytest.param(97.0, -3.0, id="behind the question"),
    ],
)
def test_a_clock_is_judged_by_what_the_way_cannot_explain(told: float, ahead: float) -> None:
    answer = ProbeAnswer(clock=told, server_id=1, data_bytes=0, reached=())
    assert clock_ahead(answer, 100.0, 101.0) == timedelta(seconds=ahead)


@pytest.mark.parametrize(
    ("text", "version"),
    [("10.11.19-MariaDB-log", (10, 11, 19)), ("8.0.36", (8, 0, 36)), ("", ()), ("MariaDB", ()), ("11", (11,))],
)
def test_versions(text: str, version: tuple[int, ...]) -> None:
    assert version_of(text) == version


def test_version_ten_is_newer_than_nine() -> None:
    assert version_of("10.2.0") > version_of("9.9.9")


def test_a_peer_has_both_doors() -> None:
    assert doors_of(MASTER) == (Target(ip_of("a"), 3307, Door.DATABASE), Target(ip_of("a"), 5389, Door.AGENT))
