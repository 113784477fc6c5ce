"""Misconfigurations, each with an id and what to do. Shown by `manage.py check` and at every start."""

import sys
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage, Error, Tags, register
from django.db import Error as DatabaseError
from django.utils import timezone

SEEN_LATELY = timedelta(minutes=5)
WORKERS = frozenset({"rqworker", "runservice"})


@register(Tags.database)
def one_host_per_sqlite(app_configs: Any, databases: Any = None, **_: Any) -> list[CheckMessage]:
    """sectona_ha.E001; only where a command asks for database checks."""
    from nodes.models import ApplicationNode

    if not databases or settings.DATABASES["default"]["ENGINE"] != "django.db.backends.sqlite3":
        return []
    try:
        lately = ApplicationNode.objects.filter(last_seen__gte=timezone.now() - SEEN_LATELY)
        others = list(lately.exclude(hostname__iexact=settings.HOST_NAME).values_list("hostname", flat=True))
    except DatabaseError:
        return []  # not migrated yet
    if not others:
        return []
    return [
        Error(
            f"SQLite holds the metadata, but {', '.join(others)} uses it too: two hosts cannot share it safely.",
            hint="Put the metadata on MariaDB (VAULT_HA_DATABASE=mysql://…) when there are several application hosts.",
            id="sectona_ha.E001",
        )
    ]


@register(Tags.security)
def debug_is_off(app_configs: Any, **_: Any) -> list[CheckMessage]:
    """sectona_ha.W002: the pages that DEBUG shows after an error hold settings and queries."""
    if not settings.DEBUG:
        return []
    return [
        checks.Warning(
            "DEBUG is on: whoever meets an error reads settings and queries.",
            hint="Leave VAULT_HA_DEBUG unset wherever others can reach the console.",
            id="sectona_ha.W002",
        )
    ]


@register()
def certificate_of_the_workers(app_configs: Any, **_: Any) -> list[CheckMessage]:
    """sectona_ha.W003: only for workers; the web process has no use for a key to the vault hosts."""
    if not WORKERS.intersection(sys.argv[1:2]) or "housekeeping" in sys.argv[2:]:
        return []  # the housekeeping talks to no vault host
    missing = [name for name in ("ca.pem", "cert.pem", "key.pem") if not (settings.PKI_DIR / name).is_file()]
    if not missing:
        return []
    return [
        checks.Warning(
            f"{', '.join(missing)} missing in {settings.PKI_DIR}: this worker reaches no vault host.",
            hint="Issue a certificate with manage.py issue_certificate, or set VAULT_HA_PKI_DIR.",
            id="sectona_ha.W003",
        )
    ]


@register(Tags.security, deploy=True)
def redis_password(app_configs: Any, **_: Any) -> list[CheckMessage]:
    """sectona_ha.W001: who can write to Redis can make the workers run jobs."""
    url = urlsplit(settings.RQ_QUEUES["ops"]["URL"])
    if url.password or url.scheme == "unix":
        return []
    return [
        checks.Warning(
            "Redis is reached over TCP without a password.",
            hint="Set VAULT_HA_REDIS_PASSWORD (or VAULT_HA_REDIS_PASSWORD_FILE), or use a unix socket.",
            id="sectona_ha.W001",
        )
    ]
