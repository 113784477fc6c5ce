"""What may be asked for on the Application screen: + Add Node and Update, in the words of the Vault screen."""

from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _

from nodes.choices import ApplicationRole
from nodes.models import ApplicationNode
from replication.stores.application_wishes import HostWish, check_host
from replication.stores.wishes import RefusedWish

from .addresses import clean_address, clean_hostname
from .popup import PopupForm

_ROLE = _("Choose Controller or Web.")


class UpdateApplicationForm(PopupForm):
    """Of a host that is in the list. One that entered itself may have no address of its own here."""

    system_role = forms.ChoiceField(
        label=_("System Role"),
        choices=ApplicationRole,
        error_messages={"required": _ROLE, "invalid_choice": _ROLE},
        help_text=_("Controller: service workers run there. Web: only this console."),
    )
    ip_address = forms.CharField(
        label=_("IP Address"),
        required=False,
        error_messages={"required": _("Enter the IP address of the host.")},
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
    )
    active = forms.BooleanField(
        label=_("Active"),
        required=False,
        initial=True,
        help_text=_(
            "Unticked, its service workers stand by and lead nothing, for instance while the host is maintained."
        ),
    )

    def __init__(self, *args: Any, host: ApplicationNode | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.host = host

    def clean_ip_address(self) -> str:
        text = self.cleaned_data["ip_address"]
        return clean_address(text) if text else ""

    def clean(self) -> dict[str, Any]:
        """Collisions with other hosts. Saving looks again, under a lock."""
        data = super().clean() or self.cleaned_data
        if not self.errors:
            self.refuse(check_host(self.wish(), pk=self.host.pk if self.host else None))
        return data

    def wish(self) -> HostWish:
        data = self.cleaned_data
        return HostWish(
            hostname=data["hostname"] if self.host is None else self.host.hostname,
            system_role=data["system_role"],
            ip_address=data["ip_address"] or None,
            active=data["active"],
        )

    def refuse(self, refused: list[RefusedWish]) -> None:
        """Show each sentence at its field, or above the form when there is no such field."""
        for each in refused:
            self.add_error(each.field if each.field in self.fields else None, ValidationError(each.says))


class AddApplicationForm(UpdateApplicationForm):
    """Of a host that need not have been heard yet."""

    hostname = forms.CharField(
        label=_("Hostname"),
        error_messages={"required": _("Enter the hostname of the application host.")},
        help_text=_("As the host itself calls it: VAULT_HA_HOST_NAME, or what hostname prints there."),
        widget=forms.TextInput(attrs={"autofocus": True, "autocomplete": "off", "spellcheck": "false"}),
    )
    field_order = ("hostname", "system_role", "ip_address", "active")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["ip_address"].required = True

    def clean_hostname(self) -> str:
        return clean_hostname(self.cleaned_data["hostname"])
