"""Segments: the stretches of a period in which the same rows of the book are valid, gathered into classes.

Quantities are summed by class, not by hour: a month without a change of price is one class, and one with a day and a
night rate has two.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from billing.price_book import PriceBook, Rate
from billing.schedules import ALWAYS, cell_at
from contracts.units import MS_PER_HOUR

QUARTER_MS = MS_PER_HOUR // 4


@dataclass(frozen=True, slots=True)
class Segments:
    """Starts of stretches (UTC epoch ms, ascending), the class of each, and the rates that each class has."""

    start_ms: int
    end_ms: int
    starts_ms: tuple[int, ...]
    classes: tuple[int, ...]
    rates: tuple[frozenset[Rate], ...]

    @property
    def step_ms(self) -> int:
        """The coarsest step, an hour or a quarter of one, of which each start is a multiple."""
        return MS_PER_HOUR if all(start % MS_PER_HOUR == 0 for start in self.starts_ms) else QUARTER_MS

    def time_ms(self, number: int) -> int:
        """Return how long a class lasts in the period."""
        ends = (*self.starts_ms[1:], self.end_ms)
        spans = zip(self.starts_ms, ends, self.classes, strict=True)
        return sum(end - start for start, end, other in spans if other == number)


def segments(book: PriceBook, start_ms: int, end_ms: int) -> Segments:
    """Return the segments of `[start_ms, end_ms)`, which begin with quarters of an hour, as rates of a book do."""
    valid = [rate for rate in book.rates if rate.valid(start_ms, end_ms)]
    edges = {start_ms} | {ms for rate in valid for ms in (rate.from_ms, rate.to_ms) if start_ms < ms < end_ms}
    if any(rate.when != ALWAYS for rate in valid):
        edges |= _steps(book, start_ms, end_ms)
    numbers: dict[frozenset[Rate], int] = {}
    starts: list[int] = []
    classes: list[int] = []
    for at_ms in sorted(edges):
        number = numbers.setdefault(_counting(book, valid, at_ms), len(numbers))
        if not classes or classes[-1] != number:
            starts.append(at_ms)
            classes.append(number)
    return Segments(start_ms, end_ms, tuple(starts), tuple(classes), tuple(numbers))


def _steps(book: PriceBook, start_ms: int, end_ms: int) -> set[int]:
    """Return the starts of all local hours of the period, which in some zones are at a half or a quarter of UTC's."""
    zone = ZoneInfo(book.time_zone)
    steps = range(start_ms, end_ms, QUARTER_MS)
    cells = [cell_at(at_ms, zone, book.holidays) for at_ms in steps]
    return {at_ms for at_ms, cell, before in zip(steps[1:], cells[1:], cells, strict=False) if cell != before}


def _counting(book: PriceBook, valid: Iterable[Rate], at_ms: int) -> frozenset[Rate]:
    cell = cell_at(at_ms, ZoneInfo(book.time_zone), book.holidays)
    return frozenset(rate for rate in valid if rate.from_ms <= at_ms < rate.to_ms and rate.when.counts(cell))
