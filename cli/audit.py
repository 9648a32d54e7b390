"""`wattlog audit`: checks that the ledger balances and that nothing is missing from it."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.audit_log import audit_log
from cli.ledger_access import open_ledger_and_settings, patience_of, resolve
from cli.options import Data, From, Json, PeriodName, TimeZone, To
from cli.output import print_json, progress_bar

audit = typer.Typer(invoke_without_command=True)
audit.command("log")(audit_log)


@audit.callback()
def check(
    context: typer.Context,
    period: PeriodName = None,
    start: From = None,
    end: To = None,
    tz: TimeZone = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Fail for anything missing, estimated, unbound or silent, too.")
    ] = False,
    patience: Annotated[
        float, typer.Option(min=0, max=3600, help="Seconds to wait before differences are checked again; 0: never.")
    ] = 20.0,
    as_json: Json = False,
    data: Data = None,
) -> None:
    """Check from stored rows that every joule is accounted for, and report what is missing.

    Without a period, the entire ledger is checked.

    Exit status 0: The ledger balances, and no events were lost. 1: There is a residual; the ledger is wrong. 3: It
    balances, but numbered events of producers are missing. With --strict, 3 also means that GPU time was not measured
    or was estimated, that no workload ever occupied a GPU, or that a producer, node or cluster fell silent. It also
    means that a node's host and wall both count, or that a workload has tokens and no GPU. 2: The audit could not run.

    `wattlog audit log` is another log: who changed, was refused or exported something.

    Example: wattlog audit --period latest-day --strict --json | jq .residual_uj
    """
    if context.invoked_subcommand is not None:
        _refuse_options(context)
        return
    with open_ledger_and_settings(data, compute_owed=False) as (reader, settings):
        from api.serialization import plain
        from cli import audit_report
        from warehouse.audit.conservation import audit as run_audit

        resolved = resolve(reader, period, start, end, tz, settings) if period or start or end else None
        with progress_bar("auditing") as progress:
            report = run_audit(
                reader, resolved, requests=settings.requests, max_age_ms=settings.max_age_ms, progress=progress,
                **patience_of(reader.operator_warehouse(), patience),
            )  # fmt: skip
        status = audit_report.exit_status(report, strict=strict)
        if as_json:
            parts = {part: plain(equation) for part, equation in report.parts.items()}
            verdict = {"parts": parts, "ok": report.ok, "balanced": report.balanced, "complete": report.complete}
            print_json({**plain(report), **verdict})
        else:
            audit_report.print_report(report, strict=strict)
    if status:
        raise typer.Exit(status)


def _refuse_options(context: typer.Context) -> None:
    """Raise BadParameter for an option before the subcommand, which has its own."""
    for name in context.params:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            raise typer.BadParameter(f"give the options of {context.invoked_subcommand} after it")
