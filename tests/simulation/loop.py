"""Virtual time: one queue of due steps, and an asyncio event loop per simulated process on top of it.

No step waits: the clock jumps to the next due step. Steps due at the same time run in the order of their creation, so a
run depends only on its seed. A process can be killed between any two steps (none of its tasks ever runs again, not even
its `finally`s) and be stopped for a while, as by SIGSTOP.

A call in a thread (`asyncio.to_thread`) is a series of requests to the store, each of which takes time. There are no
threads: the function runs up to a request and is abandoned there. It runs again from its beginning, with the answers so
far, when the next answer arrives. So a function in a thread must repeat the same requests.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
from asyncio import events
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

Step = Callable[[], object]


class Violation(AssertionError):
    """A broken invariant: the failure of a seed."""


class World:
    """The clock and the queue. `lines` is the trace, if one is kept."""

    def __init__(self, *, trace: bool = False) -> None:
        self.now_us = 0
        self.lines: list[str] | None = [] if trace else None
        self.broken: str | None = None
        """The first violation; the run ends with it."""
        self.steps = 0
        self._due: list[tuple[int, int, Process | None, Any]] = []
        self._count = 0

    @property
    def now_ms(self) -> int:
        return self.now_us // 1000

    def note(self, actor: str, text: str, *values: object) -> None:
        """Add a line to the trace; `text` is formatted with the values only if a trace is kept."""
        if self.lines is not None:
            self.lines.append(f"{self.now_us / 1e6:9.3f} {actor:<6} {text.format(*values)}")

    def violated(self, text: str) -> None:
        """Record a broken invariant."""
        self.note("!", "{}", text)
        self.broken = self.broken or text

    def later(self, delay_ms: float, step: Step) -> None:
        """Run a step of the world, which no process's death or pause affects."""
        self.push(self.now_us + round(delay_ms * 1000), None, step)

    def push(self, when_us: int, owner: Process | None, step: Any) -> None:
        self._count += 1
        heapq.heappush(self._due, (when_us, self._count, owner, step))

    def run_until(self, t_ms: float) -> None:
        """Run all steps that are due by then, or up to the first violation."""
        end_us = round(t_ms * 1000)
        due = self._due
        while due and due[0][0] <= end_us and self.broken is None:
            when_us, _, owner, step = heapq.heappop(due)
            self.now_us = max(self.now_us, when_us)
            self.steps += 1
            if owner is None:
                step()
            else:
                owner.run(step)
        if self.broken is None:
            self.now_us = max(self.now_us, end_us)


class Server(Protocol):
    """The server that answers requests of threads."""

    def submit(self, client: Process, name: str, args: tuple[Any, ...], answered: Callable[[bool, Any], None]) -> None:
        """Answer later, by `client.call_soon(answered, True, value)` or `(answered, False, error)`, or never."""


