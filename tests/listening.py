"""Something that listens on a port, for tests of what happens when it is not what one hopes for."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def served(ip: str, port: int, serve: Callable[[socket.socket], None]) -> Iterator[None]:
    """While the block runs, `serve` has the listening socket, on a thread of its own; accept() raises OSError at the end."""
    with socket.create_server((ip, port)) as listening:
        thread = threading.Thread(target=serve, args=(listening,))
        thread.start()
        try:
            yield
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join(10)
