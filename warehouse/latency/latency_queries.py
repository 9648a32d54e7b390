"""Latencies of requests, by any dimensions of a bill: the median, and the times that 95 and 99 of 100 stayed within.

Readers, periods, pages and errors are as in `warehouse.chargeback.chargeback_queries`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from contracts.histogram import LATENCIES, Histogram, quantile_us
from warehouse.calendar_steps import step_parameters
from warehouse.chargeback.dimensions import check_by, grouping
from warehouse.chargeback.rollups import CUTS, cuts_of, rollup_rows
from warehouse.cursors import Page, PageRequest
from warehouse.filters import Filter
from warehouse.periods import Period
from warehouse.reader import LedgerReader

_ALL = Filter()
_FIRST_PAGE = PageRequest()


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Times in milliseconds, true to one part in eight (`contracts.histogram`); null where no request's is known.

    `requests` is the number of those whose time is known.
    """

    requests: int
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None


@dataclass(frozen=True, slots=True)
class LatencyRow:
    """Latencies of a group's requests that ended well, in the period in which they ended. `group` has its dimensions.

    A request that was reported as the growth of a server's counters, with others, has no latency.
    """

    group: dict[str, str]
    time_to_first_token: Percentiles
    time_per_output_token: Percentiles
    request_duration: Percentiles
    queue_duration: Percentiles
    simulated: bool


def latencies(
    reader: LedgerReader,
    period: Period,
    by: Sequence[str] = ("tenant",),
    filter: Filter = _ALL,
    page: PageRequest = _FIRST_PAGE,
) -> Page[LatencyRow]:
    """Return the latencies of each group, sorted by its dimensions; groups without any known latency are left out."""
    by = check_by(by)
    question = ("latencies", period, *by, reader.narrow(filter))
    by_group, steps = grouping(by), step_parameters(by, period)
    with_windows = cuts_of(reader, period, filter, by_group["breaks"], steps).in_quarters
    rows = reader.ask(
        "latency/latencies",
        filter,
        fragments={"charges": rollup_rows(by, with_windows=with_windows), "cuts": CUTS, **by_group},
        start_ms=period.start,
        end_ms=period.end,
        **steps,
        after=page.after(question, [str] * len(by)) or [],
        limit=page.limit + 1,
    )
    return page.cut(question, [_row(by, row) for row in rows], lambda row: list(row.group.values()))


def _row(by: Sequence[str], row: Mapping[str, Any]) -> LatencyRow:
    return LatencyRow(
        group=dict(zip(by, row["keys"], strict=True)),
        simulated=bool(row["simulated"]),
        **{name: _percentiles(row[name]) for name in LATENCIES},
    )


def _percentiles(histogram: Histogram) -> Percentiles:
    p50_ms, p95_ms, p99_ms = (_milliseconds(quantile_us(histogram, rank)) for rank in (500, 950, 990))
    return Percentiles(sum(histogram.values()), p50_ms, p95_ms, p99_ms)


def _milliseconds(time_us: float | None) -> float | None:
    return None if time_us is None else time_us / 1000
