"""Few threads parse the bodies of all senders, in turn: one sender's costly bodies delay its own next ones only.

A parser holds the interpreter for most of its time. With more threads, bodies would be parsed no sooner, the objects of
more of them would be in memory at once, and the event loop would wait longer for its turn.

Python's cyclic collector runs between bodies, not within one: a collection visits every object of a body, most of a
million, and holds the interpreter for 200 ms meanwhile. Reference counts free them all the same.
"""

from __future__ import annotations

import asyncio
import gc
from collections import OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

THREADS = 2
"""Bodies parsed at once."""
BODIES_PER_COLLECTION = 32
"""Bodies after which the parsers pause for a collection, where some were under way all the time."""

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class ParserPool:
    """Threads of one event loop, and the calls that wait for them. A caller bounds how many may wait."""

    def __init__(self, threads: int = THREADS) -> None:
        self._free = self._count = threads
        self._uncollected = 0
        """Bodies since the last time that no parser ran."""
        self._threads = ThreadPoolExecutor(threads, "parser")
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        """By sender, the next one's turn first."""

    async def run(
        self, sender: str, function: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs
    ) -> Result:
        """Return what the function returns, which runs in a thread when it is this sender's turn. Raises its error."""
        loop = asyncio.get_running_loop()
        if self._free and self._uncollected < BODIES_PER_COLLECTION:
            self._begin()
        else:
            turn: asyncio.Future[None] = loop.create_future()
            self._waiting.setdefault(sender, deque()).append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self._give_back()
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
        self._give_back()

    def _begin(self) -> None:
        self._free -= 1
        self._uncollected += 1
        gc.disable()

    def _give_back(self) -> None:
        """Free a thread. It goes to the next sender in turn, unless the parsers pause for a collection."""
        self._free += 1
        if self._free == self._count:
            gc.enable()
            if self._uncollected >= BODIES_PER_COLLECTION:
                gc.collect()
            self._uncollected = 0
        while self._free and self._waiting and self._uncollected < BODIES_PER_COLLECTION:
            sender, turns = self._waiting.popitem(last=False)
            turn = turns.popleft()
            if turns:
                self._waiting[sender] = turns
            if not turn.done():
                self._begin()
                turn.set_result(None)
