"""Which tables answer for a period: its days, its hours, or the windows themselves."""

from __future__ import annotations

from collections.abc import Sequence
from string import Template

from contracts.units import MS_PER_DAY, MS_PER_HOUR
from warehouse.questions import question

_WINDOWS = {"table": "ledger", "time": "window_start", "only": "t.final = 1"}
_HOURS = {"table": "ledger_hour", "time": "hour", "only": "1"}
_DAYS = (
    {"table": "ledger_day", "time": "day", "only": "NOT has(cut_days, intDiv(toUnixTimestamp64Milli(t.day), 86400000))"},
    # A subquery, because the index applies an IN of one, on every version of ClickHouse.
    {
        "table": "ledger_hour",
        "time": "hour",
        "only": "intDiv(toUnixTimestamp64Milli(t.hour), 86400000) IN (SELECT arrayJoin(cut_days))",
    },
)


def source_of(start_ms: int, end_ms: int) -> dict[str, str]:
    """The table that has a period's parts: the hourly one for whole hours, else the ledger's final windows."""
    if start_ms % MS_PER_HOUR == 0 and end_ms % MS_PER_HOUR == 0:
        return {"facts": "ledger_hour", "time": "hour", "only": "1"}
    return {"facts": "ledger", "time": "window_start", "only": "final = 1"}


def facts_of(start_ms: int, end_ms: int, by: Sequence[str]) -> str:
    """What queries/chargeback.sql adds up, as SQL: whole days from the daily table but those in which a price changes,
    which with the rest of whole hours come from the hourly table; a period that cuts an hour, from the ledger."""
    first_day, end_day = -(-start_ms // MS_PER_DAY), end_ms // MS_PER_DAY
    if start_ms % MS_PER_HOUR or end_ms % MS_PER_HOUR:
        tables = (_WINDOWS,)
    elif "hour" in by or first_day >= end_day:
        tables = (_HOURS,)
    else:
        tables = _DAYS
    return "\nUNION ALL\n".join(Template(question("chargeback_facts")).substitute(table) for table in tables)
