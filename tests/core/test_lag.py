"""How far a fallback is behind: what is not known is None, never zero."""

import pytest

from replication.core import limits
from replication.core.lag import Lag, lag_of, lags_of
from replication.core.roles import ProcessState
from replication.core.view import NodeView, VaultView
from tests.builders import LONG, SECOND, id_of, node, primary, vault


@pytest.mark.parametrize(
    ("n", "lag"),
    [
        pytest.param(node("b"), Lag(0.0, 0), id="in step"),
        pytest.param(node("b", says={"db": {"seconds_behind": 7.0, "gtid_slave_pos": "0-1-60"}}), Lag(7.0, 40), id="behind"),
        pytest.param(node("b", silent=LONG), Lag(None, None), id="silent"),
        pytest.param(node("b", never=True), Lag(None, None), id="never heard"),
        pytest.param(node("b", says={"process": ProcessState.DEAD}), Lag(None, None), id="its database is down"),
        pytest.param(node("b", says={"db": {"receiver": "Connecting", "seconds_behind": 0.0}}), Lag(None, None), id="it connects"),
        pytest.param(node("b", says={"db": {"applier": False}}), Lag(None, None), id="it does not apply"),
        pytest.param(node("b", says={"db": {"heard_age": 9.0}}), Lag(None, None), id="its primary is frozen, it says 0 all the same"),
        pytest.param(node("b", says={"db": {"seconds_behind": None}}), Lag(None, 0), id="its server does not say"),
    ],
)  # fmt: skip
def test_lag(n: NodeView, lag: Lag) -> None:
    assert lag_of(vault(primary(), n), n) == lag


@pytest.mark.parametrize(
    "a",
    [
        pytest.param(primary(silent=SECOND), id="the primary is silent"),
        pytest.param(primary(says={"database": None}), id="it has said nothing of its database"),
        pytest.param(primary(says={"db": {"gtid_binlog_pos": f"0-1-{100 + limits.GTID_GAP}"}}), id="it has just skipped numbers"),
    ],
)  # fmt: skip
def test_transactions_are_counted_only_beside_a_primary_that_says_where_it_is(a: NodeView) -> None:
    view = vault(a, node("b"))
    assert lag_of(view, view.others[0]) == Lag(0.0, None)


@pytest.mark.parametrize(
    ("view", "ids"),
    [
        pytest.param(vault(primary(), node("b"), node("c", silent=LONG)), {"b", "c"}, id="every fallback"),
        pytest.param(vault(primary(), node("b", active=False), node("c", removed=True)), set(), id="not who need not follow"),
        pytest.param(vault(primary="", promotable=""), set(), id="nobody before there is a primary"),
    ],
)  # fmt: skip
def test_whose_lag_is_sampled(view: VaultView, ids: set[str]) -> None:
    assert set(lags_of(view)) == {id_of(i) for i in ids}
