"""What a list is asked for in its address: read, judged, and turned into a condition.

A value that cannot be understood gets a sentence and is left out: a permalink never ends in an error page. Times without a zone
are UTC, as in the form without JavaScript.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from urllib.parse import urlencode

from django.db.models import Q
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.translation import gettext as _

LONGEST: Final = 253
"""Characters of a value: the longest name of a host."""
_DAY: Final = len("2026-01-31")

Reader = Callable[[str], tuple[str, Q]]
"""The value as it is written in an address, and its condition. Raises Unusable."""


class Unusable(Exception):
    """A sentence for the reader."""


@dataclass(frozen=True)
class Filter:
    values: Mapping[str, str]
    """Name → as it is written in the address, in the order of the form; only what is used."""
    where: Q
    problems: tuple[str, ...] = ()

    @property
    def query(self) -> str:
        """The part of the address after "?", the same for the same filter; "" without one."""
        return urlencode(self.values)


def short_address(request: HttpRequest, names: Iterable[str]) -> HttpResponse | None:
    """A form without JavaScript sends its empty fields too: the address to pass on is the one without them."""
    empty = [name for name in names if name in request.GET and not request.GET[name].strip()]
    if not empty or getattr(request, "htmx", False):
        return None
    kept = request.GET.copy()
    for name in empty:
        del kept[name]
    return HttpResponseRedirect(f"{request.path}?{kept.urlencode()}" if kept else request.path)


def read(asked: Mapping[str, str], readers: Mapping[str, Reader], *, between: tuple[str, str] | None = None) -> Filter:
    """Empty values mean "all". between: names of the two times that one range is made of."""
    values: dict[str, str] = {}
    where, problems = Q(), []
    for name, reader in readers.items():
        text = asked.get(name, "").strip().replace("\0", "")
        if not text:
            continue
        try:
            if len(text) > LONGEST:
                raise Unusable(
                    _("“%(text)s” is too long: look for %(most)d characters at most.")
                    % {"text": short(text), "most": LONGEST}
                )
            values[name], part = reader(text)
        except Unusable as error:
            problems.append(str(error))
        else:
            where &= part
    if between is not None and all(name in values for name in between):
        begin, end = (values[name] for name in between)
        if moment(begin) > moment(end, end=True):
            problems.append(_("“From” is later than “to”, so nothing can be found: exchange them."))
    return Filter(values, where, tuple(problems))


def text_in(*columns: str) -> Reader:
    """A piece of text, whatever its case, in one of the columns."""

    def reader(text: str) -> tuple[str, Q]:
        where = Q()
        for column in columns:
            where |= Q(**{f"{column}__icontains": text})
        return text, where

    return reader


def one_of(conditions: Mapping[str, Q]) -> Reader:
    def reader(text: str) -> tuple[str, Q]:
        if text not in conditions:
            raise Unusable(_("“%(text)s” cannot be chosen here: take one of the list.") % {"text": short(text)})
        return text, conditions[text]

    return reader


def since(column: str) -> Reader:
    return lambda text: (_written(text), Q(**{f"{column}__gte": moment(text)}))


def until(column: str) -> Reader:
    """Including the day, minute or second that is given."""
    return lambda text: (_written(text), Q(**{f"{column}__lte": moment(text, end=True)}))


def moment(text: str, *, end: bool = False) -> datetime:
    """end: the last moment of the day, minute or second that is given. Raises Unusable."""
    try:
        at = datetime.fromisoformat(text)
        at = at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, OverflowError):
        raise Unusable(
            _("“%(text)s” is no time: write it as 2026-01-31 or 2026-01-31T14:05.") % {"text": short(text)}
        ) from None
    if not 1970 <= at.year < 9999:
        raise Unusable(_("The year of “%(text)s” is out of range.") % {"text": short(text)})
    return at + _length(text, at) - timedelta(microseconds=1) if end else at


def _length(text: str, at: datetime) -> timedelta:
    if _is_day(text):
        return timedelta(days=1)
    return timedelta(seconds=1) if at.second else timedelta(minutes=1)


def _is_day(text: str) -> bool:
    return len(text) <= _DAY


def _written(text: str) -> str:
    """One spelling for one moment; a day stays a day."""
    at = moment(text)
    if _is_day(text):
        return f"{at:%Y-%m-%d}"
    return f"{at:%Y-%m-%dT%H:%M:%SZ}" if at.second else f"{at:%Y-%m-%dT%H:%MZ}"


def for_input(value: str, *, end: bool = False) -> str:
    """What an <input type="datetime-local"> takes, of a value of a filter: no zone, and no seconds where none were given."""
    if not value:
        return ""
    at = moment(value, end=end)
    return f"{at:%Y-%m-%dT%H:%M:%S}" if moment(value).second else f"{at:%Y-%m-%dT%H:%M}"


def short(text: str) -> str:
    return text if len(text) <= 60 else text[:59] + "…"
