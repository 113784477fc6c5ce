"""MySQL's GTID sets, and the common door to both engines' positions: reading, covering, counting, and never mixing them up."""

import random

import pytest

from replication.core.errors import PositionsNotComparable
from replication.core.mysql_positions import GtidSet
from replication.core.positions import GtidPosition, beyond, check_state, parse, servers_in

A, B, C = (letter * 8 + "-1111-2222-3333-" + letter * 12 for letter in "abc")


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        pytest.param("", "", id="nothing"),
        pytest.param(f"{A}:1-5", f"{A}:1-5", id="one interval"),
        pytest.param(f"{A}:7", f"{A}:7", id="one number"),
        pytest.param(f"{A.upper()}:1-5:7:9-12", f"{A}:1-5:7:9-12", id="several intervals, in upper case"),
        pytest.param(f"{A}:9:1-5:6-7", f"{A}:1-7:9", id="out of order, neighbours are joined"),
        pytest.param(f"{A}:1-8:3-5:5-10", f"{A}:1-10", id="overlapping"),
        pytest.param(f"{B}:1-3,\n{A}:1-2", f"{A}:1-2,{B}:1-3", id="the line breaks of SHOW REPLICA STATUS"),
        pytest.param(f"{A}:1-3, {A}:4-5", f"{A}:1-5", id="the same server twice"),
        pytest.param(f"{A}:5-3", "", id="an interval that ends before it begins is empty, as the server has it"),
        pytest.param(f"{A}:1-3:vault:1-2", f"{A}:1-3:vault:1-2", id="a tag counts for itself"),
        pytest.param(f"{A}:Vault:4:1-3", f"{A}:vault:1-4", id="a tag alone, in upper case"),
        pytest.param(f"{A}:b:1:a:2,{A}:7", f"{A}:7:a:2:b:1", id="tags behind the numbers without one"),
        pytest.param(A.replace("-", "") + ":1", f"{A}:1", id="a UUID without hyphens"),
    ],
)
def test_a_set_reads_and_prints_as_the_server_does(text: str, printed: str) -> None:
    assert str(GtidSet.parse(text)) == printed
    assert str(GtidSet.parse(printed)) == printed


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param("0-1-5:7", "no UUID", id="MariaDB's"),
        pytest.param(f"{A}", "without numbers", id="a UUID alone"),
        pytest.param(f"{A}:0-4", "no interval between 1", id="numbers begin with 1"),
        pytest.param(f"{A}:1-", "neither a tag nor an interval", id="half an interval"),
        pytest.param(f"{A}:1-2-3", "neither a tag", id="three ends"),
        pytest.param(f"{A}:{2**63}", "no interval between 1", id="beyond the last number"),
        pytest.param(f"{A}:1:{'t' * 33}:1", "neither a tag", id="a tag of 33 letters"),
        pytest.param("x" * 999 + ":1", "…", id="long nonsense is cut off"),
    ],
)
def test_what_is_no_set_is_refused(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        GtidSet.parse(text)


@pytest.mark.parametrize(
    ("mine", "other", "lacks", "missing"),
    [
        pytest.param(f"{A}:1-5", f"{A}:1-5", "", 0, id="the same"),
        pytest.param(f"{A}:1-9,{B}:1", f"{A}:1-5", "", 0, id="more"),
        pytest.param(f"{A}:1-3", f"{A}:1-5", f"{A}:4-5", 2, id="two behind"),
        pytest.param("", f"{A}:1-5:9", f"{A}:1-5:9", 6, id="from nothing"),
        pytest.param(f"{A}:1-5", "", "", 0, id="nothing to cover"),
        pytest.param(
            f"{A}:1-2:5-9", f"{A}:1-10", f"{A}:3-4:10", 3, id="with a gap: the last number alone would hide it"
        ),
        pytest.param(f"{A}:3-4", f"{A}:1-9", f"{A}:1-2:5-9", 7, id="the middle"),
        pytest.param(f"{A}:1-9", f"{A}:1-9:t:1", f"{A}:t:1", 1, id="a tag is not covered by the numbers without one"),
        pytest.param(f"{A}:1-9", f"{A}:1-5,{B}:1-3", f"{B}:1-3", 3, id="another server's"),
    ],
)
def test_covering_and_counting(mine: str, other: str, lacks: str, missing: int) -> None:
    a, b = parse(mine), parse(other)
    assert a.covers(b) is (not lacks)
    assert a.missing_from(b) == missing
    assert str(GtidSet.parse(other).subtract(GtidSet.parse(mine))) == lacks


def test_sets_are_what_sets_of_numbers_are() -> None:
    """Against Python's own sets, from a seed."""
    dice = random.Random(5)
    for _ in range(300):
        mine, theirs = (set(dice.sample(range(1, 25), dice.randrange(0, 20))) for _ in range(2))
        a, b = (GtidSet.parse(f"{A}:{':'.join(map(str, numbers))}" if numbers else "") for numbers in (mine, theirs))
        assert numbers_of(a.subtract(b)) == mine - theirs
        assert numbers_of(a.union(b)) == mine | theirs
        assert a.covers(b) is (mine >= theirs)
        assert a.missing_from(b) == len(theirs - mine)


def numbers_of(found: GtidSet) -> set[int]:
    return {n for parts in found.intervals.values() for first, last in parts for n in range(first, last + 1)}


@pytest.mark.parametrize(
    ("old", "new", "extra"),
    [
        pytest.param(f"{A}:1-8", f"{A}:1-8,{B}:1-12", (), id="clean: the new primary has it all"),
        pytest.param(f"{A}:1-9", f"{A}:1-8,{B}:1-500", (f"{A}:9",), id="the unacknowledged tail of an old primary"),
        pytest.param(f"{A}:1-9,{C}:4", f"{A}:1-8,{C}:1-3", (f"{A}:9", f"{C}:4"), id="of two servers"),
        pytest.param(f"{A}:1-9:t:1-2", f"{A}:1-9:t:1", (f"{A}:t:2",), id="of a tag"),
        pytest.param("", f"{A}:1-8", (), id="a fresh node has nothing"),
        pytest.param(f"{A}:1-8", "", (f"{A}:1-8",), id="the source has nothing at all"),
        pytest.param("0-1-9", "0-1-8", ("0-1-9",), id="MariaDB's, through the same door"),
    ],
)
def test_what_goes_beyond(old: str, new: str, extra: tuple[str, ...]) -> None:
    assert beyond(old, new) == extra


def test_the_door_sees_which_it_is() -> None:
    assert isinstance(parse(f"{A}:1"), GtidSet)
    assert isinstance(parse("0-1-5"), GtidPosition)
    assert not parse("")
    check_state("0-1-5,0-2-7")
    check_state(f"{A}:1-4")
    for nonsense in ("nonsense", "nonsense:1"):
        with pytest.raises(ValueError, match=r"."):
            check_state(nonsense)
    assert servers_in("0-7-5,0-2-7,1-2-9") == (2, 7)
    assert servers_in(f"{A}:1-4") == ()


@pytest.mark.parametrize(("mine", "other"), [("0-1-5", f"{A}:1-5"), (f"{A}:1-5", "0-1-5")])
def test_two_engines_are_never_compared(mine: str, other: str) -> None:
    for compare in (parse(mine).covers, parse(mine).missing_from):
        with pytest.raises(PositionsNotComparable, match=r"of MariaDB.*MySQL|of MySQL.*MariaDB"):
            compare(parse(other))
    with pytest.raises(PositionsNotComparable):
        beyond(mine, other)


def test_the_empty_position_is_of_either_kind() -> None:
    nothing = parse("")
    for text in ("0-1-5", f"{A}:1-5"):
        assert parse(text).covers(nothing)
        assert not nothing.covers(parse(text))
        assert nothing.missing_from(parse(text)) == 5
        assert beyond("", text) == ()
