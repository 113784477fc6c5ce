"""A console with an inventory but without vault hosts, for tests that only look at the screens.

`site()` is one with INVENTORY. The tests of this directory share one for all of them (conftest.py): they take `console`, with
INVENTORY, or `busy`, with BUSY on top: everything that a screen can show. What a test writes is undone before the next one.
"""

import contextlib
import sqlite3
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

# Operations in each state, an event with evidence, the journal of lag, workers and their log, who is not everybody, audit
# entries, and jobs that have failed. Keys are written out: tests know things by them.
BUSY = """
import json
import django_rq
from datetime import timedelta
from django.contrib.auth.models import User
from django.utils import timezone
from nodes.models import *
from replication.core.evidence import evidence_of
from replication.core.roles import Witness
from replication.jobs import preflight
from replication.stores import losses, wishes
from replication.stores.backups import GONE
from rq.job import JobStatus
from rq.registry import FailedJobRegistry
from rq.results import Result
from tests import builders
from tests.nodes.test_losses import result
from tests.nodes.test_report import FAILOVER, FIRST_WRITE, SEEN, SWITCHOVER
now, vault = timezone.now(), Vault.objects.get()
alpha, beta = VaultNode.objects.get(pk="a" * 32), VaultNode.objects.get(pk="b" * 32)
delta, admin = VaultNode.objects.get(pk="d" * 32), User.objects.get(username="admin")
def named(what):
    return json.loads(json.dumps(what).replace("alpha.example", alpha.hostname).replace("beta.example", beta.hostname))
common = {"vault": vault, "node": beta, "started_at": now}
Operation.objects.create(pk="f" * 32, kind="failover", state="succeeded", finished_at=now, steps=named(FAILOVER),
    result={"summary": "beta.vault.example is Master now", **FIRST_WRITE}, **common)
Event.objects.create(vault=vault, text="beta is Master now", operation="f" * 32, rule="P30", epoch=8,
    evidence={"seen": named(SEEN), "operation": "f" * 32, "fence": "fenced"})
Operation.objects.create(pk="5" * 32, kind="switchover", state="failed", finished_at=now, message="it did not close in time",
    steps=[*named(SWITCHOVER[:1]), {"name": "close alpha", "state": "failed", "began_ms": 6, "ms": 2006, "says": "commits hang"},
           {"name": "open beta", "state": "waiting"}], **common)
Operation.objects.create(pk="6" * 32, kind="resynchronize", state="cancelled", finished_at=now, reason="not tonight", **common)
Operation.objects.create(pk="8" * 32, kind="follow", state="needs-person", finished_at=now, message="it holds 3 transactions more",
    **common)
Operation.objects.create(pk="e" * 32, kind="resynchronize", state="running", done=1000, total=4000, unit="transactions",
    steps=[{"name": "catch-up beta", "state": "running", "began_ms": 5, "ms": 9000}],
    result={"samples": [[0, 0], [5, 500], [10, 1000]]}, **common)
Operation.objects.filter(pk="e" * 32).update(changed_at=now + timedelta(hours=1))
seen = evidence_of(builders.vault(builders.primary(silent=builders.LONG, witness=Witness.SILENT),
    builders.node("b", says={"db": {"heard_age": 9.0}})))
Event.objects.create(pk=4711, text="failover: b.example is Master now", rule="P30", diagnosis="D70", level="warning",
    operation="f" * 32, epoch=8, evidence={"seen": seen,
    "steps_ms": {"claimed": 5.0, "revoke b.example": 21.0, "open b.example": 52.0}})
LagSample.objects.bulk_create(LagSample(node_id=c * 32, at=now - timedelta(seconds=5 * i), seconds=float(i % 7), transactions=i)
    for c in "bc" for i in range(1000))
for id, process in (("h" * 32, "a (pid 4711)"), ("b", "b (pid 4712)")):
    ServiceWorker.objects.create(id=id, service="SystemHighAvailabilityService", host="controller-1", process=process,
        started_at=now, seen_at=now)
for level, text in ((20, "the first line"), (30, "the disk is slow"), (40, "a step failed\\nTraceback: <b>no markup</b>")):
    LogLine.objects.create(service="SystemHighAvailabilityService", at="2026-03-01T12:00:00Z", host="controller-1",
        process="a (pid 4711)", level=level, text=text)
base = {"database": {"gtid_slave_pos": "0-1-4600", "gtid_binlog_pos": "0-1-4600"}, "data_bytes": 3 * 2**30, "process": "up"}
VaultNode.objects.create(pk="7" * 32, hostname="zeta.vault.example", ip_address="127.0.32.7", ordinal=7, vault=vault, joined=True,
    status="diverged", status_detail="extra transactions 0-2-4711", agent_id="z", report={**base, "quarantine":
    "extra transactions 0-2-4711", "kept": {"operation": "0" * 32, "since": "2026-03-01T22:14:00+00:00", "bytes": 5 * 2**30}})
VaultNode.objects.filter(pk="c" * 32).update(verified_at=now, report=base, drift=[
    "vault.accounts: 3 rows differ (other content: id=5; missing: id=7; extra: id=9)",
    "vault.sessions: the table is missing on gamma.branch-office.vault.example", "vault.audit: 1 row differs (extra: id=1)"])
VaultNode.objects.filter(pk=alpha.pk).update(report={**alpha.report, **base})
for hours, what in enumerate(({}, {"checked_at": now}, {"fault": "SHA-256 of the file is not that of when it was written"},
                              {"fault": GONE})):
    Backup.objects.create(pk=str(hours) + "7" * 31, vault=vault, node=beta, hostname=beta.hostname, operation="0" * 32,
        taken_at=now - timedelta(hours=1 + 24 * hours), position="0-1-" + str(4711 - hours), size=2_345_678_901, seconds=61.4,
        path="/srv/vault/backups/beta.vault.example-20260301T221400Z-0.mbstream.gz", checksum="5f" * 32, **what)
losses.record(delta.pk, "1" * 32, "it has transactions that the primary does not have: 0-1-4711",
    result(never_acknowledged=1, rotate_more=3))
User.objects.create_user("newcomer", password="a long password", is_staff=True)
wishes.set_active(delta, True, admin, reason="the new disk is in")
queue = django_rq.get_queue("ops")
for name in ("failed-job", "another-failed-job"):
    job = queue.enqueue(preflight, "0" * 32, job_id=name)
    queue.connection.lrem(queue.key, 0, job.id)
    job.set_status(JobStatus.FAILED)
    FailedJobRegistry(queue=queue).add(job)
    Result.create_failure(job, ttl=3600, exc_string="Traceback: " + "a very long line " * 20)
"""
RUNNING, FAILED, FAILED_OVER = "e" * 32, "5" * 32, "f" * 32
"""Operations of BUSY."""
LOSS = "1" * 32
"""Its report of lost transactions."""
BACKUP = "1" + "7" * 31
"""A backup of it that was checked."""
DIVERGED, DRIFTED = "7" * 32, "c" * 32
"""Nodes of it: one with transactions and old data of its own, one whose data differs."""
# The running operation as a full copy at 37 %.
REBUILDING = """
from datetime import timedelta
from django.utils import timezone
from nodes.models import *
now, gamma = timezone.now(), VaultNode.objects.get(pk="c" * 32)
done = (("order", 0, 410), ("begin", 410, 1260))
Operation.objects.filter(pk="e" * 32).update(kind="rebuild", node=gamma, started_at=now - timedelta(seconds=24), reason="a new disk",
    message="gamma.branch-office.vault.example: copying from beta.vault.example", done=1_192_000_000, total=3_221_225_472,
    unit="bytes", percent=37, result={"samples": [[10, 460_000_000], [15, 710_000_000], [20, 951_000_000], [24, 1_192_000_000]]},
    arguments={"mib_per_second": 50}, changed_at=now + timedelta(hours=1), steps=[
        *({"name": word + " " + gamma.hostname, "state": "done", "began_ms": a, "ms": b} for word, a, b in done),
        {"name": "transfer " + gamma.hostname, "state": "running", "began_ms": 1260, "ms": 24000},
        *({"name": word + " " + gamma.hostname, "state": "waiting"} for word in ("prepare", "swap", "start", "catch-up", "compare"))])
VaultNode.objects.filter(pk=gamma.pk).update(status="slave-resynchronizing", status_detail="37 %")
"""
EVENT = 4711
"""Its event with evidence."""


