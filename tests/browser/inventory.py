"""A console with an inventory but without vault hosts, for tests that only look at the screens."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, BrowserContext, Page

from tests.browser.chromium import WAIT_MS, browser, log_in
from tests.stack import ADMINISTRATOR, Controller, controller

# What a service that runs would have written. The lease is renewed far in the future, so that it does not go stale.
INVENTORY = """
from datetime import timedelta
from django.contrib.auth.models import Group
from django.utils import timezone
from nodes.models import *
from replication.core.foresight import Foresight, Loss
from replication.core.version import VERSION
vault, now = Vault.objects.get(), timezone.now()
common = dict(vault=vault, joined=True)
alpha = VaultNode.objects.create(id="a" * 32, hostname="alpha.vault.example", ip_address="127.0.32.1", ordinal=1,
    system_role="primary", status="master", current_role="Primary-1", agent_id="a",
    report={"fences": ["sigkill", "nftables-cut", "lease"]}, not_primary="R10 · it is the Master already", **common)
beta = VaultNode.objects.create(id="b" * 32, hostname="beta.vault.example", ip_address="127.0.32.2", ordinal=2,
    status="slave-waiting", current_role="Fallback-1", agent_id="b", **common)
VaultNode.objects.create(id="c" * 32, hostname="gamma.branch-office.vault.example", ip_address="2001:db8::32:3",
    ordinal=3, status="slave-error", current_role="Fallback-2", agent_id="c", **common,
    not_primary="R40 · its replication has stopped with an error, or does not run",
    status_detail="1236, could not find the next event in the binary log of the master")
VaultNode.objects.create(id="d" * 32, hostname="delta.vault.example", ip_address="127.0.32.4", ordinal=4,
    status="inactive", active=False, agent_id="d", **common)
Vault.objects.update(primary=alpha, promotable=beta, may_ack=[beta.pk], epoch=7,
    reason="beta.vault.example has every acknowledged write and would take over", lossless_since=now,
    silence_failover_at=now, silence_hold_seconds=600, if_lost=Foresight(epoch=7, primary=alpha.pk, promotable=beta.pk,
    died=Loss(node=beta.pk, seconds=0.11), silent=Loss(node=beta.pk, seconds=1.7), measured=3).to_json())
AppService.objects.update(desired_state="started", started_on=now)
ServiceLease.objects.create(name="SystemHighAvailabilityService", holder="h" * 32, term=3, host="controller-1",
    process="service-a (pid 4711)", expires_at=now, renewed_at=now + timedelta(hours=1), last_pass_at=now,
    answers={"a" * 32: 0.1, "b" * 32: 0.1, "c" * 32: 240.0, "d" * 32: None, "heard:" + "b" * 32: 0.2})
for level, text in (("info", "node added as Primary, 127.0.32.1"), ("warning", "the acker was lost"),
                    ("error", "gamma.branch-office.vault.example cannot follow: the binary log it needs is gone")):
    Event.objects.create(vault=vault, node_name="alpha.vault.example", text=text, level=level, rule="A20", actor="admin")
Operation.objects.create(kind="resynchronize", vault=vault, node=alpha, state="succeeded", finished_at=now,
    result={"summary": "Synchronized to position 0-1-4711: 12 transactions in 0.4 s"})
ApplicationNode.objects.create(hostname="controller-1.example", version=VERSION, last_seen=now, addresses=["127.0.32.10"])
ApplicationNode.objects.create(hostname="controller-2.example", version="0.0.1", last_seen=now - timedelta(hours=1),
    addresses=["127.0.32.11", "2001:db8::32:11"])
Group.objects.create(name="Operators")
"""


@dataclass(frozen=True)
class Site:
    control: Controller
    url: str
    chromium: Browser
    session: Any
    """Cookies of the administrator."""

    @contextlib.contextmanager
    def page(self, *, logged_in: bool = True, **options: Any) -> Iterator[Page]:
        """A page in a browser profile of its own."""
        state = self.session if logged_in else None
        context: BrowserContext = self.chromium.new_context(base_url=self.url, storage_state=state, **options)
        context.set_default_timeout(WAIT_MS)
        try:
            yield context.new_page()
        finally:
            context.close()


@contextlib.contextmanager
def site(directory: Path, chromium_path: str) -> Iterator[Site]:
    with controller(directory) as control, browser(chromium_path) as chromium:
        control.manage("shell", "-v0", "-c", INVENTORY)
        url = control.web()
        context = chromium.new_context()
        log_in(context.new_page(), url, ADMINISTRATOR, control.password)
        context.pages[0].locator("#vault-nodes").wait_for()
        session = context.storage_state()
        context.close()
        yield Site(control, url, chromium, session)
