"""Runs a command's coroutine until it ends or a signal stops it."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Coroutine
from typing import Any


def run_until_stopped(coroutine: Coroutine[Any, Any, Any]) -> None:
    """Run a coroutine to its end. SIGINT or SIGTERM cancels it, so that it can clean up."""

    async def main() -> None:
        task = asyncio.ensure_future(coroutine)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, task.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await task

    asyncio.run(main())
