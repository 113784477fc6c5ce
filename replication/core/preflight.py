"""May this host become a node? Every check at once, each with its outcome, a sentence and the form field it belongs to. Pure."""

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from . import limits
from .checks import Check, CheckName, Judgement, Outcome, Question, Seen
from .report import NodeReport
from .roles import ProcessState, SystemRole, Witness
from .surroundings import clock, disk, reached, reaches

UNREACHABLE: Final = {
    "refused": "No vault agent answers on {ip} port {port}: start it there with vault-agent serve, or correct the address.",
    "silent": "{ip} does not answer on port {port}: check the address, the network and the firewall.",
    "certificate": "The agent on {ip} has a certificate that is not from this console, or not made out for {ip}: "
    "issue one with manage.py issue_certificate.",
    "protocol": "The agent on {ip} does not speak our protocol: install the same version there ({detail}).",
}
# What OpenSSL says of a certificate that could be read but does not count.
_CERTIFICATES: Final = (
    ("has expired", "F76", "The certificate of the agent on {ip} has expired: issue a new one with manage.py issue_certificate, "
     "and look at the clocks of both hosts."),
    ("not yet valid", "F77", "The certificate of the agent on {ip} is not valid yet: the clocks of {ip} or of this console are wrong."),
    ("mismatch", "F78", "The certificate of the agent on {ip} is made out for another address: issue one for {ip} with "
     "manage.py issue_certificate, or correct the address."),
)  # fmt: skip


def version_of(text: str) -> tuple[int, ...]:
    """`10.11.19-MariaDB-log` → (10, 11, 19); () when it does not start with a version."""
    match = re.match(r"\d+(\.\d+)*", text)
    return tuple(int(part) for part in match[0].split(".")) if match else ()


def engine_of(text: str) -> str:
    """By what a server says of its version: MySQL has never had one of two digits."""
    return "MySQL" if "MariaDB" not in text and version_of(text) < (10,) else "MariaDB"


def judge_unreachable(question: Question, kind: str, detail: str) -> Judgement:
    """What to say when the agent's hello failed; `kind` as in NodeUnreachable."""
    says = UNREACHABLE.get(kind, UNREACHABLE["silent"])
    agent = Check(CheckName.AGENT, Outcome.ERROR, _filled(says, question, detail), "F10", "ip_address")
    found = {CheckName.AGENT: agent}
    if kind == "certificate":
        for words, rule, text in _CERTIFICATES:
            if words in detail:
                bad = Check(CheckName.CERTIFICATE, Outcome.ERROR, _filled(text, question, detail), rule, "ip_address")
                answers = "Something answers, but it has not proved that it is the agent."
                found = {
                    CheckName.AGENT: Check(CheckName.AGENT, Outcome.UNKNOWN, answers),
                    CheckName.CERTIFICATE: bad,
                }
                break
    later = "Not asked yet: the agent has to answer first."
    return Judgement(tuple(found.get(name) or Check(name, Outcome.UNKNOWN, later) for name in CheckName))


def _filled(text: str, question: Question, detail: str) -> str:
    return text.format(ip=question.ip, port=question.port, detail=detail)


def judge(question: Question, seen: Seen) -> Judgement:
    """All checks of a host whose agent answered."""
    report = seen.report
    answers = f"The agent on {question.ip} answers: it calls itself {report.hostname}."
    checks = [
        Check(CheckName.AGENT, Outcome.OK, answers),
        _database_port(question, report, seen.witness),
        *reaches(question, seen),
        *reached(question, seen),
        _application(question, report),
        *_versions(question, report),
        _address(question, report),
        *_identity(question, seen),
        *_membership(question, report),
        clock(question, seen),
        _certificate(report, seen.now),
        disk(question, seen),
        _settings(report),
    ]
    return Judgement(tuple(checks))


