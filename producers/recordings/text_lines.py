"""Text files by lines, bounded, in spite of BOMs, CRLF, UTF-16, quotes and units.

Each physical line is parsed on its own, so that a stray quote spoils one line and not the others.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

from contracts.errors import BadInput
from contracts.events import MAX_TEXT
from producers.recordings.base import BadRow, bad_row
from producers.runtime.refusals import describe

Row = TypeVar("Row")

MAX_LINE = 65_536
"""Characters in one line."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)
_UNITS = re.compile(r"(.*?)\s*\[[^]]*]")
NO_VALUE = frozenset(
    {"", "n/a", "[n/a]", "nan", "null", "none", "-", "[unknown error]", "[not supported]", "[unknown]"}
)
"""Cells, in lower case, by which tools (nvidia-smi among them) say that they have no value."""


def read_lines(path: Path) -> Iterator[tuple[int, str] | BadRow]:
    """Yield (line number from 1, line without its end) of each line that is not blank.

    The file is UTF-8 with or without a BOM, or UTF-16 with one. Bytes that are no text become lone surrogates,
    which no name may hold. A line longer than MAX_LINE is a BadRow. Raises BadInput if the file cannot be opened.
    """
    try:
        with path.open("rb") as raw:
            utf16 = raw.read(2) in (b"\xff\xfe", b"\xfe\xff")
        encoding = "utf-16" if utf16 else "utf-8-sig"
        with path.open(encoding=encoding, errors="replace" if utf16 else "surrogateescape") as file:
            number = 0
            while line := file.readline(MAX_LINE):
                number += 1
                if len(line) == MAX_LINE and not line.endswith("\n"):
                    while (continuation := file.readline(MAX_LINE)) and not continuation.endswith("\n"):
                        pass
                    yield bad_row(path, number, "", line, f"longer than {MAX_LINE} characters")
                elif line := line.strip():
                    yield number, line
    except OSError as error:
        raise BadInput(path.name, str(path), error.strerror or "cannot be read") from None


class CsvTable:
    """A CSV file by column name. `columns` holds the names of its header, in lower case and without units.

    `aliases` are other names for our columns, best first; `required` must be there. Raises BadInput for a file
    that is empty, lacks a column, or has one twice.
    """

    def __init__(self, path: Path, aliases: Mapping[str, Sequence[str]], required: Sequence[str]) -> None:
        self.path = path
        self._lines = read_lines(path)
        first = next(self._lines, None)
        if first is None:
            raise BadInput("file", path.name, f"is empty; it needs a header with the columns {', '.join(required)}")
        if isinstance(first, BadRow):
            raise BadInput("header", first.value, f"{path.name}, line 1 is {first.reason}")
        cells = _split(first[1])
        headers = [_column(c) for c in cells or ()]
        self._width = len(headers)
        self._at: dict[str, int] = {}
        self._header: dict[str, str] = {}
        for name, aliases_of_name in aliases.items():
            present = [n for n in aliases_of_name if n in headers]
            if present and headers.count(present[0]) > 1:
                raise BadInput("header", present[0], f"{path.name} has this column {headers.count(present[0])} times")
            if present:
                self._at[name], self._header[name] = headers.index(present[0]), present[0]
        self.columns = ", ".join(headers)
        missing = [n for n in required if n not in self._at]
        if missing:
            raise BadInput("columns", self.columns, f"{path.name} also needs {' and '.join(missing)}")

    def has(self, name: str) -> bool:
        return name in self._at

    def header(self, name: str) -> str:
        """Return the name that the file itself gives a column, for reports."""
        return self._header.get(name, name)

    def __iter__(self) -> Iterator[CsvLine | BadRow]:
        for item in self._lines:
            if isinstance(item, BadRow):
                yield item
                continue
            number, text = item
            cells = _split(text)
            if cells is None:
                yield bad_row(self.path, number, "", text, "a quote is not closed, or is in the middle of a cell")
            elif len(cells) != self._width:
                yield bad_row(self.path, number, "", text, f"{len(cells)} cells, but the header has {self._width}")
            else:
                yield CsvLine(self, number, cells)


