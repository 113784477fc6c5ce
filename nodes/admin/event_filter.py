"""What the Events screen is asked for in its address: read, judged, and turned into a query that an index answers.

A value that cannot be understood gets a sentence and is left out: a permalink never ends in an error page. Times without a
zone are UTC, as in the form without JavaScript.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import urlencode

from django.db.models import Q
from django.utils.translation import gettext as _

from nodes.choices import EventLevel
from nodes.models import Vault, VaultNode

PROBLEMS: Final = "problems"
"""Level: warnings and errors."""
PEOPLE, SERVICE = "people", "service"
NAMES: Final = ("vault", "node", "level", "rule", "by", "actor", "operation", "text", "from", "to")
"""In the order of the form, which is that of the address."""
TEXT_MAX: Final = 200
DIAGNOSIS: Final = "D"
"""Its rules say what was wrong; those of every other family say what was done, see Event.rule."""


class Unusable(Exception):
    """A sentence for the reader."""


@dataclass(frozen=True)
class EventFilter:
    values: Mapping[str, str]
    """Name → as it is written in the address; only what is used."""
    where: Q
    problems: tuple[str, ...] = field(default=())

    @property
    def query(self) -> str:
        """The part of the address after "?", the same for the same filter; "" without one."""
        return urlencode(self.values)

    @property
    def open_ended(self) -> bool:
        """Whether an event that happens now may be part of it."""
        return "to" not in self.values

    def without(self, name: str) -> str:
        return urlencode({key: value for key, value in self.values.items() if key != name})


def read_filter(asked: Mapping[str, str]) -> EventFilter:
    """The filter of a request's GET parameters. Empty ones mean "all"."""
    values: dict[str, str] = {}
    where, problems = Q(), []
    for name in NAMES:
        text = asked.get(name, "").strip().replace("\0", "")
        if not text:
            continue
        try:
            values[name], part = _READERS[name](text)
        except Unusable as error:
            problems.append(str(error))
        else:
            where &= part
    if "from" in values and "to" in values and _moment(values["from"]) > _moment(values["to"], end=True):
        problems.append(_("“From” is later than “to”, so nothing can be found: exchange them."))
    return EventFilter(values, where, tuple(problems))


def _vault(text: str) -> tuple[str, Q]:
    if not Vault.objects.filter(pk=text).exists():
        raise Unusable(_("There is no vault %(id)s: events of all vaults are shown.") % {"id": _short(text)})
    return text, Q(vault=text)


def _node(text: str) -> tuple[str, Q]:
    """As it is spelled in the list or in the events: an index finds exact names only."""
    text = text[:253]
    listed = VaultNode.objects.filter(hostname__iexact=text).values_list("hostname", flat=True)
    return text, Q(node_name__in=sorted({text, text.lower(), *listed}))


def _level(text: str) -> tuple[str, Q]:
    if text == PROBLEMS:
        return text, Q(level__in=(EventLevel.WARNING, EventLevel.ERROR))
    if text not in EventLevel.values:
        raise Unusable(_("There is no level “%(text)s”: choose one of the list.") % {"text": _short(text)})
    return text, Q(level=text)


def _rule(text: str) -> tuple[str, Q]:
    """A family ("P") or a rule ("P30"); of D what was wrong, of all others what was done."""
    rule = text.upper()
    if not re.fullmatch(r"[A-Z]\d{0,3}", rule, re.ASCII):
        raise Unusable(
            _("“%(text)s” is no rule: enter a letter for a family such as P, or one rule such as P30.")
            % {"text": _short(text)}
        )
    column = "diagnosis" if rule.startswith(DIAGNOSIS) else "rule"
    return rule, Q(**{column if len(rule) > 1 else f"{column}__startswith": rule})


def _by(text: str) -> tuple[str, Q]:
    if text not in (PEOPLE, SERVICE):
        raise Unusable(_("“%(text)s” is nobody: choose people or the service.") % {"text": _short(text)})
    return text, ~Q(actor="") if text == PEOPLE else Q(actor="")


def _actor(text: str) -> tuple[str, Q]:
    return text[:150], Q(actor__iexact=text[:150])


def _operation(text: str) -> tuple[str, Q]:
    if not re.fullmatch(r"[\w -]{1,32}", text, re.ASCII):
        raise Unusable(
            _("“%(text)s” is no operation: copy its id from an event or from its page.") % {"text": _short(text)}
        )
    return text, Q(operation=text)


