"""`wattlog reopen`: takes the closing of the last billing period back."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from cli.audit_entries import actor, recorded_change
from cli.close import month_name
from cli.ledger_access import open_ledger_and_settings
from cli.options import Data
from cli.output import step_finished


def reopen(
    period: Annotated[str, typer.Argument(help="The month that was closed last.", show_default=False)],
    reason: Annotated[str, typer.Option(help="Why; it stays with the period.")] = "",
    data: Data = None,
) -> None:
    """Open the last closed month again. What it was closed with stays stored.

    Example: wattlog reopen 2026-09 --reason "tariff of cluster eu was missing"
    """
    with open_ledger_and_settings(data) as (reader, settings):
        from warehouse.billing import closing

        month_name(period)
        with recorded_change(settings, "period.reopen", period, reason=reason) as results:
            step = closing.reopen(reader, period, reason=reason, actor=actor(), at_ms=round(time.time() * 1000))
            results["step"] = step.step
        step_finished(f"{period} is open again")
