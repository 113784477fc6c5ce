"""What may be asked for on a row of the Vault screen, and of the vault as a whole."""

from datetime import timedelta
from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from .popup import PopupForm


def reason_field(help_text: Any, *, required: bool = False) -> forms.CharField:
    """Kept with the event and in the audit log, so that the next one knows."""
    return forms.CharField(
        label=_("Reason"),
        required=required,
        max_length=200,
        help_text=help_text,
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )


class SwitchoverForm(PopupForm):
    reason = reason_field(_("Optional. It is kept with the event."))


class LeaveForm(PopupForm):
    """The hostname and why; the wish itself says what is wrong with them (W62, W63), whoever asks."""

    confirm = forms.CharField(
        label=_("Hostname"),
        required=False,
        max_length=253,
        widget=forms.TextInput(attrs={"autocomplete": "off", "autocapitalize": "off", "spellcheck": "false"}),
    )
    reason = reason_field(_("It is kept with the event and in the audit log."))

    def __init__(self, *args: Any, hostname: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["confirm"].help_text = _("Type %(name)s to confirm.") % {"name": hostname}


class UpdateNodeForm(LeaveForm):
    """With `typed`, the confirmation that making it inactive needs."""

    active = forms.BooleanField(
        label=_("Active"), required=False, widget=forms.CheckboxInput(attrs={"autofocus": True})
    )
    field_order = ("active", "confirm", "reason")

    def __init__(self, *args: Any, typed: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if typed:
            del self.fields["active"].widget.attrs["autofocus"]
            self.fields["confirm"].widget.attrs["autofocus"] = True
        else:
            del self.fields["confirm"], self.fields["reason"]


class PauseForm(PopupForm):
    SPANS = (
        ("15", _("15 minutes")),
        ("60", _("1 hour")),
        ("240", _("4 hours")),
        ("open", _("Until it is resumed by hand")),
    )

    span = forms.ChoiceField(
        label=_("For"),
        choices=SPANS,
        initial="60",
        error_messages={"required": _("Choose for how long."), "invalid_choice": _("Choose one of the times.")},
    )
    reason = reason_field(_("Everybody who looks at the vault will read it."))

    def clean_span(self) -> timedelta | None:
        span = self.cleaned_data["span"]
        return None if span == "open" else timedelta(minutes=int(span))


class PolicyForm(PopupForm):
    WRITABLE, BLOCK = "writable", "block"

    if_lost = forms.ChoiceField(
        label=_("When the fallback is lost"),
        choices=(
            (WRITABLE, _("Stay writable: go solo")),
            (BLOCK, _("Block writes until it is back")),
        ),
        widget=forms.RadioSelect,
        error_messages={"required": _("Choose one of the two."), "invalid_choice": _("Choose one of the two.")},
    )
    reason = reason_field(_("Optional. It is kept with the event and in the audit log."))