def read_rows(table: CsvTable, read: Callable[[CsvLine], Row]) -> Iterator[Row | BadRow]:
    """Yield the result of `read` for each line of a table, or the report of the line, whatever `read` raises."""
    for line in table:
        if isinstance(line, BadRow):
            yield line
            continue
        try:
            row = read(line)
        except Exception as error:
            yield line.bad(error)
            continue
        yield row


class CsvLine:
    """One row. Its getters raise `BadCell` for a cell that they cannot read."""

    __slots__ = ("_cells", "_table", "number")

    def __init__(self, table: CsvTable, number: int, cells: list[str]) -> None:
        self._table = table
        self.number = number
        self._cells = cells

    def get(self, name: str) -> str:
        """Return the cell, stripped, or "" if the file has no such column."""
        at = self._table._at.get(name)
        return "" if at is None else self._cells[at].strip()

    def text(self, name: str, default: str) -> str:
        """Return a name of 1 to 253 printable characters, or `default` if the cell is empty or missing."""
        value = self.get(name)
        if not value:
            return default
        if len(value) > MAX_TEXT or not value.isprintable():
            raise BadCell(name, value, f"give 1 to {MAX_TEXT} printable characters")
        return value

    def count(self, name: str, max_count: int, *, default: int | None = None) -> int:
        """Return a whole number from 0 to `max_count`, or `default`, if given, where the cell is empty or missing."""
        value = self.get(name)
        if not value and default is not None:
            return default
        if not (value.isdecimal() and value.isascii() and len(value) <= 19) or int(value) > max_count:
            raise BadCell(name, value, f"give a whole number from 0 to {max_count}")
        return int(value)

    def time(self, name: str, zone_ms: int) -> int:
        value = self.get(name)
        try:
            return time_ms(value, zone_ms)
        except ValueError as error:
            raise BadCell(name, value, str(error)) from None

    def bad(self, error: Exception) -> BadRow:
        """Return the report of a row that was refused with an error of any class."""
        if isinstance(error, BadCell):
            return bad_row(self._table.path, self.number, self._table.header(error.column), error.value, error.reason)
        text = ",".join(self._cells)
        return bad_row(self._table.path, self.number, "", text, f"cannot be read ({describe(error)})")


class BadCell(Exception):  # noqa: N818 - a control-flow signal within this package, turned into a BadRow
    """A cell that cannot be read: its column, its value and the reason."""

    def __init__(self, column: str, value: str, reason: str) -> None:
        self.column, self.value, self.reason = column, value, reason
        super().__init__(column, value, reason)


def time_ms(text: str, zone_ms: int = 0) -> int:
    """Return a time as UTC epoch milliseconds, cut (not rounded) to the millisecond.

    A plain number is epoch seconds below 1e11 (the year 5138), epoch milliseconds below 1e14. Anything else is RFC
    3339 or ISO 8601, also with `/` between year, month and day, as nvidia-smi prints it. A time without a zone is
    local time in the zone that is `zone_ms` ahead of UTC. Raises ValueError that says what would be right.
    """
    if text.replace(".", "", 1).isdecimal() and text.isascii():
        number = float(text)
        if number >= 1e14:
            raise ValueError("too large: give epoch seconds, epoch milliseconds or RFC 3339")
        if number >= 1e11:
            return int(number)
        seconds, _, fraction = text.partition(".")
        return int(seconds or 0) * 1000 + int(fraction[:3].ljust(3, "0"))
    try:
        stamp = datetime.fromisoformat(text.replace("/", "-"))
    except ValueError:
        raise ValueError("not a time: give RFC 3339, epoch seconds or epoch milliseconds") from None
    local = stamp.tzinfo is None
    ms = ((stamp.replace(tzinfo=UTC) if local else stamp) - _EPOCH) // _MS - (zone_ms if local else 0)
    if ms < 0:
        raise ValueError("before 1970")
    return ms


def _split(line: str) -> list[str] | None:
    """Return the cells of a line (RFC 4180), or None if its quotes do not match."""
    if '"' not in line:
        return line.split(",")
    try:
        return next(csv.reader([line], strict=True, skipinitialspace=True))
    except csv.Error:
        return None


def _column(cell: str) -> str:
    """Return a column's name without its unit: `power.draw [W]` is `power.draw`."""
    name = cell.strip().lower()
    units = _UNITS.fullmatch(name)
    return units[1] if units else name
