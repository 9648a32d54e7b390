"""Reads a ledger once bills hold it: what is printed together is read from one state of the tables."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeVar

from cli.log_feed import StallWatch, raise_if_crashed
from contracts.errors import LedgerError
from warehouse.audit.holdings import Holdings, holdings
from warehouse.client import Warehouse
from warehouse.periods import Period

_HINT = "A replay that fails leaves the ledger as it was: replay again. `wattlog audit` compares the tables."
_Summary = TypeVar("_Summary")


async def read_settled(
    warehouse: Warehouse,
    period: Period,
    clusters: Sequence[str],
    crashed: asyncio.Future[BaseException] | None,
    read: Callable[[Holdings], _Summary | None],
) -> _Summary:
    """Return what `read` returns, once hours and days hold every window of these clusters in the period.

    `read` runs in a thread, and may ask many questions. It gets what the tables hold, and returns None if its own sums
    are others. It is run again if the tables held something else afterwards: so its answers belong together.

    Raises LedgerError, which names what is missing, after STALL_S without a change; and the worker's error if it ends
    first.
    """
    stall = StallWatch()
    while True:
        raise_if_crashed(crashed)
        held = await asyncio.to_thread(holdings, warehouse, period, clusters)
        problem = "; ".join(held.shortfalls)
        if not problem:
            summary = await asyncio.to_thread(read, held)
            if summary is not None and await asyncio.to_thread(holdings, warehouse, period, clusters) == held:
                return summary
            problem = "the ledger's sums differ from one question to the next"
        if stall.is_stalled(held):
            raise LedgerError(f"bills do not hold {', '.join(clusters)}: {problem}. {_HINT}")
        await asyncio.sleep(0.1)
