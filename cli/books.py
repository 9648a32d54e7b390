"""audit, explain, sql: whether the books balance, what a charge is made of, and any other question."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from cli import output
from cli.asking import From, PeriodName, To, ledger, ledger_as_set, period_of
from cli.options import Data, Json
from cli.output import Format, FormatOption, chosen


def audit(
    period: PeriodName = None,
    start: From = None,
    end: To = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Fail on GPU time that nothing measured and on silent producers, too.")
    ] = False,
    patience: Annotated[
        float, typer.Option(min=0, max=3600, help="Seconds to wait before looking again at what differs; 0: once only.")
    ] = 20.0,
    as_json: Json = False,
    data: Data = None,
) -> None:
    """Check again, from what is stored, that every joule is accounted for, and say what is missing. All there is,
    unless a period is given.

    Exit status 0: it balances and the log lost nothing. 1: a residual; the books are wrong. 3: it balances, but events
    that producers numbered never came, or, with --strict, GPU time was not measured or a producer fell silent. 2: it
    could not be asked.

    Example: wattlog audit --period latest-day --strict --json | jq .residual_uj
    """
    with ledger_as_set(data) as (reader, settings):
        from api.serialization import plain
        from cli import audited
        from warehouse.audit.conservation import audit as check

        when = period_of(reader, period, start, end) if period or start or end else None
        with audited.progress() as tick:
            found = check(reader, when, requests=settings.requests, patience_s=patience, progress=tick)
        code = audited.status(found, strict=strict)
        if as_json:
            verdict = {"ok": found.ok, "balanced": found.balanced, "complete": found.complete}
            output.print_json({**plain(found), **verdict})
        else:
            audited.show(found, strict=strict)
    if code:
        raise typer.Exit(code)


def explain(
    tenant: Annotated[str, typer.Argument(help="Whose charge.", show_default=False)],
    window: Annotated[str, typer.Option(help="latest, or RFC 3339: the window that holds it.")] = "latest",
    as_json: Json = False,
    data: Data = None,
) -> None:
    """Walk a charge back to the tariff, the share of work and what each GPU measured.

    Example: wattlog explain acme --window 2026-10-31T22:30:00Z
    """
    with ledger(data) as reader:
        from api.serialization import plain
        from warehouse.ledger.explanation import explain as walk_back

        found = walk_back(reader, tenant, window)
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
    with ledger(data) as reader:
        from warehouse.read_only_sql import read_only

        asked = sys.stdin.read() if question == "-" else question
        columns, rows = read_only(reader, asked, limit_rows=limit, timeout_s=timeout_s)
        output.print_result(columns, rows, chosen(format_, as_json))
