"""For load balancers and container health checks; no login, nothing secret."""

import django_rq
from django.db import Error
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils import timezone
from redis.exceptions import RedisError

from nodes.models import ServiceLease
from nodes.models.service import SERVICE_NAME
from replication.core import limits


def healthz(request: HttpRequest) -> HttpResponse:
    """This process answers."""
    return HttpResponse("ok\n", content_type="text/plain")


def readyz(request: HttpRequest) -> JsonResponse:
    """200 when the metadata database and Redis answer and a service worker leads; 503 with what does not."""
    found: dict[str, object] = {"database": "ok", "redis": "ok", "lease_age_seconds": None}
    ready = True
    try:
        lease = ServiceLease.objects.filter(name=SERVICE_NAME).first()
        if lease is not None and lease.renewed_at is not None:
            found["lease_age_seconds"] = round((timezone.now() - lease.renewed_at).total_seconds(), 1)
        age = found["lease_age_seconds"]
        ready = isinstance(age, float) and age <= limits.LEASE_SILENCE.total_seconds()
    except Error:
        found["database"], ready = "no answer", False
    try:
        django_rq.get_connection("ops").ping()
    except (RedisError, OSError):
        found["redis"], ready = "no answer", False
    return JsonResponse(found, status=200 if ready else 503)
