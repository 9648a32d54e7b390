"""Times of the user's files: absolute, local to a zone, or relative to a start."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, available_timezones

from contracts.errors import BadInput
from contracts.time_zones import zone_of
from producers.recordings.csv_table import BadCell, CsvLine, CsvTable
from producers.recordings.csv_units import TIME_UNITS, parse_header
from producers.recordings.text_lines import time_ms

JITTER_MS = 60_000
"""How far rows may go back without being taken as those of the second pass of an hour that occurs twice."""
_RELATIVE_MS = 10**11
"""Plain numbers below this (1973) are no epoch times, but count from a start."""
_NUMBER = re.compile(r"\d+(?:\.\d*)?|\.\d+", re.ASCII)
_ZONE_BEHIND = re.compile(r"(.*\d)\s+(?:UTC|GMT|Z|([+-]\d\d:?\d\d))", re.ASCII)
_ZONE_AT_END = re.compile(r"[:T]\d\d[\d.,]*\s*(?:[Zz]|UTC|GMT|[+-]\d\d:?(?:\d\d)?)$", re.ASCII)
_MINUTE_MS = 60_000


def start_of(text: str, timezone: str, zone_ms: int) -> int:
    """Return the time of `--start`, local where it names no zone. Raises BadInput for what is no time."""
    try:
        if timezone and time_ms(text) != time_ms(text, 1000):
            local = datetime.fromtimestamp(time_ms(text) / 1000, UTC).replace(tzinfo=zone_of(timezone, "timezone"))
            return int(local.timestamp() * 1000)
        return time_ms(text, zone_ms)
    except ValueError as error:
        raise BadInput("start", text, str(error)) from None


class FileTimes:
    """Reads the times of one file, in the file's order.

    A stamp without a zone is local: in `zone`, or `offset_ms` ahead of UTC. Of an hour that occurs twice, the first is
    meant unless that would go back from the time before it, or the file begins in its second pass (`begins_late`). A
    number below 1e8 s counts from `start_ms`.
    """

    def __init__(
        self, zone: ZoneInfo | None, offset_ms: int, start_ms: int | None, *, begins_late: bool = False
    ) -> None:
        self._zone, self._offset_ms, self._start_ms = zone, offset_ms, start_ms
        self._begins_late = begins_late
        self._last_ms: int | None = None
        self.begins_in_first_pass = False
        """The file's first time is of an hour that occurs twice, and none is of its second pass."""
        self.repeated_stamps = 0
        """Stamps of an hour that occurs twice."""

    def read(self, line: CsvLine, table: CsvTable, column: str) -> int:
        """Return the time in a cell as UTC epoch milliseconds. Raises BadCell for what is none."""
        text = time_cell(line) if column == "time" else line.get(column)
        try:
            ms = self._read(text, table.header_cell(column))
        except ValueError as error:
            raise BadCell(column, text, str(error)) from None
        self._last_ms = ms
        return ms

    def _read(self, text: str, header: str) -> int:
        if _NUMBER.fullmatch(text) and (scale := TIME_UNITS.get(parse_header(header).unit, 1000)):
            if text.isdecimal() and len(text) > 14:  # Microseconds of the epoch have 16 digits, nanoseconds 19.
                text = text[: -3 if len(text) < 18 else -6]
            relative_ms = int(float(text) * scale)
            if relative_ms < _RELATIVE_MS:
                if self._start_ms is None:
                    raise ValueError("counts from a start: give --start, the time at which it was 0")
                return self._start_ms + relative_ms
        if behind := _ZONE_BEHIND.fullmatch(text):
            text = behind[1] + (behind[2] or "Z")
        ms = time_ms(text, self._offset_ms)
        if self._zone is None or not is_local(text):
            return ms
        return self._utc_ms(time_ms(text), self._zone)

    def _utc_ms(self, local_ms: int, zone: ZoneInfo) -> int:
        first_ms, second_ms = _offsets_ms(local_ms // _MINUTE_MS, zone)
        if first_ms < second_ms:
            raise ValueError(f"does not exist in {zone.key}: the clocks went forward over it")
        if first_ms == second_ms:
            return local_ms - first_ms
        self.repeated_stamps += 1
        first, second, last = local_ms - first_ms, local_ms - second_ms, self._last_ms
        if last is None:
            self.begins_in_first_pass = not self._begins_late
            return second if self._begins_late else first
        if first < last - JITTER_MS <= second:
            self.begins_in_first_pass = False
            return second
        return first


def time_cell(line: CsvLine) -> str:
    """Return the time of a row of power, with the date of a column of its own."""
    date, clock = line.get("date"), line.get("time")
    return f"{date} {clock}" if date else clock


def is_local(text: str) -> bool:
    """Return True for a stamp that names no zone."""
    return not (_NUMBER.fullmatch(text) or _ZONE_AT_END.search(text))


@lru_cache(maxsize=4096)
def _offsets_ms(local_minute: int, zone: ZoneInfo) -> tuple[int, int]:
    """Return the zone's offset from UTC at a local time, and that of the same time when it occurs again."""
    local = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(minutes=local_minute)
    first, second = (local.replace(tzinfo=zone, fold=fold).utcoffset() or timedelta() for fold in (0, 1))
    return first // timedelta(milliseconds=1), second // timedelta(milliseconds=1)


def zones_of_step(local_ms: int, step_ms: int) -> list[str]:
    """Return zones whose clocks change at a local time by a bit more than `step_ms` (back if it is negative), the best
    known first.
    """
    names = []
    for name in sorted(available_timezones(), key=lambda n: (n not in _WELL_KNOWN, n)):
        before_ms, after_ms = _offsets_ms(local_ms // _MINUTE_MS, zone_of(name))
        change_ms = after_ms - before_ms
        if change_ms and 0 <= step_ms - change_ms <= MAX_STEP_MS:
            names.append(name)
    return names


MAX_STEP_MS = 600_000
"""Longest time between two readings at which the step between their local times shows that clocks changed."""
_WELL_KNOWN = ("Europe/Berlin", "Europe/London", "America/New_York", "America/Chicago", "America/Los_Angeles")
