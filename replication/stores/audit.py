"""The audit log: what a person changed, from where, before and after, and why. Written in the transaction of the change.

django-auditlog holds the table, and writes users and groups by itself (sectona_ha/settings.py). Wishes change rows by UPDATE,
which it does not see, so they say what they did here. Who and from where come from the request (its middleware); what is
written outside of one was done on the command line, whoever wrote the entry.
"""

import contextlib
import os
import pwd
import sys
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Final

from auditlog.models import LogEntry
from django.db import models
from django.db.models.signals import pre_save
from django.utils.translation import override

from nodes.models import Event

CREATED: Final = LogEntry.Action.CREATE
EVENT_MAX: Final = 1000
"""Characters of an event's text, as in the model."""
COMMAND_LINE: Final = "command line"
MASK: Final = "•••••"
_SECRETS: Final = ("password", "passwd", "secret", "token", "private_key", "credential")


def record(
    instance: models.Model,
    what: str,
    changes: Mapping[str, tuple[Any, Any]],
    *,
    actor: Any = None,
    reason: str = "",
    action: int = LogEntry.Action.UPDATE,
    name: str = "",
) -> None:
    """Write one entry: `what` was done to `instance`, as a sentence.

    changes: field → (before, after). actor: a user, or None for the one of the request. reason: in the person's own words.
    name: what the object is called, when that is not its own text; an instance without a row has to have one.
    """
    with override("en"):  # an object's own text may hold labels; what is written down is English
        written = {field: [_text(field, before), _text(field, after)] for field, (before, after) in changes.items()}
        LogEntry.objects.log_create(
            instance,
            force_log=True,
            action=action,
            changes=written,
            actor=actor if actor is not None and actor.pk else None,
            additional_data={"what": what, **({"reason": reason} if reason else {})},
            **({"object_repr": name} if name else {}),
            **({"object_pk": ""} if instance.pk is None else {}),
        )


def tell(
    instance: models.Model,
    text: str,
    changes: Mapping[str, tuple[Any, Any]],
    *,
    actor: Any,
    reason: str = "",
    action: int = LogEntry.Action.UPDATE,
    **event: Any,
) -> None:
    """What a person asked for: the event for everybody, and the entry of the audit log as in `record`.

    event: the other fields of the event: vault, node_name, epoch, operation, level.
    """
    said = f"{text}: {reason[:500]}" if reason else text
    Event.objects.create(text=said[:EVENT_MAX], actor=name_of(actor), **event)
    record(instance, text, changes, actor=actor, reason=reason, action=action)


def name_of(user: Any) -> str:
    """As events keep it; "" for nobody, as with a command."""
    return str(user.get_username()) if user is not None else ""


def is_secret(name: str) -> bool:
    """Whether a field of this name holds what nobody may read in a log."""
    return any(word in name.lower() for word in _SECRETS)


def masked(value: Any) -> str:
    """What is written in place of a secret: that it is there, nothing of it."""
    return "" if value in (None, "", "None") else MASK


def _text(name: str, value: Any) -> str:
    if value is None:
        return ""
    return masked(value) if is_secret(name) else str(value)


# --- from where

_request: ContextVar[Any] = ContextVar("audit_request", default=None)
_command: dict[str, str] = {}


@contextlib.contextmanager
def web_request(request: Any) -> Iterator[None]:
    """Everything recorded inside was asked for in a browser."""
    token = _request.set(request)
    try:
        yield
    finally:
        _request.reset(token)


@contextlib.contextmanager
def command_line(command: str, *, reason: str = "") -> Iterator[None]:
    """Everything recorded inside was done by `manage.py command`, by this user of the operating system.

    reason: in his own words, for every entry that has none of its own.
    """
    _command.update(via=f"{COMMAND_LINE}: {command}", system_user=system_user())
    if reason:
        _command["reason"] = reason
    try:
        yield
    finally:
        _command.clear()


def system_user() -> str:
    """Who runs this program, as the system knows him, not as the environment says; with sudo also who he was before."""
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        name = f"uid {os.getuid()}"
    before = os.environ.get("SUDO_USER", "")[:80]
    return f"{name} (sudo by {before})" if before and before != name else name


def _complete(sender: Any, instance: Any, **_kwargs: Any) -> None:
    """Who and how, also for entries that nobody here writes: `createsuperuser` changes users like any form does.

    The name is kept beside the user: it stays when he is deleted.
    """
    if not instance._state.adding:
        return
    request, known = _request.get(), dict(instance.additional_data or {})
    actor = instance.actor or (request.user if hasattr(request, "user") else None)
    if actor is not None and actor.pk is not None:
        known["actor"] = actor.get_username()
    if request is None:
        known = {**(_command or {"via": f"{COMMAND_LINE}: {_program()}", "system_user": system_user()}), **known}
    instance.additional_data = known


def _program() -> str:
    """`manage.py` names its command, everything else itself."""
    program = Path(sys.argv[0]).name
    return " ".join(sys.argv[1:2]) if program == "manage.py" else program


def connect() -> None:
    pre_save.connect(_complete, sender=LogEntry, dispatch_uid="replication.audit")
