"""Schedules: the local hours of the week, the months and the holidays in which a rate counts."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
HOLIDAY = "holiday"
DAYS = (*WEEKDAYS, HOLIDAY)
"""Kinds of days. A holiday is no weekday: a schedule counts on it where it names it."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Schedule:
    """Days, hours `[from, to)` and months in which a rate counts; local time."""

    days: frozenset[str] = frozenset(DAYS)
    hours: frozenset[int] = frozenset(range(24))
    months: frozenset[int] = frozenset(range(1, 13))

    def counts(self, cell: Cell) -> bool:
        """Return whether the schedule holds this hour."""
        return cell.day in self.days and cell.hour in self.hours and cell.month in self.months


@dataclass(frozen=True, slots=True, order=True)
class Cell:
    """An hour as schedules see it: its month, the kind of its day, and its hour; local time."""

    month: int
    day: str
    hour: int


ALWAYS = Schedule()
CELLS = tuple(Cell(month, day, hour) for month in range(1, 13) for day in DAYS for hour in range(24))
"""Every hour that schedules can tell apart."""


def cell_at(at_ms: int, zone: ZoneInfo, holidays: frozenset[date]) -> Cell:
    """Return the cell of an instant (UTC epoch ms) in a zone."""
    local = (_EPOCH + timedelta(milliseconds=at_ms)).astimezone(zone)
    day = HOLIDAY if local.date() in holidays else WEEKDAYS[local.weekday()]
    return Cell(local.month, day, local.hour)


def both(one: Schedule, other: Schedule) -> Cell | None:
    """Return the first hour that two schedules share, or None."""
    return next((cell for cell in CELLS if one.counts(cell) and other.counts(cell)), None)
