"""Periods of questions. `latest-...` is relative to the newest final window, never to the wall clock.

So a replay of an old recording is as easy to ask about as today.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from contracts.errors import BadQuery
from contracts.units import MS_PER_DAY, MS_PER_HOUR, EpochMs, epoch_ms, rfc3339
from warehouse.results import Newest, Time

if TYPE_CHECKING:
    from warehouse.client import Warehouse
    from warehouse.reader import LedgerReader

LATEST_MONTH = "latest-month"
_FIX = "give latest-month, latest-day, latest-hour, all, YYYY-MM, YYYY-MM-DD, or from and to as RFC 3339"
# The range of DateTime64(3) in the tables.
_FIRST, _LAST = epoch_ms("1970-01-01"), epoch_ms("2200-01-01")

_SEARCH_BACK_MS = (2 * MS_PER_DAY, _LAST)
"""Times before the last stored hour in which a live one is searched: the second, if days were deleted."""


@dataclass(frozen=True, slots=True)
class Period:
    """Half-open `[start, end)`, UTC epoch milliseconds. An empty ledger's latest period is empty, at the epoch."""

    start: Time
    end: Time

    def __str__(self) -> str:
        return f"{rfc3339(self.start)} to {rfc3339(self.end)}"


def newest(warehouse: Warehouse | LedgerReader) -> Newest:
    """Return the ends of the newest final window and of the newest window at all."""
    for back_ms in _SEARCH_BACK_MS:
        row = warehouse.ask("ledger/newest", back_ms=back_ms, furthest=int(back_ms == _SEARCH_BACK_MS[-1]))[0]
        if row["hours"]:
            break
    return Newest(final_end=row["final_end"] or None, window_end=row["window_end"] or None)


def resolve_period(
    warehouse: Warehouse | LedgerReader, period: str | None = None, *, start: str | None = None, end: str | None = None
) -> Period:
    """Return the period of a name (`_FIX` lists them), or of RFC 3339 `start` and `end`.

    Without `end` it ends with the newest final window. Raises BadQuery that names the wrong value.
    """
    if start or end:
        if period:
            raise BadQuery("period", period, "give either period, or from and to")
        return _between(warehouse, start, end)
    text = period or LATEST_MONTH
    if match := re.fullmatch(r"(\d{4})-(\d{2})(?:-(\d{2}))?", text):
        return _named(text, match)
    if text not in ("latest-month", "latest-day", "latest-hour", "all"):
        raise BadQuery("period", text, _FIX)
    last = newest(warehouse).final_end
    if last is None:
        return Period(EpochMs(0), EpochMs(0))
    if text == "all":
        return Period(warehouse.ask("ledger/oldest")[0]["start"], EpochMs(-(-last // MS_PER_HOUR) * MS_PER_HOUR))
    inside = datetime.fromtimestamp((last - 1) // 1000, UTC)
    if text == "latest-hour":
        floor = inside.replace(minute=0, second=0)
        return _span(floor, floor + timedelta(hours=1))
    floor = inside.replace(hour=0, minute=0, second=0)
    return _span(floor, floor + timedelta(days=1)) if text == "latest-day" else _month(floor.replace(day=1))


def _between(warehouse: Warehouse | LedgerReader, start: str | None, end: str | None) -> Period:
    if not start:
        raise BadQuery("from", start, "give from as RFC 3339 where to is given")
    first = _instant("from", start)
    last = _instant("to", end) if end else newest(warehouse).final_end or first
    if end and last <= first:
        raise BadQuery("to", end, "give a time after from: a period is half-open, [from, to)")
    return Period(first, EpochMs(max(first, last)))


def _instant(name: str, text: str) -> EpochMs:
    try:
        # In a query string '+' means a space: accept a zone's '+' that was not escaped.
        at = epoch_ms(re.sub(r" (?=\d\d:\d\d$)", "+", text.strip()))
    except (ValueError, OverflowError):
        raise BadQuery(name, text, "give RFC 3339, like 2026-11-01T00:00:00Z") from None
    if not _FIRST <= at <= _LAST:
        raise BadQuery(name, text, "give a time from 1970 to 2200")
    return at


def _named(text: str, match: re.Match[str]) -> Period:
    year, month, day = int(match[1]), int(match[2]), int(match[3] or 1)
    if not 1970 <= year < 2200:
        raise BadQuery("period", text, "give a time from 1970 to 2200")
    try:
        floor = datetime(year, month, day, tzinfo=UTC)
    except ValueError:
        raise BadQuery("period", text, _FIX) from None
    return _span(floor, floor + timedelta(days=1)) if match[3] else _month(floor)


def _month(first: datetime) -> Period:
    return _span(first, (first + timedelta(days=32)).replace(day=1))


def _span(start: datetime, end: datetime) -> Period:
    return Period(EpochMs(int(start.timestamp()) * 1000), EpochMs(int(end.timestamp()) * 1000))
