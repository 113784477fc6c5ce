"""What a backup is asked for with."""

from django import forms
from django.utils.translation import gettext_lazy as _

from .node import reason_field
from .popup import PopupForm


class BackUpForm(PopupForm):
    allow_primary = forms.BooleanField(
        label=_("From the Master if need be"),
        required=False,
        help_text=_(
            "When no fallback can make it. Its disk has more to do then, and writes wait for a moment at the end."
        ),
    )
    reason = reason_field(_("Optional. It is kept with the event."))
