"""Clients of a simulated mariadbd: sessions that insert rows, and calls whose outcome comes later or never."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from tests.simulation.kernel import Signal
from tests.simulation.mariadbd_commit import LOST, READ_ONLY, Commit
from tests.simulation.mariadbd_storage import What

if TYPE_CHECKING:
    from tests.simulation.mariadbd import Mariadbd, Run

STATEMENT: Final = (0.0003, 0.0015)
DENIED, TOO_MANY = 1045, 1040
CLIENT_USER: Final = "client user vault"


class Call:
    """One statement of a client. `outcome` may be asked again and again."""

    def __init__(self, server: "Mariadbd") -> None:
        self._kernel, self._run = server.kernel, server.run
        self._signal = Signal()
        self.result = "hangs"
        if self._run is not None:
            self._run.calls[self] = None

    def outcome(self, within: float = 0.4) -> str:
        """ "ok", "error 1290", "lost" (the connection broke) or "hangs". Blocks, `within` seconds at most."""
        if self.result == "hangs":
            self._kernel.block_until(lambda: self.result != "hangs", self._kernel.now + within, self._signal)
        return self.result

    def end(self, error: int) -> None:
        if self.result == "hangs":
            self.result = "ok" if not error else "lost" if error == LOST else f"error {error}"
            if self._run is not None:
                self._run.calls.pop(self, None)
            self._signal.fire()

    def lose(self) -> None:
        self.end(LOST)


class Client:
    """One session; privileged: an administrator's, which read_only does not stop."""

    def __init__(self, server: "Mariadbd", *, privileged: bool = False) -> None:
        self._server, self._privileged = server, privileged
        self._session = server.run
        self._open: list[What] | None = None
        """What an open transaction has written; None when each statement commits."""

    def begin(self) -> Call:
        return self._do(self._begin)

    def insert(self, row: int) -> Call:
        return self._do(lambda run, call: self._write(run, call, ("row", row)))

    def define(self, table: str) -> Call:
        return self._do(lambda run, call: self._write(run, call, ("table", table)))

    def commit(self) -> Call:
        return self._do(self._commit)

    def update_slowly(self, row: int, seconds: float) -> Call:
        """A statement that writes for so long before it commits."""
        return self._do(lambda run, call: self._write_slowly(run, call, row, seconds))

    def _do(self, action: "Callable[[Run, Call], None]") -> Call:
        server, run = self._server, self._session
        call = Call(server)
        if run is None or run is not server.run or not run.up:
            call.lose()
            return call
        if len(run.calls) > server.max_connections:
            call.end(TOO_MANY)
            return call
        low, high = STATEMENT
        run.later(low + (high - low) * server.rng.random(), action, run, call)
        return call

    def _begin(self, run: "Run", call: Call) -> None:
        self._open = []
        call.end(0)

    def _write(self, run: "Run", call: Call, what: What) -> None:
        pipeline = run.pipeline
        if not self._privileged and self._server.client_account and CLIENT_USER not in run.storage.objects:
            call.end(DENIED)
        elif self._open is None:
            pipeline.submit(Commit(what, call.end, privileged=self._privileged))
        elif pipeline.read_only and not self._privileged:
            call.end(READ_ONLY)
        else:
            self._open.append(what)
            call.end(0)

    def _commit(self, run: "Run", call: Call) -> None:
        written, self._open = self._open or [], None
        if not written:
            call.end(0)
        for what in written:
            run.pipeline.submit(Commit(what, call.end, privileged=self._privileged))

    def _write_slowly(self, run: "Run", call: Call, row: int, seconds: float) -> None:
        pipeline = run.pipeline
        if pipeline.read_only or pipeline.lock is not None:
            self._write(run, call, ("row", row))
            return
        pipeline.running[call] = run.now

        def over() -> None:
            if pipeline.running.pop(call, None) is not None:
                pipeline.submit_running(Commit(("row", row), call.end, privileged=self._privileged))

        run.later(seconds, over)
