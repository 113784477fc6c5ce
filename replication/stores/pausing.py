"""The pause of automatic failover: a wish with an end, judged by the database's clock, for one clock counts for all hosts.

It refuses the choice of a candidate (C05) and nothing else: the vault still goes solo without its acker, a planned switchover
still works, and what was begun is still finished.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from django.db import transaction
from django.db.models import DateTimeField
from django.db.models.functions import Now
from django.utils.translation import gettext as _

from nodes.models import Vault

from . import audit
from .wishes import RefusedWish

LONGEST: Final = timedelta(hours=4)
"""A longer pause has no end of its own: whoever wants it has to come back and end it."""
MOST_REASON: Final = 200
"""Characters, as in the model."""


@dataclass(frozen=True)
class Pause:
    at: datetime | None
    until: datetime | None
    """None: until somebody resumes it."""
    by: str
    reason: str


def pause_of(vault: Vault, now: datetime) -> Pause | None:
    """The pause that holds now, or None. now: by the database's clock."""
    if vault.paused_at is None or (vault.paused_until is not None and vault.paused_until <= now):
        return None
    return Pause(vault.paused_at, vault.paused_until, vault.paused_by, vault.paused_reason)


def pause_now(vault: Vault) -> Pause | None:
    """The pause that holds at this moment, as the row in the database says. One query."""
    found = Vault.objects.annotate(database_now=Now(output_field=DateTimeField())).get(pk=vault.pk)
    return pause_of(found, found.database_now)


def paused(vault: Vault, now: datetime) -> str:
    """The end of C05's sentence, in plain English like every sentence of core; "" when nothing is paused."""
    pause = pause_of(vault, now)
    if pause is None:
        return ""
    end = f"{pause.until.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC" if pause.until is not None else "somebody resumes it"
    return f"until {end}, by {pause.by or 'the command line'}: {pause.reason}"


def pause_failover(vault: Vault, span: timedelta | None, actor: Any, *, reason: str) -> RefusedWish | None:
    """Promote nobody for `span`, or until resumed when it is None. A second pause takes the place of the first.

    reason: why, in the operator's words; whoever finds the pause at night has nothing else to go by.
    """
    reason = " ".join(reason.split())
    if not reason:
        return RefusedWish("W60", _("Say why automatic failover is to be paused: others will want to know."), "reason")
    if span is not None and not timedelta() < span <= LONGEST:
        text = _("A pause that ends by itself lasts at most %(hours)d hours.")
        return RefusedWish("W61", text % {"hours": LONGEST // timedelta(hours=1)}, "span")
    reason = reason[:MOST_REASON]
    with transaction.atomic():
        before = _lock(vault)
        now = before.database_now
        until = now + span if span is not None else None
        by = audit.name_of(actor)
        Vault.objects.filter(pk=before.pk).update(paused_at=now, paused_until=until, paused_by=by, paused_reason=reason)
        text = (
            f"automatic failover paused until {until.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
            if until is not None
            else "automatic failover paused until it is resumed"
        )
        changes = {
            "paused_until": (_end(before), until or "until resumed"),
            "paused_reason": (before.paused_reason, reason),
        }
        _note(before, text, actor, changes, reason=reason, level="warning")
    return None


def resume_failover(vault: Vault, actor: Any) -> None:
    """End the pause now. Saying it again, or after it has ended by itself, changes nothing and is no event."""
    with transaction.atomic():
        before = _lock(vault)
        held = pause_of(before, before.database_now)
        Vault.objects.filter(pk=before.pk, paused_at__isnull=False).update(
            paused_at=None, paused_until=None, paused_by="", paused_reason=""
        )
        if held is not None:
            _note(before, "automatic failover resumed", actor, {"paused_until": (_end(before), "")})


def _lock(vault: Vault) -> Vault:
    """The vault's row with the database's clock, locked until the transaction ends."""
    rows = Vault.objects.select_for_update().annotate(database_now=Now(output_field=DateTimeField()))
    return rows.get(pk=vault.pk)


def _end(vault: Vault) -> Any:
    if vault.paused_at is None:
        return ""
    return vault.paused_until or "until resumed"


def _note(
    vault: Vault, text: str, actor: Any, changes: dict[str, tuple[Any, Any]], *, reason: str = "", level: str = "info"
) -> None:
    audit.tell(vault, text, changes, actor=actor, reason=reason, vault=vault, epoch=vault.epoch, level=level)
