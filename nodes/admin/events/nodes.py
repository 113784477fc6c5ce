"""What a node had said when something was decided, in words: one row of the table on an event's page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from django.utils.formats import number_format
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from nodes.sentences import said


@dataclass(frozen=True)
class NodeSeen:
    name: str
    primary: bool
    link: str
    level: str
    silence: str
    database: str
    order: str
    epoch: str
    heard: str
    notes: tuple[str, ...]


_LINKS: Final = {
    "answers": (gettext_lazy("answers"), "ok"),
    "refused": (gettext_lazy("refused"), "bad"),
    "silent": (gettext_lazy("silent"), "bad"),
    "certificate": (gettext_lazy("wrong certificate"), "bad"),
    "protocol": (gettext_lazy("answers unintelligibly"), "bad"),
    "never": (gettext_lazy("never answered"), "off"),
}
_PROCESSES: Final = {
    "up": gettext_lazy("runs"),
    "down": gettext_lazy("is stopped"),
    "starting": gettext_lazy("is starting"),
    "hung": gettext_lazy("hangs"),
    "dead": gettext_lazy("is dead"),
}
_ORDERS: Final = {
    "none": gettext_lazy("none"),
    "lossless": gettext_lazy("Master, waits for its acker"),
    "solo": gettext_lazy("Master, solo"),
}


def link_word(link: str) -> str:
    words = _LINKS.get(link)
    return str(words[0]) if words else link


def node_seen(told: Mapping[str, Any]) -> NodeSeen:
    link = str(told.get("link") or "")
    order = str(told.get("order") or "")
    known = _ORDERS.get(order)
    silence, epoch = told.get("silence_s"), told.get("epoch")
    silent = link != "answers" and isinstance(silence, int | float)
    return NodeSeen(
        name=str(told.get("node") or ""),
        primary=bool(told.get("primary")),
        link=link_word(link),
        level=_LINKS[link][1] if link in _LINKS else "off",
        silence=_("for %(seconds)s") % {"seconds": seconds_text(silence)} if silent else "",
        database=_database(told),
        order=str(known) if known else order or "–",
        epoch=str(epoch) if epoch is not None else "–",
        heard=_heard(told),
        notes=tuple(_notes(told)),
    )


def _database(told: Mapping[str, Any]) -> str:
    process = _PROCESSES.get(str(told.get("process")))
    if process is None:
        return "–"
    if "read_only" not in told:
        return str(process)
    closed = _("read-only") if told["read_only"] else _("writable")
    return _("%(process)s, %(closed)s") % {"process": process, "closed": closed}


def _heard(told: Mapping[str, Any]) -> str:
    """Whether it has heard the primary within the limit, and when last."""
    if told.get("primary"):
        return _("it is the primary")
    if "hears_primary" not in told:
        return "–"
    age, heard = told.get("heard_s"), bool(told["hears_primary"])
    if not is_number(age):
        return _("no, never")
    return (_("yes, %(when)s before") if heard else _("no, last %(when)s before")) % {"when": seconds_text(age)}


_FLAGS: Final = {
    "removed": gettext_lazy("deleted by an operator"),
    "detached": gettext_lazy("taken out of the vault"),
    "locked_out": gettext_lazy("locked out at the primary"),
    "blocked": gettext_lazy("left alone after a failure"),
    "resting": gettext_lazy("rests, commits had hung on it"),
    "tainted": gettext_lazy("may lack what it had acknowledged"),
    "closed_by_lease": gettext_lazy("closed itself, its lease was over"),
}
_TEXTS: Final = {
    "quarantine": gettext_lazy("held back: %(value)s"),
    "needs_rebuild": gettext_lazy("needs a full copy: %(value)s"),
    "disk_error": gettext_lazy("its disk takes no writes: %(value)s"),
    "verb": gettext_lazy("busy: %(value)s"),
    "error": gettext_lazy("error %(value)s"),
    "connections": gettext_lazy("connections: %(value)s"),
    "commits_stuck_s": gettext_lazy("commits had waited %(value)s s"),
    "ack_clients": gettext_lazy("acknowledging replicas: %(value)s"),
    "written": gettext_lazy("written %(value)s"),
    "received": gettext_lazy("received %(value)s"),
    "applied": gettext_lazy("applied %(value)s"),
    "lease_left_s": gettext_lazy("%(value)s s of its lease were left"),
}


def _notes(told: Mapping[str, Any]) -> list[str]:
    notes = [str(words) for flag, words in _FLAGS.items() if told.get(flag)]
    if told.get("active") is False:
        notes.append(_("inactive"))
    if told.get("receiver") not in (None, "", "Yes"):
        notes.append(_("receiver: %(state)s") % {"state": told["receiver"]})
    if told.get("applier") is False:
        notes.append(_("does not apply"))
    if told.get("acknowledges"):
        notes.append(_("acknowledges"))
    return notes + [
        str(words) % {"value": value_text(told[key])}
        for key, words in _TEXTS.items()
        if told.get(key) not in (None, "")
    ]


# --- values that may be strange


def object_of(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def list_of(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else []


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def value_text(value: Any) -> str:
    """A sentence or a figure, as the reader writes it."""
    return number_format(value) if isinstance(value, float) else said(str(value))


def ms_text(value: float) -> str:
    return number_format(round(value)) if value >= 10 else number_format(round(value, 1), 1)


def seconds_text(value: Any) -> str:
    return _("%(number)s s") % {"number": ms_text(value)}
