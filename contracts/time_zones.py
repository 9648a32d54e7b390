"""Time zones by their IANA names, and their days, weeks and months: a day on which summer time begins has 23 hours."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from difflib import get_close_matches
from zoneinfo import ZoneInfo, available_timezones

from contracts.errors import BadInput
from contracts.units import EpochMs, epoch_ms

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def zone_of(name: str, field: str = "time_zone") -> ZoneInfo:
    """Return a zone by its IANA name. Raises BadInput for another one, with the nearest name."""
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, KeyError):  # ZoneInfoNotFoundError is a KeyError
        places = [place for place in sorted(available_timezones()) if "/" in place]
        near = [*get_close_matches(name, places, 1, 0.8), "Europe/Berlin"][0]
        raise BadInput(field, name, f"give the name of a zone, such as {near} or America/New_York") from None


def local_epoch_ms(text: str, zone: ZoneInfo) -> EpochMs:
    """Convert RFC 3339 or ISO 8601 to epoch milliseconds. A time without an offset is local in the zone.

    A bare date is the start of its day there. Raises ValueError if the text is no time, or names a local time that the
    zone skips or has twice.
    """
    stamp = datetime.fromisoformat(text)
    if stamp.tzinfo is not None:
        return epoch_ms(text)
    if len(text) == len("2026-10-01") and "-" in text:
        return start_of_day(stamp.date(), zone)
    first, second = (stamp.replace(tzinfo=zone, fold=fold).utcoffset() for fold in (0, 1))
    if first != second:
        state = "is there twice" if first > second else "does not exist"  # type: ignore[operator]
        raise ValueError(f"{text} {state} in {zone.key}: give an offset, such as {text}+01:00")
    return _ms(stamp.replace(tzinfo=zone))


def start_of_day(day: date, zone: ZoneInfo) -> EpochMs:
    """Return the first instant of a local day, also where the clocks go forward at midnight."""
    return _ms(datetime(day.year, day.month, day.day, tzinfo=zone))


@dataclass(frozen=True, slots=True)
class CalendarStep:
    """A local day (`2026-10-25`), ISO week (`2026-W43`) or month (`2026-10`), by its first instant."""

    start_ms: EpochMs
    name: str


def days(zone: ZoneInfo, start_ms: int, end_ms: int) -> Iterator[CalendarStep]:
    """Yield the local days that touch `[start_ms, end_ms)`, in order. A date that the zone skipped is left out."""
    day = _local_date(zone, start_ms)
    while (at_ms := start_of_day(day, zone)) < end_ms:
        day, name = day + timedelta(days=1), day.isoformat()
        if at_ms < start_of_day(day, zone):
            yield CalendarStep(at_ms, name)


def weeks(zone: ZoneInfo, start_ms: int, end_ms: int) -> Iterator[CalendarStep]:
    """Yield the local ISO weeks (`2026-W41`, from Monday) that touch `[start_ms, end_ms)`, in order."""
    first = _local_date(zone, start_ms)
    first -= timedelta(days=first.weekday())
    while (at_ms := start_of_day(first, zone)) < end_ms:
        yield CalendarStep(at_ms, f"{first:%G-W%V}")
        first += timedelta(days=7)


def months(zone: ZoneInfo, start_ms: int, end_ms: int) -> Iterator[CalendarStep]:
    """Yield the local months that touch `[start_ms, end_ms)`, in order."""
    first = _local_date(zone, start_ms).replace(day=1)
    while (at_ms := start_of_day(first, zone)) < end_ms:
        yield CalendarStep(at_ms, f"{first:%Y-%m}")
        first = next_month(first)


def next_month(first: date) -> date:
    """Return the first day of the month after the one that begins with this day."""
    return (first + timedelta(days=32)).replace(day=1)


def _local_date(zone: ZoneInfo, at_ms: int) -> date:
    return (_EPOCH + timedelta(milliseconds=at_ms)).astimezone(zone).date()


def _ms(stamp: datetime) -> EpochMs:
    return EpochMs((stamp - _EPOCH) // timedelta(milliseconds=1))
