"""The source's end of a full copy on the wire: HTTP over TLS 1.3 to the target's agent, in both directions of proof.

The body is chunked and its end is sent only when the copy is whole, so a source that dies can never be taken for one that is done.
"""

import contextlib
import http.client
import json
import select
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from cryptography import x509

from replication import certificates

CONNECT_SECONDS: Final = 10
ANSWER_SECONDS: Final = 130
"""After the last byte: the target answers when its mbstream has written everything, for which it has two minutes."""
LARGEST_ANSWER: Final = 4096
HEAD: Final = 8
"""Bytes before the content of a chunk: its length in six hexadecimal digits, and CRLF."""
TAIL: Final = 2
LARGEST_CHUNK: Final = 16**6 - 1


class LinkFailed(Exception):
    """The target cannot be reached, is not who it should be, refuses, or is gone; the text is one sentence."""


class CopyLink:
    """One connection. Every call blocks for `patience` seconds at most without any progress, then raises LinkFailed."""

    def __init__(self, pki: Path, *, name: str, host: str, port: int, subject: str, patience: float) -> None:
        self.name, self._patience = name, patience
        try:
            context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=str(pki / "ca.pem"))
            context.load_cert_chain(pki / "cert.pem", pki / "key.pem")
        except (OSError, ssl.SSLError) as error:
            raise LinkFailed(f"the certificates in {pki} cannot be used: {error}") from error
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        self._http = http.client.HTTPSConnection(host, port, timeout=min(patience, CONNECT_SECONDS), context=context)
        try:
            self._http.connect()
        except ssl.SSLCertVerificationError as error:
            raise LinkFailed(f"{name} does not prove to be the agent at {host}: {error.verify_message}") from error
        except OSError as error:
            raise LinkFailed(
                f"{name} cannot be reached at {host} port {port}: {error.strerror or error or 'no answer'}"
            ) from error
        self._socket: ssl.SSLSocket = self._http.sock
        found = certificates.subject_oneline(x509.load_der_x509_certificate(self._socket.getpeercert(True) or b""))
        if found != subject:
            self.close()
            raise LinkFailed(f"the agent at {host} port {port} is {found}, and the copy is for {subject}")
        self._socket.settimeout(patience)

    def begin(self, operation: str, headers: Mapping[str, str]) -> None:
        try:
            self._http.putrequest("POST", f"/copy/{operation}")
            for header, value in {**headers, "Content-Type": "application/octet-stream"}.items():
                self._http.putheader(header, value)
            self._http.putheader("Transfer-Encoding", "chunked")
            self._http.endheaders()
        except (OSError, http.client.HTTPException) as error:
            raise self._lost(error) from error

    def send(self, buffer: bytearray, size: int) -> None:
        """One chunk: buffer[HEAD : HEAD + size] is its content, what is around it is written here. No byte is copied."""
        buffer[:HEAD] = b"%06x\r\n" % size
        buffer[HEAD + size : HEAD + size + TAIL] = b"\r\n"
        self._refuse_early_answer()
        try:
            self._socket.sendall(memoryview(buffer)[: HEAD + size + TAIL])
        except OSError as error:
            # It may have said why before it hung up.
            self._refuse_early_answer()
            raise self._lost(error) from error

    def look(self) -> None:
        """Raises LinkFailed when the target has answered already, or has hung up."""
        self._refuse_early_answer()

    def answered(self, seconds: float) -> int | None:
        """Where the target fetches the copy by itself: how many bytes it counted, once it has said so; None within the time."""
        readable, _writable, _failed = select.select([self._socket], [], [], seconds)
        return self._received() if readable else None

    def finish(self) -> int:
        """The copy is whole: end the body and wait until the target has it all. Returns how many bytes it counted."""
        self._refuse_early_answer()
        try:
            self._socket.sendall(b"0\r\n\r\n")
            self._socket.settimeout(ANSWER_SECONDS)
        except OSError as error:
            self._refuse_early_answer()
            raise self._lost(error) from error
        return self._received()

    def _received(self) -> int:
        status, content = self._answer()
        if status != 200:
            raise LinkFailed(f"{self.name} refused the copy: {content.get('text') or f'status {status}'}")
        received = content.get("received")
        if not isinstance(received, int):
            raise LinkFailed(f"the answer of {self.name} makes no sense")
        return received

    def tell_failed(self, operation: str, text: str) -> None:
        """On a connection of its own: say to the target why no more will come."""
        try:
            self._http.request("POST", f"/copy/{operation}/failed", json.dumps({"text": text}))
        except (OSError, http.client.HTTPException) as error:
            raise self._lost(error) from error
        self._answer()

    def close(self) -> None:
        """Break it off, or end it after `finish`."""
        with contextlib.suppress(OSError):
            self._http.close()

    def _refuse_early_answer(self) -> None:
        readable, _writable, _failed = select.select([self._socket], [], [], 0)
        if readable:
            status, content = self._answer()
            said = content.get("text") or f"it answered with status {status}"
            raise LinkFailed(f"{self.name} refused the copy: {said}")

    def _answer(self) -> tuple[int, Mapping[str, object]]:
        try:
            response = self._http.getresponse()
            content = json.loads(response.read(LARGEST_ANSWER))
        except (OSError, http.client.HTTPException) as error:
            raise self._lost(error) from error
        except ValueError:
            content = {}
        return response.status, content if isinstance(content, dict) else {}

    def _lost(self, error: Exception) -> LinkFailed:
        if isinstance(error, TimeoutError):
            return LinkFailed(f"{self.name} has been silent for {self._patience:g} s")
        return LinkFailed(
            f"the connection to {self.name} broke: {getattr(error, 'strerror', None) or error or 'it hung up'}"
        )
