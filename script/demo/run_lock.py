"""One run per state directory."""

import fcntl
import os
from types import TracebackType

from .plan import CannotRun, Plan


class RunLock:
    """Held while this process lives; the kernel lets go of it, however the process ends. Raises CannotRun when taken."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._descriptor = -1

    def __enter__(self) -> "RunLock":
        self._descriptor = os.open(self._plan.var / "run.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            pid = os.pread(self._descriptor, 20, 0).decode().strip() or "unknown"
            os.close(self._descriptor)
            raise CannotRun(
                f"it is already running here (process {pid}): use {self._plan.run_file}, or stop it with Ctrl-C there."
            ) from error
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        os.close(self._descriptor)
