"""Growth of each series of a page between two readings. Pure.

* A series that the last reading did not show starts at 0 if its process, or the series, started since that reading.
  Otherwise it starts at its value: nothing is known of its past. One that leaves the page takes nothing, and continues
  when it returns within a day.

* After a restart (`server_identity`) every series of the process starts at 0.

* A series that goes back without a restart starts at its new value.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from producers.servers.server_identity import CLOCK_MS, ProcessChanges
from producers.servers.token_counters import CounterSeries

FORGET_MS = 86_400_000
"""Time for which a series that has left the page is remembered."""
MAX_MISSING = 10_000
_TOKENS = ("prompt_tokens", "completion_tokens")


class PageScrape(NamedTuple):
    """Counters of one reading of a page. `starts` are the starts of its processes (epoch ms), `processes` the process
    of each series, in their order. `is_alone`: it is known that one server answers at its address."""

    t_ms: int
    starts: Mapping[str, int]
    series: Sequence[CounterSeries]
    processes: Sequence[str]
    is_alone: bool = False

    def keys(self) -> list[str]:
        """Return the key of each series: of its process and its own."""
        return [f"{p}/{s.key}" for p, s in zip(self.processes, self.series, strict=True)]


class KnownSeries(NamedTuple):
    """Values of the readings so far.

    `counted` are those that rows were made of, `latest` those of the last reading where they differ, `missing` those of
    series that have left the page, with the time of their last sight. Rows were made up to `counted_ms`, the last
    reading was at `t_ms`.
    """

    t_ms: int
    counted_ms: int
    counted: Mapping[str, int]
    latest: Mapping[str, int]
    missing: Mapping[str, tuple[int, int]]


class SeriesGrowth(NamedTuple):
    """Growth of one series from `base` to `value` since `since_ms`.

    `is_back` says that it went back without a restart, `is_sure` that no other server's counter can stand for it.
    """

    key: str
    series: CounterSeries
    value: int
    base: int
    since_ms: int
    is_back: bool
    is_sure: bool

    @property
    def grown(self) -> int:
        return self.value - self.base


def series_growths(known: KnownSeries, scrape: PageScrape, changes: ProcessChanges) -> list[SeriesGrowth]:
    """Return the growth of each series that can be read."""
    result = []
    for key, process, s in zip(scrape.keys(), scrape.processes, scrape.series, strict=True):
        if s.value is None:
            continue
        counted, since_ms = known.counted.get(key), known.counted_ms
        if counted is None and key in known.missing:
            counted, since_ms = known.missing[key]
        latest = known.latest.get(key, counted)
        is_new = s.created_ms is not None and s.created_ms >= known.t_ms - CLOCK_MS
        is_back = False
        if process in changes.restarted:
            base, since_ms = 0, max(known.t_ms, min(scrape.starts.get(process, 0), scrape.t_ms))
        elif process in changes.doubtful:
            base = s.value
        elif counted is None or latest is None:
            base = 0 if is_new else s.value
        elif s.value < latest:
            is_back = not is_new
            base = s.value if is_back else 0
        else:
            base = counted
        is_sure = scrape.is_alone or is_new or process in changes.same or process in changes.restarted
        result.append(SeriesGrowth(key, s, s.value, base, since_ms=since_ms, is_back=is_back, is_sure=is_sure))
    return result


def tokens_of(growths: Sequence[SeriesGrowth]) -> int:
    """Return the sum of prompt and completion tokens."""
    return sum(g.grown for g in growths if g.series.column in _TOKENS)


def missing_series(
    known: KnownSeries, scrape: PageScrape, changes: ProcessChanges, present: Collection[str]
) -> dict[str, tuple[int, int]]:
    """Return the series to remember that a reading did not show. Those of processes that restarted are past."""
    earlier = {**known.missing, **{key: (value, known.counted_ms) for key, value in known.counted.items()}}
    past = changes.restarted | changes.doubtful
    missing = {
        key: (value, seen_ms) for key, (value, seen_ms) in earlier.items()
        if key not in present and scrape.t_ms - seen_ms < FORGET_MS and key.rpartition("/")[0] not in past
    }  # fmt: skip
    if len(missing) <= MAX_MISSING:
        return missing
    return dict(sorted(missing.items(), key=lambda item: item[1][1])[-MAX_MISSING:])
