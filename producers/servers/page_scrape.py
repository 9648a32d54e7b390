"""Reading of a server's page: its series, and the process of each by the start times on the page. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from itertools import islice
from typing import Any

from contracts.checks import MAX_TIME_MS
from contracts.errors import BadInput
from producers import registry
from producers.api import Kind, Plugin, TokenCounters
from producers.common.prometheus_text import Labels, PrometheusPage
from producers.servers.series_growth import PageScrape
from producers.servers.token_counters import served_totals

STARTED = "process_start_time_seconds"
MAX_PROCESSES = 1_000
PREFILL_REQUESTS, PREFILL_TOKENS = 20, 32
"""Requests, and mean tokens of a prompt, from which cached prompts show where the prefill ran."""


def scrape_of(
    counters: TokenCounters, name: str, page: PrometheusPage, t_ms: int, *, started_ms: int | None = None,
    models: Sequence[str] = (), is_alone: bool = False,
) -> PageScrape:  # fmt: skip
    """Return what a page shows, of `models` only, if there are such patterns.

    `started_ms` is the start of a process whose page does not give it. `is_alone`: one server has its address.

    Raises BadInput for another server's page, and for a malformed counter that may be any model's.
    """
    series = counters.series(page)
    if not series:
        problem = f"has no counters of {counters.name}: is it that server, with metrics switched on?"
        raise BadInput("page", name, f"{problem} {description(page, counters.name)}")
    served_totals(page, series)
    if models:
        series = [s for s in series if any(fnmatchcase(s.model, pattern) for pattern in models)]
    starts = _starts(page)
    if started_ms is not None:
        starts.setdefault(frozenset(), started_ms)
    by_size = sorted(starts, key=len, reverse=True)
    processes = [_process(s.labels, by_size) for s in series]
    return PageScrape(
        t_ms, {_text(labels): start_ms for labels, start_ms in starts.items()}, series, processes, is_alone
    )


def _starts(page: PrometheusPage) -> dict[frozenset[tuple[str, str]], int]:
    """Return the start time of each process by its labels, without those that have two."""
    starts: dict[frozenset[tuple[str, str]], int] = {}
    contradictory = set()
    for labels, start_ms in islice(page.timestamps_ms(STARTED, MAX_TIME_MS), MAX_PROCESSES):
        process = frozenset(labels.items())
        if starts.setdefault(process, start_ms) != start_ms:
            contradictory.add(process)
    return {process: start_ms for process, start_ms in starts.items() if process not in contradictory}


def _process(labels: Labels, by_size: Sequence[frozenset[tuple[str, str]]]) -> str:
    """Return the process that a series belongs to: the one with the most of its labels."""
    own = labels.items()
    return next((_text(process) for process in by_size if process <= own), "")


def _text(labels: frozenset[tuple[str, str]]) -> str:
    return ",".join(f'{name}="{value}"' for name, value in sorted(labels))


def description(page: PrometheusPage, besides: str) -> str:
    """Return a sentence on the server that a page may be of."""
    kinds = [p.name for p in registry.plugins(Kind.SERVER) if p.name != besides and _is_of(p, page)]
    if kinds:
        return f"It looks like {' or '.join(kinds)}."
    names = [name for name in page.samples if not name.startswith(("process_", "python_", "go_", "promhttp_"))]
    return f"It begins with {', '.join(names[:3])}." if names else "It has no samples of a server."


def _is_of(plugin: Plugin[Any, Any], page: PrometheusPage) -> bool:
    try:
        return bool(plugin.factory(None, None).series(page))  # type: ignore[arg-type]
    except Exception:  # Another package's reader may fail on a page that is not its own.
        return False


def prefill_note(counters: TokenCounters, page: PrometheusPage, scrape: PageScrape) -> str:
    """Return a sentence if the page is of the decode half of a prefill/decode deployment, else "".

    There each prompt arrives computed: all of its tokens but one are cached.
    """
    for model, totals in served_totals(page, scrape.series).items():
        if totals is None or totals.requests < PREFILL_REQUESTS:
            continue
        started = totals.requests + totals.failures + (counters.running(page) or 0)
        computed = totals.prompt_tokens - totals.cached_tokens
        if totals.prompt_tokens >= PREFILL_TOKENS * started and 0 <= 2 * computed <= 3 * started:
            return (
                f"all but one token of each prompt of {model or 'its model'} is cached, as where prefill runs on other "
                "servers: read those too, as workloads with their GPUs, or the work of prefill is free"
            )
    return ""
