"""`wattlog doctor`: checks the installation."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import typer
from rich.console import Console

from cli.options import Data, Json
from cli.output import errors_reported, print_json
from cli.settings import load_settings

if TYPE_CHECKING:
    from cli.finding import Finding


def doctor(data: Data = None, as_json: Json = False) -> None:
    """Check producers, broker, topics, lag, clocks, schema, prices and API exposure; each failure has one hint.

    Exit status 1 if any check failed. Hardware and services that this machine does not have are only noted.
    """
    with errors_reported():
        from cli.health_checks import run_checks

        findings = []
        for finding in run_checks(load_settings(data)):
            findings.append(finding)
            if not as_json:  # At once: a check may take long, and what was found is not lost if someone ends it.
                _print(finding)
        if as_json:
            print_json([asdict(finding) for finding in findings])
        if any(finding.state == "failed" for finding in findings):
            raise typer.Exit(1)


_SIGNS = {"ok": "[green]✓[/green]", "note": "[yellow]·[/yellow]", "failed": "[red]✗[/red]"}


def _print(finding: Finding) -> None:
    out = Console(highlight=False)
    out.print(f"{_SIGNS[finding.state]} {finding.check:16} ", end="")
    out.print(finding.says, markup=False, soft_wrap=True)
    if finding.hint:
        out.print(f"  {'':16} hint: ", end="")
        out.print(finding.hint, markup=False, soft_wrap=True)
