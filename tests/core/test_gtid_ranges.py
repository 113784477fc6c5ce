"""Sets of transactions as runs, and what a primary's inventory says of one that somebody else has."""

import random

import pytest

from replication.core.gtid_ranges import GtidRanges, Inventory, Standing
from replication.core.positions import Gtid, parse_list


def ranges(text: str) -> GtidRanges:
    return GtidRanges.of(parse_list(text))


def test_runs_grow_together_whatever_the_order() -> None:
    assert str(ranges("0-1-1,0-1-2,0-1-3,0-1-7")) == "0-1-1…3, 0-1-7"
    assert str(ranges("0-1-7,0-1-3,0-1-1,0-1-2")) == "0-1-1…3, 0-1-7"
    assert str(ranges("0-1-1,0-1-3,0-1-2")) == "0-1-1…3"
    assert str(ranges("0-2-4,0-1-5,1-1-1")) == "0-1-5, 0-2-4, 1-1-1"
    assert str(GtidRanges()) == ""
    assert not GtidRanges()
    assert ranges("0-1-1")


@pytest.mark.parametrize("seed", range(20))
def test_as_sets_of_numbers_do(seed: int) -> None:
    chance = random.Random(seed)
    mine, theirs = ({chance.randrange(60) for _ in range(chance.randrange(60))} for _ in range(2))
    a, b = (
        GtidRanges.of(Gtid(0, 1, n) for n in chance.sample(sorted(numbers), len(numbers))) for numbers in (mine, theirs)
    )
    assert {n for n in range(62) if Gtid(0, 1, n) in a} == mine
    assert len(a) == len(mine)
    assert a.difference(b) == GtidRanges.of(Gtid(0, 1, n) for n in sorted(mine - theirs))
    assert GtidRanges.from_json(a.to_json()) == a
    a.update(b)
    assert a == GtidRanges.of(Gtid(0, 1, n) for n in sorted(mine | theirs))


def test_another_server_or_domain_is_another_transaction() -> None:
    assert Gtid(0, 2, 5) not in ranges("0-1-5")
    assert Gtid(1, 1, 5) not in ranges("0-1-5")
    assert str(ranges("0-1-5,0-2-5").difference(ranges("0-1-5"))) == "0-2-5"


@pytest.mark.parametrize(
    "data", [[], {"0": [[1, 2]]}, {"0-1": [[2, 1]]}, {"0-1": [1]}, {"0-1": [["a", 1]]}, {"0-1": None}]
)
def test_what_is_no_set_is_refused(data: object) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # whatever it says
        GtidRanges.from_json(data)


@pytest.mark.parametrize(
    ("before", "logs", "asked", "standing"),
    [
        pytest.param("", "0-1-1,0-1-2", "0-1-2", Standing.HAS, id="it is in the logs"),
        pytest.param("", "0-1-1,0-1-2", "0-1-3", Standing.LACKS, id="old ahead, new idle"),
        pytest.param("", "0-1-1,0-2-2", "0-1-2", Standing.LACKS, id="same number, other server"),
        pytest.param(
            "", "0-1-1,0-2-2,0-1-9", "0-1-2", Standing.LACKS, id="a later number of the same server does not cover it"
        ),
        pytest.param("0-1-100", "0-1-101", "0-1-50", Standing.UNKNOWN, id="purged: it may have been left out"),
        pytest.param("0-1-100", "0-2-101", "0-1-101", Standing.LACKS, id="purged, but that server had not come so far"),
        pytest.param("0-1-100", "0-1-101", "0-3-50", Standing.LACKS, id="purged, but that server had written nothing"),
        pytest.param("1-1-7", "0-1-1", "0-1-5", Standing.LACKS, id="the other domain says nothing about this one"),
        pytest.param(
            "", "0-2-500", "0-1-499", Standing.UNKNOWN, id="made from a copy: nothing is known of before its first log"
        ),
        pytest.param("", "0-2-500", "0-1-500", Standing.LACKS, id="made from a copy: known from its first log on"),
        pytest.param("", "0-1-1", "3-1-1", Standing.LACKS, id="a domain that it never knew"),
        pytest.param(
            "", "0-1-70", "3-1-1", Standing.UNKNOWN, id="made from a copy: nothing is known of another domain"
        ),
        pytest.param("", "", "0-1-1", Standing.UNKNOWN, id="no log at all"),
    ],
)
def test_whether_the_primary_has_it(before: str, logs: str, asked: str, standing: Standing) -> None:
    inventory = Inventory(parse_list(before), ranges(logs), "binlog.000001")
    assert inventory.standing(Gtid.parse(asked)) is standing
    assert Inventory.from_json(inventory.to_json()) == inventory


def test_what_is_no_inventory_is_refused() -> None:
    for data in (None, [], {"before": "x", "ranges": {}}):
        with pytest.raises(ValueError):  # noqa: PT011  # whatever it says
            Inventory.from_json(data)
