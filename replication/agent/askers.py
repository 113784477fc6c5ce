"""Who asks: what the certificate of a connection says, which the handshake has proved to be of our authority."""

import asyncio
import ssl

from aiohttp import web
from cryptography import x509

from replication import certificates


def is_controller(transport: asyncio.BaseTransport | None) -> bool:
    return _of(transport, "organizationalUnitName") == ["controller"]


def is_node(transport: asyncio.BaseTransport | None) -> bool:
    return _of(transport, "organizationalUnitName") == ["node"]


def is_known(transport: asyncio.BaseTransport) -> bool:
    """Whether it is a controller, or a node, which may be at sending a full copy."""
    return is_controller(transport) or is_node(transport)


def name_of(transport: asyncio.BaseTransport | None) -> str:
    return " ".join(_of(transport, "commonName"))


def subject_of(request: web.Request) -> str:
    """In OpenSSL's one-line form; "" for no certificate."""
    connection = request.transport.get_extra_info("ssl_object") if request.transport is not None else None
    if not isinstance(connection, ssl.SSLObject | ssl.SSLSocket):
        return ""
    der = connection.getpeercert(binary_form=True)
    return certificates.subject_oneline(x509.load_der_x509_certificate(der)) if der else ""


def _of(transport: asyncio.BaseTransport | None, part: str) -> list[str]:
    certificate = (transport.get_extra_info("peercert") if transport is not None else None) or {}
    return [value for attributes in certificate.get("subject", ()) for name, value in attributes if name == part]
