"""Faults for the SIMULATED fleet, on demand: what a ledger must survive."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from contracts.events import Event


@dataclass(slots=True, frozen=True)
class Faults:
    """Probabilities of faults.

    `counter_reset` and `gap` (10 to 40 missing readings) are per GPU and minute. `late` (sent `late_ms` after its
    time), `duplicate` (sent twice) and `out_of_order` (sent after its next few neighbours) are per event. `failed`
    is per request, on top of the fleet's ordinary failures.
    """

    counter_reset: float = 0.0
    gap: float = 0.0
    late: float = 0.0
    late_ms: int = 60_000
    duplicate: float = 0.0
    out_of_order: float = 0.0
    failed: float = 0.0

    @classmethod
    def all(cls) -> Faults:
        """Return the faults of a bad day: some of each."""
        return cls(
            counter_reset=0.02, gap=0.05, late=0.01, late_ms=60_000, duplicate=0.02, out_of_order=0.05, failed=0.05
        )


def disturb(events: Iterable[Event], faults: Faults, seed: int) -> Iterator[Event]:
    """Yield the same events, some late, twice or out of order. Numbers are kept: nothing is lost. Order is otherwise
    kept.

    Holds the events of `late_ms` of event time.
    """
    if not (faults.late or faults.duplicate or faults.out_of_order):
        yield from events
        return
    rng = np.random.default_rng([seed, 7])
    waiting: list[tuple[int, int, Event]] = []
    for n, event in enumerate(events):
        now_ms = event.batch.event_ms
        late, twice, swapped = rng.random(3)
        due_ms = now_ms + (faults.late_ms if late < faults.late else 0)
        due_ms += int(rng.integers(1, 15_000)) if swapped < faults.out_of_order else 0
        heapq.heappush(waiting, (due_ms, 2 * n, event))
        if twice < faults.duplicate:
            heapq.heappush(waiting, (due_ms + int(rng.integers(0, 30_000)), 2 * n + 1, event))
        while waiting and waiting[0][0] <= now_ms:
            yield heapq.heappop(waiting)[2]
    while waiting:
        yield heapq.heappop(waiting)[2]
