"""Tokens of each sender on each workload by the time in which they ended, bounded by what hardware can do. Pure.

A sender that brings more is held back, whole bodies at a time: its operator raises the bound, or finds out what it
counts. Times are those of the events, so that what was delayed is judged as if it had come in time.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from contracts.events import TokenBatch, signed
from contracts.workload_names import without_gpus
from producers.api import WorkloadBatch
from producers.runtime.receiver.problems import Rejected

PERIOD_MS = 600_000
"""Length of the periods over which tokens are summed."""
MAX_PERIODS = 100_000
"""Sums that are kept; those that grew longest ago make room."""
RETRY_S = 60
Place = tuple[str, str, str, int]
"""Sender, cluster, workload, and the number of the period."""


class SenderRates:
    """Sums of tokens by place. `tokens_per_s` bounds them; None: no bound."""

    def __init__(self, tokens_per_s: int | None, max_periods: int = MAX_PERIODS) -> None:
        self._limit = tokens_per_s
        self._max_tokens = None if tokens_per_s is None else tokens_per_s * PERIOD_MS // 1000
        self._max_periods = max_periods
        self._sums: OrderedDict[Place, int] = OrderedDict()

    @contextmanager
    def counted(self, sender: str, batches: Sequence[WorkloadBatch]) -> Iterator[None]:
        """Count the tokens of batches, unless what follows raises. Raises Rejected (429) where they are too many."""
        if self._max_tokens is None:
            yield
            return
        tokens = _tokens(sender, batches)
        for (_, cluster, workload, _), total in (
            (place, self._sums.get(place, 0) + more) for place, more in tokens.items()
        ):
            if total > self._max_tokens:
                raise Rejected(
                    429, "implausible", f"More than {self._limit:,} tokens per second of this sender on {cluster}/"
                    f"{workload}: raise produce.http.max_tokens_per_s if they are right.", retry_s=RETRY_S,
                    log_text=f"{sender!r} sends more than {self._limit:,} tokens per second on {cluster}/{workload}: "
                    "raise max_tokens_per_s if they are right",
                )  # fmt: skip
        self._add(tokens, 1)
        try:
            yield
        except BaseException:
            self._add(tokens, -1)
            raise

    def _add(self, tokens: Counter[Place], sign: int) -> None:
        for place, more in tokens.items():
            self._sums[place] = self._sums.get(place, 0) + sign * more
            self._sums.move_to_end(place)
        while len(self._sums) > self._max_periods:
            self._sums.popitem(last=False)


def _tokens(sender: str, batches: Sequence[WorkloadBatch]) -> Counter[Place]:
    """Return the tokens of batches by place. What takes an estimate back is subtracted."""
    result = Counter[Place]()
    for cluster, workload, batch, _ in batches:
        if not isinstance(batch, TokenBatch) or without_gpus(workload):
            continue
        tokens = signed(batch.prompt_tokens + batch.completion_tokens, batch.requests)
        periods, places = np.unique(batch.t_end_ms // PERIOD_MS, return_inverse=True)
        sums = np.zeros(len(periods), np.int64)
        np.add.at(sums, places, tokens)
        for period, total in zip(periods.tolist(), sums.tolist(), strict=True):
            result[(sender, cluster, workload, period)] += total
    return result
