"""The certificates with which agents, databases and controllers prove themselves to each other: one authority, ECDSA P-256.

The organisational unit says what a certificate may do: OU=node serves an agent and its mariadbd and lets that mariadbd
replicate; OU=controller may give orders to agents. Nothing else tells them apart, so the authority's key belongs on the
controller host only.
"""

import ipaddress
import os
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Literal

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

Role = Literal["node", "controller"]

AUTHORITY_LIFE: Final = timedelta(days=3650)
CERTIFICATE_LIFE: Final = timedelta(days=825)
"""The longest that common TLS libraries accept of a server certificate."""
CLOCK_SKEW: Final = timedelta(days=1)
"""Certificates are valid from this long before they are made: clocks of two hosts differ."""
COMMON_NAME_MAX: Final = 64
"""Characters; X.509's upper bound of a common name."""

_DNS_LABEL = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)")
# Short names that OpenSSL prints in its one-line form; other attributes never occur in subjects that we make.
_SHORT_NAMES: Final = {
    NameOID.COMMON_NAME: "CN",
    NameOID.ORGANIZATIONAL_UNIT_NAME: "OU",
    NameOID.ORGANIZATION_NAME: "O",
    NameOID.COUNTRY_NAME: "C",
    NameOID.STATE_OR_PROVINCE_NAME: "ST",
    NameOID.LOCALITY_NAME: "L",
}


class CertificateError(Exception):
    """A certificate, key or authority is not usable; the text is one sentence for the operator."""


def create_authority(directory: Path) -> None:
    """Make `ca.pem` and `ca.key` (0600) in `directory`, or leave them alone when both are there.

    Raises CertificateError when the certificate is there without its key: a new key would turn every node away.
    """
    certificate_file, key_file = directory / "ca.pem", directory / "ca.key"
    if certificate_file.exists():
        if not key_file.exists():
            raise CertificateError(f"{certificate_file} is there but its key {key_file} is not: restore the key")
        return
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    # The random part keeps two authorities apart that were made for the same product on two hosts.
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Vault HA authority {os.urandom(4).hex()}")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + AUTHORITY_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(authority=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    # The certificate comes last: an authority without it has not signed anything yet and is simply made again.
    _write(key_file, _private_bytes(key), mode=0o600)
    _write(certificate_file, certificate.public_bytes(serialization.Encoding.PEM), mode=0o644)


def issue(authority_dir: Path, out_dir: Path, *, common_name: str, role: Role, addresses: Sequence[str]) -> None:
    """Write `ca.pem`, `cert.pem` and `key.pem` (0600) into `out_dir`, signed by the authority; replaces older ones.

    addresses: every IP address that others will dial; MariaDB checks the source's address against them.
    Raises CertificateError on a bad name or address, or when the authority cannot be read.
    """
    if not common_name or len(common_name) > COMMON_NAME_MAX or not common_name.isprintable():
        raise CertificateError(f"{common_name!r} is no name for a certificate: 1 to {COMMON_NAME_MAX} characters")
    names: list[x509.GeneralName] = [x509.IPAddress(_address(text)) for text in addresses]
    if is_dns_name(common_name):
        names.append(x509.DNSName(common_name))
    if not names:
        raise CertificateError(f"{common_name!r} is no DNS name, so the certificate needs at least one IP address")
    authority = load(authority_dir / "ca.pem")
    authority_key = load_key(authority_dir / "ca.key")
    issuer_id = x509.SubjectKeyIdentifier.from_public_key(authority_key.public_key())
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(
            x509.Name(
                [
                    x509.NameAttribute(NameOID.COMMON_NAME, common_name),
                    x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, role),
                ]
            )
        )
        .issuer_name(authority.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(min(now + CERTIFICATE_LIFE, authority.not_valid_after_utc))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(authority=False), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer_id), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    out_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    _write(out_dir / "ca.pem", authority.public_bytes(serialization.Encoding.PEM), mode=0o644)
    _write(out_dir / "key.pem", _private_bytes(key), mode=0o600)
    _write(out_dir / "cert.pem", certificate.public_bytes(serialization.Encoding.PEM), mode=0o644)


