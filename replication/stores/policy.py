"""The vault's policy: what happens to writes when the acker is lost."""

from typing import Any

from django.db import transaction

from nodes.models import Vault

from . import audit


def set_stay_writable(vault: Vault, stay_writable: bool, actor: Any, *, reason: str = "") -> bool:
    """Go solo and stay writable without an acker, or block. Answers whether it was another one before; the same is no event."""
    reason = " ".join(reason.split())
    with transaction.atomic():
        before = Vault.objects.select_for_update().get(pk=vault.pk)
        if before.stay_writable == stay_writable:
            return False
        Vault.objects.filter(pk=before.pk).update(stay_writable=stay_writable)
        text = (
            "policy: stay writable when the fallback is lost"
            if stay_writable
            else "policy: block writes when the fallback is lost"
        )
        changes = {"stay_writable": (not stay_writable, stay_writable)}
        audit.tell(before, text, changes, actor=actor, reason=reason, vault=before, epoch=before.epoch)
    return True
