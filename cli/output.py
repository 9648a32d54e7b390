"""How answers reach a person or a program: data on stdout, as a table, CSV or JSON; notes about it on stderr."""

from __future__ import annotations

import csv
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cli.options import err

SIMULATED = "SIMULATED"


class Format(StrEnum):
    """What stdout gets."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"


FormatOption = Annotated[Format, typer.Option("--format", help="What to print on stdout.")]


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table: the field, a header with the unit, and how a value is shown. Numbers stand right."""

    field: str
    header: str
    show: Callable[[Any], str] = str
    right: bool = True


def text(field: str, header: str) -> Column:
    """A column of names."""
    return Column(field, header, lambda value: "" if value is None else str(value), right=False)


def chosen(format_: Format, as_json: bool) -> Format:
    """`--json` is short for `--format json`."""
    return Format.JSON if as_json else format_


def print_json(value: Any) -> None:
    """One JSON document on stdout. Decimals as strings, times RFC 3339, what is no number null."""
    sys.stdout.write(json.dumps(clean(value), default=_json, ensure_ascii=False, indent=2, allow_nan=False) + "\n")


def print_csv(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """RFC 4180 on stdout, every field of the rows, unrounded."""
    from api.serialization import to_csv

    sys.stdout.write(to_csv(rows, columns))


def print_table(
    rows: Sequence[Mapping[str, Any]],
    columns: Sequence[Column],
    *,
    title: str,
    total: Mapping[str, Any] | None = None,
    simulated: bool = False,
) -> None:
    """A table on stdout, fit to the terminal; to a pipe, as wide as needed. SIMULATED is in the title and rows."""
    table = Table(box=box.SIMPLE_HEAD, title_justify="left", show_footer=total is not None, pad_edge=False)
    heading = Text(title, style="bold")
    if simulated:
        heading.append("  ").append(SIMULATED, style="bold black on yellow")
    table.title = heading
    marks = any("simulated" in row for row in rows) and simulated
    for i, column in enumerate(columns):
        footer = "" if total is None else ("total" if i == 0 else _shown(column, total))
        table.add_column(column.header, footer, justify="right" if column.right else "left", no_wrap=True)
    if marks:
        table.add_column("")
    for row in rows:
        cells = [Text(_shown(column, row)) for column in columns]
        if marks:
            cells.append(Text(SIMULATED if row.get("simulated") else "", style="yellow"))
        table.add_row(*cells)
    out = stdout()
    out.print(table)


def stdout() -> Console:
    """Rich on stdout. A pipe has no width: nothing is cut off there."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=240)
    return console


def note(message: str) -> None:
    """Something about the data, on stderr."""
    err.print(Text(message, style="yellow"), soft_wrap=True)


def _shown(column: Column, row: Mapping[str, Any]) -> str:
    value = row.get(column.field)
    return "-" if value is None and column.right else column.show(value)


# ---- how values are shown ----


def whole(value: Any) -> str:
    return f"{int(value):,}"


def places(digits: int) -> Callable[[Any], str]:
    """A number with so many digits after the point."""
    return lambda value: f"{Decimal(str(value)):,.{digits}f}"


def small(digits: int) -> Callable[[Any], str]:
    """A number with so many digits after the point, or with four figures where that would show next to nothing."""
    return lambda value: figures(value) if 0 < abs(Decimal(str(value))) < 1 else places(digits)(value)


def figures(value: Any) -> str:
    """Four significant figures, for ratios and estimates."""
    return f"{float(value):,.4g}" if abs(float(value)) < 1e5 else f"{float(value):,.0f}"


def percent(value: Any) -> str:
    return f"{100 * float(value):.1f}"


def kg(grams: Any) -> str:
    return f"{Decimal(str(grams)) / 1000:,.3f}"


def print_result(columns: Sequence[str], rows: Sequence[Sequence[Any]], format_: Format) -> None:
    """The answer to somebody's own SQL."""
    if format_ is Format.JSON:
        print_json([dict(zip(columns, row, strict=True)) for row in rows])
    elif format_ is Format.CSV:
        writer = csv.writer(sys.stdout, lineterminator="\r\n")
        writer.writerow(columns)
        writer.writerows([_plain(value) for value in row] for row in rows)
    else:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for i, name in enumerate(columns):
            numbers = bool(rows) and all(isinstance(row[i], (int, float, Decimal)) for row in rows)
            table.add_column(Text(name), justify="right" if numbers else "left")
        for row in rows:
            table.add_row(*(Text(str(_plain(value))) for value in row))
        stdout().print(table)


def _plain(value: Any) -> Any:
    """A value for a cell."""
    if value is None:
        return ""
    if isinstance(value, (datetime, date, Decimal, bytes)):
        return _json(value)
    return json.dumps(value, default=_json, ensure_ascii=False) if isinstance(value, (list, tuple, dict)) else value


def clean(value: Any) -> Any:
    """The same value without NaN and infinities, which JSON has not."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): clean(part) for key, part in value.items()}
    return [clean(part) for part in value] if isinstance(value, (list, tuple)) else value


def _json(value: Any) -> Any:
    if isinstance(value, datetime):
        aware = value if value.tzinfo else value.replace(tzinfo=UTC)
        return aware.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, bytes):
        return value.hex()
    return str(value)
