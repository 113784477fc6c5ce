"""What is looked for in a service's log. Times are in UTC; the browser turns them into the reader's own zone."""

from datetime import UTC, datetime
from typing import Any

from django import forms
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

LEVELS = (("20", gettext_lazy("All")), ("30", gettext_lazy("Warnings and errors")), ("40", gettext_lazy("Errors")))
_MINUTE, _SECOND = "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"
_TIME = gettext_lazy("A time looks like 2026-01-31T14:05, in UTC.")


class _Moment(forms.DateTimeField):
    widget = forms.DateTimeInput(attrs={"type": "datetime-local", "data-utc": ""}, format=_MINUTE)

    def __init__(self, label: Any) -> None:
        super().__init__(
            label=label, required=False, input_formats=[_SECOND, _MINUTE], error_messages={"invalid": _TIME}
        )

    def to_python(self, value: Any) -> datetime | None:
        at = super().to_python(value)
        return at.replace(tzinfo=UTC) if at is not None else None


class LogFilterForm(forms.Form):
    """Everything is optional. An error says what is wrong; then nothing is shown, rather than something else."""

    q = forms.CharField(
        label=gettext_lazy("Text"),
        required=False,
        max_length=200,
        widget=forms.TextInput(attrs={"type": "search"}),
        error_messages={"max_length": gettext_lazy("Look for 200 characters at most.")},
    )
    level = forms.ChoiceField(
        label=gettext_lazy("Level"),
        required=False,
        choices=LEVELS,
        error_messages={"invalid_choice": gettext_lazy("Choose one of the levels.")},
    )
    host = forms.CharField(label=gettext_lazy("Host"), required=False, max_length=253)
    since = _Moment(gettext_lazy("From"))
    until = _Moment(gettext_lazy("To"))

    def __init__(self, data: Any, hosts: list[str]) -> None:
        super().__init__(data, label_suffix="")
        chosen = data.get("host", "")[:253]
        shown = hosts if not chosen or chosen in hosts else [*hosts, chosen]
        self.fields["host"].widget = forms.Select(choices=[("", _("All")), *((host, host) for host in shown)])

    def clean(self) -> dict[str, Any]:
        found: dict[str, Any] = super().clean() or self.cleaned_data
        if found.get("since") and found.get("until") and found["since"] > found["until"]:
            self.add_error("until", _("This is before the beginning: exchange the two times."))
        return found
