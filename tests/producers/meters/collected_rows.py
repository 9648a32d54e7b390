"""A window, a clock at its end, and the rows of a query for it."""

from __future__ import annotations

from contracts.events import UsageBatch
from producers.meters.window_query import WindowQuery
from tests.support.clocks import FakeClock, clock_at

T0 = 1_700_000_040_000
MINUTE = 60_000
NOW = clock_at(T0 + MINUTE)
"""The window [T0, T0 + MINUTE) is the last one that is due."""


def row_values(
    question: WindowQuery, mark: bytes | None = None, now: FakeClock = NOW
) -> list[tuple[str, str, str, dict[str, str]]]:
    """(workload, tenant, quantity, dimensions) of each row."""
    rows = []
    for batch in question.collect(mark, now).batches:
        b = batch.batch
        assert isinstance(b, UsageBatch)
        b.check()
        dimensions = [dict(d) for d in b.dimensions] or [{}] * len(b)
        rows += [(batch.workload, *row) for row in zip(b.tenant, b.quantity, dimensions, strict=True)]
    return sorted(rows, key=repr)
