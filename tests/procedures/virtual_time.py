"""An event loop whose clock only moves when nothing else is left to do: minutes of waiting take milliseconds."""

import asyncio
import selectors
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, TypeVar

T = TypeVar("T")
MOST_ROUNDS = 20_000


class _SkippingSelector(selectors.SelectSelector):
    """Never waits: it tells the loop how long it would have."""

    loop: "VirtualLoop"
    busy = 0
    """Rounds since time last moved."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("everybody waits for ever: a liveness bug")
        self.busy = 0 if timeout > 0 else self.busy + 1
        if self.busy > MOST_ROUNDS:
            raise RuntimeError("something goes round and round and never waits: a hot loop")
        self.loop.now += max(timeout, 0.0)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.now = 1000.0
        selector = _SkippingSelector()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        return self.now

    def run_in_executor(self, *_: Any) -> Any:
        raise RuntimeError("threads have no place in virtual time")


class VirtualClock:
    """Adapter of core.ports.Clock."""

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    async def sleep(self, duration: timedelta) -> None:
        await asyncio.sleep(duration.total_seconds())


def play(story: Callable[[], Awaitable[T]]) -> T:
    """Run a coroutine function from beginning to end in virtual time."""
    loop = VirtualLoop()

    async def main() -> T:
        try:
            return await story()
        finally:
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

    try:
        return loop.run_until_complete(main())
    finally:
        loop.close()
