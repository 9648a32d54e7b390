"""Limit on the time for which a call that blocks may hold up its caller."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, wait
from typing import TypeVar

from contracts.errors import Unavailable

Result = TypeVar("Result")


class OverTimeError(Exception):
    """A call did not end within its limit."""


class TimeLimit:
    """Runs each call in a thread of its own and waits `max_s` seconds for its end.

    Timeouts of HTTP clients and database drivers bound single reads. A server that sends a byte at a time, or a name
    server that does not answer, stays below each of them for ever. A call that is over time is left to its daemon
    thread. Until that ends, no other call of the same name begins, so names bound the number of such threads.
    """

    def __init__(self, max_s: float) -> None:
        self.max_s = max_s
        self._late: dict[str, threading.Thread] = {}

    def run(self, name: str, call: Callable[[], Result]) -> Result:
        """Return or raise what the call does. Raises OverTimeError if it or an earlier one of its name is over time."""
        if (late := self._late.get(name)) is not None and late.is_alive():
            raise OverTimeError("an earlier answer has not ended yet")
        outcome: Future[Result] = Future()
        thread = threading.Thread(target=_run, args=(call, outcome), name=f"call {name}", daemon=True)
        thread.start()
        if not wait((outcome,), self.max_s).done:
            self._late[name] = thread
            raise OverTimeError(f"no whole answer within {self.max_s:g} s")
        self._late.pop(name, None)
        return outcome.result()

    def read_body(
        self, chunks: Iterable[bytes], too_large: Unavailable, *, max_bytes: int, end_s: float,
        now_s: Callable[[], float] = time.monotonic,
    ) -> bytes:  # fmt: skip
        """Return a body, read chunk by chunk until `end_s`. Raises `too_large` above `max_bytes`, else OverTimeError.

        So the thread of a call that is over time, whose answer is not awaited any more, ends too.
        """
        body = bytearray()
        for chunk in chunks:
            body += chunk
            if len(body) > max_bytes:
                raise too_large
            if now_s() > end_s:
                raise OverTimeError(f"no whole answer within {self.max_s:g} s")
        return bytes(body)


def _run(call: Callable[[], Result], outcome: Future[Result]) -> None:
    try:
        outcome.set_result(call())
    except BaseException as error:
        outcome.set_exception(error)
