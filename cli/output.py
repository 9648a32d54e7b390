"""Output of commands: data goes to stdout, as text, CSV or JSON; notes, progress and errors go to stderr."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import typer
from rich.console import Console
from rich.text import Text

from cli.audit_entries import record_export
from contracts.csv_text import csv_pieces
from contracts.errors import LedgerError, WattlogError
from contracts.units import plain_decimal

SIMULATED = "SIMULATED"
PIPE_WIDTH = 240
"""Columns of text in a pipe, so that nothing is cut off."""

stderr = Console(stderr=True, highlight=False)


def stdout() -> Console:
    """Return a console on stdout, as wide as the terminal; in a pipe, wide enough for every table."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=PIPE_WIDTH)


def print_json(value: Any) -> None:
    """Print one JSON document: Decimals as strings, times as RFC 3339, NaN and infinities as null."""
    document = json.dumps(finite(value), default=json_value, ensure_ascii=False, indent=2, allow_nan=False)
    sys.stdout.write(document + "\n")


def print_csv(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Print rows as CSV, unrounded (`contracts.csv_text`)."""
    record_export(len(rows) if isinstance(rows, Sized) else None)
    sys.stdout.writelines(csv_pieces(rows, columns))


def note(message: str) -> None:
    """Print a remark about the data on stderr."""
    stderr.print(Text(message, style="yellow"), soft_wrap=True)


def step_finished(message: str) -> None:
    """Print a step of a longer run on stderr, with a check mark."""
    stderr.print(f"[green]✓[/green] {message}", soft_wrap=True)


@contextmanager
def progress_bar(name: str, *, as_count: bool = False) -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar if stderr is a terminal: in percent, or with `as_count` as `3/10`.

    Yields the function that updates it: of how much is done, and how much there is.
    """
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    amount = MofNCompleteColumn() if as_count else TaskProgressColumn()
    columns = (TextColumn(name), BarColumn(), amount, TimeRemainingColumn())
    with Progress(*columns, console=stderr, transient=True, disable=not stderr.is_terminal) as bar:
        task = bar.add_task(name, total=None)
        yield lambda count, total: bar.update(task, completed=count, total=total)


@contextmanager
def errors_reported() -> Iterator[None]:
    """Report our errors and unusable files as one line on stderr, and exit.

    The exit status is 1 if the ledger does not balance, and 2 for any other error.
    """
    try:
        yield
    except (WattlogError, OSError) as error:
        in_file = isinstance(error, OSError) and error.filename
        message = f"{error.filename}: {error.strerror}" if in_file else str(error) or type(error).__name__  # type: ignore[union-attr]
        stderr.print("[red]error:[/red] ", end="")
        stderr.print(message, soft_wrap=True, markup=False)
        raise typer.Exit(1 if isinstance(error, LedgerError) else 2) from None


def finite(value: Any) -> Any:
    """Replace NaN and infinities, which JSON does not have, by None."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): finite(part) for key, part in value.items()}
    return [finite(part) for part in value] if isinstance(value, (list, tuple)) else value


def json_value(value: Any) -> Any:
    """Convert a value that JSON does not have to a string."""
    if isinstance(value, datetime):
        aware = value if value.tzinfo else value.replace(tzinfo=UTC)
        return aware.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, Decimal):
        return plain_decimal(value)
    if isinstance(value, bytes):
        return value.hex()
    return str(value)
