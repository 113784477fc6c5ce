"""Logins, logouts and failed logins are entries of the audit log too, each with its address."""

from typing import Any, Final

from auditlog.models import LogEntry
from axes.utils import reset
from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.signals import user_logged_in, user_logged_out, user_login_failed
from django.contrib.contenttypes.models import ContentType
from django.db import transaction
from django.utils.translation import gettext_noop as _

from . import audit

LOGIN: Final = _("logged in")
LOGOUT: Final = _("logged out")
FAILED: Final = _("login failed")
LOCKED: Final = _("login failed, and locked for %(minutes)s minutes")
UNLOCKED: Final = _("failed logins forgotten")
TYPED_MAX: Final = 150
"""Characters of a name that somebody typed: as long as a username can be."""


def _logged_in(sender: Any, request: Any, user: Any, **_kwargs: Any) -> None:
    if _came_from_somewhere(request):
        _write(user.get_username(), LOGIN, user)


def _logged_out(sender: Any, request: Any, user: Any, **_kwargs: Any) -> None:
    if user is not None and _came_from_somewhere(request):
        _write(user.get_username(), LOGOUT, user)


def _failed(sender: Any, credentials: Any, request: Any = None, **_kwargs: Any) -> None:
    """What was typed is kept as it was typed, since it tells a slip from an attack; the password never is.

    While a name is locked its further tries are no entries: the one that locked it says until when.
    """
    if not _came_from_somewhere(request):
        return
    locked = getattr(request, "axes_locked_out", False)
    if locked and getattr(request, "axes_failures_since_start", None) is None:
        return
    minutes = int(settings.AXES_COOLOFF_TIME.total_seconds() // 60)
    typed = str(credentials.get(get_user_model().USERNAME_FIELD, "")).replace("\0", "")[:TYPED_MAX]
    _write(typed, LOCKED % {"minutes": minutes} if locked else FAILED, None)


def _came_from_somewhere(request: Any) -> bool:
    """Not a session that a program made for itself, past the login."""
    return request is not None and request.method is not None


def _write(name: str, what: str, user: Any) -> None:
    LogEntry.objects.create(
        content_type=ContentType.objects.get_for_model(get_user_model()),
        object_pk=str(user.pk) if user is not None else "",
        object_id=user.pk if user is not None else None,
        object_repr=name,
        action=LogEntry.Action.ACCESS,
        actor=user,
        changes={},
        additional_data={"what": what},
    )


def unlock(username: str, actor: Any) -> int:
    """Forget the failed logins of a name, from all addresses. Answers how many records there were; none is no entry."""
    with transaction.atomic():
        count = int(reset(username=username))
        if count:
            user = get_user_model()(username=username)
            known = get_user_model().objects.filter(username=username).first()
            audit.record(known or user, UNLOCKED, {}, actor=actor, name=username[:TYPED_MAX])
    return count


def connect() -> None:
    user_logged_in.connect(_logged_in, dispatch_uid="replication.logins.in")
    user_logged_out.connect(_logged_out, dispatch_uid="replication.logins.out")
    user_login_failed.connect(_failed, dispatch_uid="replication.logins.failed")
