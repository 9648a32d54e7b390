"""audit, explain, sql: whether the books balance, what a charge is made of, and any other question."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from cli import output
from cli.asking import From, PeriodName, To, ledger, period_of
from cli.options import Data, Json
from cli.output import Format, FormatOption, chosen


def audit(
    period: PeriodName = None, start: From = None, end: To = None, as_json: Json = False, data: Data = None
) -> None:
    """Check again, from what is stored, that every joule is accounted for. All there is, unless a period is given.

    Exit status 1 on any residual, or a gap in what the log delivered.

    Example: wattlog audit --json | jq .residual_uj
    """
    with ledger(data) as warehouse:
        from api.present import plain
        from warehouse.audit import audit as check

        when = period_of(warehouse, period, start, end) if period or start or end else None
        found = check(warehouse, when.start, when.end) if when else check(warehouse)
        if as_json:
            output.print_json({**plain(found), "ok": found.ok})
        else:
            _print_audit(found)
    if not found.ok:
        raise typer.Exit(1)


def _print_audit(found: Any) -> None:
    out = output.stdout()
    out.print(
        f"measured [bold]{found.measured_uj:,}[/bold] µJ = {found.active_uj:,} active + {found.idle_uj:,} idle "
        f"+ {found.unallocated_uj:,} unallocated",
        soft_wrap=True,
    )
    style = "bold green" if found.ok else "bold red"
    out.print(
        f"[{style}]residual {found.residual_uj:,} µJ[/{style}] over {found.windows:,} windows; "
        f"{found.sequence_gaps:,} events lost on the log; {100 * found.coverage_ratio:.2f} % of the GPUs' time covered",
        soft_wrap=True,
    )
    others = ("token_residual_tokens", "request_residual", "hour_residual_uj", "hour_residual_counts")
    for name in others:
        if getattr(found, name):
            out.print(f"[red]{name} {getattr(found, name):,}[/red]")
    from contracts.units import rfc3339

    for window in found.unbalanced_windows:
        at = rfc3339(window.window_start_ms)
        out.print(f"[red]{at} {window.cluster}/{window.workload}: {window.residual_uj:,} µJ[/red]", soft_wrap=True)


def explain(
    tenant: Annotated[str, typer.Argument(help="Whose charge.", show_default=False)],
    window: Annotated[str, typer.Option(help="latest, or RFC 3339: the window that holds it.")] = "latest",
    as_json: Json = False,
    data: Data = None,
) -> None:
    """Walk a charge back to the tariff, the share of work and what each GPU measured.

    Example: wattlog explain acme --window 2026-10-31T22:30:00Z
    """
    with ledger(data) as warehouse:
        from api.present import plain
        from warehouse.explain import explain as walk_back

        found = walk_back(warehouse, tenant, window)
        if as_json:
            output.print_json(plain(found))
        else:
            from cli.explained import tree

            output.stdout().print(tree(found), soft_wrap=True)


def sql(
    question: Annotated[
        str, typer.Argument(help="One SELECT, SHOW, DESCRIBE or EXPLAIN; - reads it from stdin.", show_default=False)
    ],
    limit: Annotated[int, typer.Option(min=1, max=1_000_000, help="More rows are refused, not cut off.")] = 10_000,
    timeout_s: Annotated[int, typer.Option("--timeout", min=1, max=600, help="Seconds that it may take.")] = 30,
    format_: FormatOption = Format.TABLE,
    as_json: Json = False,
    data: Data = None,
) -> None:
    """Ask the tables in SQL, read-only.

    Example: wattlog sql "SELECT tenant, sum(active_uj) FROM ledger FINAL GROUP BY tenant"
    """
    with ledger(data) as warehouse:
        from warehouse.gate import read_only

        asked = sys.stdin.read() if question == "-" else question
        columns, rows = read_only(warehouse, asked, limit_rows=limit, timeout_s=timeout_s)
        output.print_result(columns, rows, chosen(format_, as_json))
