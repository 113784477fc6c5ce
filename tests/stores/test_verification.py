"""What a comparison came to stands on the node's row and among the events.

Proves: a difference is an error that names the tables, a good one an information that ends it, also what was said of a Master
before it became one; one that was not carried to its end changes nothing of what the last one found.
"""

from nodes.models import Event, Vault, VaultNode
from replication.core.comparison import Comparison
from replication.stores import verification

DIFFERENCE = "vault.accounts: 3 rows differ (other content: id=5)"


def compared(*differences: str) -> Comparison:
    return Comparison(node="b", position="0-1-5", tables=2, rows=10, seconds=1, differences=differences)


def nodes(vault: Vault) -> tuple[VaultNode, VaultNode]:
    first, second = VaultNode.objects.filter(vault=vault).order_by("ordinal")[:2]
    Vault.objects.filter(pk=vault.pk).update(primary=first)
    return first, second


def last() -> Event:
    found = Event.objects.order_by("-pk").first()
    assert found is not None
    return found


def test_a_difference_is_an_error_that_names_the_tables(vault: Vault) -> None:
    _, node = nodes(vault)
    verification.record(node.pk, compared(DIFFERENCE), "operation")
    node.refresh_from_db()
    assert (node.drift, node.verified_position) == ([DIFFERENCE], "0-1-5")
    assert node.verified_at is not None
    event = last()
    assert (event.rule, event.level, event.operation) == ("W115", "error", "operation")
    assert DIFFERENCE in event.text


def test_a_good_one_ends_it(vault: Vault) -> None:
    primary, node = nodes(vault)
    VaultNode.objects.filter(vault=vault).update(drift=[DIFFERENCE])
    verification.record(node.pk, compared(), "operation")
    for one in (primary, node):
        one.refresh_from_db()
        assert one.drift == []
    assert (last().rule, last().level) == ("W116", "info")
    assert primary.verified_at is None


def test_one_that_was_not_carried_to_its_end_leaves_what_was_found(vault: Vault) -> None:
    _, node = nodes(vault)
    verification.record(node.pk, compared(DIFFERENCE), "operation")
    node.refresh_from_db()
    before = (node.drift, node.verified_at, node.verified_position)
    verification.not_compared(node.pk, "b is too far behind", "operation")
    node.refresh_from_db()
    assert (node.drift, node.verified_at, node.verified_position) == before
    assert (last().rule, last().level) == ("W117", "warning")
    assert last().text == f"{node.hostname} was not compared with the Master: b is too far behind."


def test_a_node_that_was_deleted_meanwhile_is_no_fault(vault: Vault) -> None:
    verification.record("gone", compared(DIFFERENCE), "operation")
    verification.not_compared("gone", "why", "operation")
    assert not Event.objects.filter(rule__in=("W115", "W117")).exists()
