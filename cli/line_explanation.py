"""Explanation of a bill's line: its arithmetic, its largest windows with their prices, and the intervals of one."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cli.output import note, stdout
from cli.tables import Column, integer, print_table, text_column
from contracts.units import counted, plain_decimal, rfc3339, shortest_decimal

if TYPE_CHECKING:
    from billing.line_items import LineItem
    from warehouse.billing.line_windows import LineWindow, LineWindows
    from warehouse.billing.periods import PeriodStep
    from warehouse.reader import LedgerReader

_COLUMNS = (
    text_column("window_start", "window"),
    Column("energy_uj", "energy uJ", integer),
    Column("tariff", "per kWh", str),
    Column("pue", "PUE", str),
    Column("cost", "cost", str),
    text_column("currency", ""),
    Column("prompt_tokens", "prompt", integer),
    Column("completion_tokens", "completion", integer),
    text_column("method", "method"),
)


def explain_line(reader: LedgerReader, line: LineItem, step: PeriodStep | None) -> None:
    """Print a line of a closing, or of a draft (None), down to what GPUs measured in its largest window."""
    from warehouse.billing.line_windows import line_windows

    _print_arithmetic(line)
    windows = line_windows(reader, line, step)
    if windows is None:
        return
    _print_windows(line, windows)
    if windows.largest:
        _print_intervals(reader, line, windows.largest[0], is_closed=step is not None)


def line_document(reader: LedgerReader, line: LineItem, step: PeriodStep | None) -> dict[str, Any]:
    """Return a line with its windows, for JSON."""
    from api.serialization import plain
    from billing.proof import line_record
    from warehouse.billing.line_windows import line_windows

    windows = line_windows(reader, line, step)
    return {"line": line_record(line), "windows": None if windows is None else plain(windows)}


def _print_arithmetic(line: LineItem) -> None:
    console = stdout()
    console.print(f"{line.name} of {line.tenant}, {rfc3339(line.from_ms)} to {rfc3339(line.to_ms)}", markup=False)
    if place := ", ".join(value for value in line.place[1:] if value):
        console.print(f"  {place}", markup=False)
    for step in line.steps:
        console.print(f"  {step}", markup=False)
    exact = "unknown" if line.exact is None else f"{line.exact} {line.currency}, rounded to {line.amount}"
    console.print(f"  = {exact}", markup=False)
    if line.energy_uj:
        console.print(f"  {line.energy_uj} uJ measured", markup=False)
    if line.corrects:
        note(f"It corrects line {line.corrects}: its windows are those of both.")


def _print_windows(line: LineItem, windows: LineWindows) -> None:
    rows = [
        {
            "window_start": rfc3339(window.window_start),
            "energy_uj": window.energy_uj,
            "tariff": None if window.tariff is None else shortest_decimal(window.tariff),
            "pue": None if window.pue is None else shortest_decimal(window.pue),
            "cost": None if window.cost is None else plain_decimal(window.cost),
            "currency": window.currency,
            "prompt_tokens": window.prompt_tokens,
            "completion_tokens": window.completion_tokens,
            "method": window.method,
        }
        for window in windows.largest
    ]
    if not rows:
        note("The ledger no longer has its windows.")
        return
    print_table(rows, _COLUMNS, title=f"The largest of {counted(windows.windows, 'window')}")
    stdout().print(f"All of its windows: {windows.energy_uj} uJ", markup=False)
    if line.meter == "energy" and not line.corrects and windows.energy_uj != line.energy_uj:
        note(
            f"The line has {line.energy_uj} uJ: facts came after the closing, its tenant moved to another team, or "
            "windows are no longer stored."
        )


def _print_intervals(reader: LedgerReader, line: LineItem, window: LineWindow, *, is_closed: bool) -> None:
    from cli.charge_tree import charge_tree
    from warehouse.ledger.explained_charge import Explanation
    from warehouse.ledger.explanation import explain

    explanation = explain(reader, line.tenant, rfc3339(window.window_start))
    assert isinstance(explanation, Explanation), "the command's reader is an operator's"
    place = line.place
    of_line = [
        part
        for part in explanation.parts
        if (part.row.workload, part.row.model) == (place.workload, place.model)
        and place.hardware in ("", part.row.hardware)
    ]
    if len(of_line) != len(explanation.parts):
        note(
            f"In this window {line.tenant} has {counted(len(explanation.parts), 'part')}: those of the line are shown."
        )
    stdout().print(charge_tree(replace(explanation, parts=of_line)), soft_wrap=True)
    if is_closed:
        note("The tree has the prices of today; the table has those of the closing.")
