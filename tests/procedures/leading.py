"""A leader over scripted agents in virtual time: `@story()` makes a test of what happens after five quiet seconds."""

import asyncio
from collections.abc import Awaitable, Callable
from itertools import count

from replication.procedures.controller.heartbeat import Heartbeat
from tests.builders import id_of
from tests.procedures.virtual_time import play
from tests.procedures.world import Controller, Scene

A, B, C = id_of("a"), id_of("b"), id_of("c")


def pair(*followers: str) -> Scene:
    scene = Scene("a", "b", *followers)
    scene.lossless_pair(*followers)
    return scene


def lead(controller: Controller) -> Heartbeat:
    """Start the service of this process."""
    ids = count()
    heartbeat = Heartbeat(controller.world, controller, controller, lambda: f"operation {next(ids)}")
    controller.heartbeat = heartbeat  # type: ignore[attr-defined]  # for tests that look inside
    controller.task = asyncio.ensure_future(heartbeat.run())  # type: ignore[attr-defined]  # for `put_down`
    return heartbeat


async def put_down(controller: Controller) -> None:
    controller.task.cancel()  # type: ignore[attr-defined]  # set by `lead`
    await asyncio.gather(controller.task, return_exceptions=True)  # type: ignore[attr-defined]  # set by `lead`


async def until(condition: Callable[[], object], within: float, what: str = "") -> float:
    """Seconds of virtual time until the condition holds."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    while not condition():
        assert loop.time() - began < within, f"not within {within} s: {what}"
        await asyncio.sleep(0.005)
    return loop.time() - began


def story(
    scenes: Callable[[], Scene] = pair,
) -> Callable[[Callable[[Scene, Controller], Awaitable[None]]], Callable[[], None]]:
    """A test whose scene has been watched by a leader for five seconds."""

    def decorate(told: Callable[[Scene, Controller], Awaitable[None]]) -> Callable[[], None]:
        def test() -> None:
            async def play_it() -> None:
                scene = scenes()
                one = Controller(scene)
                lead(one)
                await asyncio.sleep(5)
                await told(scene, one)
                if not one.dead and not one.task.done():  # type: ignore[attr-defined]  # set by `lead`
                    await put_down(one)

            play(play_it)

        test.__doc__ = told.__doc__
        return test

    return decorate
