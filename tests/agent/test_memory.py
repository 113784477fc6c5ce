"""What the agent must not forget, on disk.

Proves: a state is written whole or not at all, and a damaged one is never believed; an older agent's is; a promise that
cannot be written is not given; a command that is under way cannot take back what was promised meanwhile; an agent that lost
its memory holds its node closed, also when it finds a writable primary.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields, replace
from datetime import timedelta
from pathlib import Path

import pytest

from replication.agent.firewall import NftCut
from replication.agent.process import Mariadbd
from replication.agent.state import FROM_THE_FIRST, StateDamaged, StateFile, load, save
from replication.agent.system import SystemClock, fresh_server_id
from replication.agent.tasks import TaskRunner
from replication.core.commands import Command, Verb
from replication.core.errors import StaleEpoch, StepFailed
from replication.core.roles import OrderKind
from replication.core.vault_ports import SERVER_ID_MAX, AgentState, Ports, StateError
from replication.dialects.mariadb import MariaDb, PkiFiles
from replication.procedures.vault.work import Work
from tests.vault_host import VaultHost

ADDRESS = "127.0.21.21"
KEPT = AgentState(vault="v", node="n", term=3, epoch=7, order_kind=OrderKind.LOSSLESS, order_epoch=7, server_id=11)


def test_a_state_is_read_as_it_was_written(tmp_path: Path) -> None:
    file = tmp_path / "state.json"
    assert load(file) is None
    save(file, KEPT)
    assert load(file) == KEPT
    assert file.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]


@pytest.mark.parametrize(
    "content",
    [
        pytest.param("", id="empty"),
        pytest.param('{"vault": "v"', id="torn"),
        pytest.param("[]", id="no object"),
        pytest.param("{}", id="nothing in it"),
        pytest.param(json.dumps({**asdict(KEPT), "epoch": "7"}), id="an epoch that is a text"),
        pytest.param(json.dumps({**asdict(KEPT), "epoch": -1}), id="an epoch below zero"),
        pytest.param(json.dumps({**asdict(KEPT), "tainted": 0}), id="a number for yes or no"),
        pytest.param(json.dumps({**asdict(KEPT), "order_kind": "king"}), id="an order that does not exist"),
        pytest.param(json.dumps({**asdict(KEPT), "peers": "127.0.0.1:5389"}), id="a text for a list of peers"),
    ],
)
def test_a_damaged_state_is_not_believed(tmp_path: Path, content: str) -> None:
    file = tmp_path / "state.json"
    file.write_text(content)
    with pytest.raises(StateDamaged, match=r"state\.json"):
        load(file)


@pytest.mark.parametrize("field", sorted(field.name for field in fields(AgentState)))
def test_the_memory_of_an_older_agent_is_taken_up_and_one_that_lacks_a_field_of_old_is_not(
    tmp_path: Path, field: str
) -> None:
    file = tmp_path / "state.json"
    kept = replace(KEPT, peers=("127.0.0.1:5389",))
    file.write_text(json.dumps({name: value for name, value in asdict(kept).items() if name != field}))
    if field in FROM_THE_FIRST:
        with pytest.raises(StateDamaged, match=f"lacks {field}"):
            load(file)
    else:
        assert load(file) == replace(kept, **{field: getattr(AgentState(), field)})


def test_what_cannot_be_written_is_not_promised(tmp_path: Path) -> None:
    memory = StateFile(tmp_path / "gone" / "state.json", KEPT)
    with pytest.raises(StateError, match="nothing was promised"):
        memory.write(epoch=8)
    assert memory.read().epoch == KEPT.epoch


def test_a_change_that_is_refused_leaves_everything_as_it_was(tmp_path: Path) -> None:
    changes: list[int] = []
    memory = StateFile(tmp_path / "state.json", KEPT, lambda: changes.append(1))

    def refuse(state: AgentState) -> AgentState:
        raise StaleEpoch("host", state.term, state.epoch)

    with pytest.raises(StaleEpoch):
        memory.update(refuse)
    assert memory.read() == KEPT
    assert not changes


def test_a_fresh_server_id_is_none_of_those_in_use() -> None:
    used = [fresh_server_id([]) for _ in range(3)]
    fresh = fresh_server_id(used)
    assert fresh not in used
    assert 0 < fresh <= SERVER_ID_MAX


# --- one command against another ------------------------------------------------------------------------------------


class Nobody:
    """A session that must not be used: these commands get no further than the memory."""

    def rows(self, statement: str, *values: object) -> Sequence[dict[str, object]]:
        raise AssertionError(statement)

    run = rows


@pytest.fixture(scope="module")
def host(make: Callable[..., VaultHost]) -> VaultHost:
    return make(ADDRESS, "memory-1").init()


@pytest.fixture
def ports(tmp_path: Path, host: VaultHost) -> Ports:
    config = host.config
    memory = StateFile(tmp_path / "state.json", KEPT)
    return Ports(
        clock=SystemClock(),
        state=memory,
        process=Mariadbd(config, memory, lambda: None),
        database=MariaDb(Nobody(), PkiFiles(ca="", cert="", key="")),  # type: ignore[arg-type]  # never called
        firewall=NftCut(config.agent_id, config.database_port, wanted=False),
        tasks=TaskRunner(tmp_path, lambda: None),
        server_ids=fresh_server_id,
    )


def begin(ports: Ports, verb: Verb, *, epoch: int, term: int = KEPT.term) -> Work:
    work = Work(
        ports,
        verb,
        Command(vault="v", node="n", term=term, epoch=epoch, operation="o", deadline=1),
        "host",
    )
    work.promise()
    return work


def test_a_slow_command_cannot_write_its_order_over_a_newer_fence(ports: Ports) -> None:
    slow = begin(ports, Verb.OPEN, epoch=8)
    fence = begin(ports, Verb.FENCE, epoch=9)
    fence.persist(order_kind=OrderKind.NONE, order_epoch=9, fenced=True)
    with pytest.raises(StaleEpoch):
        slow.persist(order_kind=OrderKind.SOLO, order_epoch=8, fenced=False)
    assert (ports.state.read().order_kind, ports.state.read().fenced) == (OrderKind.NONE, True)


def test_nor_over_a_fence_of_the_same_epoch(ports: Ports) -> None:
    slow = begin(ports, Verb.OPEN, epoch=8)
    begin(ports, Verb.FENCE, epoch=8).persist(order_kind=OrderKind.NONE, order_epoch=8, fenced=True)
    with pytest.raises(StepFailed, match="fenced while"):
        slow.persist(order_kind=OrderKind.SOLO, order_epoch=8, fenced=False)
    assert ports.state.read().fenced
    begin(ports, Verb.OPEN, epoch=8).persist(fenced=False)
    assert not ports.state.read().fenced, "a command that came after the fence may lift it"


@pytest.mark.parametrize(("term", "epoch"), [(3, 6), (2, 7), (2, 8)])
def test_a_lower_term_or_epoch_is_told_what_was_promised(ports: Ports, term: int, epoch: int) -> None:
    with pytest.raises(StaleEpoch) as refused:
        begin(ports, Verb.SOLO, term=term, epoch=epoch)
    assert (refused.value.promised_term, refused.value.promised_epoch) == (3, 7)


def test_the_time_of_a_command_counts_down(ports: Ports) -> None:
    work = begin(ports, Verb.SOLO, epoch=8)
    first = work.left()
    assert timedelta() < work.left() <= first <= timedelta(seconds=1)


# --- an agent that lost it ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lost", [pytest.param(False, id="damaged"), pytest.param(True, id="gone")])
def test_an_agent_without_memory_closes_a_primary_and_says_why(host: VaultHost, lost: bool) -> None:
    host.start()
    host.order(Verb.OPEN, vault="c" * 32)
    kept = load(host.config.state_file)
    host.kill_agent()
    if lost:
        host.config.state_file.unlink()
    else:
        host.config.state_file.write_text("{")
    host.start(ready=False)
    report = host.wait_report(lambda report: report.database is not None and report.database.read_only)
    assert "memory" in report.quarantine
    assert "purge" in report.quarantine
    assert (report.order_kind, report.vault, report.epoch) == (OrderKind.NONE, "", 0)
    assert host.request("GET", "/primary", who="nobody")[0] == 503
    for verb, args in ((Verb.OPEN, {}), (Verb.FOLLOW, FOLLOW_NOBODY)):
        with pytest.raises(StepFailed):
            host.order(verb, args, vault="c" * 32)
    assert host.report().quarantine
    # As it was, for the next test.
    assert host.stop() == 0
    assert kept is not None
    save(host.config.state_file, replace(kept, epoch=host.epoch))
    host.start("--stop-database")
    host.stop()


FOLLOW_NOBODY = {
    "source_host": ADDRESS,
    "source_port": 1,
    "account": "vha_nobody",
    "source_binlog_state": "",
    "source_oldest_binlog": "",
    "truncate_tail": False,
}


def test_memory_that_cannot_be_written_is_one_clear_line(host: VaultHost) -> None:
    # A directory in the place of the scratch file: nobody, not even root, can write there.
    scratch = host.config.state_file.with_name("state.json.new")
    scratch.mkdir()
    host.config.state_file.unlink(missing_ok=True)
    try:
        done = host.run("serve")
    finally:
        scratch.rmdir()
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("vault-agent: the agent's state cannot be written to")
