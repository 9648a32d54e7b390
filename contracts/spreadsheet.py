"""XLSX: sheets of rows, in bounded memory.

Excel keeps 15 digits of a number. So each sheet with numbers has a twin whose name ends in `exact`: there every figure
is text, digit for digit, in the same row and column. A sheet that is full is continued in another one.
No text is a formula: cells have types, and one that a spreadsheet might run when it is edited is marked as quoted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO

from contracts.csv_text import safe_text
from contracts.units import plain_decimal, rfc3339

if TYPE_CHECKING:
    from xlsxwriter.format import Format
    from xlsxwriter.worksheet import Worksheet

MEDIA_TYPE = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
MAX_ROWS = 1_048_576
"""Rows of a sheet, its header included."""
MAX_TEXT = 32_767
"""Characters of a cell."""
EXACT_NOTE = (
    "Excel keeps 15 digits of a number. The sheets whose names end in exact have every figure as text, digit for digit."
)
UNKNOWN = "unknown"
"""A figure that is not known. An empty cell would be taken for 0."""
_CUT = " ... (cut: CSV has all of it)"
_PLACES = 3
"""Decimal places up to which a number is shown with all of its own, zeros at the end included."""


class Spreadsheet:
    """A file of sheets, which is complete when its `with` block ends. The same rows give the same bytes."""

    def __init__(self, file: BinaryIO, created: datetime, *, max_rows: int = MAX_ROWS) -> None:
        """Write to a file that can be sought in. `created` is stored in it; `max_rows` are for tests."""
        from xlsxwriter import Workbook

        self._book = Workbook(file, {"constant_memory": True, "remove_timezone": True})
        self._book.use_zip64()
        self._book.set_properties({"created": created})
        self._max_rows = max_rows
        self._bold = self._book.add_format({"bold": True})
        self._time = self._book.add_format({"num_format": "yyyy-mm-dd hh:mm:ss"})
        self._quoted = self._book.add_format({"quote_prefix": True})
        self._numbers: dict[int, Format] = {}

    def __enter__(self) -> Spreadsheet:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # xlsxwriter writes the file, and removes its temporary ones, when it is closed.
        self._book.close()

    def add(
        self, name: str, rows: Iterable[Mapping[str, Any]], columns: Sequence[str], *, has_twin: bool = True
    ) -> int:
        """Add a sheet of rows, and its twin. Returns how many rows it has. Times are aware, and shown in UTC."""
        sheets: list[Worksheet] = []
        count = 0
        for count, row in enumerate(rows, 1):
            at = (count - 1) % (self._max_rows - 1) + 1
            if at == 1:
                sheets = self._sheets(name, 1 + (count - 1) // (self._max_rows - 1), columns, has_twin)
            for column, key in enumerate(columns):
                value = row.get(key)
                self._write(sheets[0], at, column, value)
                for twin in sheets[1:]:
                    self._write_text(twin, at, column, _exact(value))
        if not sheets:
            self._sheets(name, 1, columns, has_twin=False)
        return count

    def _sheets(self, name: str, number: int, columns: Sequence[str], has_twin: bool) -> list[Worksheet]:
        later = "" if number == 1 else f" {number}"
        sheets = [self._book.add_worksheet(f"{title}{later}") for title in (name, *([f"{name} exact"] * has_twin))]
        for sheet in sheets:
            sheet.freeze_panes(1, 0)
            for column, key in enumerate(columns):
                sheet.write_string(0, column, key, self._bold)
        return sheets

    def _write(self, sheet: Worksheet, row: int, column: int, value: Any) -> None:
        if isinstance(value, bool):
            sheet.write_boolean(row, column, value)
        elif isinstance(value, (int, float, Decimal)):
            sheet.write_number(row, column, float(value), self._format_of(value))
        elif isinstance(value, datetime):
            sheet.write_datetime(row, column, value, self._time)
        else:
            self._write_text(sheet, row, column, _exact(value))

    def _write_text(self, sheet: Worksheet, row: int, column: int, text: str) -> None:
        if not text:
            return
        if len(text) > MAX_TEXT:
            text = text[: MAX_TEXT - len(_CUT)] + _CUT
        sheet.write_string(row, column, text, self._quoted if safe_text(text) != text else None)

    def _format_of(self, value: float | Decimal) -> Format | None:
        """Return the format of a number with a few places, so that 15.00 is not shown as 15."""
        places = -int(value.as_tuple().exponent) if isinstance(value, Decimal) else 0
        if not 0 < places <= _PLACES:
            return None
        if places not in self._numbers:
            self._numbers[places] = self._book.add_format({"num_format": f"0.{'0' * places}"})
        return self._numbers[places]


def _exact(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Decimal):
        return plain_decimal(value)
    if isinstance(value, datetime):
        return rfc3339(round(value.timestamp() * 1000))
    if isinstance(value, Mapping):
        return ":".join(_exact(part) for part in value.values())
    return ";".join(map(_exact, value)) if isinstance(value, (list, tuple)) else str(value)
