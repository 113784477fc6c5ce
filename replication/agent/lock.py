"""One agent per home: a lock that the kernel releases however its holder ends."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

from replication.agent.config import AgentConfig
from replication.agent.errors import CannotStart


@contextmanager
def locked(config: AgentConfig) -> Iterator[None]:
    """Hold the home for this process. Raises CannotStart when another agent has it."""
    try:
        descriptor = os.open(config.lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise CannotStart(f"{config.lock_file} cannot be opened: {error.strerror}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
            process = f" (process {holder})" if holder.isdigit() else ""
            raise CannotStart(f"another agent{process} already works in {config.home}: one home, one agent") from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)