def _database_port(question: Question, report: NodeReport, witness: Witness) -> Check:
    name, where = CheckName.DATABASE_PORT, f"Port {question.database_port} of {question.ip}"
    if report.process is not ProcessState.UP or report.database is None:
        says = f"The database on {question.ip} is not running ({report.process.value}): see its log on that host."
        return Check(name, Outcome.ERROR, says, "F45", "ip_address")
    if report.database_port != question.database_port:
        says = f"The database on {question.ip} listens on port {report.database_port}, not on {question.database_port}."
        return Check(name, Outcome.ERROR, says, "F46", "ip_address")
    if witness is not Witness.ANSWERS:
        says = f"{where} does not answer from here: open it in the firewall."
        return Check(name, Outcome.ERROR, says, "F50", "ip_address")
    return Check(name, Outcome.OK, f"{where} answers from here.")


def _application(question: Question, report: NodeReport) -> Check:
    others = sorted({v for v in question.controller_versions if v != question.our_version})
    if report.agent_version != question.our_version:
        says = (
            f"{report.hostname} runs version {report.agent_version} of this application, this console "
            f"{question.our_version}: install the same version on every host first."
        )
        return Check(CheckName.APPLICATION, Outcome.ERROR, says, "F35")
    if others:
        says = (
            f"The application hosts run different versions ({', '.join([question.our_version, *others])}): "
            "install the same version on every host first."
        )
        return Check(CheckName.APPLICATION, Outcome.ERROR, says, "F36")
    return Check(CheckName.APPLICATION, Outcome.OK, f"Version {question.our_version}, the same as here.")


def _versions(question: Question, report: NodeReport) -> Sequence[Check]:
    """A replica older than its primary is refused, a newer one warned about: that is how rolling upgrades go."""
    name = CheckName.DATABASE_VERSION
    text = report.database.version if report.database else ""
    mine, engine = version_of(text), engine_of(text)
    if not mine:
        return [Check(name, Outcome.UNKNOWN, "Not known while its database does not answer.")]
    found: list[Check] = []
    compared = ""
    for peer in question.peers:
        theirs = version_of(peer.database_version)
        new_is_primary = question.system_role is SystemRole.PRIMARY
        if not theirs or (not new_is_primary and not peer.is_primary):
            continue
        if (other := engine_of(peer.database_version)) != engine:
            says = f"{engine} here, {other} on {peer.hostname}: every node of a vault has the same database engine."
            found.append(Check(name, Outcome.ERROR, says, "F42", "ip_address"))
            continue
        compared = f", the same as on {peer.hostname}"
        if mine == theirs:
            continue
        replica, primary = (theirs, mine) if new_is_primary else (mine, theirs)
        shown = f"{'.'.join(map(str, mine))} here, {'.'.join(map(str, theirs))} on {peer.hostname}"
        if replica < primary:
            says = f"A fallback may not be older than its master ({shown}): upgrade it first."
            found.append(Check(name, Outcome.ERROR, says, "F40", "ip_address"))
        else:
            says = f"The fallback is newer than its master ({shown}): fine while you upgrade, not for long."
            found.append(Check(name, Outcome.WARNING, says, "F41"))
    if found:
        return found
    if question.peers and not compared and question.system_role is not SystemRole.PRIMARY:
        says = f"{engine} {'.'.join(map(str, mine))}; that of the Master is not known."
        return [Check(name, Outcome.UNKNOWN, says)]
    return [Check(name, Outcome.OK, f"{engine} {'.'.join(map(str, mine))}{compared}.")]


def _address(question: Question, report: NodeReport) -> Check:
    kinds = {"dynamic": "by DHCP", "ppp": "from a PPPoE link"}
    if report.address_kind in kinds:
        how = kinds[report.address_kind]
        says = f"{question.ip} is given {how} and may change: give that interface a static address."
        return Check(CheckName.ADDRESS, Outcome.ERROR, says, "F30", "ip_address")
    if report.address_kind == "missing":
        says = f"No interface of {report.hostname} has {question.ip}, so nobody can say whether it may change."
        return Check(CheckName.ADDRESS, Outcome.UNKNOWN, says)
    return Check(CheckName.ADDRESS, Outcome.OK, f"{question.ip} is a static address.")


