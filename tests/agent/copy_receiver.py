"""A target of a full copy without an agent: HTTPS with a node's certificate, and a real mbstream behind it.

What it does besides receiving is set by the test: refuse, fall silent, hang up. A real target is in test_receive.py.
"""

import contextlib
import json
import ssl
import subprocess
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography import x509

from replication import certificates
from replication.core import limits
from tests.vault_host import VaultHost, authority


class CopyReceiver(ThreadingHTTPServer):
    """Unpacks into `into`. refuse: (status, sentence) instead. stop_after: bytes after which it hangs up, or falls silent."""

    daemon_threads = True
    request_queue_size = 16

    def __init__(self, ip: str, pki: Path, into: Path) -> None:
        super().__init__((ip, limits.AGENT_PORT), _Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.verify_mode = ssl.CERT_REQUIRED
        context.num_tickets = 0
        context.load_cert_chain(pki / "cert.pem", pki / "key.pem")
        context.load_verify_locations(authority() / "ca.pem")
        self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        self.into = into
        self.refuse: tuple[int, str] | None = None
        self.stop_after: int | None = None
        self.silent = threading.Event()
        """Set once it has fallen silent; what else is to happen then is set by `then_hang_up`."""
        self.then_hang_up = False
        self.let_go = threading.Event()
        self.lie = 0
        """So many bytes less are said to have arrived."""
        self.received = 0
        self.whole = False
        self.headers: Mapping[str, str] = {}
        self.path, self.client = "", ""
        self.told: list[str] = []
        """What a source said of why it failed."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A source that breaks off is what many tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: CopyReceiver

    def do_POST(self) -> None:
        server = self.server
        shown = self.connection.getpeercert(True)  # type: ignore[attr-defined]
        server.client = certificates.subject_oneline(x509.load_der_x509_certificate(shown))
        if self.path.endswith("/failed"):
            server.told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["text"])
            self._answer(200, {})
            return
        server.path, server.headers = self.path, dict(self.headers)
        if server.refuse is not None:
            self._answer(server.refuse[0], {"text": server.refuse[1]})
            self.close_connection = True
            return
        server.into.mkdir(parents=True, exist_ok=True)
        with subprocess.Popen(["mbstream", "-x", "-p", "2", "-C", server.into], stdin=subprocess.PIPE) as unpack:
            assert unpack.stdin is not None
            while chunk := self._chunk():
                server.received += len(chunk)
                unpack.stdin.write(chunk)
                if server.stop_after is not None and server.received >= server.stop_after:
                    server.silent.set()
                    if not server.then_hang_up:
                        server.let_go.wait(60)
                    unpack.kill()
                    self.close_connection = True
                    return
            unpack.stdin.close()
            assert unpack.wait() == 0
        server.whole = True
        self._answer(200, {"received": server.received - server.lie})

    def _chunk(self) -> bytes:
        line = self.rfile.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("the source has gone")
        chunk = self.rfile.read(int(line, 16))
        if self.rfile.read(2) != b"\r\n":
            raise ConnectionError("the source has gone")
        return chunk

    def _answer(self, status: int, content: Mapping[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: Any) -> None:
        """Nothing on the terminal."""


@contextlib.contextmanager
def receiving(target: VaultHost, into: Path) -> Iterator[CopyReceiver]:
    """target: a host that has its certificate (`init`), and whose agent does not run."""
    server = CopyReceiver(target.ip, target.pki, into)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.let_go.set()
        server.shutdown()
        thread.join(10)
        server.server_close()
