"""What the check of a host found, as the form shows it: worst first, each line with a word, and one sentence that says it all."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from nodes.sentences import said
from replication.core.checks import CheckName, Outcome

TITLES: Final = {
    CheckName.AGENT: gettext_lazy("Vault agent"),
    CheckName.DATABASE_PORT: gettext_lazy("Database port"),
    CheckName.REACHES: gettext_lazy("Reaches the others"),
    CheckName.REACHED: gettext_lazy("Reached by the others"),
    CheckName.APPLICATION: gettext_lazy("Application version"),
    CheckName.DATABASE_VERSION: gettext_lazy("Database version"),
    CheckName.ADDRESS: gettext_lazy("Static address"),
    CheckName.IDENTITY: gettext_lazy("Server id and name"),
    CheckName.MEMBERSHIP: gettext_lazy("Vault"),
    CheckName.CLOCK: gettext_lazy("Clock"),
    CheckName.CERTIFICATE: gettext_lazy("Certificate"),
    CheckName.DISK: gettext_lazy("Disk"),
    CheckName.SETTINGS: gettext_lazy("Database settings"),
}
WORDS: Final = {
    Outcome.OK: gettext_lazy("OK"),
    Outcome.WARNING: gettext_lazy("Warning"),
    Outcome.ERROR: gettext_lazy("Error"),
    Outcome.UNKNOWN: gettext_lazy("Not known"),
}
_MANY: Final = 4
_WORST_FIRST: Final = (Outcome.ERROR, Outcome.WARNING, Outcome.UNKNOWN, Outcome.OK)


@dataclass(frozen=True)
class Line:
    outcome: Outcome
    title: Any
    says: str
    rule: str = ""

    @property
    def word(self) -> Any:
        return WORDS[self.outcome]


@dataclass(frozen=True)
class Checklist:
    level: Outcome
    says: str
    lines: tuple[Line, ...] = ()


def nothing_asked(reasons: Iterable[str] = ()) -> Checklist:
    """Before a check. reasons: what is wrong with the fields yet."""
    lines = tuple(Line(Outcome.UNKNOWN, _("Not checked yet"), reason) for reason in reasons)
    return Checklist(Outcome.UNKNOWN, _("The host is checked when hostname, port and IP address are there."), lines)


def checklist(found: Iterable[Mapping[str, str]], errors: Iterable[str]) -> Checklist:
    """found: the checks of an operation's result. errors: what kept the host from being checked at all."""
    lines = [
        Line(Outcome(one["outcome"]), TITLES[CheckName(one["name"])], said(one["says"]), one.get("rule", ""))
        for one in found
    ]
    lines.sort(key=lambda line: _WORST_FIRST.index(line.outcome))
    if not lines:
        return Checklist(Outcome.ERROR, " ".join(errors) or _("The host could not be checked."))
    counts = {outcome: sum(line.outcome is outcome for line in lines) for outcome in Outcome}
    return Checklist(_level(counts), _headline(counts), tuple(_together(lines)))


def _together(lines: list[Line]) -> Iterable[Line]:
    """What is not known for one and the same reason is one line."""
    unknown = Counter(line.says for line in lines if line.outcome is Outcome.UNKNOWN)
    told: set[str] = set()
    for line in lines:
        same = unknown[line.says] if line.outcome is Outcome.UNKNOWN else 1
        if same < _MANY:
            yield line
        elif line.says not in told:
            told.add(line.says)
            yield replace(line, title=_("The other %(count)d checks") % {"count": same})


def _level(counts: Mapping[Outcome, int]) -> Outcome:
    return next(outcome for outcome in _WORST_FIRST if counts[outcome])


def _headline(counts: Mapping[Outcome, int]) -> str:
    errors, warnings, unknown = counts[Outcome.ERROR], counts[Outcome.WARNING], counts[Outcome.UNKNOWN]
    if errors:
        text = ngettext(
            "%(count)d error: this host cannot be added as it is.",
            "%(count)d errors: this host cannot be added as it is.",
            errors,
        )
        return text % {"count": errors}
    if warnings:
        text = ngettext(
            "This host can be added, with %(count)d warning.",
            "This host can be added, with %(count)d warnings.",
            warnings,
        )
        return text % {"count": warnings}
    if unknown:
        text = ngettext(
            "Nothing speaks against this host, but %(count)d thing is not known.",
            "Nothing speaks against this host, but %(count)d things are not known.",
            unknown,
        )
        return text % {"count": unknown}
    return _("Everything is in order: this host can be added.")
