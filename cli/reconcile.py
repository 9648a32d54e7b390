"""`wattlog reconcile`: compares what two sources say of one quantity, and names what is wrong."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from cli.ledger_access import open_ledger
from cli.options import Data, Json
from cli.output import print_json, stdout

DIFFERS = 3
"""Exit status where something differs, as that of an incomplete audit."""


def reconcile(
    strict: Annotated[bool, typer.Option("--strict", help="Fail if there was nothing to compare, too.")] = False,
    as_json: Json = False,
    data: Data = None,
) -> None:
    """Compare tokens by gateway with servers' own counters, energy with a second meter, and the ledger with its sums.

    The hours before the newest final window are judged and kept as rows: run this from a timer, every hour. What is
    wrong is named: lost, doubled, a factor, a shift in time, a silent source, a wrong mapping.

    Exit status 0: all sources agree. 3: Something differs; with --strict also if nothing was compared.

    Example: wattlog reconcile --json | jq '.findings[].says'
    """
    with open_ledger(data) as reader:
        from api.serialization import plain, plain_rows
        from warehouse.reconciliation import records

        run = records.reconcile(reader, time.time_ns() // 1_000_000)
        if as_json:
            print_json(plain(run))
        else:
            out = stdout()
            for finding in plain_rows(run.findings):
                out.print(f"{finding['says']}, since {finding['since']}", style="red", markup=False, soft_wrap=True)
            until = "an empty ledger" if run.until is None else f"the hours before {plain(run)['until']}"
            out.print(f"{run.comparisons:,} pairs of series compared over {until}; {len(run.findings):,} differ")
            if not run.comparisons:
                out.print(
                    "Nothing was compared: no two sources tell of the same hours. docs/reconciliation.md lists pairs."
                )
    if run.findings or (strict and not run.comparisons):
        raise typer.Exit(DIFFERS)
