"""`wattlog close`: closes a billing period."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from cli.audit_entries import actor, audit_head, recorded_change
from cli.ledger_access import open_ledger_and_settings, resolve
from cli.options import Data, Json, TimeZone
from cli.output import note, print_json, step_finished


def close(
    period: Annotated[str, typer.Argument(help="The month, such as 2026-09.", show_default=False)],
    accept_open: Annotated[
        bool, typer.Option("--accept-open", help="Close it with lines of unknown amount, which later periods mend.")
    ] = False,
    tz: TimeZone = None,
    as_json: Json = False,
    data: Data = None,
) -> None:
    """Close a month: its lines, prices and price book never change again; late facts become lines of the next one.

    Look at it before with `wattlog bill`. `wattlog reopen` takes the last closing back, and leaves a trail.

    Example: wattlog close 2026-09 --tz Europe/Berlin
    """
    with open_ledger_and_settings(data) as (reader, settings):
        from api.serialization import plain
        from warehouse.billing import closing
        from warehouse.billing.periods import list_steps

        span = resolve(reader, month_name(period), None, None, tz, settings)
        with recorded_change(settings, "period.close", period) as results:
            step = closing.close(
                reader,
                period,
                span,
                currency=settings.currency,
                actor=actor(),
                at_ms=round(time.time() * 1000),
                audit_head=audit_head(settings),
                accept_open=accept_open,
            )
            results |= {"lines": step.lines, "lines_sha256": step.lines_sha256}
        if too_old := closing.not_looked_at(list_steps(reader), span):
            note(f"Closed too long ago for corrections: {', '.join(too_old)}.")
        if as_json:
            print_json(plain(step))
        else:
            step_finished(f"{period} is closed: {step.lines} lines, SHA-256 {step.lines_sha256}")
            note(f"Show it: wattlog bill {period}")


def month_name(period: str) -> str:
    """Return the name of a billing period. Raises BadInput for anything but a month."""
    import re

    from contracts.errors import BadInput

    if not re.fullmatch(r"\d{4}-(0[1-9]|1[0-2])", period):
        raise BadInput("PERIOD", period, "give a month, such as 2026-09")
    return period