def _text(text: str) -> tuple[str, Q]:
    return text[:TEXT_MAX], Q(text__icontains=text[:TEXT_MAX])


def _from(text: str) -> tuple[str, Q]:
    return _written(text), Q(at__gte=_moment(text))


def _to(text: str) -> tuple[str, Q]:
    return _written(text), Q(at__lte=_moment(text, end=True))


def _moment(text: str, *, end: bool = False) -> datetime:
    """end: the last moment of a day that is given without a time."""
    try:
        at = datetime.fromisoformat(text)
        at = at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, OverflowError):
        raise Unusable(
            _("“%(text)s” is no time: write it as 2026-01-31 or 2026-01-31T14:05.") % {"text": _short(text)}
        ) from None
    if not 1970 <= at.year < 9999:
        raise Unusable(_("The year of “%(text)s” is out of range.") % {"text": _short(text)})
    return at + timedelta(days=1, microseconds=-1) if end and _is_day(text) else at


def _is_day(text: str) -> bool:
    return re.fullmatch(r"\d{4}-?\d\d-?\d\d", text, re.ASCII) is not None


def _written(text: str) -> str:
    """One spelling for one moment; a day stays a day."""
    at = _moment(text)
    if _is_day(text):
        return f"{at:%Y-%m-%d}"
    return f"{at:%Y-%m-%dT%H:%M:%SZ}" if at.second else f"{at:%Y-%m-%dT%H:%MZ}"


def for_input(value: str, *, end: bool = False) -> str:
    """What an <input type="datetime-local"> takes: no zone."""
    if not value:
        return ""
    at = _moment(value, end=end)
    return f"{at:%Y-%m-%dT%H:%M:%S}" if at.second else f"{at:%Y-%m-%dT%H:%M}"


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:59] + "…"


_READERS: Final[dict[str, Callable[[str], tuple[str, Q]]]] = {
    "vault": _vault,
    "node": _node,
    "level": _level,
    "rule": _rule,
    "by": _by,
    "actor": _actor,
    "operation": _operation,
    "text": _text,
    "from": _from,
    "to": _to,
}


# --- pages


@dataclass(frozen=True)
class Cursor:
    """A place between two events, newest first: times alone are not enough, two events may share one."""

    at: datetime
    pk: int

    def __str__(self) -> str:
        return f"{self.at.astimezone(UTC):%Y%m%dT%H%M%S.%fZ}-{self.pk}"

    @classmethod
    def read(cls, text: str) -> "Cursor | None":
        """None for what is no cursor."""
        time, _dash, pk = text.rpartition("-")
        if not re.fullmatch(r"[1-9]\d{0,17}", pk, re.ASCII):
            return None
        try:
            return cls(datetime.strptime(time, "%Y%m%dT%H%M%S.%fZ").replace(tzinfo=UTC), int(pk))
        except ValueError:
            return None

    @property
    def older(self) -> Q:
        # In this form the index on the time is used: `at < x OR (at = x AND pk < y)` is not.
        return Q(at__lte=self.at) & (Q(at__lt=self.at) | Q(pk__lt=self.pk))

    @property
    def newer(self) -> Q:
        return Q(at__gte=self.at) & (Q(at__gt=self.at) | Q(pk__gt=self.pk))


@dataclass(frozen=True)
class Page:
    events: list[Any]
    first: bool
    newer: Cursor | None
    """To the page before; None on the first, and where nothing was found."""
    older: Cursor | None


def page_of(events: Any, before: Cursor | None, after: Cursor | None, size: int) -> Page:
    """One page of a queryset of events, newest first: what is older than `before`, or what is just newer than `after`."""
    if before is None and after is not None:
        found = list(events.filter(after.newer).order_by("at", "pk")[: size + 1])
        if len(found) > size:
            shown = found[:size][::-1]
            return Page(shown, False, _cursor(shown[0]), _cursor(shown[-1]))
    if before is not None:
        events = events.filter(before.older)
    found = list(events.order_by("-at", "-pk")[: size + 1])
    shown, first = found[:size], before is None
    return Page(
        shown,
        first,
        _cursor(shown[0]) if shown and not first else None,
        _cursor(shown[-1]) if len(found) > size else None,
    )


def _cursor(event: Any) -> Cursor:
    return Cursor(event.at, event.pk)
