"""An entry of the audit log in words: who, from where, what, to which object, before → after."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from auditlog.models import LogEntry
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import FieldDoesNotExist
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from nodes.sentences import said
from replication.stores.audit import is_secret, masked

ACTIONS: Final = {
    LogEntry.Action.CREATE: gettext_lazy("%(kind)s created"),
    LogEntry.Action.UPDATE: gettext_lazy("%(kind)s changed"),
    LogEntry.Action.DELETE: gettext_lazy("%(kind)s deleted"),
    LogEntry.Action.ACCESS: gettext_lazy("%(kind)s accessed"),
}
_MOMENT: Final = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d{6})?\+\d\d:\d\d", re.ASCII)
IN_WORDS: Final = frozenset({"state", "paused_until"})
"""Fields whose values were written as words."""
ACTION_NAMES: Final = dict(LogEntry.Action.choices)


@dataclass(frozen=True)
class Change:
    field: str
    label: str
    before: str
    after: str


@dataclass(frozen=True)
class Shown:
    entry: LogEntry
    who: str
    """"" when nobody is known, as with a failed login."""
    via: str
    """"" for a browser, else the command and who ran it."""
    what: str
    kind: str
    reason: str
    changes: tuple[Change, ...]


def kind_of(kind: ContentType | None) -> str:
    """ "vault node", also of a model that this version does not have any more."""
    model = kind.model_class() if kind is not None else None
    return str(model._meta.verbose_name) if model is not None else str(kind.model if kind is not None else "")


def written(entry: LogEntry) -> str:
    """The sentence as it was written; "" when an entry has none."""
    data = entry.additional_data
    return str(data.get("what") or "") if isinstance(data, dict) else ""


def shown(entry: LogEntry) -> Shown:
    data = entry.additional_data if isinstance(entry.additional_data, dict) else {}
    kind = kind_of(entry.content_type)
    via, system_user = said(str(data.get("via", ""))), str(data.get("system_user", ""))
    # Written in English, read in the reader's language; the export keeps it as it was written.
    what = said(written(entry)) or str(ACTIONS[entry.action]) % {"kind": kind}
    return Shown(
        entry=entry,
        who=entry.actor.get_username() if entry.actor else str(data.get("actor", "")) or system_user,
        via=f"{via} ({system_user})" if via and system_user else via,
        what=what[:1].upper() + what[1:],
        kind=kind,
        reason=str(data.get("reason", "")),
        changes=tuple(_changes(entry)),
    )


def _changes(entry: LogEntry) -> Iterator[Change]:
    """In the order in which they were written. Secrets stay masked, whoever wrote the entry."""
    changes = entry.changes if isinstance(entry.changes, dict) else {}
    model = entry.content_type.model_class()
    for name, value in changes.items():
        label = _label(model, name)
        if isinstance(value, dict):  # a relation: what was added or removed
            objects = ", ".join(str(item) for item in value.get("objects", ()))
            added = value.get("operation") == "add"
            yield Change(name, label, "" if added else objects, objects if added else "")
        elif isinstance(value, list) and len(value) == 2:
            before, after = (masked(v) if is_secret(name) else _text(v) for v in value)
            if name in IN_WORDS:
                before, after = said(before), said(after)
            yield Change(name, label, before, after)


def _label(model: Any, name: str) -> str:
    try:
        return str(model._meta.get_field(name).verbose_name)
    except (AttributeError, FieldDoesNotExist):
        return name.replace("_", " ")


def _text(value: Any) -> str:
    """Values are kept as Python writes them: "None", "True", a time with its microseconds."""
    if value is None or value == "None":
        return ""
    text = str(value)
    if _MOMENT.fullmatch(text):
        return f"{datetime.fromisoformat(text).astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    return {"True": _("yes"), "False": _("no")}.get(text, text)
