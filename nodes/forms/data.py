"""What may be asked for where a node's data is concerned, and the vault's setting of copies, comparisons and backups."""

from collections.abc import Sequence
from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from nodes.models import Vault

from .node import LeaveForm, reason_field
from .popup import PopupForm

NEVER_ENDS = _("0 would never end: leave it empty for no limit.")


class ConfirmForm(LeaveForm):
    """The reason, and the hostname where it has to be typed."""

    def __init__(self, *args: Any, typed: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not typed:
            del self.fields["confirm"]


class RebuildForm(ConfirmForm):
    source = forms.ChoiceField(
        label=_("Copy from"),
        required=False,
        help_text=_("A good fallback rather than the Master, so that the Master goes on undisturbed."),
    )
    mib_per_second = forms.IntegerField(
        label=_("Rate in MiB per second"),
        required=False,
        min_value=1,
        max_value=100_000,
        error_messages={"min_value": NEVER_ENDS, "invalid": _("A whole number of MiB per second, or empty.")},
        help_text=_("Empty: no limit. A copy that is too fast slows down the host that it is made from."),
    )
    compare = forms.BooleanField(
        label=_("Compare with the Master afterwards"),
        required=False,
        initial=True,
        help_text=_("Row by row, as soon as it has caught up. Old data is only removed by itself after that."),
    )
    without_list = forms.BooleanField(
        label=_("Also without a list"),
        required=False,
        help_text=_(
            "Also when what only this node has cannot be exported and listed. Its old data is kept all the same."
        ),
    )
    field_order = ("source", "mib_per_second", "compare", "without_list", "confirm", "reason")

    def __init__(
        self, *args: Any, sources: Sequence[tuple[str, str]] = (), may_lose: bool = False, **kwargs: Any
    ) -> None:
        """sources: node id and hostname of the others. may_lose: it has, or may have, transactions of its own."""
        super().__init__(*args, **kwargs)
        self.fields["source"].choices = [("", _("Choose automatically")), *sources]
        if not may_lose:
            del self.fields["without_list"]

    @property
    def arguments(self) -> dict[str, Any]:
        said = self.cleaned_data
        return {
            "source": said["source"],
            "mib_per_second": said["mib_per_second"],
            "compare": said["compare"],
            "without_list": said.get("without_list", False),
        }


class DataPolicyForm(PopupForm):
    """The fields are those of the vault, and so are their limits."""

    HOURS = _("In hours. Empty: never by itself.")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        fields = forms.fields_for_model(Vault, fields=list(DATA_POLICY), help_texts=DATA_POLICY)
        for name, field in fields.items():
            field.validators += Vault._meta.get_field(name).validators
        fields["copy_mib_per_second"].error_messages["min_value"] = NEVER_ENDS
        self.fields = {**fields, "reason": reason_field(_("Optional. It is kept with the event and in the audit log."))}


DATA_POLICY = {
    "rebuild_policy": _(
        "What happens to a node that cannot go on from where it is. Whatever you choose, what only it has is exported and listed"
        " before its data is replaced, and its old data is kept."
    ),
    "copy_mib_per_second": _("In MiB per second. Empty: no limit. It also holds for backups and comparisons."),
    "keep_old_hours": _(
        "In hours, after a comparison found the new data equal. Until then a rebuild can be undone; the old data takes its room."
    ),
    "verify_every_hours": DataPolicyForm.HOURS,
    "backup_every_hours": DataPolicyForm.HOURS,
    "backups_kept": _("Older ones are removed after each backup."),
}
