"""What every popup's form shares."""

from typing import Any

from django import forms


class PopupForm(forms.Form):
    """Labels without a colon, as in the manual; a field with an error says so to screen readers too."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"label_suffix": "", **kwargs})
