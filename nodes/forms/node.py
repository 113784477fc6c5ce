"""What may be asked for on a row of the Vault screen."""

from django import forms
from django.utils.translation import gettext_lazy as _

from .popup import PopupForm


class UpdateNodeForm(PopupForm):
    active = forms.BooleanField(
        label=_("Active"), required=False, widget=forms.CheckboxInput(attrs={"autofocus": True})
    )


class SwitchoverForm(PopupForm):
    reason = forms.CharField(
        label=_("Reason"),
        required=False,
        max_length=200,
        help_text=_("Optional. It is kept with the event."),
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
