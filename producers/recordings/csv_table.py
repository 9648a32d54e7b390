"""CSV files by column name, row by row, in spite of quotes, units, joined files and cut lines.

Each physical line is parsed on its own, so that a stray quote spoils one line and not the others.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import TypeVar

from contracts.errors import BadInput
from contracts.events import MAX_TEXT
from producers.recordings.base import BadRow, bad_row
from producers.recordings.text_lines import CutLine, read_lines, time_ms
from producers.runtime.refusals import describe

Row = TypeVar("Row")

HEAD_LINES = 12
"""Lines in which the header of a file that may have been joined is looked for: messages may come before it."""
_UNITS = re.compile(r"(.*?)\s*[\[(][^\])]*[\])]")
_UNIT_AT_END = re.compile(r"(?<=\d) (?:[A-Za-z]+|%)$")
NO_VALUE = frozenset(
    {
        "",
        "n/a",
        "na",
        "n/s",
        "nan",
        "null",
        "none",
        "-",
        "--",
        "?",
        "err",
        "err!",
        "error",
        "unknown",
        "unknown error",
        "not supported",
        "not available",
        "not found",
        "gpu is lost",
        "gpu requires reset",
        "insufficient permissions",
    }
)
"""Cells, in lower case and without brackets, by which tools (nvidia-smi among them) say that they have no value."""


def has_no_value(cell: str) -> bool:
    """Return True for a cell that says that there is no value, such as `[N/A]`."""
    return cell.strip().strip("[]<>").strip().lower() in NO_VALUE


class CsvTable:
    """A CSV file by column name. `columns` holds the names of its header, in lower case and without units.

    `aliases` are other names for our columns, best first; `required` must be there. Where `joined`, files may have been
    joined end to end. Then a line that is such a header begins another section with columns of its own. A last line
    without its newline is refused where it may be cut. Raises BadInput for a file that is empty, lacks a column, or has
    one twice.
    """

    def __init__(
        self, path: Path, aliases: Mapping[str, Sequence[str]], required: Sequence[str], *, joined: bool = False
    ) -> None:
        self.path, self._aliases, self._required, self._joined = path, aliases, required, joined
        self.section = 0
        """Headers read before the current line, less one."""
        lines = read_lines(path)
        head = list(islice(lines, HEAD_LINES if joined else 1))
        at = next((i for i, item in enumerate(head) if joined and not isinstance(item, BadRow) and
                   is_header(item[1], aliases, required)), 0)  # fmt: skip
        self._before = head[:at]
        self._lines = chain(head[at + 1 :], lines)
        first = head[at] if head else None
        if first is None:
            raise BadInput("file", path.name, f"is empty; it needs a header with the columns {', '.join(required)}")
        if isinstance(first, BadRow):
            raise BadInput("header", first.value, f"{path.name}, line 1: {first.reason}")
        self.header_cells = _split(first[1]) or []
        """Cells of the header, as they are in the file."""
        self._bind(self.header_cells)

    def _bind(self, cells: list[str]) -> None:
        """Take the columns of a header."""
        headers = [column_name(c) for c in cells]
        self._width = len(headers)
        self._at: dict[str, int] = {}
        self._header: dict[str, str] = {}
        for name, aliases_of_name in self._aliases.items():
            present = [n for n in aliases_of_name if n in headers]
            if present and headers.count(present[0]) > 1:
                message = f"{self.path.name} has this column {headers.count(present[0])} times"
                raise BadInput("header", present[0], message)
            if present:
                self._at[name], self._header[name] = headers.index(present[0]), present[0]
        self.columns = ", ".join(headers)
        missing = [n for n in self._required if n not in self._at]
        if missing:
            raise BadInput("columns", self.columns, f"{self.path.name} also needs {' and '.join(missing)}")

    def has(self, name: str) -> bool:
        return name in self._at

    def header(self, name: str) -> str:
        """Return the name that the file itself gives a column, for reports."""
        return self._header.get(name, name)

    def header_cell(self, name: str) -> str:
        """Return the cell of a column's header as it is in the file, or "" without the column."""
        return self.header_cells[self._at[name]].strip() if name in self._at else ""

    def __iter__(self) -> Iterator[CsvLine | BadRow]:
        for item in self._before:
            yield item if isinstance(item, BadRow) else bad_row(self.path, *item[:1], "", item[1], "before the header")
        end_of_line = ""
        for item in self._lines:
            if isinstance(item, BadRow):
                yield item
                continue
            number, text = item
            if isinstance(item, CutLine) and self._joined and not _is_whole(text, end_of_line):
                yield bad_row(self.path, number, "", text, "the file ends within this line, without a newline")
                continue
            cells = _split(text)
            if self._joined and cells and is_header(text, self._aliases, self._required):
                self.section, self.header_cells = self.section + 1, cells
                self._bind(cells)
                continue
            if self._joined and cells and len(cells) == self._width + 1 and not cells[-1].strip():
                cells.pop()  # A comma behind the last cell.
            if cells is None:
                yield bad_row(self.path, number, "", text, "a quote is not closed, or is in the middle of a cell")
            elif len(cells) != self._width:
                yield bad_row(self.path, number, "", text, f"{len(cells)} cells, but the header has {self._width}")
            else:
                end_of_line = text
                yield CsvLine(self, number, cells)


def is_header(text: str, aliases: Mapping[str, Sequence[str]], required: Sequence[str]) -> bool:
    """Return True for a line that names all required columns."""
    if text[:1].isdigit() or text.startswith("#"):
        return False
    names = {column_name(cell) for cell in _split(text) or ()}
    return bool(required) and all(not names.isdisjoint(aliases[name]) for name in required)


def _is_whole(text: str, line_before: str) -> bool:
    """Return True if a line without a newline is not cut: it ends with the unit with which the line before it ends."""
    unit = _UNIT_AT_END.search(line_before)
    return unit is not None and text.endswith(unit[0]) and text.count(",") == line_before.count(",")


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

    def cell(self, at: int) -> str:
        """Return the cell in a place of the line, stripped."""
        return self._cells[at].strip()

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


def _split(line: str) -> list[str] | None:
    """Return the cells of a line (RFC 4180), or None if its quotes do not match."""
    if '"' not in line:
        return line.split(",")
    try:
        return next(csv.reader([line], strict=True, skipinitialspace=True))
    except csv.Error:
        return None


def column_name(cell: str) -> str:
    """Return a column's name without its unit: `power.draw [W]` is `power.draw`."""
    name = cell.strip().lower()
    units = _UNITS.fullmatch(name)
    return (units[1] if units else name).replace(" ", "_")
