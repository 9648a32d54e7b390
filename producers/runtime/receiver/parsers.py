"""Few threads parse the bodies of all senders, in turn: one sender's costly bodies delay its own next ones only.

A parser holds the interpreter for most of its time. With more threads, bodies would be parsed no sooner, the objects of
more of them would be in memory at once, and the event loop would wait longer for its turn.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

THREADS = 2
"""Bodies parsed at once."""

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class ParserPool:
    """Threads of one event loop, and the calls that wait for them. A caller bounds how many may wait."""

    def __init__(self, threads: int = THREADS) -> None:
        self._free = threads
        self._threads = ThreadPoolExecutor(threads, "parser")
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        """By sender, the next one's turn first."""

    async def run(
        self, sender: str, function: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs
    ) -> Result:
        """Return what the function returns, which runs in a thread when it is this sender's turn. Raises its error."""
        loop = asyncio.get_running_loop()
        if self._free:
            self._free -= 1
        else:
            turn: asyncio.Future[None] = loop.create_future()
            self._waiting.setdefault(sender, deque()).append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self._pass_on()
                raise
        call = loop.run_in_executor(self._threads, lambda: function(*args, **kwargs))
        call.add_done_callback(self._end)
        try:
            return await asyncio.shield(call)  # A thread goes on when its client is gone; its place is taken till then.
        finally:
            del call  # An error, its traceback and this call would keep each other in memory, and the body with them.

    def _end(self, call: asyncio.Future[Any]) -> None:
        if not call.cancelled():
            call.exception()  # Nobody may be left to ask for it.
        self._pass_on()

    def _pass_on(self) -> None:
        """Give a free thread to the next sender in turn."""
        while self._waiting:
            sender, turns = self._waiting.popitem(last=False)
            turn = turns.popleft()
            if turns:
                self._waiting[sender] = turns
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1
