"""What a person types wrongly gets one sentence at its field, and nothing is saved: no node, no operation, no event."""

import re
from html import unescape
from typing import Any

import pytest
from django.test import Client

from nodes.models import AppService, Event, Operation, Vault, VaultNode

ADD = "/admin/nodes/vaultnode/add/"
GOOD = {
    "hostname": "vault-3.example",
    "port": "5389",
    "system_role": "fallback",
    "ip_address": "127.0.31.9",
    "active": "on",
}
Pair = tuple[VaultNode, VaultNode]


def refusals(text: str) -> dict[str, list[str]]:
    """Field → its sentences, as a reader of the popup sees them; "" for those above the form."""
    found: dict[str, list[str]] = {}
    for name, sentence in re.findall(r'<p class="field-error" id="id_(\w+)_error"[^>]*>(.*?)</p>', text, re.S):
        found.setdefault(name, []).append(unescape(sentence))
    for sentence in re.findall(r'<p class="form-error"[^>]*>(.*?)</p>', text, re.S):
        found.setdefault("", []).append(unescape(sentence))
    return found


def counts() -> tuple[int, int, int]:
    return VaultNode.objects.count(), Operation.objects.count(), Event.objects.count()


def refused(client: Client, **typed: str) -> dict[str, list[str]]:
    """Post the Add Node form with these changes; it must be refused without a trace. Answers the sentences."""
    before = counts()
    response = client.post(ADD, {**GOOD, **typed})
    assert response.status_code == 422
    assert counts() == before
    return refusals(response.content.decode())


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        pytest.param("", "Enter the hostname", id="empty"),
        pytest.param("   ", "Enter the hostname", id="only blanks"),
        pytest.param("<script>alert(1)</script>", "letters, digits, dots and hyphens only", id="markup"),
        pytest.param("<b>vault", "letters, digits, dots and hyphens only", id="half markup"),
        pytest.param('vault"2', "letters, digits, dots and hyphens only", id="a double quote"),
        pytest.param("vault'2", "letters, digits, dots and hyphens only", id="a single quote"),
        pytest.param("x'; DROP TABLE nodes_vaultnode; --", "letters, digits, dots and hyphens only", id="SQL"),
        pytest.param("vault 2", "letters, digits, dots and hyphens only", id="a blank inside"),
        pytest.param("vault_2", "letters, digits, dots and hyphens only", id="an underscore"),
        pytest.param("-vault", "letters, digits, dots and hyphens only", id="a leading hyphen"),
        pytest.param("vault-", "letters, digits, dots and hyphens only", id="a trailing hyphen"),
        pytest.param("vault..net", "letters, digits, dots and hyphens only", id="an empty label"),
        pytest.param(".", "letters, digits, dots and hyphens only", id="a dot"),
        pytest.param("vault.example.", "letters, digits, dots and hyphens only", id="a trailing dot"),
        pytest.param("väult", "letters, digits, dots and hyphens only", id="letters beyond ASCII"),
        pytest.param("ｖault", "letters, digits, dots and hyphens only", id="letters that look like ASCII"),
        pytest.param("vault\x002", "Null characters are not allowed", id="a null character"),
        pytest.param("vault\n2", "letters, digits, dots and hyphens only", id="a line break"),
        pytest.param("v" * 64, "letters, digits, dots and hyphens only", id="a label of 64"),
        pytest.param(".".join(["v" * 49] * 6), "at most 253 characters; this one has 299", id="too long"),
        pytest.param("127.0.31.9", "enter the name of the host", id="an IP address"),
        pytest.param("12345", "enter the name of the host", id="a number"),
    ],
)
def test_a_hostname_that_is_none_is_refused_at_its_field(admin: Client, vault: Vault, typed: str, says: str) -> None:
    found = refused(admin, hostname=typed)
    assert list(found) == ["hostname"]
    assert len(found["hostname"]) == 1
    assert says in found["hostname"][0]


def test_what_was_typed_comes_back_as_text_never_as_markup(admin: Client, vault: Vault) -> None:
    text = admin.post(ADD, {**GOOD, "hostname": '"><script>alert(1)</script>'}).content.decode()
    assert "<script>alert" not in text
    assert "&quot;&gt;&lt;script&gt;alert(1)&lt;/script&gt;" in text


@pytest.mark.parametrize(
    "typed",
    ["", "0", "-1", "65536", "70000", "abc", "53.89", "5389x", "1e3", "٠", "99999999999999999999", "<b>"],
)
def test_a_port_out_of_range_or_no_number_is_refused_at_its_field(admin: Client, vault: Vault, typed: str) -> None:
    assert refused(admin, port=typed) == {"port": ["A port is a number from 1 to 65535; vault agents listen on 5389."]}


