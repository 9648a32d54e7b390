"""Files of reference data: CSV and JSON to lines of texts by field. Whatever could be misread is refused by name.

CSV may begin with a byte order mark, end its lines in any way, and be separated by commas, semicolons or tabs, as its
header is. JSON is a list of objects with the same names.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from contracts.csv_text import plain_text
from contracts.errors import BadInput, BadRows
from contracts.units import counted
from warehouse.reference_data.tables import ReferenceTable

MAX_ROWS = 100_000
"""Rows of one import."""
MAX_BYTES = 32 * 2**20
"""Bytes of one file: more than `MAX_ROWS` rows of prices take."""
MAX_ERRORS = 20
"""Wrong rows that one refusal names."""
_SEPARATORS = (",", ";", "\t")


@dataclass(frozen=True, slots=True)
class TextRow:
    """A row as it was written: its texts by field, and its place in the file ("" on the command line)."""

    place: str
    texts: Mapping[str, str]


def read_file(table: ReferenceTable, content: bytes, source: str) -> list[TextRow]:
    """Return the rows of a CSV or JSON file. `source` is its name. Raises BadInput, or BadRows with each wrong row."""
    if len(content) > MAX_BYTES:
        raise BadInput(source, f"{len(content)} bytes", f"give at most {MAX_BYTES} bytes, {MAX_ROWS} rows")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise BadInput(source, f"line {line}", "this is not UTF-8: save it as CSV UTF-8") from None
    if "\0" in text:
        raise BadInput(source, "zero bytes", "this is not UTF-8: save it as CSV UTF-8")
    if text.lstrip()[:1] in ("[", "{"):
        return objects(table, _json(text, source), source)
    return _csv_rows(table, text, source)


def objects(table: ReferenceTable, items: object, source: str) -> list[TextRow]:
    """Return the rows of JSON: a list of objects, or an object with such a list as `rows`. Raises as `read_file`."""
    if isinstance(items, Mapping):
        items = items.get("rows")
    if not isinstance(items, Sequence) or isinstance(items, str):
        raise BadInput(source, type(items).__name__, "give a list of objects")
    problems = Problems(source)
    rows = []
    for number, item in enumerate(items, 1):
        check_count(number, source)
        place = f"row {number}"
        if not isinstance(item, Mapping):
            problems.add(BadInput(place, item, "give an object"))
            continue
        with problems.collected():
            for name in item:
                _check_name(table, str(name), place)
            rows.append(TextRow(place, {name: _text(place, name, value) for name, value in item.items()}))
    problems.check(len(items))
    return rows


class Problems:
    """Wrong rows of a source: the first `MAX_ERRORS` are kept, and all are counted."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._first: list[BadInput] = []
        self._count = 0

    def add(self, error: BadInput) -> None:
        """Keep an error, or count it."""
        self._count += 1
        if len(self._first) < MAX_ERRORS:
            self._first.append(error)

    def collected(self) -> _Collected:
        """Return a block whose BadInput is added, and not raised."""
        return _Collected(self)

    def check(self, rows: int) -> None:
        """Raise BadRows if there is any. Where the source is a single row, its error itself."""
        if not self._count:
            return
        if not self._source:
            raise self._first[0]
        more = f" ({MAX_ERRORS} of them are named)" if self._count > MAX_ERRORS else ""
        summary = f"{counted(self._count, 'fault')} in {counted(rows, 'row')}{more}, nothing was stored"
        raise BadRows(self._source, counted(rows, "row"), summary, self._first)


class _Collected:
    def __init__(self, problems: Problems) -> None:
        self._problems = problems

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> bool:
        if not isinstance(error, BadInput):
            return False
        self._problems.add(error)
        return True


def placed(place: str, name: str) -> str:
    """Return the name of a field of a row in a file, or on the command line."""
    return f"{place}, {name}" if place else name


def check_count(count: int, source: str) -> None:
    """Raise BadInput for more than `MAX_ROWS` rows."""
    if count > MAX_ROWS:
        raise BadInput(source, f"row {count}", f"give at most {MAX_ROWS:,} rows at once: split the file")


def _csv_rows(table: ReferenceTable, text: str, source: str) -> list[TextRow]:
    first = next((line for line in text.splitlines() if line.strip()), "")
    if not first:
        raise BadInput(source, "", f"the file is empty: its first line names {_names(table)}")
    separator = max(_SEPARATORS, key=first.count)
    records = _records(text, separator, source)
    header_line, cells = next(records)
    header = [plain_text(cell.strip()) for cell in cells]
    for name in header:
        _check_name(table, name, f"line {header_line}")
    if repeated := [name for name in header if header.count(name) > 1]:
        raise BadInput(f"line {header_line}", repeated[0], "this column is there twice")
    if missing := [one.name for one in table.fields if not one.optional and one.name not in header]:
        raise BadInput(f"line {header_line}", ", ".join(header), f"add the column {' and '.join(missing)}")
    problems = Problems(source)
    rows = []
    count = 0
    for line, cells in records:
        count += 1
        check_count(count, source)
        if len(cells) != len(header):
            problems.add(BadInput(
                f"line {line}", separator.join(cells),
                f"{counted(len(cells), 'cell')} under {counted(len(header), 'name')}: quote a cell that has "
                f"'{separator}' in it, also a decimal comma",
            ))  # fmt: skip
            continue
        rows.append(TextRow(f"line {line}", {
            name: plain_text(cell.strip()) for name, cell in zip(header, cells, strict=True)
        }))  # fmt: skip
    problems.check(count)
    return rows


def _records(text: str, separator: str, source: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the line and the cells of each record that is not empty."""
    reader = csv.reader(_lines(text), delimiter=separator, strict=True)
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise BadInput(source, f"line {reader.line_num}", f"this is not CSV: {error}") from None
        if any(cell.strip() for cell in cells):
            yield reader.line_num, cells


def _lines(text: str) -> Iterable[str]:
    return (line + "\n" for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n"))


def _check_name(table: ReferenceTable, name: str, place: str) -> None:
    names = [one.name for one in table.fields]
    if name not in names:
        nearest = get_close_matches(name.lower(), names, 1)
        hint = f"did you mean {nearest[0]}?" if nearest else f"the fields of {table.name} are {_names(table)}"
        raise BadInput(place, name, hint)


def _names(table: ReferenceTable) -> str:
    return ", ".join(one.name for one in table.fields)


def _json(text: str, source: str) -> Any:
    """Return JSON with its numbers as texts: a float is no decimal number."""
    try:
        return json.loads(text, parse_float=str, parse_int=str)
    except (ValueError, RecursionError) as error:
        raise BadInput(source, text[:40], f"this is not JSON: {error}") from None


def _text(place: str, name: str, value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, (str, int)):
        raise BadInput(placed(place, name), value, "give a text; also numbers are texts, such as '0.083'")
    return str(value).strip()
