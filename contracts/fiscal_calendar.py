"""The fiscal calendar: years, quarters and months as accountants close them, beside those of the calendar.

A text says which, such as the setting `fiscal_calendar`:

* `04-01`: months are those of the calendar, and the year begins with this day.
* `4-4-5 from monday nearest 02-01`: a quarter has months of 4, 4 and 5 weeks. The year begins with the Monday nearest
  to this day, so it has 52 or 53 weeks; the last month holds the 53rd. (The calendar of the National Retail Federation
  is `4-5-4 from sunday nearest 02-01 named by start`.)

A fiscal year has the name of the calendar year in which it ends, or with `named by start`, in which it begins.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import accumulate

from contracts.errors import BadInput

_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_TEXT = re.compile(
    rf"(?:(?P<weeks>4-4-5|4-5-4|5-4-4) from (?P<day>{'|'.join(_DAYS)}) nearest )?"
    r"(?P<month>\d\d)-(?P<of_month>\d\d)(?: named by (?P<named>start|end))?"
)
_NAME = re.compile(r"FY(?P<year>\d{4})(?:-(?:Q(?P<quarter>[1-4])|P(?P<month>0[1-9]|1[0-2])))?")
_FIX = "give the year's first day, such as 04-01, or weeks, such as 4-4-5 from monday nearest 02-01"


@dataclass(frozen=True, slots=True)
class FiscalCalendar:
    """A fiscal calendar; `parse` reads one."""

    month: int = 1
    of_month: int = 1
    weeks: tuple[int, ...] = ()
    """Weeks of the three months of a quarter; none where months are those of the calendar."""
    week_day: int = 0
    """First day of weeks; Monday is 0."""
    named_by_start: bool = False

    def start_of_year(self, name: int) -> date:
        """Return the first day of a fiscal year. Raises ValueError for a year that a date cannot have."""
        begins_before = not self.named_by_start and (self.month, self.of_month) != (1, 1)
        day = date(name - begins_before, self.month, self.of_month)
        if not self.weeks:
            return day
        # The nearest day of the week is at most three days off.
        early = day - timedelta(days=3)
        return early + timedelta(days=(self.week_day - early.weekday()) % 7)

    def months(self, name: int) -> list[date]:
        """Return the first days of the twelve months of a fiscal year, and that of the next year."""
        start = self.start_of_year(name)
        if not self.weeks:
            numbers = range(start.month - 1, start.month + 12)
            return [date(start.year + number // 12, number % 12 + 1, start.day) for number in numbers]
        weeks = accumulate((self.weeks * 4)[:-1], initial=0)
        return [*(start + timedelta(weeks=count) for count in weeks), self.start_of_year(name + 1)]

    def span(self, text: str) -> tuple[date, date] | None:
        """Return the first day of `FY2027`, `FY2027-Q1` or `FY2027-P01`, and the day after its last; else None."""
        match = _NAME.fullmatch(text)
        if match is None:
            return None
        firsts = self.months(int(match["year"]))
        if match["quarter"]:
            number = 3 * int(match["quarter"])
            return firsts[number - 3], firsts[number]
        if match["month"]:
            return firsts[int(match["month"]) - 1], firsts[int(match["month"])]
        return firsts[0], firsts[-1]


CALENDAR_YEAR = FiscalCalendar()


def parse_fiscal_calendar(text: str) -> FiscalCalendar:
    """Return the calendar that a text names. Raises BadInput that says how to write one."""
    match = _TEXT.fullmatch(text.strip().lower())
    # Every year has this day, and every month one of this number.
    if match is None or not (1 <= int(match["month"]) <= 12 and 1 <= int(match["of_month"]) <= 28):
        raise BadInput("fiscal_calendar", text, _FIX)
    return FiscalCalendar(
        month=int(match["month"]),
        of_month=int(match["of_month"]),
        weeks=tuple(int(weeks) for weeks in match["weeks"].split("-")) if match["weeks"] else (),
        week_day=_DAYS.index(match["day"]) if match["day"] else 0,
        named_by_start=match["named"] == "start",
    )
