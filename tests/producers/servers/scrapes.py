"""Readings of pages over time, with their rows: what a test of a server's counters shares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from producers.api import TokenCounters
from producers.common.prometheus_text import parse_page
from producers.servers.counter_snapshots import ServedSince, ServerCounterSnapshot, served_since
from producers.servers.page_scrape import scrape_of
from producers.servers.served_rows import ServedRow
from producers.servers.token_counters import NamedCounters
from producers.servers.token_limits import DEFAULT_LIMIT
from tests.support.clocks import T0

OWN = NamedCounters(
    "own", prompt=("in",), completion=("out",), cached=("hit",), requests=("ended",), failures=("failed",),
    life_s=("life",), model_labels=("model",), tenant_labels=("tenant",),
)  # fmt: skip
"""A server with names of one word."""


class Scrapes:
    """Readings of one address, one every ten seconds. `started` is in seconds after T0."""

    def __init__(self, counters: TokenCounters = OWN, limit: int = DEFAULT_LIMIT, every_s: int = 10) -> None:
        self.counters, self.limit, self.every_s = counters, limit, every_s
        self.t_s = -every_s
        self.state: ServerCounterSnapshot | None = None
        self.results: list[ServedSince] = []

    def scrape(self, page: str, started: float | None = None, *, born_s: float | None = None) -> ServedSince:
        """Read a page and return what follows."""
        self.t_s += self.every_s
        if started is not None:
            page += f"\nprocess_start_time_seconds {T0 / 1000 + started}\n"
        scrape = scrape_of(self.counters, "http://a", parse_page(page), T0 + 1000 * self.t_s)
        born_ms = None if born_s is None else T0 + round(1000 * born_s)
        result = served_since(self.state, scrape, limit=self.limit, born_ms=born_ms)
        self.state = result.snapshot
        self.results.append(result)
        return result

    def run(self, pages: Sequence[tuple[float | None, Mapping[str, int]]]) -> list[int]:
        """Read each page, given as a start and its samples. Return the prompt tokens of each reading."""
        return [prompts(self.scrape(samples(values), started).rows) for started, values in pages]

    @property
    def prompt_tokens(self) -> int:
        return sum(prompts(result.rows) for result in self.results)

    @property
    def reasons(self) -> list[str]:
        """Reasons of what was refused."""
        return [getattr(text, "reason", "") for result in self.results for text in result.refused]


def samples(values: Mapping[str, int]) -> str:
    """Return a page of samples: `in` or `in model="a"` with its value."""
    lines = []
    for name, value in values.items():
        sample, _, labels = name.partition(" ")
        lines.append(f"{sample}{{{labels}}} {value}" if labels else f"{sample} {value}")
    return "\n".join(lines)


def prompts(rows: Sequence[ServedRow]) -> int:
    """Return the sum of prompt tokens."""
    return sum(row.served.prompt_tokens for row in rows)