def test_the_port_of_the_database_is_refused_with_the_one_that_is_meant(admin: Client, vault: Vault) -> None:
    assert refused(admin, port="3307") == {
        "port": ["3307 is the port of the database itself; vault agents listen on 5389."]
    }


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        pytest.param("", "Enter the IP address", id="empty"),
        pytest.param("vault-3.example", "This is no IP address", id="a name"),
        pytest.param("127.0.31", "This is no IP address", id="three parts"),
        pytest.param("127.0.31.256", "This is no IP address", id="a part above 255"),
        pytest.param("127.0.31.09", "This is no IP address", id="a leading zero, which could be octal"),
        pytest.param("127.0.31.9/24", "This is no IP address", id="a network"),
        pytest.param("127.0.31.9:5389", "This is no IP address", id="with a port"),
        pytest.param("[::1]", "This is no IP address", id="in brackets"),
        pytest.param("<i>", "This is no IP address", id="markup"),
        pytest.param("1 OR 1=1", "This is no IP address", id="SQL"),
        pytest.param("2130706433", "This is no IP address", id="one number"),
        pytest.param("0.0.0.0", "any address", id="unspecified"),
        pytest.param("::", "any address", id="unspecified, IPv6"),
        pytest.param("::ffff:0.0.0.0", "any address", id="unspecified, mapped"),
        pytest.param("224.0.0.1", "multicast", id="multicast"),
        pytest.param("ff02::1", "multicast", id="multicast, IPv6"),
        pytest.param("::ffff:224.0.0.1", "multicast", id="multicast, mapped"),
        pytest.param("169.254.3.4", "one cable only", id="link-local"),
        pytest.param("fe80::1", "one cable only", id="link-local, IPv6"),
        pytest.param("fe80::1%eth0", "one cable only", id="link-local with a zone"),
        pytest.param("2001:db8::12%eth0", "This is no IP address", id="a zone where there is none"),
        pytest.param("255.255.255.255", "broadcast", id="broadcast"),
        pytest.param("240.0.0.1", "reserved", id="reserved"),
    ],
)
def test_an_address_that_is_none_or_nobodys_is_refused_at_its_field(
    admin: Client, vault: Vault, typed: str, says: str
) -> None:
    found = refused(admin, ip_address=typed)
    assert list(found) == ["ip_address"]
    assert len(found["ip_address"]) == 1
    assert says in found["ip_address"][0]


@pytest.mark.parametrize("typed", ["127.0.31.2", " 127.0.31.2 ", "::ffff:127.0.31.2", "::FFFF:7f00:1f02"])
def test_an_address_in_use_is_refused_in_every_spelling(admin: Client, pair: Pair, typed: str) -> None:
    assert refused(admin, ip_address=typed) == {"ip_address": ["127.0.31.2 is already the address of beta.example."]}


@pytest.mark.parametrize("typed", ["2001:db8::12", "2001:DB8:0:0::12", "2001:0db8:0000:0000:0000:0000:0000:0012"])
def test_an_ipv6_address_in_use_is_refused_in_every_spelling(admin: Client, pair: Pair, typed: str) -> None:
    VaultNode.objects.filter(pk=pair[1].pk).update(ip_address="2001:db8::12")
    assert refused(admin, ip_address=typed) == {"ip_address": ["2001:db8::12 is already the address of beta.example."]}


@pytest.mark.parametrize("typed", ["beta.example", "BETA.example", " beta.example "])
def test_a_hostname_in_use_is_refused_in_every_spelling(admin: Client, pair: Pair, typed: str) -> None:
    assert refused(admin, hostname=typed) == {"hostname": ["beta.example is already a node."]}


def test_a_second_primary_is_refused_with_the_name_of_the_first(admin: Client, pair: Pair) -> None:
    assert refused(admin, system_role="primary") == {
        "system_role": ["alpha.example is already the Primary of this vault: choose Fallback."]
    }


@pytest.mark.parametrize("typed", ["", "master", "primary'--", "Primary"])
def test_a_role_that_does_not_exist_is_refused_at_its_field(admin: Client, vault: Vault, typed: str) -> None:
    assert refused(admin, system_role=typed) == {"system_role": ["Choose Primary or Fallback."]}


def test_every_wrong_field_is_told_at_once(admin: Client, vault: Vault) -> None:
    found = refused(admin, hostname="<b>", port="0", system_role="x", ip_address="x")
    assert set(found) == {"hostname", "port", "system_role", "ip_address"}


def test_every_collision_is_told_at_once(admin: Client, pair: Pair) -> None:
    found = refused(admin, hostname="alpha.example", system_role="primary", ip_address="127.0.31.2")
    assert set(found) == {"hostname", "system_role", "ip_address"}


def test_a_field_with_an_error_says_so_to_screen_readers(admin: Client, vault: Vault) -> None:
    text = admin.post(ADD, {**GOOD, "port": "0"}).content.decode()
    field = re.search(r'<input[^>]*name="port"[^>]*>', text)
    assert field is not None
    assert 'aria-invalid="true"' in field[0]
    assert "id_port_error" in field[0]
    assert 'id="id_port_error" role="alert"' in text


def test_the_empty_form_proposes_what_the_manual_says(admin: Client, vault: Vault) -> None:
    text = admin.get(ADD).content.decode()
    assert re.search(r'<input[^>]*name="port"[^>]*value="5389"', text)
    assert re.search(r'<input[^>]*name="active"[^>]*checked', text)
    assert refusals(text) == {}


@pytest.mark.parametrize("typed", ["", "0", "0.19", "60.1", "-1", "often", "nan", "inf", "1e9", "<b>"])
def test_an_interval_that_is_none_is_refused_and_the_old_one_stays(
    admin: Client, service: AppService, typed: str
) -> None:
    response = admin.post(f"/admin/nodes/appservice/{service.pk}/setting/", {"trigger_interval": typed})
    assert response.status_code == 422
    assert refusals(response.content.decode()) == {
        "trigger_interval": ["The trigger interval is a number of seconds from 0.2 to 60."]
    }
    changed = AppService.objects.get(pk=service.pk)
    assert (changed.trigger_interval, changed.changed_by) == (service.trigger_interval, None)


@pytest.mark.parametrize(("typed", "seconds"), [("0.2", 0.2), ("60", 60.0), ("2.5", 2.5)])
def test_an_interval_in_range_is_kept_with_who_changed_it(
    admin: Client, administrator: Any, service: AppService, typed: str, seconds: float
) -> None:
    response = admin.post(f"/admin/nodes/appservice/{service.pk}/setting/", {"trigger_interval": typed})
    assert response.status_code == 200
    changed = AppService.objects.get(pk=service.pk)
    assert (changed.trigger_interval, changed.changed_by) == (seconds, administrator)
