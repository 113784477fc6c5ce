"""Certificates: what they say, what is refused, and that MariaDB compares subjects in the form we write.

Proves: an authority is made once; keys are private; a certificate fits its addresses, name and role; what does not fit is
refused with a sentence; REQUIRE SUBJECT with our text lets exactly the owner in, also with awkward names.
"""

import contextlib
import ipaddress
import ssl
import stat
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import MySQLdb
import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from replication import certificates
from replication.certificates import CertificateError
from replication.core import limits
from tests.vault_host import VaultHost, authority

IP = "127.0.22.1"
FILES = ("ca.pem", "cert.pem", "key.pem")


@pytest.fixture
def node(tmp_path: Path) -> Path:
    directory = tmp_path / "node"
    certificates.issue(authority(), directory, common_name="node-1", role="node", addresses=[IP, "::1"])
    return directory


@pytest.fixture(scope="module")
def host(make: Callable[..., VaultHost]) -> VaultHost:
    return make("127.0.22.2", "subjects", client=False).init().start()


def test_an_authority_is_made_once(tmp_path: Path) -> None:
    certificates.create_authority(tmp_path)
    before = [(tmp_path / name).read_bytes() for name in ("ca.pem", "ca.key")]
    certificates.create_authority(tmp_path)
    assert [(tmp_path / name).read_bytes() for name in ("ca.pem", "ca.key")] == before


def test_an_authority_that_was_interrupted_before_its_certificate_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / "ca.key").write_text("half a key")
    certificates.create_authority(tmp_path)
    certificates.issue(tmp_path, tmp_path / "node", common_name="node-1", role="node", addresses=[IP])
    certificates.check_node(tmp_path / "node", ip=IP)


def test_an_authority_without_its_key_is_not_replaced(tmp_path: Path) -> None:
    certificates.create_authority(tmp_path)
    (tmp_path / "ca.key").unlink()
    with pytest.raises(CertificateError, match="restore the key"):
        certificates.create_authority(tmp_path)


def test_keys_are_readable_by_their_owner_only(tmp_path: Path, node: Path) -> None:
    certificates.create_authority(tmp_path / "authority")
    for key in (tmp_path / "authority" / "ca.key", node / "key.pem"):
        assert stat.S_IMODE(key.stat().st_mode) == stat.S_IRUSR | stat.S_IWUSR
    assert sorted(file.name for file in node.iterdir()) == sorted(FILES)


def test_a_certificate_says_name_role_addresses_and_uses(node: Path) -> None:
    certificate = certificates.load(node / "cert.pem")
    assert certificates.subject_oneline(certificate) == "/CN=node-1/OU=node"
    assert certificates.role_of(certificate) == "node"
    assert certificates.addresses_of(certificate) == [ipaddress.ip_address(IP), ipaddress.ip_address("::1")]
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["node-1"]
    uses = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(uses) == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}


def test_a_certificate_lives_as_long_as_it_may_and_never_longer_than_its_authority(node: Path) -> None:
    ends = certificates.expires(certificates.load(node / "cert.pem"))
    assert abs(ends - datetime.now(UTC) - certificates.CERTIFICATE_LIFE) < timedelta(minutes=5)
    assert ends <= certificates.expires(certificates.load(node / "ca.pem"))


def test_issuing_again_replaces_certificate_and_key(node: Path) -> None:
    before = certificates.load(node / "cert.pem").serial_number
    certificates.issue(authority(), node, common_name="node-1", role="node", addresses=[IP])
    assert certificates.load(node / "cert.pem").serial_number != before
    certificates.check_node(node, ip=IP)
    ssl.create_default_context(cafile=str(node / "ca.pem")).load_cert_chain(node / "cert.pem", node / "key.pem")


def test_a_name_that_is_no_dns_name_stands_in_the_subject_only(tmp_path: Path) -> None:
    certificates.issue(authority(), tmp_path, common_name="Console 1", role="controller", addresses=[IP])
    certificate = certificates.load(tmp_path / "cert.pem")
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == []


