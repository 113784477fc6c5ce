"""The page for who has tried too often. django-axes counts; see AXES_ in settings.py."""

from ipaddress import ip_network
from typing import Any

from django.conf import settings
from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.cache import add_never_cache_headers

from .middleware import client_address


def counted_address(request: HttpRequest) -> str | None:
    """What failures are counted by (settings.AXES_CLIENT_IP_CALLABLE). Of IPv6 the /64: whoever has one address has all of it."""
    address = client_address(request)
    if address is None or ":" not in address:
        return address
    return str(ip_network(f"{address}/64", strict=False).network_address)


def locked_out(request: HttpRequest, _response: Any = None, credentials: Any = None) -> HttpResponse:
    """429, with when to try again. It says the same whether or not there is such a user."""
    minutes = int(settings.AXES_COOLOFF_TIME.total_seconds() // 60)
    context = {
        **admin.site.each_context(request),
        "title": "",
        "username": str((credentials or {}).get("username", ""))[:150],
        "minutes": minutes,
        "failures": settings.AXES_FAILURE_LIMIT,
    }
    response = TemplateResponse(request, "axes/locked_out.html", context, status=settings.AXES_HTTP_RESPONSE_CODE)
    response["Retry-After"] = str(minutes * 60)
    add_never_cache_headers(response)
    return response.render()