@dataclass(frozen=True)
class Site:
    control: Controller
    url: str
    chromium: Browser
    session: Any
    """Cookies of the administrator."""
    directory: Path

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

    def add(self, rows: str) -> None:
        """Run this with the console's models."""
        self.control.manage("shell", "-v0", "-c", rows)

    def tell(self, text: str) -> None:
        """An event of this very moment."""
        self.control.execute(
            "INSERT INTO nodes_event (at, node_name, epoch, rule, diagnosis, level, text, evidence, operation, actor)"
            " VALUES (strftime('%Y-%m-%d %H:%M:%f', 'now'), '', 0, '', '', 'info', ?, '{}', '', '')",
            text,
        )

    def save(self, name: str) -> None:
        """Keep the metadata database as it is now, under this name."""
        self._copy(self._database, self.directory / name)

    def restore(self, name: str) -> None:
        """Everything in the metadata database as it was kept; sessions too."""
        self._copy(self.directory / name, self._database)

    @property
    def _database(self) -> Path:
        return self.control.var / "metadata.sqlite3"

    def _copy(self, source: Path, target: Path) -> None:
        with contextlib.closing(sqlite3.connect(source)) as old, contextlib.closing(sqlite3.connect(target)) as new:
            old.backup(new)


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
        yield Site(control, url, chromium, session, directory)
