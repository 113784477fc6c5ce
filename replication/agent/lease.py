"""The lease of a primary on this host: hellos renew it, and a thread that waits for nobody else keeps it.

Closing goes by a ladder (docs/design/fences.md): read-only when no commit hangs, the gate, and SIGKILL where one of them could
not be had. Never SIGTERM, KILL, or semi-sync off: those acknowledge commits, or keep rows, that no other node has.
"""

import logging
import secrets
import ssl
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from datetime import timedelta
from typing import Final

from replication.agent import peers
from replication.agent.admin import AdminDoor
from replication.agent.config import AgentConfig
from replication.agent.database import LocalSession
from replication.agent.engines import local_database
from replication.agent.firewall import Gate
from replication.agent.lease_file import LeaseFile
from replication.agent.process import Mariadbd
from replication.core import limits
from replication.core.roles import OrderKind, ProcessState
from replication.core.vault_ports import AgentState, DatabaseError, ProcessError, State
from replication.procedures.vault.lease import Challenges, Closed, GrantRequest, Lease, Step, next_step
from replication.procedures.vault.lease_keeper import LeaseKeeper

log = logging.getLogger(__name__)

TICK_SECONDS: Final = 0.05
GATE_AGAIN_SECONDS: Final = 1.0
"""After nft has failed."""
HANG_SECONDS: Final = 0.1
END_SECONDS: Final = 3


