"""Virtual time for a whole vault in one thread: an event loop that never waits, programs that can be frozen and killed,
and greenlets for code that blocks.

Same seed, same run: time moves only when nobody has anything left to do, what is ready at the same moment runs in a seeded
order, and nothing reads a real clock, a socket or a thread. When everybody waits for ever that is a failure by itself.

A *program* is one operating system process of the simulated world (an agent, a controller, a mariadbd, a client). All its
tasks, timers and greenlets belong to it. A frozen program does nothing and finds everything overdue when it is thawed, as
after SIGSTOP and SIGCONT. A killed one never runs again: not a line, not a `finally`.
"""

import asyncio
import contextlib
import random
import traceback
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar
from heapq import heappop, heappush
from typing import Any, TypeVar

from greenlet import GreenletExit, getcurrent, greenlet

T = TypeVar("T")
MOST_AT_ONCE = 20_000
"""Callbacks at one moment of virtual time: more is a loop that never waits."""

_owner: ContextVar["Program | None"] = ContextVar("owner", default=None)


class Gone(BaseException):
    """Raised into whatever still runs when the simulated world is taken down."""


class Deadlock(Exception):
    """Everybody waits for ever, or somebody never waits."""


class Timer:
    """What call_soon and call_later return. `cancel()` is all that anybody needs of it."""

    __slots__ = ("args", "at", "callback", "context", "program")

    def __init__(
        self, at: float, program: "Program | None", callback: Callable[..., object], args: tuple[Any, ...], context: Any
    ) -> None:
        self.at, self.program, self.callback, self.args, self.context = at, program, callback, args, context

    def cancel(self) -> None:
        self.callback = _nothing
        self.args = ()

    def cancelled(self) -> bool:
        return self.callback is _nothing

    def when(self) -> float:
        return self.at

    def __lt__(self, other: "Timer") -> bool:
        return self.at < other.at


def _nothing() -> None:
    pass


