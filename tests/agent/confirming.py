"""A controller as a primary's lease sees it: hellos that give the last answer's challenge back."""

import contextlib
import json
import threading
import time
from types import TracebackType

from replication.core.report import NodeReport
from tests.vault_host import Identity, VaultHost
from tests.waiting import wait_for

PAUSE_SECONDS = 0.2
PATIENCE_SECONDS = 20


def hello(
    host: VaultHost, echo: str = "", *, term: int = 1, who: Identity = "controller", timeout: float = PATIENCE_SECONDS
) -> NodeReport:
    """One hello that is answered at once."""
    path = f"/hello?since=-1&wait=0&echo={echo}&term={term}"
    status, text = host.request("GET", path, who=who, timeout=timeout)
    assert status == 200, text
    return NodeReport.from_json(json.loads(text))


def confirm(host: VaultHost) -> NodeReport:
    """Renew the lease once; returns the report after that."""
    return hello(host, hello(host).challenge)


class Confirmed:
    """`with Confirmed(host):` keeps the lease until the end of the block, also over restarts of the agent."""

    def __init__(self, host: VaultHost) -> None:
        self.host = host
        self.last: NodeReport | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Confirmed":
        self._thread.start()
        wait_for(lambda: self.last is not None and self.last.lease_left is not None, PATIENCE_SECONDS, "a lease")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join(PATIENCE_SECONDS)

    def _run(self) -> None:
        challenge = ""
        while not self._stop.is_set():
            with contextlib.suppress(OSError, AssertionError):
                self.last = hello(self.host, challenge, timeout=2)
                challenge = self.last.challenge
            self._stop.wait(PAUSE_SECONDS)


def cut_off(host: VaultHost) -> float:
    """Confirm once more, then never again; returns the monotonic moment."""
    left = confirm(host).lease_left
    assert left is not None
    return time.monotonic()
