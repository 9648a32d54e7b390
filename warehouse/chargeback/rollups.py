"""Rollups: a period is read from the table of days, of hours, or of windows, whichever is coarsest for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from contracts.units import MS_PER_DAY, MS_PER_HOUR
from warehouse.chargeback.references import CURRENT, References
from warehouse.filters import Filter
from warehouse.periods import Period
from warehouse.reader import LedgerReader
from warehouse.sql_files import sql_file

WINDOWS = {"table": "ledger", "time": "window_start", "only": "t.final = 1"}
HOURS = {"table": "ledger_hour", "time": "hour", "only": "1"}
DAYS = {"table": "ledger_day", "time": "day", "only": "1"}


def step_no(time: str, step_ms: int) -> str:
    """Return the SQL of the number of the day or hour of a row `t`."""
    return f"intDiv(toUnixTimestamp64Milli(t.{time}), {step_ms})"


CUTS = ",\n    ".join(
    f"arrayDistinct(arrayMap(ms -> intDiv(ms, {step_ms}), arrayFilter(ms -> ms % {step_ms} != 0, changes))) AS {name}"
    for name, step_ms in (("cut_days", MS_PER_DAY), ("cut_hours", MS_PER_HOUR))
)
"""SQL: the days and the hours that one of the times `changes` (epoch ms) cuts, by number. Those are read from a finer
table."""
_WHOLE_DAYS = {**DAYS, "only": f"NOT has(cut_days, {step_no('day', MS_PER_DAY)})"}
_WHOLE_HOURS = {**HOURS, "only": f"NOT has(cut_hours, {step_no('hour', MS_PER_HOUR)})"}
# Subqueries, because every version of ClickHouse that we run on applies the index to IN of one.
_OF_CUT_DAYS = {
    **HOURS,
    "only": f"{_WHOLE_HOURS['only']} AND {step_no('hour', MS_PER_DAY)} IN (SELECT arrayJoin(cut_days))",
}
# The key of windows begins with their ten minutes, of which an hour has six.
OF_CUT_HOURS = (
    "t.final = 1 AND toStartOfTenMinutes(t.window_start) IN "
    "(SELECT toDateTime(arrayJoin(cut_hours) * 3600 + arrayJoin(range(6)) * 600, 'UTC'))"
)
"""SQL: the condition of windows in hours that are cut."""


def left_out(cuts: str) -> str:
    """Return the SQL of a condition that is true, and ends the statement where there are such `cuts` after all.

    A question is put together by what an earlier one found. A price or a tenant's move that is stored between the two
    must not leave energy out. It is a subquery, which is evaluated whether or not a row is read.
    """
    return f"NOT (SELECT throwIf(length({cuts}) > 0, 'reference data changed while it was read'))"


def hours_or_windows(period: Period) -> dict[str, str]:
    """Return table, time column and condition (over `t`) for a period: the hours of whole hours, else final windows."""
    return WINDOWS if cuts_an_hour(period) else HOURS


def rollup_rows(by: Sequence[str], *, with_windows: bool) -> str:
    """Return the SQL of the rows that chargeback.sql adds up, where CUTS are in scope.

    Whole days are read from the daily table. Of days that are cut, whole hours are read from the hourly one, and of
    hours that are cut, windows; `with_windows` says whether there may be any. A bill by hour begins with hours.
    """
    tables = [_WHOLE_HOURS] if "hour" in by else [_WHOLE_DAYS, _OF_CUT_DAYS]
    if with_windows:
        tables.append({**WINDOWS, "only": OF_CUT_HOURS})
    else:
        tables[0] = {**tables[0], "only": f"{tables[0]['only']} AND {left_out('cut_hours')}"}
    no_slots = {"slot_columns": "", "slot_join": ""}
    return "\nUNION ALL\n".join(sql_file("chargeback/rollup_rows").render(table | no_slots) for table in tables)


def known_steps(reader: LedgerReader, period: Period, freq: str) -> frozenset[int]:
    """Return the starts (epoch ms) of the hours or days of a period in which the ledger has any row, of any tenant."""
    step_ms = MS_PER_DAY if freq == "day" else MS_PER_HOUR
    first_day, last_day = -(-period.start // MS_PER_DAY) * MS_PER_DAY, period.end // MS_PER_DAY * MS_PER_DAY
    if freq == "day" and first_day < last_day and not cuts_an_hour(period):
        parts = [(HOURS, period.start, first_day), (DAYS, first_day, last_day), (HOURS, last_day, period.end)]
    else:
        parts = [(hours_or_windows(period), period.start, period.end)]
    return frozenset(
        row["step_ms"]
        for table, start_ms, end_ms in parts
        if start_ms < end_ms
        for row in reader.ask(
            "chargeback/known_steps", fragments=table, step_ms=step_ms, start_ms=start_ms, end_ms=end_ms
        )
    )


def cuts_an_hour(period: Period) -> bool:
    """Return whether a period begins or ends inside an hour."""
    return bool(period.start % MS_PER_HOUR or period.end % MS_PER_HOUR)


@dataclass(frozen=True, slots=True)
class Cuts:
    """Cuts of a period (cuts.sql)."""

    in_days: bool
    """A price changes inside a UTC day."""
    in_hours: bool
    """A price changes inside an hour."""
    in_quarters: bool
    """A price changes inside a quarter of an hour, or a group ends inside an hour, or the period does."""
    groups_in_days: bool
    """A group ends inside a UTC day, or the period does."""


def cuts_of(
    reader: LedgerReader,
    period: Period,
    filter: Filter,
    breaks: str,
    steps: Mapping[str, Any],
    references: References = CURRENT,
) -> Cuts:
    """Return where prices and groups (`breaks`, of `grouping`) cut a period."""
    (row,) = reader.ask(
        "chargeback/cuts", fragments={"breaks": breaks, "prices": references.prices},
        cluster=filter.cluster or "", start_ms=period.start, end_ms=period.end, **steps, **references.parameters,
    )  # fmt: skip
    in_quarters = bool(row["in_quarters"]) or cuts_an_hour(period)
    groups_in_days = bool(row["groups_in_days"] or period.start % MS_PER_DAY or period.end % MS_PER_DAY)
    return Cuts(
        in_days=bool(row["in_days"]),
        in_hours=bool(row["in_hours"]),
        in_quarters=in_quarters,
        groups_in_days=groups_in_days,
    )
