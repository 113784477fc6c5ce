"""+ Add Node."""

from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _

from nodes.choices import SystemRoleChoices
from nodes.models import Vault
from replication.core import limits
from replication.stores import wishes

from .addresses import clean_address, clean_hostname
from .popup import PopupForm

_PORT = _("A port is a number from 1 to 65535; vault agents listen on 5389.")


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
        if vault.nodes.filter(removed_at__isnull=True, system_role=SystemRoleChoices.PRIMARY).exists():
            self.initial.setdefault("system_role", SystemRoleChoices.FALLBACK)

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

    def sentences(self) -> list[tuple[str, str]]:
        """What is wrong, field by field, "" for the form as a whole."""
        return [
            (name if name in self.fields else "", str(text)) for name, texts in self.errors.items() for text in texts
        ]

    def refuse(self, field: str, text: str) -> None:
        """Show a sentence at its field, or above the form when there is no such field."""
        self.add_error(field if field in self.fields else None, text)