class Signal:
    """Something may have changed: wakes every greenlet that waits for a condition on it."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: list[Callable[[], None]] = []

    def fire(self) -> None:
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            for wake in waiting:
                wake()

    def _add(self, wake: Callable[[], None]) -> None:
        self._waiting.append(wake)


class Program:
    """One process of the simulated world. `on_death` is called once, when it is killed."""

    def __init__(self, kernel: "Kernel", name: str) -> None:
        self.kernel, self.name = kernel, name
        self.alive, self.frozen = True, False
        self.runs_since = kernel.now
        self.context = Context()
        self.context.run(_owner.set, self)
        self._deferred: list[Timer] = []
        self._greenlets: list[greenlet] = []
        kernel.programs.append(self)

    def spawn(self, work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        """A task of this program. What it raises, unless cancelled, is a fault of ours and fails the run."""
        task: asyncio.Task[T] = self.kernel.create_task(work, context=self.context)
        task.add_done_callback(self._check)
        return task

    def _check(self, task: "asyncio.Task[Any]") -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self.kernel.fault(self.name, "".join(traceback.format_exception(error)))

    def run(self, function: Callable[..., T], *args: Any) -> "asyncio.Future[T]":
        """Blocking code of this program on a greenlet of its own, as on a thread; the future gets what it returns. What it
        raises fails the run."""
        kernel = self.kernel
        done: asyncio.Future[T] = kernel.create_future()

        def body() -> None:
            try:
                result = function(*args)
            except (Gone, GreenletExit):
                return
            except Exception as error:
                kernel.fault(self.name, traceback.format_exc())
                if not done.done():
                    done.set_exception(error)
                    done.exception()
            else:
                if not done.done():
                    done.set_result(result)

        thread = greenlet(body, kernel.hub)
        thread.gr_context = self.context
        self._greenlets = [g for g in self._greenlets if not g.dead]
        self._greenlets.append(thread)
        kernel.soon(self, thread.switch)
        return done

    def freeze(self) -> None:
        self.frozen = True

    def thaw(self) -> None:
        if self.frozen:
            self.runs_since = self.kernel.now
        self.frozen = False
        if self.alive:
            self.kernel.ready.extend(self._deferred)
        self._deferred.clear()

    def kill(self) -> None:
        self.alive = False
        self._deferred.clear()

    def defer(self, timer: Timer) -> None:
        self._deferred.append(timer)

    def take_down(self) -> None:
        """End its greenlets; the kernel is closing, so whatever they still call raises Gone."""
        for thread in self._greenlets:
            if not thread.dead:
                thread.parent = getcurrent()
                with contextlib.suppress(Gone, GreenletExit):
                    thread.throw(Gone)
        self.alive, self.frozen = True, False


class Kernel(asyncio.AbstractEventLoop):
    """The loop and the clock. `now` is in seconds; `rng` orders what is ready and is everybody's source of chance."""

    def __init__(self, seed: int | str) -> None:
        self.rng = random.Random(seed)
        self.now = 1000.0
        self.ready: deque[Timer] = deque()
        self.heap: list[tuple[float, int, Timer]] = []
        self.current: Program | None = None
        self.programs: list[Program] = []
        self.hub = getcurrent()
        self.faults: list[str] = []
        """Tracebacks of our own code: each one fails the run."""
        self.events = 0
        self._sequence = 0
        self._closing = False
        self._base = Context()
        self._tasks: list[asyncio.Task[Any]] = []
        self._prune_at = 200

    # --- for everybody in the simulated world ---------------------------------------------------------------------

    def program(self, name: str) -> Program:
        return Program(self, name)

    def block(self, seconds: float) -> None:
        """Inside a greenlet: let virtual time pass."""
        if self._closing:
            raise Gone
        me = getcurrent()
        assert me is not self.hub, "only blocking code on a greenlet may block"
        self._later(self.now + seconds, self.current, me.switch, ())
        self._suspend()

    def block_until(self, condition: Callable[[], object], deadline: float | None, signal: Signal) -> bool:
        """Inside a greenlet: until the condition holds, looked at whenever `signal` fires and at the deadline.

        deadline: a moment of `now`, None for none. Returns whether the condition holds.
        """
        me, program = getcurrent(), self.current
        while not condition():
            if self._closing:
                raise Gone
            if deadline is not None and self.now >= deadline:
                return False
            woken: list[bool] = []

            def wake(woken: list[bool] = woken) -> None:
                if not woken:
                    woken.append(True)
                    self.soon(program, me.switch)

            signal._add(wake)
            timer = None if deadline is None else self._later(deadline, program, wake, ())
            self._suspend()
            if timer is not None:
                timer.cancel()
        return True

    async def in_greenlet(self, function: Callable[..., T], *args: Any) -> T:
        """From a coroutine: run blocking code as a thread of the same program would."""
        assert self.current is not None, "blocking code belongs to a program"
        return await self.current.run(function, *args)

    def soon(self, program: Program | None, callback: Callable[..., object], *args: Any) -> Timer:
        """As call_soon, for a given program (None: the world itself, which is never frozen)."""
        timer = Timer(self.now, program, callback, args, None)
        self.ready.append(timer)
        return timer

    def later(self, delay: float, program: Program | None, callback: Callable[..., object], *args: Any) -> Timer:
        """As call_later, for a given program (None: the world itself)."""
        return self._later(self.now + delay, program, callback, args)

    def perish(self) -> None:
        """Inside a greenlet of a program that was just killed: not a line more of it runs."""
        self.hub.switch()
        raise Gone

    def fault(self, where: str, text: str) -> None:
        if not self._closing:
            self.faults.append(f"{where}: {text}")

    def _suspend(self) -> None:
        mine = self.current
        self.hub.switch()
        self.current = mine
        if self._closing:
            raise Gone

    # --- running --------------------------------------------------------------------------------------------------

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """Run the world until `main` (which belongs to no program) ends, then take everything down."""
        events._set_running_loop(self)
        try:
            task = self.create_task(main, context=self._base)
            self._turn(task.done)
            return task.result()
        finally:
            try:
                self._take_down()
            finally:
                events._set_running_loop(None)

    def _turn(self, over: Callable[[], bool]) -> None:
        ready, heap, chance = self.ready, self.heap, self.rng.random
        busy = 0
        while not over():
            if not ready:
                while heap and heap[0][2].callback is _nothing:
                    heappop(heap)
                if not heap:
                    raise Deadlock("everybody waits for ever")
                at = heap[0][0]
                if at > self.now:
                    self.now, busy = at, 0
                while heap and heap[0][0] <= self.now:
                    ready.append(heappop(heap)[2])
            if len(ready) > 1:
                batch = list(ready)
                ready.clear()
                self._shuffle(batch, chance)
            else:
                batch = [ready.popleft()]
            busy += len(batch)
            if busy > MOST_AT_ONCE:
                raise Deadlock(f"something never waits: {batch[0].callback!r} of {_name(batch[0].program)}")
            for timer in batch:
                program = timer.program
                if program is not None:
                    if not program.alive:
                        continue
                    if program.frozen:
                        program.defer(timer)
                        continue
                self.events += 1
                self.current = program
                if timer.context is not None:
                    timer.context.run(timer.callback, *timer.args)
                else:
                    timer.callback(*timer.args)
        self.current = None

    @staticmethod
    def _shuffle(batch: list[Timer], chance: Callable[[], float]) -> None:
        for i in range(len(batch) - 1, 0, -1):
            j = int(chance() * (i + 1))
            batch[i], batch[j] = batch[j], batch[i]

    def _take_down(self) -> None:
        """End all that is left, without any effect on a world that is over: every port raises Gone or does nothing."""
        self._closing = True
        self.heap.clear()
        self.ready.clear()
        for program in self.programs:
            program.take_down()
        for _ in range(100):
            left = [t for t in self._tasks if not t.done()]
            if not left:
                break
            for task in left:
                task.cancel()
            while self.ready:
                timer = self.ready.popleft()
                self.current = timer.program
                (timer.context or self._base).run(timer.callback, *timer.args)
            self.heap.clear()
        for task in self._tasks:
            if task.done() and not task.cancelled():
                task.exception()
            elif not task.done():  # its program died before its first step
                task._log_destroy_pending = False  # type: ignore[attr-defined]
                with contextlib.suppress(RuntimeError):
                    task.get_coro().close()  # type: ignore[union-attr]

    # --- what asyncio needs ---------------------------------------------------------------------------------------

    def time(self) -> float:
        return self.now

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def create_future(self) -> "asyncio.Future[Any]":
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, *, name: str | None = None, context: Context | None = None) -> "asyncio.Task[Any]":
        if context is None:
            context = self.current.context if self.current is not None else self._base
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=self, context=context)
        self._tasks.append(task)
        if len(self._tasks) > self._prune_at:
            self._tasks = [t for t in self._tasks if not t.done()]
            self._prune_at = 2 * len(self._tasks) + 100
        return task

    def call_soon(self, callback: Any, *args: Any, context: Context | None = None) -> Any:
        program = self.current if context is None else context.get(_owner)
        timer = Timer(self.now, program, callback, args, context)
        self.ready.append(timer)
        return timer

    def call_later(self, delay: float, callback: Any, *args: Any, context: Context | None = None) -> Any:
        program = self.current if context is None else context.get(_owner)
        return self._later(self.now + delay, program, callback, args)

    def call_at(self, when: float, callback: Any, *args: Any, context: Context | None = None) -> Any:
        program = self.current if context is None else context.get(_owner)
        return self._later(when, program, callback, args)

    def _later(self, at: float, program: Program | None, callback: Any, args: tuple[Any, ...]) -> Timer:
        timer = Timer(at, program, callback, args, None)
        self._sequence += 1
        heappush(self.heap, (at, self._sequence, timer))
        return timer

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        error = context.get("exception")
        text = "".join(traceback.format_exception(error)) if error is not None else ""
        self.fault("asyncio", f"{context.get('message')}\n{text}")

    def run_in_executor(self, *_: Any) -> Any:
        raise RuntimeError("threads have no place in virtual time")


def _name(program: Program | None) -> str:
    return program.name if program is not None else "the world"
