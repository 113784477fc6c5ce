"""Why an operation is cancelled."""

from django import forms
from django.utils.translation import gettext_lazy as _

from .popup import PopupForm


class CancelForm(PopupForm):
    reason = forms.CharField(
        label=_("Reason"),
        required=False,
        max_length=200,
        help_text=_("Optional. It stays with the event and in the audit log."),
        error_messages={"max_length": _("A reason has at most 200 characters.")},
    )
