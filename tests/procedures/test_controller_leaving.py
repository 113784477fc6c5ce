"""Taking nodes out, over scripted agents.

Proves: nobody waits for who leaves; who does not answer is locked out at the primary, and noted as such first; a deleted node
keeps its row until it has heard.
"""

import pytest

from replication.core.commands import Verb
from replication.core.errors import ReplicationError
from replication.core.plan import ActionKind
from replication.procedures.controller import following
from tests.builders import id_of
from tests.procedures.virtual_time import play
from tests.procedures.world import Controller, Scene

B, C = id_of("b"), id_of("c")


@pytest.mark.parametrize("name", ["b", "c"], ids=["the acker", "another"])
@pytest.mark.parametrize("removed", [False, True], ids=["made inactive", "deleted"])
def test_a_node_is_taken_out(name: str, removed: bool) -> None:
    async def story() -> None:
        scene = Scene("a", "b", "c")
        scene.lossless_pair("c")
        scene.wish(name, active=False, removed=removed)
        action = await Controller(scene).one_step()
        assert action is not None
        assert action.kind is ActionKind.DETACH
        assert scene[name].source == ""
        assert id_of(name) not in scene.row.may_ack
        if name == "b":
            assert scene.verbs()[0] == (Verb.SOLO, "a"), "nobody waits for who leaves"
            assert scene.row.promotable == ""
        else:
            assert scene.row.promotable == B, "the vault stays lossless"
        if removed:
            assert id_of(name) not in scene.nodes
            assert scene[name].vault == ""
        else:
            assert scene.nodes[id_of(name)].detached

    play(story)


def test_a_node_that_never_joined_leaves_without_a_word() -> None:
    async def story() -> None:
        scene = Scene("a", "b", "c")
        scene.lossless_pair()
        scene.wish("c", active=False)
        scene["c"].set(reachable=False)
        await Controller(scene).one_step()
        assert scene.sent == []
        assert scene.nodes[C].detached

    play(story)


def test_detaching_who_does_not_answer_notes_it_and_locks_it_out() -> None:
    async def story() -> None:
        scene = Scene("a", "b", "c")
        scene.lossless_pair("c")
        scene.wish("c", active=False)
        scene["c"].set(reachable=False)
        await Controller(scene).one_step()
        (lock,) = scene.sent
        assert (lock.verb, lock.node) == (Verb.LOCK_OUT, "a")
        assert C in lock.locked_out, "noted before it is done"
        assert not scene["c"].streams
        assert (scene.nodes[C].detached, scene.nodes[C].locked_out) == (True, True)

    play(story)


def test_the_lock_out_of_an_acker_that_does_not_answer() -> None:
    """The only fallback is unplugged and made inactive: writes go on, and it can never acknowledge again unseen."""

    async def story() -> None:
        scene = Scene("a", "b")
        scene.lossless_pair()
        scene.wish("b", active=False)
        scene["b"].set(reachable=False)
        await Controller(scene).one_step()
        assert [v for v, _ in scene.verbs()] == [Verb.SOLO, Verb.LOCK_OUT]
        assert not scene["b"].streams
        assert (scene.row.promotable, scene.row.may_ack) == ("", frozenset())

    play(story)


def test_a_deleted_node_that_comes_back_is_told_to_forget() -> None:
    async def story() -> None:
        scene = Scene("a", "b", "c")
        scene.lossless_pair("c")
        scene.wish("c", active=False, removed=True)
        scene["c"].set(reachable=False)
        one = Controller(scene)
        await one.one_step()
        assert C in scene.nodes, "its row stays until it has heard"
        assert await one.one_step() is None
        scene["c"].set(reachable=True)
        action = await one.one_step()
        assert action is not None
        assert action.kind is ActionKind.FORGET
        assert C not in scene.nodes
        assert scene["c"].vault == ""

    play(story)


def test_a_server_that_has_moved_on_is_not_told_anything() -> None:
    """Deleted here, purged by hand and added again elsewhere: its agent is another node's now."""

    async def story() -> None:
        scene = Scene("a", "b", "c")
        scene.lossless_pair("c")
        scene["c"].set(member="9" * 32)
        scene.wish("c", active=False, removed=True)
        await Controller(scene).one_step()
        assert scene.sent == []
        assert C not in scene.nodes

    play(story)


def test_a_deleted_node_that_goes_again_before_it_was_told_keeps_its_row() -> None:
    async def story() -> None:
        scene = Scene("a", "b", "c")
        scene.lossless_pair("c")
        scene.wish("c", active=False, removed=True)
        scene["c"].set(reachable=False)
        one = Controller(scene)
        await one.one_step()
        scene["c"].set(reachable=True)
        seen = one.procedure()
        scene["c"].set(reachable=False, unreachable_kind="refused")
        with pytest.raises(ReplicationError, match="gone again"):
            await following.forget(seen, C)
        assert C in scene.nodes

    play(story)


def test_a_node_that_is_silent_is_taken_out_without_waiting_for_it() -> None:
    async def story() -> None:
        scene = Scene("a", "b", "c")
        scene.lossless_pair("c")
        scene.wish("c", active=False)
        scene["c"].set(reachable=False)
        began = scene.clock.monotonic()
        await Controller(scene).one_step()
        assert scene.nodes[C].detached
        assert scene.clock.monotonic() - began < 1.0

    play(story)
