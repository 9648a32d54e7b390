"""CSV text (RFC 4180) that is safe to open in a spreadsheet. Pure; every output and export in CSV is written by it.

A spreadsheet runs a cell that begins with one of some characters as a formula, and names come from people's clients.
So an apostrophe precedes such a text, as OWASP advises ("CSV Injection"): behind any spaces, marks without width and
apostrophes. Numbers never get one. `plain_text` takes it off again.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from contracts.units import plain_decimal

CHUNK_ROWS = 500
"""Rows of one piece of text."""
_FORMULA = re.compile(r"'*[\t\r\n]|[\s\u200b-\u200d\u2060\ufeff\0']*+[=+\-@\uff1d\uff0b\uff0d\uff20]")
"""Beginning of a text that may be run. Some spreadsheets run the wide forms of the signs too."""
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?", re.ASCII)


def csv_pieces(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> Iterator[str]:
    """Yield a header and rows as pieces of CSV text.

    Null is empty; lists are joined by ';', parts of objects by ':'.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(columns)
    for n, row in enumerate(rows, 1):
        writer.writerow([safe_cell(row.get(column)) for column in columns])
        if n % CHUNK_ROWS == 0:
            yield out.getvalue()
            out.seek(0)
            out.truncate()
    yield out.getvalue()


def safe_cell(value: Any) -> Any:
    """Return a value as a cell that no spreadsheet runs."""
    cell = _cell(value)
    return safe_text(cell) if isinstance(cell, str) else cell


def safe_text(text: str) -> str:
    """Return a text with an apostrophe before it if a spreadsheet might run it."""
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text


def plain_text(text: str) -> str:
    """Return a text of a cell as it was before `safe_text`."""
    return text[1:] if text[:1] == "'" and safe_text(text[1:]) != text[1:] else text


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Decimal):
        return plain_decimal(value)
    if isinstance(value, Mapping):
        return ":".join(str(_cell(part)) for part in value.values())
    if isinstance(value, (list, tuple)):
        return ";".join(str(_cell(part)) for part in value)
    return value
