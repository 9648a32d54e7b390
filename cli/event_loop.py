"""Runs a command's coroutine until it ends or a signal stops it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import Coroutine
from typing import Any

STOP_S = 8.0
"""How long a process may clean up whose state is all in its own folder."""


def run_until_stopped(coroutine: Coroutine[Any, Any, Any], *, stop_s: float | None = None) -> None:
    """Run a coroutine to its end. SIGINT or SIGTERM cancels it, so that it can clean up.

    With `stop_s`, the process ends after that many seconds of cleaning up, with 128 plus the signal's number: as if it
    was killed, which the next start mends.
    """

    async def main() -> None:
        task = asyncio.ensure_future(coroutine)
        loop = asyncio.get_running_loop()

        def stop(number: int) -> None:
            task.cancel()
            if stop_s is not None:
                limit = threading.Timer(stop_s, os._exit, [128 + number])
                limit.daemon = True
                limit.start()

        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop, number)
        with contextlib.suppress(asyncio.CancelledError):
            await task

    asyncio.run(main())
