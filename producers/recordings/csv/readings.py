"""Rows of the power file as readings, in the file's order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, TypeVar

from producers.recordings.base import BadRow
from producers.recordings.batches import Group
from producers.recordings.csv.columns import IDENTITIES, POWER_COLUMNS, QuantityColumns
from producers.recordings.csv_defaults import CsvDefaults, group_of
from producers.recordings.csv_table import BadCell, CsvLine, CsvTable, has_no_value, read_rows
from producers.recordings.csv_times import FileTimes, is_local, time_cell
from producers.recordings.csv_units import TIME_UNITS, parse_header, quantity

_Value = TypeVar("_Value", int, float)


class PowerReading(NamedTuple):
    """One row of power. `key_ms` is its time, `section` counts headers before it.

    `identity` has the cells of `IDENTITIES`. `counter_uj` is the energy counter, or, where `duration_ms` is not 0, the
    energy in the row's own interval.
    """

    key_ms: int
    line: int
    section: int
    identity: tuple[str, ...]
    node: str
    group: Group
    owner: str
    hardware: str
    counter_uj: int | None
    watts: float | None
    module_watts: float | None
    utilisation: float | None
    duration_ms: int
    is_local: bool

    @property
    def value(self) -> tuple[int | None, float | None, float | None]:
        """The values. Of one device at one time, a second reading with the same values is the same reading."""
        return self.counter_uj, self.watts, self.module_watts


class ReadingFile:
    """The power file. `times` are those of the last pass over it; `begins_late` is an option of theirs."""

    def __init__(self, path: Path, defaults: CsvDefaults, *, begins_late: bool = False) -> None:
        self.path, self.defaults, self.begins_late = path, defaults, begins_late
        self.times = defaults.file_times()

    def table(self) -> CsvTable:
        return CsvTable(self.path, POWER_COLUMNS, ("time",), joined=True)

    def __iter__(self) -> Iterator[PowerReading | BadRow]:
        table = self.table()
        columns, section = QuantityColumns(table), 0
        self.times = times = self.defaults.file_times(begins_late=self.begins_late)

        def read(line: CsvLine) -> PowerReading:
            nonlocal columns, section
            if table.section != section:
                columns, section = QuantityColumns(table), table.section
            return _reading(line, table, columns, times, self.defaults)

        yield from read_rows(table, read)


def _reading(
    line: CsvLine, table: CsvTable, columns: QuantityColumns, times: FileTimes, defaults: CsvDefaults
) -> PowerReading:
    t_ms = times.read(line, table, "time")
    counter_uj, watts, module_watts = _values(line, columns)
    return PowerReading(
        key_ms=t_ms,
        line=line.number,
        section=table.section,
        identity=tuple(
            "" if not table.has(column) or has_no_value(line.get(column)) else line.text(column, "")
            for column in IDENTITIES
        ),
        node=line.text("node", defaults.node),
        group=group_of(line, defaults),
        owner=line.text("owner", defaults.owner),
        hardware=defaults.hardware if has_no_value(line.get("hardware")) else line.text("hardware", ""),
        counter_uj=counter_uj,
        watts=watts,
        module_watts=module_watts,
        utilisation=_utilisation(line),
        duration_ms=_duration_ms(line, table) if table.has("duration") else 0,
        is_local=is_local(time_cell(line)),
    )


def _values(line: CsvLine, columns: QuantityColumns) -> tuple[int | None, float | None, float | None]:
    """Return counter, watts and the module's watts. Raises BadCell where none of them can be read."""
    faults: list[BadCell] = []

    def attempt(read: Callable[[], _Value | None]) -> _Value | None:
        try:
            return read()
        except BadCell as fault:
            faults.append(fault)
            return None

    counter_uj = attempt(lambda: columns.counter_uj(line))
    watts = attempt(lambda: columns.watts_of(line, module=False))
    module_watts = attempt(lambda: columns.watts_of(line, module=True))
    if counter_uj is None and watts is None and module_watts is None:
        raise faults[0] if faults else columns.blank(line)
    return counter_uj, watts, module_watts


def _duration_ms(line: CsvLine, table: CsvTable) -> int:
    text = line.get("duration")
    unit = parse_header(table.header_cell("duration")).unit or "s"
    try:
        ms = quantity(text, TIME_UNITS, TIME_UNITS.get(unit), "write s, ms, min or h")
        if ms <= 0:
            raise ValueError("give more than 0")
    except ValueError as error:
        raise BadCell("duration", text, str(error)) from None
    return ms


def _utilisation(line: CsvLine) -> float | None:
    """Return a ratio of percent, or None for a cell that cannot be read: no energy depends on it."""
    text = line.get("utilization").removesuffix("%").strip()
    return int(text) / 100 if text.isdecimal() and text.isascii() and len(text) <= 3 and int(text) <= 100 else None