class Process(asyncio.AbstractEventLoop):
    """The event loop of one simulated process."""

    def __init__(self, world: World, name: str, server: Server, start_ms: Callable[[], float]) -> None:
        self.world, self.name, self.server = world, name, server
        self.alive = True
        self.after_steps: tuple[int, Callable[[], None]] | None = None
        """What happens to it after so many steps."""
        self.on_death: Callable[[], None] = lambda: None
        self.thread: _Thread | None = None
        self._start_ms = start_ms
        self._stopped: list[asyncio.Handle] | None = None
        self._tasks: list[asyncio.Task[Any]] = []

    # -- life and death ------------------------------------------------------------------------------------------------

    def run(self, handle: asyncio.Handle) -> None:
        """Run one step, unless the process is dead or stopped."""
        if not self.alive or handle.cancelled():
            return
        if self._stopped is not None:
            self._stopped.append(handle)
            return
        if self.after_steps is not None and self._happened(handle):
            return
        events._set_running_loop(self)
        try:
            handle._run()
        finally:
            events._set_running_loop(None)

    def _happened(self, handle: asyncio.Handle) -> bool:
        """Count a step; true if an armed event fired before it."""
        assert self.after_steps is not None
        left, happen = self.after_steps
        self.after_steps = (left - 1, happen)
        if left > 0:
            return False
        self.after_steps = None
        self.world.push(self.world.now_us, self, handle)  # It runs if the process continues.
        happen()
        return True

    def kill(self) -> None:
        if self.alive:
            self.alive = False
            self.on_death()

    def bury(self) -> None:
        """After the simulation: release the tasks that never ended."""
        self.kill()
        for task in self._tasks:
            if not task.done():
                with contextlib.suppress(RuntimeError):  # Awaits in their `finally`s never complete.
                    task.get_coro().close()  # type: ignore[union-attr]

    @property
    def stopped(self) -> bool:
        return self._stopped is not None

    def stop_running(self) -> None:
        """Stop the process as SIGSTOP does: due steps wait."""
        if self._stopped is None:
            self._stopped = []

    def go_on(self) -> None:
        """Continue it as SIGCONT does: all due steps run, in order."""
        waiting, self._stopped = self._stopped or [], None
        for handle in waiting:
            self.world.push(self.world.now_us, self, handle)

    # -- interface of an asyncio loop
    # ------------------------------------------------------------------------------------

    def time(self) -> float:
        return self.world.now_us / 1e6

    def call_soon(self, callback: Callable[..., object], *args: Any, context: Any = None) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        if self.alive:
            self.world.push(self.world.now_us, self, handle)
        return handle

    def call_soon_threadsafe(self, callback: Callable[..., object], *args: Any, context: Any = None) -> asyncio.Handle:
        return self.call_soon(callback, *args, context=context)

    def call_later(
        self, delay: float, callback: Callable[..., object], *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[..., object], *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        if self.alive:
            self.world.push(max(round(when * 1e6), self.world.now_us), self, handle)
        return handle

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Coroutine[Any, Any, Any], **more: Any) -> asyncio.Task[Any]:  # type: ignore[override]
        task = asyncio.Task(coro, loop=self, **more)
        if len(self._tasks) > 64:
            self._tasks = [t for t in self._tasks if not t.done()]
        self._tasks.append(task)  # Otherwise a dead process's tasks are collected, and their `finally`s run.
        return task

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        future = self.create_future()
        thread = _Thread(self, func, args, future)
        self.call_later(self._start_ms() / 1000, thread.go)
        return future

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if self.alive and isinstance(context.get("exception"), Exception):
            self.world.violated(f"{self.name}: {context['message']}: {context['exception']!r}")

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Cancelled timers stay queued, and do nothing when they are due."""

    # -- threads -------------------------------------------------------------------------------------------------------

    def ask(self, name: str, *args: Any) -> Any:
        """A request to the server, as a function in a thread makes it."""
        if self.thread is None:
            raise Violation(f"{self.name} asked the store on its event loop ({name}): that would stop everything else")
        return self.thread.ask(name, args)


class _Suspended(BaseException):
    """The function in the thread waits for an answer."""


class _Thread:
    """A call in a thread; the module describes it."""

    def __init__(self, process: Process, func: Callable[..., Any], args: Any, future: asyncio.Future[Any]) -> None:
        self._process, self._func, self._args, self._future = process, func, args, future
        self._answers: list[tuple[str, bool, Any]] = []
        self._at = 0

    def go(self) -> None:
        """Run up to the next request, or to the end."""
        self._at = 0
        self._process.thread = self
        try:
            result = self._func(*self._args)
        except _Suspended:
            return
        except Exception as error:
            if not self._future.cancelled():
                self._future.set_exception(error)
        else:
            if not self._future.cancelled():
                self._future.set_result(result)
        finally:
            self._process.thread = None

    def ask(self, name: str, args: tuple[Any, ...]) -> Any:
        if self._at == len(self._answers):
            self._process.server.submit(self._process, name, args, lambda ok, value: self._answered(name, ok, value))
            raise _Suspended
        expected, ok, value = self._answers[self._at]
        self._at += 1
        if expected != name:
            raise Violation(
                f"a function in a thread asked {name} where it had asked {expected}: it cannot be run in steps"
            )
        if ok:
            return value
        raise value

    def _answered(self, name: str, ok: bool, value: Any) -> None:
        self._answers.append((name, ok, value))
        self.go()