def boot_clock() -> float:
    """Seconds since the host started, those included in which it slept."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class PrimaryLease(threading.Thread):
    """Implements procedures.vault.lease_keeper.Doors."""

    def __init__(
        self,
        config: AgentConfig,
        boot_id: str,
        memory: State,
        process: Mariadbd,
        told: Callable[[], None],
        on_verbs: Callable[[Callable[[], bool]], "Future[bool]"],
    ) -> None:
        """told: something changed that a controller should hear at once. on_verbs: runs a function between two verbs.

        Raises OSError or ssl.SSLError when the certificates cannot be used.
        """
        super().__init__(name="lease", daemon=True)
        self._memory, self._process, self._told, self._on_verbs = memory, process, told, on_verbs
        self._context: ssl.SSLContext = peers.client_context(config.pki_dir)
        spare = AdminDoor(config).connect
        self._session = LocalSession(config.socket, read_seconds=1, server=lambda: process.handle, spare=spare)
        self._config = config
        self._database = local_database(config, self._session)
        self.gate = Gate(
            config.agent_id,
            config.ip,
            config.database_port,
            wanted=config.cut == "auto" or config.kernel_lease,
            timed=config.kernel_lease,
        )
        self._gate_is: tuple[str, float | None] = ("", None)
        self._gate_not_before = 0.0
        self._file = LeaseFile(config.run_dir / "lease.json", boot_id)
        self._challenges = Challenges(lambda: secrets.token_hex(16))
        self._keeper = LeaseKeeper(self, self._file.load(memory.read()), threading.Lock())
        self._reopening: Future[bool] | None = None
        self._granting: bool | None = None
        self._ending = threading.Event()

    # --- on the loop ----------------------------------------------------------------------------------------------

    def challenge(self) -> str:
        """For the answer that goes out now."""
        return self._challenges.issue(self.now())

    def hello(self, echo: str, term: int) -> None:
        """A controller gave a challenge back."""
        issued = self._challenges.issued(echo) if echo else None
        if issued is not None and term >= self._memory.read().term:
            self._granting = None
            self._keeper.renew(issued)

    @property
    def left(self) -> float | None:
        """Seconds; None while it is not armed."""
        return self._keeper.lease.left(self.now())

    @property
    def closed(self) -> bool:
        return self._keeper.lease.closed is not Closed.NO

    def may_be_open(self) -> bool:
        """Whether mariadbd may be brought back, and opened, without being told."""
        return self._keeper.lease.may_be_open(self.now())

    @property
    def fences(self) -> tuple[str, ...]:
        armed = ("lease",) if self._keeper.lease.until is not None and self.is_alive() else ()
        return (*armed, "kernel-lease") if self.gate.timed else armed

    def begin(self) -> None:
        """Arm the gate and start to keep the lease."""
        self.gate.arm()
        self._file.start()
        self.start()

    def end(self) -> None:
        """The agent ends. The lease is left to the next one, and to the kernel. Safe to call without `begin`."""
        self._ending.set()
        self._session.abort()
        self._file.end()
        for thread in (self, self._file):
            if thread.is_alive():
                thread.join(END_SECONDS)

    # --- on its own thread ----------------------------------------------------------------------------------------

    def run(self) -> None:
        while not self._ending.wait(TICK_SECONDS):
            try:
                self._keeper.step()
                self._keep_gate()
            except Exception:  # whatever it was: a lease that nobody keeps would be the end of this fence
                log.exception("keeping the lease failed")

    def now(self) -> float:
        return boot_clock()

    def state(self) -> AgentState:
        return self._memory.read()

    def ask(self, peers_: tuple[str, ...], request: GrantRequest, within: timedelta) -> bool:
        said = peers.ask(self._context, peers_, request, within)
        against = {peer: text for peer, text in said.items() if text}
        if self._granting is not (not against):  # tell each turn once
            self._granting = not against
            if against:
                log.warning(
                    "not every node that was asked grants: %s",
                    "; ".join(f"{peer}: {text}" for peer, text in against.items()),
                )
            else:
                log.warning("no controller confirms this primary; the other nodes know of no later one: it stays open")
        return not against

    def close(self) -> Closed:
        log.error("the lease of this primary is over and not all other nodes grant: it closes itself")
        # Before the gate, which takes the acker's stream away too: every commit under way would hang from then on. And not
        # without it: an acker that went on hearing a closed primary would keep it from being replaced.
        read_only = self.gate.armed and self._process.running() and self._read_only()
        if self.gate.shut():
            self._gate_is = ("shut", None)
            if read_only:
                return Closed.READ_ONLY
        if not self._process.running():
            return Closed.DOWN
        try:
            self._process.kill()
        except ProcessError as error:
            log.error("%s", error)  # no code of it runs any more
        return Closed.DOWN

    def _read_only(self) -> bool:
        if self._process.phase is ProcessState.HUNG:
            return False
        self._session.ready()
        try:
            # Behind a commit that hangs it would wait for as long as that.
            return not self._commits_hang() and self._database.close_writes(limits.FENCE_READ_ONLY)
        except DatabaseError as error:
            log.warning("read-only was not reached: %s", error)
            return False
        finally:
            self._session.close()

    def _commits_hang(self) -> bool:
        """Under load some commit waits at every moment: it hangs when none is acknowledged meanwhile."""
        before = self._database.observe()
        if before.switches.waiting_sessions == 0:
            return False
        self._ending.wait(HANG_SECONDS)
        after = self._database.observe()
        return after.switches.waiting_sessions > 0 and after.acknowledged == before.acknowledged

    def reopen(self) -> bool:
        if self._keeper.lease.closed is Closed.DOWN or not self._process.running():
            return True  # whoever brings mariadbd back opens it
        if self._reopening is None:
            self._reopening = self._on_verbs(self._reopen)
        if not self._reopening.done():
            return False
        done, self._reopening = self._reopening, None
        return not done.cancelled() and done.exception() is None and done.result()

    def _reopen(self) -> bool:
        """Between two verbs, which may be a while later."""
        state = self.state()
        due = next_step(self._keeper.lease, self.now()) is Step.REOPEN
        if not due or state.order_kind is OrderKind.NONE or state.quarantine:
            return False
        session = LocalSession(self._session.path, read_seconds=self._session.read_seconds, spare=self._session.spare)
        try:
            database = local_database(self._config, session)
            if state.order_kind is OrderKind.LOSSLESS:
                database.set_waiting(True)  # before it opens: not one commit may be acknowledged alone
            database.set_read_only(False)
        except DatabaseError as error:
            log.warning("it could not be opened again: %s", error)
            return False
        finally:
            session.close()
        log.info("open again as %s primary by the order of epoch %s", state.order_kind.value, state.order_epoch)
        return True

    def changed(self, before: Lease, after: Lease) -> None:
        self._file.keep(self._keeper.lease)
        if (before.closed, before.until is None) != (after.closed, after.until is None):
            self._told()

    def _keep_gate(self) -> None:
        lease = self._keeper.lease
        if lease.closed is not Closed.NO:
            wanted: tuple[str, float | None] = ("shut", None)
        elif self.gate.timed and lease.binds:
            wanted = ("lease", lease.until)
        else:
            wanted = ("open", None)
        now = self.now()
        if not self.gate.armed or wanted == self._gate_is or now < self._gate_not_before:
            return
        kind, until = wanted
        if kind == "lease":
            done = until is None or until <= now or self.gate.lease(until - now)
        else:
            done = self.gate.shut() if kind == "shut" else self.gate.open()
        if done:
            self._gate_is = wanted
        else:
            self._gate_not_before = now + GATE_AGAIN_SECONDS
