"""Waits for conditions. A test asserts that something happens, never how soon."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

HANG_S = 900.0
"""Seconds after which a wait counts as hung: far longer than any step takes on a busy machine."""


def wait_until(
    condition: Callable[[], bool],
    goal: str = "the condition of the test",
    *,
    meanwhile: Callable[[], object] = lambda: None,
    detail: Callable[[], str] = lambda: "",
    every_s: float = 0.01,
) -> None:
    """Return when `condition()` is true, calling `meanwhile()` after each failed check.

    `meanwhile` raises to end the wait early. Raises AssertionError with `goal` and `detail()` after HANG_S seconds.
    """
    end_s = time.monotonic() + HANG_S
    while not condition():
        assert time.monotonic() < end_s, f"still not, after {HANG_S:g} s: {goal}\n{detail()}"
        meanwhile()
        time.sleep(every_s)


async def until(condition: Callable[[], bool], goal: str = "the condition of the test", every_s: float = 0.001) -> None:
    """Let the event loop run until `condition()` is true; it is called on the loop.

    Raises AssertionError with `goal` after HANG_S seconds.
    """
    end_s = time.monotonic() + HANG_S
    while not condition():
        assert time.monotonic() < end_s, f"still not, after {HANG_S:g} s: {goal}"
        await asyncio.sleep(every_s)
