"""Which tables answer for a period: its days, its hours, or the windows themselves."""

from __future__ import annotations

from collections.abc import Sequence
from string import Template

from contracts.units import MS_PER_DAY, MS_PER_HOUR
from warehouse.sql_files import question

_WINDOWS = {"table": "ledger", "time": "window_start", "only": "t.final = 1"}
_HOURS = {"table": "ledger_hour", "time": "hour", "only": "1"}
_DAY_NO = "intDiv(toUnixTimestamp64Milli(t.{time}), 86400000)"
_WHOLE_DAYS = {"table": "ledger_day", "time": "day", "only": f"NOT has(cut_days, {_DAY_NO.format(time='day')})"}
# A subquery, because every version of ClickHouse that we run on applies the index to IN of one.
_CUT_DAYS = {**_HOURS, "only": f"{_DAY_NO.format(time='hour')} IN (SELECT arrayJoin(cut_days))"}


def source_of(start_ms: int, end_ms: int) -> dict[str, str]:
    """The table that has a period's parts: the hourly one for whole hours, else the ledger's final windows."""
    if start_ms % MS_PER_HOUR == 0 and end_ms % MS_PER_HOUR == 0:
        return {"facts": "ledger_hour", "time": "hour", "only": "1"}
    return {"facts": "ledger", "time": "window_start", "only": "final = 1"}


def facts_of(start_ms: int, end_ms: int, by: Sequence[str]) -> str:
    """What queries/chargeback.sql adds up, as SQL: whole days from the daily table, except those in which a price
    changes, which come with the rest of whole hours from the hourly one; of a period that cuts an hour, windows."""
    whole_days = -(-start_ms // MS_PER_DAY) < end_ms // MS_PER_DAY
    if start_ms % MS_PER_HOUR or end_ms % MS_PER_HOUR:
        tables = [_WINDOWS]
    elif "hour" in by or not whole_days:
        tables = [_HOURS]
    else:
        tables = [_WHOLE_DAYS, _CUT_DAYS]
    return "\nUNION ALL\n".join(Template(question("chargeback_facts")).substitute(table) for table in tables)
