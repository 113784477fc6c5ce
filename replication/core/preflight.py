"""May this host become a node? Every reason against it at once, each with the form field it belongs to. Pure."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from .report import NodeReport
from .roles import ProcessState, SystemRole, Witness

UNREACHABLE: Final = {
    "refused": "No vault agent answers on {ip} port {port}: start it there with vault-agent serve, or correct the address.",
    "silent": "{ip} does not answer on port {port}: check the address, the network and the firewall.",
    "certificate": "The agent on {ip} has a certificate that is not from this console, or not made out for {ip}: "
    "issue one with manage.py issue_certificate.",
    "protocol": "The agent on {ip} does not speak our protocol: install the same version there ({detail}).",
}


@dataclass(frozen=True)
class Finding:
    """`field` is the form field ("" for the form as a whole)."""

    rule: str
    field: str
    says: str


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A node that is already there."""

    hostname: str
    system_role: SystemRole
    is_primary: bool
    database_version: str
    """"" when it is not known."""


@dataclass(frozen=True, kw_only=True)
class Question:
    ip: str
    port: int
    database_port: int
    system_role: SystemRole
    vault: str
    our_version: str
    controller_versions: Sequence[str]
    """Versions of all controller hosts that were seen lately."""
    peers: Sequence[Peer]


@dataclass(frozen=True)
class Judgement:
    errors: tuple[Finding, ...]
    warnings: tuple[Finding, ...]


def version_of(text: str) -> tuple[int, ...]:
    """`10.11.19-MariaDB-log` → (10, 11, 19); () when it does not start with a version."""
    match = re.match(r"\d+(\.\d+)*", text)
    return tuple(int(part) for part in match[0].split(".")) if match else ()


def judge_unreachable(question: Question, kind: str, detail: str) -> Judgement:
    """What to say when the agent's hello failed; `kind` as in NodeUnreachable."""
    says = UNREACHABLE.get(kind, UNREACHABLE["silent"]).format(ip=question.ip, port=question.port, detail=detail)
    return Judgement((Finding("F10", "ip_address", says),), ())


def judge(question: Question, report: NodeReport, witness: Witness) -> Judgement:
    """All findings about a host that answered. witness: its database port as this controller sees it."""
    errors = [*_host(question, report), *_database(question, report, witness)]
    older, newer = _versions(question, report)
    warnings = [*newer]
    if report.quarantine:
        warnings.append(
            Finding("F55", "", f"This node is held back: {report.quarantine}. It will not follow as it is.")
        )
    return Judgement((*errors, *older), tuple(warnings))


def _host(question: Question, report: NodeReport) -> list[Finding]:
    found = []
    if report.vault not in ("", question.vault):
        found.append(
            Finding(
                "F25",
                "ip_address",
                f"{report.hostname} belongs to another vault: delete it there first, or purge it with {report.purge_command}.",
            )
        )
    kinds = {"dynamic": "by DHCP", "ppp": "from a PPPoE link"}
    if report.address_kind in kinds:
        how = kinds[report.address_kind]
        says = f"{question.ip} is given {how} and may change: give that interface a static address."
        found.append(Finding("F30", "ip_address", says))
    others = sorted({v for v in question.controller_versions if v != question.our_version})
    if report.agent_version != question.our_version:
        found.append(
            Finding(
                "F35",
                "",
                f"{report.hostname} runs version {report.agent_version} of this application, this console "
                f"{question.our_version}: install the same version on every host first.",
            )
        )
    elif others:
        found.append(
            Finding(
                "F36",
                "",
                f"The application hosts run different versions ({', '.join([question.our_version, *others])}): "
                "install the same version on every host first.",
            )
        )
    return found


def _database(question: Question, report: NodeReport, witness: Witness) -> list[Finding]:
    if report.process is not ProcessState.UP or report.database is None:
        says = f"The database on {question.ip} is not running ({report.process.value}): see its log on that host."
        return [Finding("F45", "ip_address", says)]
    if report.database_port != question.database_port:
        says = f"The database on {question.ip} listens on port {report.database_port}, not on {question.database_port}."
        return [Finding("F46", "ip_address", says)]
    if witness is not Witness.ANSWERS:
        says = f"Port {question.database_port} of {question.ip} does not answer from here: open it in the firewall."
        return [Finding("F50", "ip_address", says)]
    return []


def _versions(question: Question, report: NodeReport) -> tuple[list[Finding], list[Finding]]:
    """A replica older than its primary is refused, a newer one warned about: that is how rolling upgrades go."""
    mine = version_of(report.database.version if report.database else "")
    errors, warnings = [], []
    for peer in question.peers:
        theirs = version_of(peer.database_version)
        if not mine or not theirs or mine == theirs:
            continue
        new_is_primary = question.system_role is SystemRole.PRIMARY
        if not new_is_primary and not peer.is_primary:
            continue
        replica, primary = (theirs, mine) if new_is_primary else (mine, theirs)
        shown = f"{'.'.join(map(str, mine))} here, {'.'.join(map(str, theirs))} on {peer.hostname}"
        if replica < primary:
            errors.append(
                Finding(
                    "F40", "ip_address", f"A fallback may not be older than its master ({shown}): upgrade it first."
                )
            )
        else:
            says = f"The fallback is newer than its master ({shown}): fine while you upgrade, not for long."
            warnings.append(Finding("F41", "", says))
    return errors, warnings
