"""Re-synchronize Master as a reckoning: how far a fallback is from the position of the click, and what stops it."""

import pytest

from replication.core import limits
from replication.core.positions import GtidPosition
from replication.core.report import NodeReport
from replication.core.resync import Standing, standing, stopped_by, transactions_between
from replication.core.roles import ProcessState
from tests.builders import ip_of, report

SOURCE = (ip_of("a"), limits.DATABASE_PORT)
TARGET = GtidPosition.parse("0-1-100")


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        pytest.param(report(), Standing(0, True, ""), id="there already"),
        pytest.param(report(db={"gtid_slave_pos": "0-1-60"}), Standing(40, True, ""), id="on its way"),
        pytest.param(report(db={"gtid_slave_pos": "0-1-60", "applier": False}), Standing(40, False, ""), id="stopped"),
        pytest.param(report(db={"source": "c"}), Standing(0, False, ""), id="it follows somebody else"),
        pytest.param(report(process=ProcessState.DEAD), Standing(0, False, ""), id="its database is dead"),
        pytest.param(report(database=None), Standing(0, False, ""), id="its database does not answer"),
    ],
)
def test_standing(seen: NodeReport, expected: Standing) -> None:
    assert standing(seen, SOURCE, TARGET) == expected


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        pytest.param(
            report(quarantine="extra transactions 0-2-7"), "diverged (extra transactions 0-2-7)", id="diverged"
        ),
        pytest.param(report(needs_rebuild="binary logs are purged"), "binary logs are purged", id="purged"),
    ],
)
def test_what_only_a_copy_can_mend_says_why(seen: NodeReport, words: str) -> None:
    now = standing(seen, SOURCE, TARGET)
    assert words in now.copy
    assert (now.refusal, now.streaming) == ("", False)


def test_an_applier_that_stands_still_says_at_what() -> None:
    stopped = report(db={"applier": False, "applier_errno": 1062, "applier_error": "Duplicate entry '7'"})
    assert "1062: Duplicate entry '7'" in stopped_by(stopped)
    assert standing(stopped, SOURCE, TARGET).copy == "", "a fresh start may help it: no copy before that was tried"
    assert stopped_by(report()) == ""


def test_the_gap_of_a_promotion_is_not_counted_as_transactions() -> None:
    mine = GtidPosition.parse("0-1-60")
    target = GtidPosition.parse(f"0-2-{60 + limits.GTID_GAP + 3}")
    assert transactions_between(mine, target) == 3
    after = standing(report(db={"gtid_slave_pos": "0-1-60"}), SOURCE, GtidPosition.parse(f"0-2-{60 + limits.GTID_GAP}"))
    assert after.remaining == 1, "not there yet is never zero"
