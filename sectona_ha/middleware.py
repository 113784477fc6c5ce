"""Who asks, and from where, for the audit log."""

from auditlog.middleware import AuditlogMiddleware
from django.conf import settings
from django.http import HttpRequest


class AuditMiddleware(AuditlogMiddleware):
    """The stock one believes X-Forwarded-For from anybody; only a proxy that we know of may say where a request comes from."""

    @staticmethod
    def _get_remote_addr(request: HttpRequest) -> str | None:
        if settings.BEHIND_PROXY:
            return AuditlogMiddleware._get_remote_addr(request)
        return request.META.get("REMOTE_ADDR") or None

    @staticmethod
    def _get_remote_port(request: HttpRequest) -> int | None:
        return None
