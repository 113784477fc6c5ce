"""The audit log: what a person changed, from where, before and after, and why. Written in the transaction of the change.

django-auditlog holds the table, and writes users and groups by itself (sectona_ha/settings.py). Wishes change rows by UPDATE,
which it does not see, so they say what they did here. Who and from where come from the request (its middleware), or from
`command_line`.
"""

import contextlib
import getpass
from collections.abc import Iterator, Mapping
from typing import Any

from auditlog.models import LogEntry
from django.db import models

COMMAND_LINE = "command line"


def record(
    instance: models.Model,
    what: str,
    changes: Mapping[str, tuple[Any, Any]],
    *,
    actor: Any = None,
    reason: str = "",
    action: int = LogEntry.Action.UPDATE,
) -> None:
    """Write one entry: `what` was done to `instance`, as a sentence.

    changes: field → (before, after). actor: a user, or None for the one of the request. reason: in the person's own words.
    """
    written = {name: [_text(before), _text(after)] for name, (before, after) in changes.items()}
    LogEntry.objects.log_create(
        instance,
        force_log=True,
        action=action,
        changes=written,
        actor=actor if actor is not None and actor.pk else None,
        additional_data={"what": what, **({"reason": reason} if reason else {}), **_via()},
    )


_command: dict[str, str] = {}


def _via() -> dict[str, str]:
    return dict(_command)


@contextlib.contextmanager
def command_line(command: str) -> Iterator[None]:
    """Everything recorded inside was done by `manage.py command`, by this user of the operating system."""
    try:
        who = getpass.getuser()
    except (KeyError, OSError):
        who = "unknown"
    _command.update(via=f"{COMMAND_LINE}: {command}", system_user=who)
    try:
        yield
    finally:
        _command.clear()


def _text(value: Any) -> str:
    return "" if value is None else str(value)
