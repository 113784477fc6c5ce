"""Runs inside a controller's environment (manage.py shell): what one page costs the server. Prints JSON.

No network: Django's own client, so the figures are the server's work alone. Warm: the first requests are not counted.
"""

import json
import re
import statistics
import sys
import time
from typing import Any

from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

WARM_UP, ROUNDS = 5, 30
VAULT = "/admin/nodes/vaultnode/"


def cost(client: Client, address: str, expect: int = 200) -> dict[str, Any]:
    """Milliseconds (median and 95th percentile), queries and bytes of a GET."""
    times = []
    for number in range(WARM_UP + ROUNDS):
        began = time.perf_counter()
        response = client.get(address)
        elapsed = time.perf_counter() - began
        assert response.status_code == expect, f"{address}: {response.status_code}"
        if number >= WARM_UP:
            times.append(elapsed * 1000)
    with CaptureQueriesContext(
        connection,
    ) as queries:
        response = client.get(address)
    return {
        "ms": round(statistics.median(times), 1),
        "p95": round(statistics.quantiles(times, n=20)[-1], 1),
        "queries": len(queries),
        "bytes": len(response.content),
    }


def measure() -> dict[str, Any]:
    user = User.objects.get(username="admin")
    host = {"Host": "127.0.0.1"}
    page, poll = Client(headers=host), Client(headers={**host, "HX-Request": "true", "Accept-Encoding": "gzip"})
    for client in (page, poll):
        client.force_login(user)
    stamp = re.search(r'data-stamp="(\w+)"', page.get(VAULT).content.decode())
    assert stamp is not None
    return {
        "page": cost(page, VAULT),
        "changed": cost(poll, f"{VAULT}?v=0"),
        "unchanged": cost(poll, f"{VAULT}?v={stamp[1]}", expect=204),
    }


json.dump(measure(), sys.stdout)
