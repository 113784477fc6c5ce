"""A pause of automatic failover over scripted agents: the lost primary waits, the end of the pause lets it be replaced at once."""

import asyncio
from dataclasses import replace

from replication.core import limits
from replication.core.roles import ProcessState, VaultState
from replication.core.view import SwitchoverWish
from tests.procedures.leading import A, B, story, until
from tests.procedures.world import Controller, Scene

PAUSED = "until somebody resumes it, by anna: moving the racks"


@story()
async def test_a_lost_primary_is_not_replaced_until_the_pause_is_over(scene: Scene, one: Controller) -> None:
    scene.paused = PAUSED
    await asyncio.sleep(1)
    scene["a"].set(process=ProcessState.DEAD)
    await asyncio.sleep(20)
    assert scene.row.primary == A
    assert scene.row.promotable == B, "it still is the one that may take over"
    assert scene.claims == 0
    assert f"nobody is promoted: automatic failover is paused {PAUSED}" in scene.reason
    scene.paused = ""
    assert await until(lambda: scene.row.primary == B, 2) < 1.0
    assert scene["b"].open


@story()
async def test_the_vault_stays_writable_when_its_acker_is_lost_meanwhile(scene: Scene, one: Controller) -> None:
    scene.paused = PAUSED
    await asyncio.sleep(1)
    scene["b"].set(process=ProcessState.DEAD)
    await until(lambda: scene.row.state is VaultState.SOLO, limits.ACKER_LOST_AFTER.total_seconds() + 3)
    assert scene.row.primary == A


@story()
async def test_a_switchover_by_hand_is_carried_out(scene: Scene, one: Controller) -> None:
    scene.paused = PAUSED
    await asyncio.sleep(1)
    scene.switchover = SwitchoverWish(operation="the wish", node=B)
    await until(lambda: scene.row.primary == B, 5)
    assert scene["b"].open


@story()
async def test_a_primary_that_comes_back_by_itself_goes_on_in_lossless_state(scene: Scene, one: Controller) -> None:
    scene.paused = PAUSED
    await asyncio.sleep(1)
    scene["a"].set(reachable=False, process=ProcessState.DEAD)
    await asyncio.sleep(10)
    scene["a"].set(reachable=True, process=ProcessState.UP)
    await asyncio.sleep(5)
    assert (scene.row.primary, scene.row.promotable, scene.claims) == (A, B, 0)


def test_a_view_is_paused_by_what_the_inventory_says() -> None:
    """The wiring: inventory → snapshot → view."""
    from datetime import timedelta

    from replication.core.snapshot import Snapshot, VaultConfig, view_of
    from tests.builders import topology

    config = VaultConfig(topology=topology(), paused=PAUSED)
    snapshot = Snapshot(vaults=(config,))
    for expected in (PAUSED, ""):
        view = view_of(
            replace(config, paused=expected), (), snapshot, acker_missing_for=timedelta(), high_water=0
        )  # fmt: skip
        assert view.paused == expected
