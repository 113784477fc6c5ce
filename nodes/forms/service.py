"""The Setting popup of a service: what can be set depends on the service (replication/stores/service_setting.py)."""

from collections.abc import Mapping
from typing import Any

from django import forms
from django.utils.formats import number_format
from django.utils.translation import gettext as _

from nodes.models import AppService
from replication.stores.service_setting import LONGEST_DAYS, Kept, allowed

from .popup import PopupForm


class ServiceSettingForm(PopupForm):
    """Trigger interval, and how many days what is kept. `defaulted`: proposes the defaults instead of what is set."""

    def __init__(self, service: AppService, data: Mapping[str, Any] | None = None, *, defaulted: bool = False) -> None:
        self.limit = allowed(service)
        initial: dict[str, Any] = {"trigger_interval": _number(service.trigger_interval)}
        initial |= {kept.name: kept.of(service.configuration) for kept in self.limit.kept}
        if defaulted:
            initial = {"trigger_interval": _number(self.limit.interval.total_seconds())}
            initial |= {kept.name: kept.default for kept in self.limit.kept}
        super().__init__(data, initial=initial)
        self.fields["trigger_interval"] = self._interval()
        for kept in self.limit.kept:
            self.fields[kept.name] = _days(kept)

    @property
    def days(self) -> dict[str, int]:
        return {kept.name: self.cleaned_data[kept.name] for kept in self.limit.kept}

    def _interval(self) -> forms.FloatField:
        least, most = self.limit.interval_min.total_seconds(), self.limit.interval_max.total_seconds()
        values = {"least": least, "most": most, "default": self.limit.interval.total_seconds()}
        figures = {name: number_format(_number(seconds)) for name, seconds in values.items()}
        says = _("The trigger interval is a number of seconds from %(least)s to %(most)s.") % figures
        return forms.FloatField(
            label=_("Trigger interval"),
            min_value=least,
            max_value=most,
            help_text=_("Seconds between two passes, %(least)s to %(most)s. Default: %(default)s.") % figures,
            error_messages=dict.fromkeys(("required", "invalid", "min_value", "max_value"), says),
            widget=forms.NumberInput(attrs={"autofocus": True, "step": "any"}),
        )


def _days(kept: Kept) -> forms.IntegerField:
    figures = {"what": kept.what, "least": kept.minimum, "most": LONGEST_DAYS, "default": kept.default}
    says = _("%(what)s are kept for a whole number of days from %(least)d to %(most)d.") % figures
    return forms.IntegerField(
        label=kept.what,
        min_value=kept.minimum,
        max_value=LONGEST_DAYS,
        help_text=_("Days to keep, at least %(least)d. Default: %(default)d.") % figures,
        error_messages=dict.fromkeys(("required", "invalid", "min_value", "max_value"), says),
    )


def _number(seconds: float) -> float | int:
    return int(seconds) if seconds == int(seconds) else seconds
