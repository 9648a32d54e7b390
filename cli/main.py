"""The `wattlog` command. Commands import what they need when they run: a node's agent has no warehouse in its image."""

from __future__ import annotations

import typer

from cli import check, replay, reports, run

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    help="An energy ledger for AI inference fleets: every joule to a tenant, balanced to the microjoule.\n\n"
    "Try it: [bold]wattlog demo[/bold]. Then ask: [bold]wattlog chargeback[/bold], "
    "[bold]wattlog explain TENANT[/bold], [bold]wattlog forecast[/bold]. "
    "Settings: [bold]wattlog config[/bold]. Something wrong: [bold]wattlog doctor[/bold].",
)
run.register(app)
app.add_typer(replay.app, name="replay", rich_help_panel="Run")
reports.register(app)
check.register(app)


def main() -> None:
    """Entry point of the console script."""
    app()
