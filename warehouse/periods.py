"""Periods of questions. `latest-...` is relative to the newest final window, never to the wall clock.

So a replay of an old recording is as easy to ask about as today.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from contracts.errors import BadInput, BadQuery
from contracts.fiscal_calendar import CALENDAR_YEAR, FiscalCalendar
from contracts.time_zones import local_epoch_ms, next_month, start_of_day, zone_of
from contracts.units import MS_PER_DAY, MS_PER_HOUR, EpochMs, epoch_ms, rfc3339
from warehouse.results import Newest, Time

if TYPE_CHECKING:
    from warehouse.client import Warehouse
    from warehouse.reader import LedgerReader

LATEST_MONTH = "latest-month"
_NAME = re.compile(
    r"(?P<fiscal>FY)?(?P<year>\d{4})"
    r"(?:-Q(?P<quarter>[1-4])|-W(?P<week>\d\d)|-P(?P<number>\d\d)|-(?P<month>\d\d)(?:-(?P<day>\d\d))?)?"
)
_FIX = (
    "give latest-month, latest-day, latest-hour, all, YYYY, YYYY-Q1, YYYY-MM, YYYY-W01, YYYY-MM-DD, FY2027, FY2027-Q1, "
    "FY2027-P01, or from and to as RFC 3339"
)
# The range of DateTime64(3) in the tables.
_FIRST, _LAST = epoch_ms("1970-01-01"), epoch_ms("2200-01-01")

_SEARCH_BACK_MS = (2 * MS_PER_DAY, _LAST)
"""Times before the last stored hour in which a live one is searched: the second, if days were deleted."""


@dataclass(frozen=True, slots=True)
class Period:
    """Half-open `[start, end)`, UTC epoch milliseconds. An empty ledger's latest period is empty, at the epoch.

    Its days and months are those of `time_zone`, an IANA name.
    """

    start: Time
    end: Time
    time_zone: str = "UTC"

    def __str__(self) -> str:
        zone = "" if self.time_zone == "UTC" else f" (days of {self.time_zone})"
        return f"{rfc3339(self.start)} to {rfc3339(self.end)}{zone}"


def coverage(warehouse: Warehouse | LedgerReader, period: Period) -> Period | None:
    """Return the part of a period within the ledger's first and last final window; None where it holds nothing of it.

    Both are the whole ledger's for every caller. The first is the start of its hour.
    """
    last = newest(warehouse).final_end
    if last is None:
        return None
    start = max(period.start, warehouse.ask("ledger/oldest")[0]["start"])
    end = min(period.end, last)
    return replace(period, start=EpochMs(start), end=EpochMs(end)) if start < end else None


def newest(warehouse: Warehouse | LedgerReader) -> Newest:
    """Return the ends of the newest final window and of the newest window at all."""
    for back_ms in _SEARCH_BACK_MS:
        row = warehouse.ask("ledger/newest", back_ms=back_ms, furthest=int(back_ms == _SEARCH_BACK_MS[-1]))[0]
        if row["hours"]:
            break
    return Newest(final_end=row["final_end"] or None, window_end=row["window_end"] or None)


def resolve_period(
    warehouse: Warehouse | LedgerReader,
    period: str | None = None,
    *,
    start: str | None = None,
    end: str | None = None,
    time_zone: str = "UTC",
    fiscal: FiscalCalendar = CALENDAR_YEAR,
) -> Period:
    """Return the period of a name (`_FIX` lists them), or of RFC 3339 `start` and `end`.

    Days, months and times without an offset are local in `time_zone`. Without `end` the period ends with the newest
    final window. Raises BadQuery that names the wrong value.
    """
    zone = _zone(time_zone)
    if start or end:
        if period:
            raise BadQuery("period", period, "give either period, or from and to")
        return _between(warehouse, start, end, zone)
    text = period or LATEST_MONTH
    if span := _named(text, fiscal):
        return _span(*span, zone)
    if text not in ("latest-month", "latest-day", "latest-hour", "all"):
        raise BadQuery("period", text, _FIX)
    last = newest(warehouse).final_end
    if last is None:
        return Period(EpochMs(0), EpochMs(0), zone.key)
    if text == "all":
        first = warehouse.ask("ledger/oldest")[0]["start"]
        return Period(first, EpochMs(-(-last // MS_PER_HOUR) * MS_PER_HOUR), zone.key)
    if text == "latest-hour":
        hour_ms = (last - 1) // MS_PER_HOUR * MS_PER_HOUR
        return Period(EpochMs(hour_ms), EpochMs(hour_ms + MS_PER_HOUR), zone.key)
    day = datetime.fromtimestamp((last - 1) // 1000, zone).date()
    return _day(day, zone) if text == "latest-day" else _month(day.replace(day=1), zone)


def _zone(name: str) -> ZoneInfo:
    try:
        return zone_of(name)
    except BadInput as error:
        raise BadQuery("tz", name, error.fix) from None


def _between(warehouse: Warehouse | LedgerReader, start: str | None, end: str | None, zone: ZoneInfo) -> Period:
    if not start:
        raise BadQuery("from", start, "give from as RFC 3339 where to is given")
    first = _instant("from", start, zone)
    last = _instant("to", end, zone) if end else newest(warehouse).final_end or first
    if end and last <= first:
        raise BadQuery("to", end, "give a time after from: a period is half-open, [from, to)")
    return Period(first, EpochMs(max(first, last)), zone.key)


def _instant(name: str, text: str, zone: ZoneInfo) -> EpochMs:
    try:
        # In a query string '+' means a space: accept a zone's '+' that was not escaped.
        at = local_epoch_ms(re.sub(r" (?=\d\d:\d\d$)", "+", text.strip()), zone)
    except (ValueError, OverflowError) as error:
        says = str(error) if zone.key in str(error) else "give RFC 3339, like 2026-11-01T00:00:00Z"
        raise BadQuery(name, text, says) from None
    if not _FIRST <= at <= _LAST:
        raise BadQuery(name, text, "give a time from 1970 to 2200")
    return at


def _named(text: str, fiscal: FiscalCalendar) -> tuple[date, date] | None:
    """Return the first day of a named year, quarter, month, week or day, and the day after its last; None for no name.

    Raises BadQuery for a name of nothing, such as month 13.
    """
    match = _NAME.fullmatch(text)
    if match is None:
        return None
    year, number = int(match["year"]), int(match["quarter"] or match["week"] or match["month"] or 0)
    if not 1970 <= year < 2200:
        raise BadQuery("period", text, "give a time from 1970 to 2200")
    try:
        if match["fiscal"] or match["number"]:
            if (span := fiscal.span(text)) is None:
                raise ValueError(text)
            return span
        if match["quarter"]:
            return CALENDAR_YEAR.span(f"FY{text}")
        if match["week"]:
            first = date.fromisocalendar(year, number, 1)
            return first, first + timedelta(days=7)
        if match["day"]:
            first = date(year, number, int(match["day"]))
            return first, first + timedelta(days=1)
        first = date(year, number or 1, 1)
        return (first, next_month(first)) if number else (first, date(year + 1, 1, 1))
    except ValueError:
        raise BadQuery("period", text, _FIX) from None


def _day(day: date, zone: ZoneInfo) -> Period:
    return _span(day, day + timedelta(days=1), zone)


def _month(first: date, zone: ZoneInfo) -> Period:
    return _span(first, next_month(first), zone)


def _span(start: date, end: date, zone: ZoneInfo) -> Period:
    return Period(EpochMs(max(start_of_day(start, zone), 0)), start_of_day(end, zone), zone.key)
