"""The agent protocol's JSON: a report and a command survive the way, and what is not one is refused with its field."""

import json
from typing import Any

import pytest

from replication.core.commands import Command, FollowArgs, ReplicationAccount, account_name
from replication.core.report import NodeReport
from replication.core.roles import OrderKind
from tests.builders import id_of, report


def wire(value: dict[str, Any]) -> Any:
    return json.loads(json.dumps(value))


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(report("b"), id="replica"),
        pytest.param(report("a", order=OrderKind.LOSSLESS), id="primary"),
        pytest.param(report("a", database=None), id="SQL has not answered yet"),
        pytest.param(report("b", db={"heard_age": None, "seconds_behind": None}), id="unknown ages"),
        pytest.param(report("b", db={"drift": ("sync_binlog is 0, must be 1",)}), id="drift"),
    ],
)
def test_a_report_survives_the_way(sent: NodeReport) -> None:
    assert NodeReport.from_json(wire(sent.to_json())) == sent


def test_keys_of_a_newer_agent_are_ignored() -> None:
    assert NodeReport.from_json({**wire(report().to_json()), "later": 1}) == report()


def test_whole_seconds_are_seconds() -> None:
    data = wire(report(db={"seconds_behind": 3.0}).to_json())
    data["database"]["seconds_behind"] = 3
    read = NodeReport.from_json(data)
    assert read.database is not None
    assert read.database.seconds_behind == 3.0


def with_database(**changes: Any) -> dict[str, Any]:
    data = wire(report().to_json())
    return {**data, "database": {**data["database"], **changes}}


@pytest.mark.parametrize(
    ("data", "says"),
    [
        pytest.param([], "an object was expected", id="a list"),
        pytest.param(None, "an object was expected", id="nothing"),
        pytest.param({"protocol": 1}, "agent_version is missing", id="a key is missing"),
        pytest.param(
            {**wire(report().to_json()), "epoch": "5"}, "NodeReport.epoch: int was expected", id="text for a number"
        ),
        pytest.param({**wire(report().to_json()), "epoch": True}, "NodeReport.epoch", id="a truth value for a number"),
        pytest.param({**wire(report().to_json()), "order_kind": "king"}, "king", id="an unknown order"),
        pytest.param({**wire(report().to_json()), "fences": "sigkill"}, "a list of strings", id="text for a list"),
        pytest.param(
            {**wire(report().to_json()), "fences": [1]}, "a list of strings", id="numbers in a list of strings"
        ),
        pytest.param({**wire(report().to_json()), "database": 7}, "DatabaseReport: an object", id="no database object"),
        pytest.param(
            with_database(read_only=None), "DatabaseReport.read_only", id="null where something must be known"
        ),
        pytest.param(with_database(gtid_slave_pos="nonsense"), "a GTID position was expected", id="no position"),
        pytest.param(
            with_database(gtid_binlog_pos="0-1-5,0-2-6"), "a GTID position was expected", id="a state for a position"
        ),
        pytest.param(with_database(gtid_binlog_state="0-1"), "a GTID position was expected", id="no state"),
    ],
)
def test_what_is_no_report_is_refused(data: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says.replace("(", r"\(")):
        NodeReport.from_json(data)


COMMAND = Command(
    vault="f" * 32, node=id_of("b"), term=2, epoch=7, operation="1" * 32, deadline=5.0, args={"leave": True}
)


def test_a_command_survives_the_way() -> None:
    assert Command.from_json(wire(COMMAND.to_json())) == COMMAND


@pytest.mark.parametrize("field", ["vault", "node", "term", "epoch", "operation", "deadline", "args"])
@pytest.mark.parametrize("value", [None, True, ["x"]], ids=["null", "a truth value", "a list"])
def test_what_is_no_command_is_refused(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=field):
        Command.from_json({**wire(COMMAND.to_json()), field: value})


def test_a_command_is_an_object() -> None:
    with pytest.raises(ValueError, match="object"):
        Command.from_json("revoke")


def test_an_account_name_is_short_and_safe_in_sql() -> None:
    name = account_name("0123456789abcdef" * 2)
    assert name == "vha_0123456789ab"
    assert len(name) <= 16


def test_arguments_are_plain_json() -> None:
    account = ReplicationAccount(name=account_name(id_of("b")), subject="/CN=b")
    args = FollowArgs(
        source_host="127.0.31.1",
        source_port=3307,
        account=account.name,
        source_binlog_state="0-1-5",
        source_oldest_binlog="binlog.000001",
        truncate_tail=False,
    )
    assert wire(account.to_json()) == account.to_json()
    assert FollowArgs(**wire(args.to_json())) == args
