"""Which backups may go, which node makes the next one, and what a manifest must say."""

import json
from dataclasses import replace
from typing import Any

import pytest

from replication.core.backups import BackupArgs, Manifest, Member, NoMaker, choose_maker, expendable
from replication.core.view import RebuildWish
from tests.builders import LONG, id_of, node, primary, task

GOOD = Manifest(
    name="b-1.mbstream.gz", vault="v", node="n", agent_id="a", hostname="vault-b", operation="o",
    taken_at="2026-01-01T00:00:00+00:00", position="0-1-5", server_version="10.11.6", agent_version="1", os_user="mysql",
    bytes=5, data_bytes=9, sha256="0", seconds=1.0, members=(Member(hostname="vault-a", address="192.0.2.1:5389"),),
)  # fmt: skip


def made(*faults: str) -> list[Manifest]:
    """One a day, the first fault is that of the newest."""
    days = len(faults)
    return [
        replace(GOOD, name=f"b-{days - n}.mbstream.gz", taken_at=f"2026-01-{days - n:02}T00:00:00+00:00", fault=fault)
        for n, fault in enumerate(faults)
    ]


@pytest.mark.parametrize(
    ("faults", "keep", "gone"),
    [
        pytest.param(("", "", ""), 2, [1], id="the oldest"),
        pytest.param(("", "", ""), 7, [], id="there are fewer than may stay"),
        pytest.param(
            ("", "bad", ""), 2, [2], id="a faulty one does not count, and goes when a newer good one is there"
        ),
        pytest.param(("bad", "", ""), 1, [1], id="a faulty one that is newer than all good ones is left for a person"),
        pytest.param(("bad", "bad", "bad"), 1, [], id="nothing goes while there is no good one"),
        pytest.param(("bad", "bad", ""), 1, [], id="the last good one stays, however old"),
        pytest.param(("", ""), 0, [1], id="one stays whatever is asked"),
        pytest.param((), 1, [], id="there is none"),
    ],
)
def test_what_may_go(faults: tuple[str, ...], keep: int, gone: list[int]) -> None:
    assert [m.name for m in expendable(made(*faults), keep)] == [f"b-{n}.mbstream.gz" for n in gone]


def chosen(*nodes: Any, allow: bool = False, acker: str = "b") -> tuple[str, str] | str:
    found = choose_maker(nodes, primary=id_of("a"), acker=id_of(acker), allow_primary=allow)
    return found.says if isinstance(found, NoMaker) else (found[0].hostname, found[1])


def test_a_fallback_that_is_not_the_acker_comes_first() -> None:
    assert chosen(primary(), node("b"), node("c"))[0] == node("c").hostname
    name, why = chosen(primary(), node("b"))
    assert name == node("b").hostname
    assert "no other" in why


@pytest.mark.parametrize(
    ("unfit", "says"),
    [
        pytest.param({"silent": LONG}, "does not answer", id="silent"),
        pytest.param({"says": {"quarantine": "extra transactions 0-1-7"}}, "0-1-7", id="diverged"),
        pytest.param({"says": {"tainted": True}}, "may lack", id="tainted"),
        pytest.param({"says": {"disk_error": "No space left"}}, "No space left", id="its disk is full"),
        pytest.param({"says": {"db": {"applier": False}}}, "does not follow", id="its applier has stopped"),
        pytest.param({"says": {"db": {"receiver": "Connecting"}}}, "does not follow", id="it has lost the Master"),
        pytest.param({"says": {"task": task()}}, "rebuilt", id="it is being rebuilt"),
        pytest.param({"rebuild": RebuildWish(operation="x")}, "rebuilt", id="it is to be rebuilt"),
        pytest.param({"active": False}, "inactive", id="inactive"),
    ],
)
def test_a_fallback_that_is_not_well_makes_none(unfit: dict[str, Any], says: str) -> None:
    bad = node("c", **unfit)
    assert chosen(primary(), node("b"), bad)[0] == node("b").hostname
    refused = chosen(primary(), bad)
    assert isinstance(refused, str)
    assert says in refused
    assert "the Master may not" in refused
    name, why = chosen(primary(), bad, allow=True)
    assert name == primary().hostname
    assert says in why, "it says why the Master has to"


def test_without_fallbacks_the_master_makes_it_only_when_it_may_and_answers() -> None:
    assert "no fallback" in chosen(primary())
    assert chosen(primary(), allow=True)[0] == primary().hostname
    assert "does not answer" in chosen(primary(silent=LONG), allow=True)


def test_a_manifest_survives_its_file() -> None:
    assert Manifest.from_json(json.loads(json.dumps(GOOD.to_json()))) == GOOD
    assert Manifest.from_json({**GOOD.to_json(), "of_a_later_version": 1}) == GOOD


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"name": "../../etc/passwd.mbstream.gz"}, id="a path for a name"),
        pytest.param({"name": "notes.txt"}, id="no backup's name"),
        pytest.param({"bytes": "5"}, id="a text for a size"),
        pytest.param({"bytes": True}, id="a truth for a size"),
        pytest.param({"members": [{"hostname": "x"}]}, id="a member without an address"),
    ],
)
def test_a_manifest_that_makes_no_sense_is_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"."):
        Manifest.from_json({**GOOD.to_json(), **changed})


def test_arguments_are_checked() -> None:
    args = BackupArgs(keep=7, bytes_per_second=0, members=GOOD.members)
    assert BackupArgs.from_json(json.loads(json.dumps(args.to_json()))) == args
    for wrong in ({"keep": 0}, {"keep": True}, {"keep": 1, "bytes_per_second": -1}, {"keep": 1, "members": "x"}):
        with pytest.raises(ValueError, match=r"keep|bytes_per_second|members"):
            BackupArgs.from_json(wrong)
