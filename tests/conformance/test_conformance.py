"""The simulated mariadbd behaves as the real one, in everything that the vault rests on.

Proves: each story ends the same with real servers, with simulated ones, and as it is written beside it; a simulated server from
which one trap was taken away is told from a real one.
"""

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final

import pytest

from replication.core.vault_ports import Database, Firewall, Process
from tests.conformance import (  # noqa: F401  # they register their stories
    stories_end,
    stories_node,
    stories_replica,
    stories_sources,
    stories_streams,
    stories_waiting,
)
from tests.conformance.fake import play
from tests.conformance.real import RealWorlds
from tests.conformance.script import STORIES, Found, Story
from tests.simulation.mariadbd import FakeFirewall, FakeProcess, Run
from tests.simulation.mariadbd_commit import Pipeline
from tests.simulation.mariadbd_relay import ReplicaDisk
from tests.simulation.mariadbd_replication import Replication
from tests.simulation.mariadbd_session import Session
from tests.simulation.mariadbd_storage import Start, Storage
from tests.simulation.mariadbd_stream import Stream

AT_A_TIME: Final = 5
"""Worlds of real servers at the same time: most of a story is waiting."""
SEEDS: Final = range(3)


@pytest.fixture(scope="module")
def real(request: pytest.FixtureRequest) -> Iterator[Callable[[str], Found]]:
    """What a story finds with real servers. All are begun at once: together they take as long as the processors do."""
    if os.geteuid() != 0 or not shutil.which("nft", path="/usr/sbin:/sbin"):
        pytest.skip("real servers are cut off from each other in network namespaces, which needs root and nft")
    with contextlib.ExitStack() as stack, ThreadPoolExecutor(AT_A_TIME) as pool:
        free = [stack.enter_context(RealWorlds()) for _ in range(AT_A_TIME)]

        def tell(story: Story) -> Found:
            worlds = free.pop()
            try:
                with worlds.world(story.servers) as world:
                    return story.tell(world)
            finally:
                free.append(worlds)

        # The longest first, so that none is left alone at the end.
        order = sorted(_chosen(request.session), key=lambda name: (name not in LONG, name))
        told: dict[str, Future[Found]] = {name: pool.submit(tell, STORIES[name]) for name in order}
        yield lambda name: told[name].result()
        for future in told.values():
            future.cancel()


def _chosen(session: pytest.Session) -> set[str]:
    """Names of the stories whose tests are to be run."""
    tests = [item for item in session.items if isinstance(item, pytest.Function)]
    return {test.callspec.params["name"] for test in tests if test.originalname == test_real_servers.__name__}


LONG: Final = frozenset(
    {"a_source_falls_silent", "threads_that_throw_away", "a_flushed_tail_stays", "stopping_a_receiver"}
)


@pytest.mark.parametrize("name", STORIES)
def test_simulated_servers(name: str) -> None:
    story = STORIES[name]
    for seed in SEEDS:
        assert play(story.tell, story.servers, seed=seed) == story.ends


@pytest.mark.parametrize("name", STORIES)
def test_real_servers(real: Callable[[str], Found], name: str) -> None:
    assert real(name) == STORIES[name].ends


@pytest.mark.parametrize(
    ("port", "simulated"),
    [(Database, Session), (Process, FakeProcess(None)), (Firewall, FakeFirewall(None, armed=True))],
)
def test_every_call_of_a_port_is_there(port: type, simulated: object) -> None:
    assert [name for name in vars(port) if not name.startswith("_") and not hasattr(simulated, name)] == []


# --- a comparison that can fail ---------------------------------------------------------------------------------------


def _keeps_its_relay_log(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ReplicaDisk, "throw_away", lambda self: None)


def _closes_while_a_commit_hangs(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Pipeline, "idle", property(lambda self: True))


def _acknowledges_what_it_had(patch: pytest.MonkeyPatch) -> None:
    accept = Replication.accept

    def accepting(self: Replication, *args: Any) -> None:
        accept(self, *args)
        if self.streams:
            self.run.pipeline.acknowledge(self.streams[-1]._next)

    patch.setattr(Replication, "accept", accepting)


def _serves_any_position(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Storage, "start_of", lambda self, position: Start(len(self.log)))


def _starts_open(patch: pytest.MonkeyPatch) -> None:
    begin = Run.__init__

    def beginning(self: Run, *args: Any) -> None:
        begin(self, *args)
        self.pipeline.read_only = False

    patch.setattr(Run, "__init__", beginning)


def _flushes_every_commit(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Storage, "crash", lambda self, now, rng: setattr(self, "durable", self.committed))


def _hears_a_frozen_source(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Stream, "_live", property(lambda self: self.source_open))


@pytest.mark.parametrize(
    ("break_it", "caught_by"),
    [
        (_keeps_its_relay_log, "threads_that_throw_away"),
        (_closes_while_a_commit_hangs, "read_only_hangs_behind_a_commit"),
        (_acknowledges_what_it_had, "an_acknowledgement_that_was_lost"),
        (_serves_any_position, "diverged"),
        (_starts_open, "a_start_is_closed"),
        (_flushes_every_commit, "a_tail_is_cut_off"),
        (_hears_a_frozen_source, "a_source_falls_silent"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__.strip("_").replace("_", " "),
)
def test_a_broken_server_is_told_from_a_real_one(
    break_it: Callable[[pytest.MonkeyPatch], None], caught_by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    story = STORIES[caught_by]
    break_it(monkeypatch)
    try:
        found = play(story.tell, story.servers)
    except AssertionError:  # it did not even come to its beginning
        return
    assert found != story.ends
