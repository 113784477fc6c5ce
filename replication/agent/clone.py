"""Full copies on MySQL. The agents arrange one as they do every copy, but its bytes go from server to server: the target's mysqld
fetches them with the clone plugin, over TLS and with this host's certificate, into a directory beside its data.

The source lets that certificate in for as long as its task runs, and tells the target by its `POST /copy/{operation}` that it does.
What was fetched takes the place of the data by the same steps as every copy (swap.py).
"""

import contextlib
import os
import threading
from pathlib import Path
from typing import Final

from replication.agent.copy_link import CopyLink, LinkFailed
from replication.agent.database import LocalSession
from replication.agent.intake import STATE, USER, VERSION, Incoming, Refused
from replication.agent.receive import POLL_SECONDS, Receive
from replication.agent.send import Send
from replication.agent.sender import Order
from replication.agent.tasks import Body, Task, TaskFailed
from replication.core import limits
from replication.core.tasks import RebuildArgs, TaskPhase, TaskReport
from replication.core.vault_ports import DatabaseError
from replication.dialects.base import PkiFiles
from replication.dialects.mysql_clone import Cloning

DONOR, PORT, RATE = "X-Copy-Donor", "X-Copy-Port", "X-Copy-Rate"
"""Address and port of the source's server; bytes per second, 0 for no limit."""
QUESTION_SECONDS: Final = 10
FETCH_SECONDS: Final = 7 * 24 * 3600
"""Longer than any copy takes: what ends it is the plugin itself, a cancel, or the source."""


class ReceiveClone(Receive):
    def resume(self, report: TaskReport) -> Body | None:
        """mysqld outlives an agent that is killed, and so would the copy that it fetches."""
        session = LocalSession(self._config.socket, read_seconds=QUESTION_SECONDS)
        with contextlib.suppress(DatabaseError):  # it does not run either
            cloning(self._config.pki_dir, session).break_off()
        session.close()
        return super().resume(report)

    @property
    def _programs(self) -> tuple[str, ...]:
        return ()

    def _receive(self, task: Task, args: RebuildArgs) -> str:
        incoming = self._wait_for(task, args)
        host, port, rate = (incoming.headers.get(name, "") for name in (DONOR, PORT, RATE))
        against = self._reason_against(incoming)
        if not against and not (host and port.isdecimal() and rate.isdecimal()):
            against = "the source's agent does not say where its database is: run the same version on both hosts"
        if against:
            incoming.answer(Refused(409, against))
            raise TaskFailed(f"{against}; nothing was changed")
        task.phase(TaskPhase.TRANSFERRING, total=args.source_bytes)
        try:
            self._fetch(task, incoming, host, int(port), int(rate))
        except DatabaseError as error:
            why = f"the copy could not be fetched: {error}"
            incoming.answer(Refused(500, why))
            if self._intake.failed:
                why = f"the source {args.source_name} says: {self._intake.failed}"
            raise TaskFailed(f"{why}; nothing was changed") from error
        incoming.received = task.report.done
        incoming.answer(None)
        return incoming.headers.get(STATE, "")

    def _fetch(self, task: Task, incoming: Incoming, host: str, port: int, rate: int) -> None:
        """Raises DatabaseError when it is not whole."""
        config = self._config
        asking = LocalSession(config.socket, read_seconds=QUESTION_SECONDS)
        fetching = LocalSession(config.socket, read_seconds=FETCH_SECONDS)
        look, work = cloning(config.pki_dir, asking), cloning(config.pki_dir, fetching)
        failed: list[DatabaseError] = []

        def fetch() -> None:
            try:
                work.fetch(host, port, str(self._places.incoming))
            except DatabaseError as error:
                failed.append(error)

        try:
            # Nothing comes that way; but only who reads notices that the source's agent is gone.
            incoming.begin(os.open(os.devnull, os.O_WRONLY))
            look.prepare(host, port, rate)
            look.break_off()
            thread = threading.Thread(target=fetch, name="clone", daemon=True)
            thread.start()
            try:
                while thread.is_alive():
                    thread.join(POLL_SECONDS)
                    now = look.progress()
                    task.count(now.done, max(now.total, now.done))
                    if incoming.ended(0) is not None or self._intake.failed:
                        raise DatabaseError(0, "the source broke it off")
            finally:
                if thread.is_alive():
                    with contextlib.suppress(DatabaseError):
                        look.break_off()
                    thread.join(QUESTION_SECONDS)
            if failed:
                raise failed[0]
            look.check_whole()
            self._places.incoming.chmod(0o700)
        finally:
            asking.close()
            fetching.close()

    def _prepare(self, task: Task) -> None:
        """The plugin leaves it as a server that was shut down leaves its data."""

    def _stands_at(self, binlog_state: str) -> tuple[str, str]:
        """Where the source stood when it began: the copy has that and more, and tells what when it is started."""
        return binlog_state, ""


class SendClone(Send):
    def resume(self, report: TaskReport) -> None:
        super().resume(report)
        self._forbid()

    def _lacks(self) -> str:
        return ""

    def _run(self, task: Task, order: Order) -> None:
        session = LocalSession(self._config.socket, read_seconds=QUESTION_SECONDS)
        link: CopyLink | None = None
        why = ""
        try:
            link = self._link(order)
            cloning(self._config.pki_dir, session).allow(order.subject)
            headers = {
                USER: order.user, VERSION: order.version, STATE: order.binlog_state, DONOR: self._config.ip,
                PORT: str(self._config.database_port), RATE: str(order.rate),
            }  # fmt: skip
            link.begin(order.operation, headers)
            task.phase(TaskPhase.TRANSFERRING)
            received = None
            while received is None:
                task.check()
                received = link.answered(POLL_SECONDS)
            task.count(received, received)
        except (LinkFailed, DatabaseError) as error:
            why = f"{error}"
            raise TaskFailed(f"{why}; nothing was changed here") from error
        except BaseException:
            why = "it was cancelled there"
            raise
        finally:
            session.close()
            self._forbid()
            if link is not None:
                link.close()
            if why:
                with contextlib.suppress(LinkFailed):
                    self._link(order).tell_failed(order.operation, why)

    def _link(self, order: Order) -> CopyLink:
        patience = limits.COPY_BEGIN.total_seconds()
        return CopyLink(
            self._config.pki_dir, name=order.name, host=order.host, port=order.port, subject=order.subject,
            patience=patience,
        )  # fmt: skip

    def _forbid(self) -> None:
        """On a session of its own; what cannot be done now is done before the next copy. Only the target's certificate gets in."""
        session = LocalSession(self._config.socket, read_seconds=QUESTION_SECONDS)
        with contextlib.suppress(DatabaseError):
            cloning(self._config.pki_dir, session).forbid()
        session.close()


def cloning(pki: Path, session: LocalSession) -> Cloning:
    return Cloning(session, PkiFiles(ca=str(pki / "ca.pem"), cert=str(pki / "cert.pem"), key=str(pki / "key.pem")))
