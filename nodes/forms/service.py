"""The Setting popup of a service."""

from django import forms
from django.utils.translation import gettext_lazy as _

from replication.core import limits

from .popup import PopupForm

_INTERVAL = _("The trigger interval is a number of seconds from 0.2 to 60.")


class ServiceSettingForm(PopupForm):
    trigger_interval = forms.FloatField(
        label=_("Trigger interval"),
        min_value=limits.HELLO_INTERVAL_MIN.total_seconds(),
        max_value=limits.HELLO_INTERVAL_MAX.total_seconds(),
        help_text=_("Seconds between two hello packets to a vault host, 0.2 to 60."),
        error_messages={"required": _INTERVAL, "invalid": _INTERVAL, "min_value": _INTERVAL, "max_value": _INTERVAL},
        widget=forms.NumberInput(attrs={"autofocus": True, "step": "any"}),
    )
