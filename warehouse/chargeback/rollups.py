"""Rollups: a period is read from the table of days, of hours, or of windows, whichever is coarsest for it."""

from __future__ import annotations

from collections.abc import Sequence

from contracts.units import MS_PER_DAY, MS_PER_HOUR
from warehouse.periods import Period
from warehouse.reader import LedgerReader
from warehouse.sql_files import sql_file

_WINDOWS = {"table": "ledger", "time": "window_start", "only": "t.final = 1"}
_HOURS = {"table": "ledger_hour", "time": "hour", "only": "1"}
_DAYS = {"table": "ledger_day", "time": "day", "only": "1"}
_DAY_NO = "intDiv(toUnixTimestamp64Milli(t.{time}), 86400000)"
_WHOLE_DAYS = {**_DAYS, "only": f"NOT has(cut_days, {_DAY_NO.format(time='day')})"}
# A subquery, because every version of ClickHouse that we run on applies the index to IN of one.
_CUT_DAYS = {**_HOURS, "only": f"{_DAY_NO.format(time='hour')} IN (SELECT arrayJoin(cut_days))"}


def hours_or_windows(period: Period) -> dict[str, str]:
    """Return table, time column and condition (over `t`) for a period: the hours of whole hours, else final windows."""
    return _WINDOWS if _cuts_an_hour(period) else _HOURS


def rollup_rows(period: Period, by: Sequence[str]) -> str:
    """Return the SQL of the rows that chargeback.sql adds up.

    Whole days are read from the daily table. Days in which a price changes, and the rest of whole hours, are read from
    the hourly one. A period that cuts an hour is read from windows.
    """
    whole_days = -(-period.start // MS_PER_DAY) < period.end // MS_PER_DAY
    if _cuts_an_hour(period):
        tables = [_WINDOWS]
    elif "hour" in by or not whole_days:
        tables = [_HOURS]
    else:
        tables = [_WHOLE_DAYS, _CUT_DAYS]
    return "\nUNION ALL\n".join(sql_file("chargeback/rollup_rows").render(table) for table in tables)


def known_steps(reader: LedgerReader, period: Period, freq: str) -> frozenset[int]:
    """Return the starts (epoch ms) of the hours or days of a period in which the ledger has any row, of any tenant."""
    step_ms = MS_PER_DAY if freq == "day" else MS_PER_HOUR
    first_day, last_day = -(-period.start // MS_PER_DAY) * MS_PER_DAY, period.end // MS_PER_DAY * MS_PER_DAY
    if freq == "day" and first_day < last_day and not _cuts_an_hour(period):
        parts = [(_HOURS, period.start, first_day), (_DAYS, first_day, last_day), (_HOURS, last_day, period.end)]
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


def _cuts_an_hour(period: Period) -> bool:
    return bool(period.start % MS_PER_HOUR or period.end % MS_PER_HOUR)
