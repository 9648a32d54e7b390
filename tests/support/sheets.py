"""Sheets of an XLSX file, read without a library for it."""

from __future__ import annotations

import io
import re
import zipfile
from xml.etree import ElementTree

_MAIN = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"


def sheets(content: bytes) -> dict[str, list[list[str | float | None]]]:
    """Return each sheet's rows by its name: numbers as floats, texts as texts, empty cells as None.

    Raises AssertionError for a formula.
    """
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        book = ElementTree.fromstring(archive.read("xl/workbook.xml"))
        names = [sheet.attrib["name"] for sheet in book.iter(f"{_MAIN}sheet")]
        return {name: _rows(archive.read(f"xl/worksheets/sheet{n}.xml")) for n, name in enumerate(names, 1)}


def _rows(xml: bytes) -> list[list[str | float | None]]:
    rows = []
    for row in ElementTree.fromstring(xml).iter(f"{_MAIN}row"):
        values: list[str | float | None] = []
        for cell in row.iter(f"{_MAIN}c"):
            assert cell.find(f"{_MAIN}f") is None, "a formula"
            values += [None] * (_column(cell.attrib["r"]) - len(values)) + [_value(cell)]
        rows.append(values)
    return rows


def _column(reference: str) -> int:
    number = 0
    for letter in re.match("[A-Z]+", reference)[0]:  # type: ignore[index]
        number = number * 26 + ord(letter) - ord("A") + 1
    return number - 1


def _value(cell: ElementTree.Element) -> str | float | None:
    if cell.attrib.get("t") == "inlineStr":
        return "".join(part.text or "" for part in cell.iter(f"{_MAIN}t"))
    value = cell.find(f"{_MAIN}v")
    return None if value is None else float(value.text or "")
