"""Commands that ask the ledger, and put in its prices. They print what the API answers, from the same reads."""

from __future__ import annotations

import typer

from cli.bills import chargeback, efficiency, fleet
from cli.books import audit, explain, sql
from cli.metered import session, sessions, usage
from cli.outlooks import anomalies, forecast
from cli.prices import price

PANEL = "Ask the ledger"


def register(app: typer.Typer) -> None:
    """Add the commands to an app."""
    for command in (
        chargeback,
        usage,
        session,
        sessions,
        fleet,
        efficiency,
        anomalies,
        forecast,
        audit,
        explain,
        price,
        sql,
    ):
        app.command(rich_help_panel=PANEL)(command)