def _identity(question: Question, seen: Seen) -> Sequence[Check]:
    """Nobody else is this server, or could be taken for it."""
    name, report, found = CheckName.IDENTITY, seen.report, []
    for peer in question.peers:
        if peer.agent_id and peer.agent_id == report.agent_id:
            says = f"This is the same server as {peer.hostname}: a server can be in a vault once only."
            found.append(Check(name, Outcome.ERROR, says, "F65", "ip_address"))
    mine = report.database.server_id if report.database else 0
    twins = [peer.hostname for peer in question.peers if mine and peer.server_id == mine and not found]
    for twin in twins:
        says = (
            f"Its server_id {mine} is that of {twin} too, as after a copied disk: the two would skip each other's "
            "transactions. Purge it there and run vault-agent init anew."
        )
        found.append(Check(name, Outcome.ERROR, says, "F66", "ip_address"))
    if not _same_host(question.hostname, report.hostname):
        says = (
            f"The host at {question.ip} calls itself {report.hostname}, not {question.hostname}: "
            "see that this is the host that you mean."
        )
        found.append(Check(name, Outcome.WARNING, says, "F67", "hostname"))
    if found:
        return found
    if not mine:
        return [Check(name, Outcome.UNKNOWN, "Its server_id is not known while its database does not answer.")]
    return [Check(name, Outcome.OK, f"No other node is this server or has its server_id {mine}.")]


def _same_host(typed: str, told: str) -> bool:
    """Whether one is the other, or its first label."""
    short, long = sorted((typed.lower(), told.lower()), key=len)
    return short == long or ("." not in short and long.startswith(f"{short}."))


def _membership(question: Question, report: NodeReport) -> Sequence[Check]:
    name = CheckName.MEMBERSHIP
    if report.vault not in ("", question.vault):
        says = f"{report.hostname} belongs to another vault: delete it there first, or purge it with {report.purge_command}."
        return [Check(name, Outcome.ERROR, says, "F25", "ip_address")]
    if report.quarantine:
        says = (
            f"This node is held back: {report.quarantine}. It will not follow as it is: add it, then rebuild it; what it "
            "has now is kept."
        )
        return [Check(name, Outcome.WARNING, says, "F55")]
    if report.needs_rebuild:
        says = f"This node cannot follow without a full copy: {report.needs_rebuild}. Add it, then rebuild it."
        return [Check(name, Outcome.WARNING, says, "F56")]
    back = "It was a node of this vault before." if report.vault else "It belongs to no vault yet."
    return [Check(name, Outcome.OK, back)]


def _certificate(report: NodeReport, now: datetime) -> Check:
    name = CheckName.CERTIFICATE
    try:
        left = datetime.fromisoformat(report.certificate_expires) - now
    except (TypeError, ValueError):  # TypeError: a time without a zone
        return Check(name, Outcome.UNKNOWN, "Its agent does not say until when its certificate is valid.")
    day = report.certificate_expires[:10]
    if left <= timedelta():
        says = f"Its certificate has expired on {day}: issue a new one with manage.py issue_certificate."
        return Check(name, Outcome.ERROR, says, "F76", "ip_address")
    if left < limits.CERTIFICATE_SOON:
        says = (
            f"Its certificate expires on {day}, in {left.days} days: issue a new one with manage.py issue_certificate."
        )
        return Check(name, Outcome.WARNING, says, "F79")
    return Check(name, Outcome.OK, f"Its certificate is ours and valid until {day}.")


def _settings(report: NodeReport) -> Check:
    if report.database is None:
        return Check(CheckName.SETTINGS, Outcome.UNKNOWN, "Not known while its database does not answer.")
    if report.database.drift:
        says = (
            f"Settings of its database are not safe: {'; '.join(report.database.drift)}. "
            "It may follow, but not take over, until its database is restarted."
        )
        return Check(CheckName.SETTINGS, Outcome.WARNING, says, "F85")
    return Check(CheckName.SETTINGS, Outcome.OK, "The settings of its database are as they must be.")