def load(file: Path) -> x509.Certificate:
    """Read one PEM certificate. Raises CertificateError."""
    try:
        return x509.load_pem_x509_certificate(file.read_bytes())
    except OSError as error:
        raise CertificateError(f"the certificate {file} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise CertificateError(f"{file} is not a certificate in PEM form") from error


def load_key(file: Path) -> ec.EllipticCurvePrivateKey:
    """Read an unencrypted ECDSA key. Raises CertificateError."""
    try:
        key = serialization.load_pem_private_key(file.read_bytes(), password=None)
    except OSError as error:
        raise CertificateError(f"the key {file} cannot be read: {error.strerror}") from error
    except (ValueError, TypeError) as error:
        raise CertificateError(f"{file} is not an unencrypted private key in PEM form") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise CertificateError(f"{file} is not an ECDSA key")
    return key


def check_node(directory: Path, *, ip: str) -> x509.Certificate:
    """The certificate in `directory` (ca.pem, cert.pem, key.pem) when a node at `ip` can work with it.

    Raises CertificateError with the first thing that is wrong. An expired certificate is not an error here: see `expired`.
    """
    authority, certificate = load(directory / "ca.pem"), load(directory / "cert.pem")
    key = load_key(directory / "key.pem")
    file = directory / "cert.pem"
    if certificate.public_key() != key.public_key():
        raise CertificateError(f"{directory / 'key.pem'} is not the key of {file}")
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature) as error:
        raise CertificateError(f"{file} was not issued by the authority in {directory / 'ca.pem'}") from error
    if role_of(certificate) != "node":
        raise CertificateError(f"{file} is not a node's certificate (OU=node): {subject_oneline(certificate)}")
    fitting = addresses_of(certificate)
    if _address(ip) not in fitting:
        listed = ", ".join(str(address) for address in fitting) or "no address"
        raise CertificateError(f"{file} is for {listed}, not for {ip}: issue one for that address")
    return certificate


def role_of(certificate: x509.Certificate) -> str:
    """The organisational unit, or "" when there is not exactly one."""
    units = certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATIONAL_UNIT_NAME)
    return str(units[0].value) if len(units) == 1 else ""


def addresses_of(certificate: x509.Certificate) -> list[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    """The IP addresses the certificate is for."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    found = names.get_values_for_type(x509.IPAddress)
    return [name for name in found if isinstance(name, ipaddress.IPv4Address | ipaddress.IPv6Address)]


def subject_oneline(certificate: x509.Certificate) -> str:
    """The subject as MariaDB's REQUIRE SUBJECT compares it: OpenSSL's X509_NAME_oneline, `/CN=name/OU=role`."""
    parts = []
    for attribute in certificate.subject:
        value = attribute.value if isinstance(attribute.value, bytes) else attribute.value.encode()
        text = "".join(_oneline(byte) for byte in value)
        parts.append(f"/{_SHORT_NAMES.get(attribute.oid, attribute.oid.dotted_string)}={text}")
    return "".join(parts)


def _oneline(byte: int) -> str:
    if chr(byte) in "/+":  # separators in this form; a backslash of the name's own is not doubled
        return f"\\{chr(byte)}"
    return chr(byte) if 0x20 <= byte <= 0x7E else f"\\x{byte:02X}"


def expires(certificate: x509.Certificate) -> datetime:
    """The moment, in UTC, from which nobody accepts it any more."""
    return certificate.not_valid_after_utc


def is_dns_name(text: str) -> bool:
    """Whether `text` is a host name of at most 253 letters, digits, hyphens and dots, and not an address."""
    if len(text) > 253 or not all(_DNS_LABEL.fullmatch(label) for label in text.split(".")):
        return False
    return not text.split(".")[-1].isdigit()


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        return ipaddress.ip_address(text)
    except ValueError as error:
        raise CertificateError(f"{text!r} is not an IP address") from error


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _private_bytes(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write(file: Path, content: bytes, *, mode: int) -> None:
    # A reader sees the old file or the new one, and a key is never readable by others, not even for a moment.
    scratch = file.with_name(f".{file.name}.new")
    scratch.unlink(missing_ok=True)
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as out:
        out.write(content)
        out.flush()
        os.fsync(out.fileno())
    scratch.replace(file)
