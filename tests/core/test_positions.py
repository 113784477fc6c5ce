"""MariaDB positions: parsing, covering, counting, and transactions that only one side has (the table was measured)."""

import pytest

from replication.core.errors import PositionsNotComparable
from replication.core.positions import Gtid, GtidPosition, extra_transactions, highest_sequence, parse_list


def test_a_gtid_reads_and_prints_the_same() -> None:
    assert str(Gtid.parse(" 0-1-42 ")) == "0-1-42"
    assert parse_list("") == ()
    assert parse_list("0-1-5,1-2-7") == (Gtid(0, 1, 5), Gtid(1, 2, 7))


@pytest.mark.parametrize("text", ["0-1", "a-b-c", "0-1-2-3", "uuid:1-5"])
def test_what_is_no_gtid_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        GtidPosition.parse(text)


def test_a_state_is_not_a_position() -> None:
    with pytest.raises(PositionsNotComparable, match="domain 0 twice"):
        GtidPosition.parse("0-1-5,0-2-7")


@pytest.mark.parametrize(
    ("mine", "other", "covers", "missing"),
    [
        pytest.param("0-1-5", "0-1-5", True, 0, id="the same"),
        pytest.param("0-2-9", "0-1-5", True, 0, id="further, written by another server"),
        pytest.param("0-1-3", "0-1-5", False, 2, id="two behind"),
        pytest.param("", "0-1-5", False, 5, id="from nothing"),
        pytest.param("0-1-5", "", True, 0, id="nothing to cover"),
        pytest.param("0-1-5", "0-1-5,1-1-3", False, 3, id="a whole domain is missing"),
        pytest.param("0-1-9,1-1-1", "0-1-5,1-1-3", False, 2, id="ahead in one domain, behind in the other"),
    ],
)
def test_covering_and_counting(mine: str, other: str, covers: bool, missing: int) -> None:
    a, b = GtidPosition.parse(mine), GtidPosition.parse(other)
    assert a.covers(b) is covers
    assert a.missing_from(b) == missing


@pytest.mark.parametrize(
    ("old", "new", "extra"),
    [
        pytest.param("0-1-8", "0-1-8,0-2-12", "", id="clean: the new primary has it all"),
        pytest.param("0-1-9", "0-1-8", "0-1-9", id="the old one is ahead, the new one idle"),
        pytest.param("0-1-8", "0-1-7,0-2-8", "0-1-8", id="the same number from two servers"),
        pytest.param("0-1-8", "0-1-5,0-2-5000", "0-1-8", id="the new one went far ahead: numbers alone would hide it"),
        pytest.param("0-1-8", "0-2-9,0-1-30", "", id="missed: a later one of the old server; strict mode says 1236"),
        pytest.param(
            "0-1-8", "0-1-8", "", id="missed: the same number issued again; the gap at promotions prevents it"
        ),
        pytest.param("0-1-8,0-3-2", "0-1-8", "0-3-2", id="a third server wrote here"),
        pytest.param("1-1-1", "0-1-8", "1-1-1", id="another domain"),
        pytest.param("", "0-1-8", "", id="a fresh node has nothing"),
        pytest.param("0-1-8", "", "0-1-8", id="the source has nothing at all"),
    ],
)
def test_extra_transactions(old: str, new: str, extra: str) -> None:
    assert ",".join(map(str, extra_transactions(old, new))) == extra


def test_the_order_of_a_state_does_not_matter() -> None:
    assert extra_transactions("0-2-3,0-1-9", "0-1-4,0-2-3,0-1-8") == (Gtid(0, 1, 9),)


def test_the_highest_sequence_of_a_domain() -> None:
    assert highest_sequence(parse_list("0-1-5,0-2-9,1-1-70"), 0) == 9
    assert highest_sequence((), 0) == 0
