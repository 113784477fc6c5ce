"""Virtual time: blocking code and coroutines share one clock; a program freezes and dies as a process does; same seed, same run.

A kernel that lets a dead program do one thing more, or runs two seeds alike, would make every other result worthless.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from tests.simulation.kernel import Deadlock, Kernel, Program, Signal


def play(story: Callable[[Kernel, list[Any]], Coroutine[Any, Any, None]], seed: int = 1) -> list[Any]:
    """What the story wrote into its list."""
    kernel, seen = Kernel(seed), []
    kernel.run(story(kernel, seen))
    assert not kernel.faults
    return seen


def ticks(kernel: Kernel, program: Program, seen: list[Any]) -> None:
    """Every 100 ms a coroutine and a blocking thread of the program write down the time."""

    async def coroutine() -> None:
        while True:
            await asyncio.sleep(0.1)
            seen.append(("coroutine", round(kernel.now - 1000, 3)))

    def thread() -> None:
        while True:
            kernel.block(0.1)
            seen.append(("thread", round(kernel.now - 1000, 3)))

    program.spawn(coroutine())
    program.run(thread)


def test_blocking_code_and_coroutines_share_the_clock() -> None:
    async def story(kernel: Kernel, seen: list[Any]) -> None:
        ticks(kernel, kernel.program("p"), seen)
        await asyncio.sleep(0.25)

    seen = play(story)
    assert sorted(seen) == [("coroutine", 0.1), ("coroutine", 0.2), ("thread", 0.1), ("thread", 0.2)]


def test_a_killed_program_does_nothing_more() -> None:
    async def story(kernel: Kernel, seen: list[Any]) -> None:
        program = kernel.program("p")

        async def careful() -> None:
            try:
                await asyncio.sleep(5)
            finally:
                seen.append("a finally ran")

        program.spawn(careful())
        ticks(kernel, program, seen)
        await asyncio.sleep(0.15)
        program.kill()
        seen.append("killed")
        await asyncio.sleep(10)
        seen.append("end")

    seen = play(story)
    assert seen[2:4] == ["killed", "end"], "between its death and the end of the world it is silent"


def test_a_frozen_program_finds_everything_overdue() -> None:
    async def story(kernel: Kernel, seen: list[Any]) -> None:
        program = kernel.program("p")
        ticks(kernel, program, seen)
        await asyncio.sleep(0.15)
        program.freeze()
        seen.clear()
        await asyncio.sleep(1.0)
        assert not seen
        program.thaw()
        await asyncio.sleep(0.05)

    assert sorted(play(story)) == [("coroutine", 1.15), ("thread", 1.15)]


def test_an_answer_that_came_while_frozen_is_there_afterwards() -> None:
    async def story(kernel: Kernel, seen: list[Any]) -> None:
        program = kernel.program("p")
        answer: asyncio.Future[str] = kernel.create_future()

        async def wait() -> None:
            seen.append(await answer)

        program.spawn(wait())
        await asyncio.sleep(0.1)
        program.freeze()
        answer.set_result("late")
        await asyncio.sleep(1)
        assert not seen
        program.thaw()
        await asyncio.sleep(0.01)

    assert play(story) == ["late"]


@pytest.mark.parametrize(("fires_at", "ends_at", "held"), [(0.2, 0.2, True), (5.0, 1.0, False)])
def test_a_condition_is_waited_for_until_the_deadline(fires_at: float, ends_at: float, held: bool) -> None:
    async def story(kernel: Kernel, seen: list[Any]) -> None:
        signal, happened = Signal(), []

        def happen() -> None:
            happened.append(True)
            signal.fire()

        def wait() -> None:
            began = kernel.now
            held = kernel.block_until(lambda: happened, began + 1.0, signal)
            seen.append((held, round(kernel.now - began, 3)))

        kernel.call_later(fires_at, happen)
        kernel.call_later(0.1, signal.fire)  # in vain
        kernel.program("p").run(wait)
        await asyncio.sleep(3)

    assert play(story) == [(held, ends_at)]


def test_a_coroutine_waits_for_blocking_code_and_gets_what_it_returns() -> None:
    async def story(kernel: Kernel, seen: list[Any]) -> None:
        def slow(a: int) -> int:
            kernel.block(2)
            return a + 1

        async def ask() -> None:
            seen.append(await kernel.in_greenlet(slow, 1))

        await kernel.program("p").spawn(ask())

    assert play(story) == [2]


def test_everybody_waiting_for_ever_is_a_failure() -> None:
    kernel = Kernel(1)

    async def forever() -> None:
        await kernel.create_future()

    with pytest.raises(Deadlock, match="for ever"):
        kernel.run(forever())


def test_somebody_never_waiting_is_a_failure() -> None:
    kernel = Kernel(1)

    async def hot() -> None:
        while True:
            await asyncio.sleep(0)

    with pytest.raises(Deadlock, match="never waits"):
        kernel.run(hot())


def test_an_exception_of_ours_is_kept() -> None:
    kernel = Kernel(1)

    async def breaks() -> None:
        raise ValueError("a fault of ours")

    async def main() -> None:
        kernel.program("p").spawn(breaks())
        await asyncio.sleep(1)

    kernel.run(main())
    assert ["a fault of ours" in fault for fault in kernel.faults] == [True]


def test_the_seed_decides_the_order_of_what_is_ready_at_once() -> None:
    async def story(kernel: Kernel, seen: list[Any]) -> None:
        async def write(n: int) -> None:
            await asyncio.sleep(0.1)
            seen.append(n)

        for n in range(8):
            kernel.program(str(n)).spawn(write(n))
        await asyncio.sleep(1)

    assert play(story, 1) == play(story, 1)
    assert len({tuple(play(story, seed)) for seed in range(20)}) > 10
