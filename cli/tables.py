"""Reports on stdout: rows as a table for a terminal, as CSV or as JSON."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from cli.audit_entries import record_export
from cli.options import Format
from cli.output import SIMULATED, json_value, print_csv, print_json, stdout
from contracts.csv_text import safe_cell


@dataclass(frozen=True, slots=True)
class Column:
    """Column of a table: the field, a header with the unit, and the format of its values."""

    field: str
    header: str
    format: Callable[[Any], str] = str
    right: bool = True
    """Align to the right, as numbers are."""


def text_column(field: str, header: str) -> Column:
    """Return a column of names, aligned to the left."""
    return Column(field, header, lambda value: "" if value is None else str(value), right=False)


def print_rows(
    format_: Format,
    rows: Sequence[Mapping[str, Any]],
    *,
    title: str,
    columns: Sequence[Column],
    csv_columns: Iterable[str],
    simulated: bool,
    envelope: Mapping[str, Any],
    next_: str | None,
    total: Mapping[str, Any] | None = None,
    flat_rows: Sequence[Mapping[str, Any]] | None = None,
) -> None:
    """Print the rows of a report.

    JSON has `envelope`, the rows and the cursor `next_`. CSV and tables have `flat_rows` where those differ. A table
    ends with `total`.
    """
    flat = rows if flat_rows is None else flat_rows
    if format_ is Format.JSON:
        print_json({**envelope, "rows": rows, "next": next_})
    elif format_ is Format.CSV:
        print_csv(flat, list(csv_columns))
    else:
        print_table(flat, columns, title=title, total=total, simulated=simulated)


def print_table(
    rows: Sequence[Mapping[str, Any]],
    columns: Sequence[Column],
    *,
    title: str,
    total: Mapping[str, Any] | None = None,
    simulated: bool = False,
) -> None:
    """Print a table that fits the terminal. SIMULATED energy is marked in the title and in each of its rows."""
    heading = Text(title, style="bold")
    if simulated:
        heading.append("  ").append(SIMULATED, style="bold black on yellow")
    table = Table(box=box.SIMPLE_HEAD, title_justify="left", show_footer=total is not None, pad_edge=False)
    table.title = heading
    mark_rows = simulated and any("simulated" in row for row in rows)
    for i, column in enumerate(columns):
        footer = "" if total is None else ("total" if i == 0 else _cell(column, total))
        table.add_column(column.header, footer, justify="right" if column.right else "left", no_wrap=True)
    if mark_rows:
        table.add_column("")
    for row in rows:
        cells = [Text(_cell(column, row)) for column in columns]
        if mark_rows:
            cells.append(Text(SIMULATED if row.get("simulated") else "", style="yellow"))
        table.add_row(*cells)
    stdout().print(table)


def _cell(column: Column, row: Mapping[str, Any]) -> str:
    value = row.get(column.field)
    return "-" if value is None and column.right else column.format(value)


def print_sql_result(columns: Sequence[str], rows: Sequence[Sequence[Any]], format_: Format) -> None:
    """Print the result of a user's SQL query."""
    if format_ is Format.JSON:
        print_json([dict(zip(columns, row, strict=True)) for row in rows])
    elif format_ is Format.CSV:
        record_export(len(rows))
        writer = csv.writer(sys.stdout, lineterminator="\r\n")
        writer.writerow(map(safe_cell, columns))
        writer.writerows([safe_cell(_sql_value(value)) for value in row] for row in rows)
    else:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for i, name in enumerate(columns):
            numeric = bool(rows) and all(isinstance(row[i], (int, float, Decimal)) for row in rows)
            table.add_column(Text(name), justify="right" if numeric else "left")
        for row in rows:
            table.add_row(*(Text(str(_sql_value(value))) for value in row))
        stdout().print(table)


def _sql_value(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, (datetime, date, Decimal, bytes)):
        return json_value(value)
    if isinstance(value, (list, tuple, dict)):
        return json.dumps(value, default=json_value, ensure_ascii=False)
    return value


# Formats of numbers


def integer(value: Any) -> str:
    """Format an integer with thousands separators."""
    return f"{int(value):,}"


def decimals(digits: int) -> Callable[[Any], str]:
    """Return a format with this many digits after the decimal point."""
    return lambda value: f"{Decimal(str(value)):,.{digits}f}"


def decimals_or_figures(digits: int) -> Callable[[Any], str]:
    """Return a format with this many decimals, or with four significant figures for values below 1."""
    return lambda value: figures(value) if 0 < abs(Decimal(str(value))) < 1 else decimals(digits)(value)


def figures(value: Any) -> str:
    """Format a ratio or an estimate with four significant figures."""
    return f"{float(value):,.4g}" if abs(float(value)) < 1e5 else f"{float(value):,.0f}"


def percent(value: Any) -> str:
    """Format a ratio as percent with one decimal."""
    return f"{100 * float(value):.1f}"


def kilograms(grams: Any) -> str:
    """Format grams as kilograms."""
    return f"{Decimal(str(grams)) / 1000:,.3f}"