@pytest.mark.parametrize(
    ("name", "addresses", "says"),
    [
        pytest.param("", [IP], "is no name", id="empty name"),
        pytest.param("n" * (certificates.COMMON_NAME_MAX + 1), [IP], "is no name", id="too long"),
        pytest.param("two\nlines", [IP], "is no name", id="control characters"),
        pytest.param("node-1", ["127.0.0.256"], "not an IP address", id="no address"),
        pytest.param("Console 1", [], "at least one IP address", id="nothing to verify it by"),
    ],
)
def test_what_cannot_be_certified_is_refused(tmp_path: Path, name: str, addresses: list[str], says: str) -> None:
    with pytest.raises(CertificateError, match=says):
        certificates.issue(authority(), tmp_path, common_name=name, role="node", addresses=addresses)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "legal"),
    [
        ("db1", True),
        ("db-1.example.org", True),
        ("1db.x2", True),
        ("-db", False),
        ("db-", False),
        ("a..b", False),
        ("", False),
        ("127.0.0.1", False),
        ("db_1", False),
        ("<b>", False),
        ("köln", False),
        ("a" * 64, False),
        (".".join(["a" * 60] * 5), False),
    ],
)
def test_dns_names(text: str, legal: bool) -> None:
    assert certificates.is_dns_name(text) is legal


def test_a_node_can_work_with_its_own_certificate(node: Path) -> None:
    assert certificates.check_node(node, ip="::1") == certificates.load(node / "cert.pem")


def test_what_does_not_fit_a_node_is_named(node: Path, tmp_path: Path) -> None:
    def refused(says: str, ip: str = IP) -> None:
        with pytest.raises(CertificateError, match=says):
            certificates.check_node(node, ip=ip)

    refused(f"is for {IP}, ::1, not for 127.0.22.77", ip="127.0.22.77")

    other = tmp_path / "other"
    certificates.issue(authority(), other, common_name="node-1", role="node", addresses=[IP])
    (node / "key.pem").write_bytes((other / "key.pem").read_bytes())
    refused("is not the key of")

    certificates.issue(authority(), node, common_name="node-1", role="controller", addresses=[IP])
    refused("not a node's certificate")

    certificates.issue(authority(), node, common_name="node-1", role="node", addresses=[IP])
    certificates.create_authority(tmp_path / "strangers")
    (node / "ca.pem").write_bytes((tmp_path / "strangers" / "ca.pem").read_bytes())
    refused("was not issued by the authority")

    (node / "cert.pem").write_text("nothing of the kind")
    refused("not a certificate in PEM form")
    (node / "cert.pem").unlink()
    refused("cannot be read")


@pytest.mark.parametrize(
    "name", ["db-1.example.org", "Console 1", "a/b=c", "d+e,f", "Köln", "quote\"and'", "back\\slash"]
)
def test_mariadb_lets_exactly_the_subject_in_that_we_wrote(host: VaultHost, tmp_path: Path, name: str) -> None:
    for who, common_name in (("owner", name), ("other", f"{name}x")):
        certificates.issue(authority(), tmp_path / who, common_name=common_name, role="node", addresses=[IP])
    subject = certificates.subject_oneline(certificates.load(tmp_path / "owner" / "cert.pem"))
    host.sql("CREATE OR REPLACE USER subject_test@'%%' REQUIRE SUBJECT %s", subject)

    def user(who: str) -> str:
        files = {key: str(tmp_path / who / file) for key, file in zip(("ca", "cert", "key"), FILES, strict=True)}
        connection = MySQLdb.connect(
            host=host.ip, port=limits.DATABASE_PORT, user="subject_test", ssl=files, connect_timeout=2
        )
        with contextlib.closing(connection), connection.cursor() as cursor:
            cursor.execute("SELECT current_user()")
            return str(cursor.fetchone()[0])

    assert user("owner") == "subject_test@%"
    with pytest.raises(MySQLdb.OperationalError, match="Access denied"):
        user("other")
