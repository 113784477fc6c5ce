"""What was done about lost transactions."""

from django import forms
from django.utils.translation import gettext_lazy as _

from .popup import PopupForm


class DealtWithForm(PopupForm):
    note = forms.CharField(
        label=_("What was done"),
        max_length=500,
        widget=forms.Textarea(attrs={"rows": 3}),
        help_text=_("It stays with the report, with the event and in the audit log."),
        error_messages={
            "required": _("Say what was done: whoever looks at this later has nothing else to go by."),
            "max_length": _("A note has at most 500 characters."),
        },
    )
