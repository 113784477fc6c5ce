"""Misconfigurations, each with an id and what to do. Shown by `manage.py check` and at every start."""

from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage, Error, Tags, register
from django.db import Error as DatabaseError
from django.utils import timezone

SEEN_LATELY = timedelta(minutes=5)


@register(Tags.database)
def one_host_per_sqlite(app_configs: Any, databases: Any = None, **_: Any) -> list[CheckMessage]:
    """sectona_ha.E001; only where a command asks for database checks."""
    from nodes.models import ApplicationNode

    if not databases or settings.DATABASES["default"]["ENGINE"] != "django.db.backends.sqlite3":
        return []
    try:
        lately = ApplicationNode.objects.filter(last_seen__gte=timezone.now() - SEEN_LATELY)
        others = list(lately.exclude(hostname=settings.HOST_NAME).values_list("hostname", flat=True))
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
