"""Reports of edits of reference data: the changes on stdout, as text or JSON, and their meaning on stderr."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from cli.output import note, print_json

if TYPE_CHECKING:
    from warehouse.reference_data.editing import Edit
    from warehouse.reference_data.reports import ReportedChange

MAX_LINES, MAX_JSON_CHANGES = 20, 1_000
"""Changes that are printed, as text and as JSON; the summary counts all."""
_LABELLED = frozenset({"valid_from", "valid_to", "version", "prompt", "cached", "completion", "simulated"})
"""Fields whose values say little without their names."""
_SIGNS = {"added": "+", "changed": "~", "removed": "-"}


def print_meaning(edit: Edit) -> None:
    """Print what an edit does to the ledger's final hours, what is doubtful, and from when it counts."""
    for text in (*(f"This {text}." for text in (*edit.effects, *edit.doubts)), *edit.notes):
        note(text)


def print_changes(edit: Edit, *, stored: bool, as_json: bool) -> None:
    """Print the first changes, and how many there are."""
    from warehouse.reference_data.reports import edit_report

    report = edit_report(edit, MAX_JSON_CHANGES if as_json else MAX_LINES, stored=stored)
    if as_json:
        print_json(asdict(report))
        return
    for line in map(_line, report.changes):
        typer.echo(line)
    total = report.added + report.changed + report.removed
    if more := total - len(report.changes):
        typer.echo(f"… and {more:,} more")
    state = "stored" if stored else "nothing is stored" if total else "nothing to store"
    typer.echo(
        f"{edit.table.name}: {report.added:,} added, {report.changed:,} changed, {report.unchanged:,} unchanged, "
        f"{report.removed:,} removed; {state}"
    )


def _line(change: ReportedChange) -> str:
    return f"{_SIGNS[change.change]} {' '.join(_words(change))}"


def _words(change: ReportedChange) -> Iterator[str]:
    for name, text in change.row.items():
        before = None if change.before is None else change.before.get(name)
        if before is not None and before != text:
            yield f"{name}: {before or '-'} → {text or '-'}"
        elif text and text != "false":
            yield f"{name}: {text}" if name in _LABELLED else text
    if change.follows:
        yield "(it ends or goes on where another row begins or ends)"
