"""The vault's policy: what happens to writes when the acker is lost; copies, comparisons and backups."""

from collections.abc import Mapping
from typing import Any, Final

from django.db import transaction

from nodes.models import Vault

from . import audit

DATA_POLICY: Final = (
    "rebuild_policy", "copy_mib_per_second", "keep_old_hours", "verify_every_hours", "backup_every_hours", "backups_kept"
)  # fmt: skip


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


def set_data_policy(vault: Vault, values: Mapping[str, Any], actor: Any, *, reason: str = "") -> bool:
    """Change what of DATA_POLICY is among the values, which whoever asked has checked. The same as before is no event."""
    reason = " ".join(reason.split())
    with transaction.atomic():
        before = Vault.objects.select_for_update().get(pk=vault.pk)
        changes = {
            name: (getattr(before, name), values[name])
            for name in DATA_POLICY
            if name in values and getattr(before, name) != values[name]
        }
        if not changes:
            return False
        Vault.objects.filter(pk=before.pk).update(**{name: after for name, (_before, after) in changes.items()})
        text = "setting of copies and backups changed"
        audit.tell(before, text, changes, actor=actor, reason=reason, vault=before, epoch=before.epoch)
    return True
