"""What an operator may ask for, validated field by field: each refusal is one sentence that says what to do instead."""

import ipaddress
import re
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _

from nodes.choices import SystemRoleChoices
from nodes.models import Vault
from replication.core import limits
from replication.stores import wishes

HOSTNAME_MAX = 253
_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\Z")

_HOSTNAME = _("A hostname has letters, digits, dots and hyphens only, for example vault-2.example.net.")
_PORT = _("A port is a number from 1 to 65535; vault agents listen on 5389.")
_ADDRESS = _("This is no IP address. Enter one such as 10.20.1.12 or 2001:db8::12.")
_INTERVAL = _("The trigger interval is a number of seconds from 0.2 to 60.")


def clean_hostname(text: str) -> str:
    """A legal DNS-like name as it was typed. Raises ValidationError."""
    if len(text) > HOSTNAME_MAX:
        raise ValidationError(
            _("A hostname has at most 253 characters; this one has %(count)d."), params={"count": len(text)}
        )
    if not all(_LABEL.match(label) for label in text.split(".")):
        raise ValidationError(_HOSTNAME)
    if all(label.isdigit() for label in text.split(".")):
        raise ValidationError(_("This is a number or an IP address: enter the name of the host here."))
    return text


def clean_address(text: str) -> str:
    """One spelling for one address, so that the database can see duplicates. Raises ValidationError."""
    try:
        address: ipaddress.IPv4Address | ipaddress.IPv6Address = ipaddress.ip_address(text)
    except ValueError:
        raise ValidationError(_ADDRESS) from None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    if isinstance(address, ipaddress.IPv6Address) and address.scope_id and not address.is_link_local:
        # "2001:db8::1%eth0" would be a second spelling of the same address.
        raise ValidationError(_ADDRESS)
    if address.is_unspecified:
        raise ValidationError(_("This address means “any address”: enter the one of the vault host."))
    if address.is_multicast:
        raise ValidationError(_("This is a multicast address: enter the address of one host."))
    if address.is_link_local:
        raise ValidationError(_("A link-local address is valid on one cable only: enter a static address of the host."))
    if str(address) == "255.255.255.255":
        raise ValidationError(_("This is the broadcast address: enter the address of one host."))
    if address.is_reserved and not address.is_loopback:
        raise ValidationError(_("This address is reserved and belongs to no host: enter a static address of the host."))
    return str(address)


class PopupForm(forms.Form):
    """Labels without a colon, as in the manual; a field with an error says so to screen readers too."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"label_suffix": "", **kwargs})


class AddNodeForm(PopupForm):
    hostname = forms.CharField(
        label=_("Hostname"),
        error_messages={"required": _("Enter the hostname of the vault host.")},
        # autofocus: the popup is opened to type here.
        widget=forms.TextInput(attrs={"autofocus": True, "autocomplete": "off", "spellcheck": "false"}),
    )
    port = forms.IntegerField(
        label=_("Port"),
        min_value=1,
        max_value=65535,
        initial=limits.AGENT_PORT,
        error_messages={"required": _PORT, "invalid": _PORT, "min_value": _PORT, "max_value": _PORT},
    )
    system_role = forms.ChoiceField(
        label=_("System Role"),
        choices=SystemRoleChoices,
        error_messages={
            "required": _("Choose Primary or Fallback."),
            "invalid_choice": _("Choose Primary or Fallback."),
        },
    )
    ip_address = forms.CharField(
        label=_("IP Address"),
        error_messages={"required": _("Enter the IP address of the vault host.")},
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
    )
    active = forms.BooleanField(label=_("Active"), required=False, initial=True)

    def __init__(self, *args: Any, vault: Vault, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.vault = vault

    def clean_hostname(self) -> str:
        return clean_hostname(self.cleaned_data["hostname"])

    def clean_port(self) -> int:
        port: int = self.cleaned_data["port"]
        if port == limits.DATABASE_PORT:
            raise ValidationError(_("3307 is the port of the database itself; vault agents listen on 5389."))
        return port

    def clean_ip_address(self) -> str:
        return clean_address(self.cleaned_data["ip_address"])

    def clean(self) -> dict[str, Any]:
        """Collisions with other nodes, before the new host is asked anything. Saving looks again, under a lock."""
        data = super().clean() or self.cleaned_data
        if not self.errors:
            for refused in wishes.check_new_node(self.vault, self.new_node()):
                self.refuse(refused.field, refused.says)
        return data

    def new_node(self, **found: Any) -> wishes.NewNode:
        """The wish. found: what the check of the host has added (agent_id)."""
        data = self.cleaned_data
        return wishes.NewNode(
            **{
                "hostname": data["hostname"],
                "port": data["port"],
                "database_port": limits.DATABASE_PORT,
                "system_role": data["system_role"],
                "ip_address": data["ip_address"],
                "active": data["active"],
                **found,
            }
        )

    def refuse(self, field: str, text: str) -> None:
        """Show a sentence at its field, or above the form when there is no such field."""
        self.add_error(field if field in self.fields else None, text)


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


class ServiceSettingForm(PopupForm):
    trigger_interval = forms.FloatField(
        label=_("Trigger interval"),
        min_value=limits.HELLO_INTERVAL_MIN.total_seconds(),
        max_value=limits.HELLO_INTERVAL_MAX.total_seconds(),
        help_text=_("Seconds between two hello packets to a vault host, 0.2 to 60."),
        error_messages={"required": _INTERVAL, "invalid": _INTERVAL, "min_value": _INTERVAL, "max_value": _INTERVAL},
        widget=forms.NumberInput(attrs={"autofocus": True, "step": "any"}),
    )
