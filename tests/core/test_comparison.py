"""What two servers said beside each other: which tables are compared, what differs, in which words.

Proves the words of every kind of difference, that nothing which travels is read wrongly, and the order of the limits.
"""

import json
from dataclasses import replace

import pytest

from replication.core import limits
from replication.core.comparison import (
    Comparison,
    Inventory,
    ObjectFacts,
    RowFacts,
    RowList,
    Rows,
    RowSum,
    TableFacts,
    match,
    row_sentence,
    unlike,
)

TABLE = TableFacts(schema="vault", table="accounts", definition="d", layout="l", rows=10)
VIEW = ObjectFacts(kind="view", name="vault.v", definition="d")


def inventory(*tables: TableFacts, objects: tuple[ObjectFacts, ...] = ()) -> Inventory:
    return Inventory(position="0-1-5", tables=tables, objects=objects)


def row(key: str, digest: str = "d") -> RowFacts:
    return RowFacts(key=(key,), shown=f"id={key}", digest=digest)


@pytest.mark.parametrize(
    ("here", "there", "compared", "differences", "left_out"),
    [
        pytest.param(inventory(TABLE), inventory(TABLE), ["vault.accounts"], [], [], id="the same"),
        pytest.param(
            inventory(TABLE), inventory(), [], ["vault.accounts: the table is missing on vault-2"], [], id="missing"
        ),
        pytest.param(
            inventory(), inventory(TABLE), [], ["vault.accounts: only vault-2 has this table"], [], id="extra"
        ),
        pytest.param(
            inventory(TABLE), inventory(replace(TABLE, definition="x")),
            ["vault.accounts"], ["vault.accounts: the table is defined otherwise on vault-2"], [], id="an index more",
        ),
        pytest.param(
            inventory(TABLE), inventory(replace(TABLE, definition="x", layout="x")),
            [], ["vault.accounts: the table is defined otherwise on vault-2"],
            ["vault.accounts: its columns or its key are others"], id="another column",
        ),
        pytest.param(
            inventory(TABLE), inventory(replace(TABLE, not_compared="engine Aria")),
            [], [], ["vault.accounts: engine Aria"], id="what one side cannot compare is left out",
        ),
        pytest.param(
            inventory(objects=(VIEW,)), inventory(objects=(replace(VIEW, definition="x"),)),
            [], ["vault.v: the view is defined otherwise on vault-2"], [], id="a view",
        ),
        pytest.param(
            inventory(objects=(VIEW,)), inventory(objects=(replace(VIEW, kind="sequence"),)),
            [], ["vault.v: the view is missing on vault-2", "vault.v: only vault-2 has this sequence"], [],
            id="of the same name",
        ),
    ],
)  # fmt: skip
def test_tables_side_by_side(
    here: Inventory, there: Inventory, compared: list[str], differences: list[str], left_out: list[str]
) -> None:
    found = match(here, there, "vault-2")
    assert ([t.name for t in found.tables], list(found.differences)) == (compared, differences)
    assert list(found.not_compared) == left_out


def test_rows_side_by_side() -> None:
    found = unlike([row("1"), row("2"), row("3", "a")], [row("3", "b"), row("1"), row("4")])
    assert (found.differing, found.missing, found.extra) == ((row("3", "a"),), (row("2"),), (row("4"),))
    assert found.keys == [("3",), ("2",), ("4",)]
    assert len(found + found) == 6


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (Rows(differing=(row("5"),)), "vault.a: 1 row differs (other content: id=5)"),
        (Rows(missing=(row("5"),), extra=(row("6"),)), "vault.a: 2 rows differ (missing: id=5; extra: id=6)"),
        (
            Rows(missing=tuple(row(str(n)) for n in range(21)), extra=(row("x"),)),
            f"vault.a: 22 rows differ (missing: {', '.join(f'id={n}' for n in range(20))} and 1 more; extra: 1)",
        ),
    ],
)
def test_the_words_of_rows(rows: Rows, says: str) -> None:
    assert row_sentence("vault.a", rows) == says


def test_what_it_came_to() -> None:
    found = Comparison(node="vault-2", position="0-1-5", tables=2, rows=10, seconds=1.04, not_compared=("x: why",))
    assert found.equal
    assert found.says == (
        "vault-2 is equal to the Master: 2 tables with 10 rows were compared in 1.0 s. Not compared: x: why."
    )
    other = replace(found, differences=("a", "b"), not_compared=())
    assert not other.equal
    assert other.says == "vault-2 differs from the Master: a; b. 2 tables with 10 rows were compared in 1.0 s."


def test_what_travels_is_read_as_it_was_written() -> None:
    lists = inventory(TABLE, objects=(VIEW,))
    sums = RowSum(rows=3, digest="d", position="0-1-5", upto=("1", "x"), seconds=0.5)
    rows = RowList(rows=(row("1"),), position="0-1-5", complete=False)
    for one in (lists, sums, replace(sums, upto=None), rows):
        assert type(one).from_json(json.loads(json.dumps(one.to_json()))) == one


@pytest.mark.parametrize("kind", [Inventory, RowSum, RowList])
@pytest.mark.parametrize("said", [{}, {"rows": 5}, {"tables": [{}], "position": "", "objects": []}])
def test_what_cannot_be_read_is_a_value_error(kind: type, said: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="not a"):
        kind.from_json(said)  # type: ignore[attr-defined]  # all three have it


def test_a_comparison_keeps_its_turn_through_its_longest_pause() -> None:
    working = limits.COMPARE_WAIT_MAX + 2 * limits.COMPARE_STATEMENT
    resting = 2 * limits.COMPARE_STATEMENT * (1 / limits.COMPARE_DUTY - 1)
    assert working + resting < limits.COMPARE_TURN


def test_rows_are_held_long_enough_for_the_fallback_and_no_longer() -> None:
    assert 2 * limits.COMPARE_REACH < limits.COMPARE_HOLD
    assert limits.COMPARE_CHUNK < limits.COMPARE_REACH
