"""What the Audit log is asked for in its address. A value that cannot be understood gets a sentence and is left out."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import urlencode

from django.db.models import Q
from django.utils.translation import gettext as _

WEB, COMMAND = "web", "command"
TEXT_MAX: Final = 200


class Unusable(Exception):
    """A sentence for the reader."""


@dataclass(frozen=True)
class AuditFilter:
    values: Mapping[str, str]
    """As written in the address; only what is used."""
    where: Q
    problems: tuple[str, ...] = ()

    @property
    def query(self) -> str:
        return urlencode(self.values)


def read_filter(asked: Mapping[str, str]) -> AuditFilter:
    values: dict[str, str] = {}
    where, problems = Q(), []
    for name, read in _READERS.items():
        text = asked.get(name, "").strip().replace("\0", "")[:TEXT_MAX]
        if not text:
            continue
        try:
            where &= read(text)
            values[name] = text
        except Unusable as error:
            problems.append(str(error))
    return AuditFilter(values, where, tuple(problems))


def _who(text: str) -> Q:
    """Also who is deleted, and the system's user of a command."""
    known = Q(actor__username__iexact=text) | Q(additional_data__actor__iexact=text)
    return known | Q(additional_data__system_user__iexact=text)


def _kind(text: str) -> Q:
    app, dot, model = text.partition(".")
    if not dot:
        raise Unusable(_("There is no kind of object “%(text)s”: choose one of the list.") % {"text": text[:60]})
    return Q(content_type__app_label=app, content_type__model=model)


def _object(text: str) -> Q:
    return Q(object_repr__icontains=text) | Q(object_pk=text)


def _text(text: str) -> Q:
    said = Q(additional_data__what__icontains=text) | Q(additional_data__reason__icontains=text)
    return said | Q(object_repr__icontains=text) | Q(remote_addr__startswith=text)


def _via(text: str) -> Q:
    if text not in (WEB, COMMAND):
        raise Unusable(_("“%(text)s” is no way to reach the console: choose one of the list.") % {"text": text[:60]})
    return Q(additional_data__via__isnull=text == WEB)


def _from(text: str) -> Q:
    return Q(timestamp__gte=moment(text))


def _to(text: str) -> Q:
    return Q(timestamp__lte=moment(text, end=True))


def moment(text: str, *, end: bool = False) -> datetime:
    """Without a zone it is UTC. end: the last moment of the day or minute that is given. Raises Unusable."""
    try:
        at = datetime.fromisoformat(text)
        at = at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, OverflowError):
        says = _("“%(text)s” is no time: write it as 2026-01-31 or 2026-01-31T14:05.") % {"text": text[:60]}
        raise Unusable(says) from None
    if not 1970 <= at.year < 9999:
        raise Unusable(_("The year of “%(text)s” is out of range.") % {"text": text[:60]})
    if not end:
        return at
    length = timedelta(days=1) if "T" not in text and " " not in text else timedelta(minutes=1)
    return at + length - timedelta(microseconds=1)


_READERS: Final[dict[str, Callable[[str], Q]]] = {
    "who": _who,
    "kind": _kind,
    "object": _object,
    "text": _text,
    "via": _via,
    "from": _from,
    "to": _to,
}


@dataclass(frozen=True)
class Page:
    entries: list[Any]
    newer: int | None
    """Key to ask with `after`; None on the first page."""
    older: int | None


def page_of(entries: Any, before: str, after: str, size: int) -> Page:
    """By key, newest first: an entry that is written meanwhile moves nothing. before, after: keys as in the address."""
    if not _is_key(before) and _is_key(after):
        found = list(entries.filter(pk__gt=int(after)).order_by("pk")[: size + 1])
        more, rows = len(found) > size, found[:size][::-1]
        return Page(rows, rows[0].pk if rows and more else None, rows[-1].pk if rows else None)
    if _is_key(before):
        entries = entries.filter(pk__lt=int(before))
    found = list(entries.order_by("-pk")[: size + 1])
    rows = found[:size]
    newer = rows[0].pk if rows and _is_key(before) else None
    return Page(rows, newer, rows[-1].pk if len(found) > size else None)


def _is_key(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 18
