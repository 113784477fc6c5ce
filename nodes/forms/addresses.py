"""Hostnames and addresses as people type them: one spelling each, or one sentence that says what to do instead."""

import ipaddress
import re

from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _

HOSTNAME_MAX = 253
_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\Z")

_HOSTNAME = _("A hostname has letters, digits, dots and hyphens only, for example vault-2.example.net.")
_ADDRESS = _("This is no IP address. Enter one such as 10.20.1.12 or 2001:db8::12.")


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
