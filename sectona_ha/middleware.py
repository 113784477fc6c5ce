"""Who asks, and from where, for the audit log and the lockout."""

from ipaddress import IPv6Address, ip_address
from typing import Any

from auditlog.middleware import AuditlogMiddleware
from django.conf import settings
from django.http import HttpRequest

from replication.stores import audit


class AuditMiddleware(AuditlogMiddleware):
    """The stock one believes X-Forwarded-For from anybody; only a proxy of ours may say where a request comes from."""

    def __call__(self, request: HttpRequest) -> Any:
        with audit.web_request(request):
            return super().__call__(request)

    @staticmethod
    def _get_remote_addr(request: HttpRequest) -> str | None:
        return client_address(request)

    @staticmethod
    def _get_remote_port(request: HttpRequest) -> int | None:
        return None


def client_address(request: HttpRequest) -> str | None:
    """The address of who asks, or None when nobody trustworthy says one.

    Each proxy appends the address that it was called from, so X-Forwarded-For grows to the right and only its last
    entries, one per proxy of ours, were written by somebody we know. The first of those is the client. What stands
    further left came with the request and may be invented.
    """
    said = request.META.get("HTTP_X_FORWARDED_FOR", "") if settings.BEHIND_PROXY else ""
    if not said.strip():
        return _address(request.META.get("REMOTE_ADDR", ""))
    return _address(said.split(",")[-settings.PROXIES :][0])


def _address(text: str) -> str | None:
    """Without port, brackets and zone, in one spelling; None for what is no address: a column takes nothing else."""
    text = text.strip().strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        found = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(found)
