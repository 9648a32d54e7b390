"""Commands that check: doctor and config."""

from __future__ import annotations

import os
import tomllib
from dataclasses import asdict
from pathlib import Path

import typer
from rich.console import Console
from rich.table import Table

from cli.options import Data, Json, errors_told, load_settings
from cli.output import print_json

PANEL = "Check"


def register(app: typer.Typer) -> None:
    """Add the commands to an app."""
    for command in (doctor, config):
        app.command(rich_help_panel=PANEL)(command)


def doctor(data: Data = None, as_json: Json = False) -> None:
    """Check broker, topics, lag, clocks, schema, prices, API exposure and NVML; each failure comes with one hint.

    Exit status 1 if anything failed. What this machine does not need (NVML without a GPU) is only noted.
    """
    with errors_told():
        from cli.doctor import examine

        found = list(examine(load_settings(data)))
        if as_json:
            print_json([asdict(f) for f in found])
        else:
            out = Console(highlight=False)
            sign = {"ok": "[green]✓[/green]", "note": "[yellow]·[/yellow]", "failed": "[red]✗[/red]"}
            for f in found:
                out.print(f"{sign[f.state]} {f.check:16} ", end="")
                out.print(f.says, markup=False, soft_wrap=True)
                if f.hint:
                    out.print(f"  {'':16} hint: ", end="")
                    out.print(f.hint, markup=False, soft_wrap=True)
        if any(f.state == "failed" for f in found):
            raise typer.Exit(1)


def config(data: Data = None, as_json: Json = False) -> None:
    """Show every setting, its value, and where that came from. Secrets stay hidden. docs/settings.md explains each."""
    with errors_told():
        settings = load_settings(data)
        path = Path(os.environ.get("WATTLOG_CONFIG", "wattlog.toml"))
        in_file = tomllib.loads(path.read_text()) if path.is_file() else {}
        rows = []
        for name, field in type(settings).model_fields.items():
            variable = f"WATTLOG_{name.upper()}"
            # --data reaches this process as its own option or as the variable: Typer reads both.
            given = data is not None and name == "data" and variable not in os.environ
            origin = (
                "option"
                if given
                else variable
                if variable in os.environ
                else str(path)
                if name in in_file
                else "default"
            )
            rows.append(
                {"setting": name, "value": _shown(getattr(settings, name)), "from": origin, "help": field.description}
            )
        if as_json:
            print_json(rows)
            return
        table = Table(box=None)
        for column in ("setting", "value", "from"):
            table.add_column(column, overflow="fold")
        for row in rows:
            table.add_row(row["setting"], str(row["value"]), row["from"])
        Console(highlight=False).print(table)


def _shown(value: object) -> object:
    return value if isinstance(value, (int, float, str)) else "" if value is None else str(value)
