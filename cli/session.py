"""`wattlog session`: one agent's session in full, and by step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.ledger_access import note_requests_not_stored, open_ledger_and_settings
from cli.operation_cost import print_operation
from cli.options import Data, Format, FormatOption, Json, output_format
from cli.output import SIMULATED, print_csv, print_json, stdout
from cli.tables import Column, decimals, integer, print_table, text_column
from contracts.units import counted, plain_decimal

if TYPE_CHECKING:
    from warehouse.usage.sessions import Session

_STEP_COLUMNS = (
    text_column("first", "from"),
    text_column("trace_id", "trace"),
    text_column("step", "step"),
    Column("requests", "requests", integer),
    Column("tokens", "tokens", integer),
    Column("energy_j", "energy J", decimals(3)),
    Column("cost", "energy's cost", decimals(6)),
    Column("tool_calls", "tool calls"),
    Column("spend", "spend"),
)
_REQUEST_METERS = (
    ("requests", "request"),
    ("failures", "request"),
    ("prompt_tokens", "token"),
    ("cached_tokens", "token"),
    ("completion_tokens", "token"),
    ("energy_uj", "uJ"),
)
"""Fields of a step's requests that CSV shows as meters, with their units."""


def session(
    session_id: Annotated[str, typer.Argument(metavar="ID", help="The session's name.", show_default=False)],
    tenant: Annotated[str | None, typer.Option(help="Tenant of the session, if several have one of this name.")] = None,
    format_: FormatOption = Format.TABLE,
    as_json: Json = False,
    data: Data = None,
) -> None:
    """Show one agent's session, in total and by step.

    That is the energy of its requests and its cost, tokens, tool calls, external spend and other meters.

    Example: wattlog session s-1 --json | jq .total
    """
    with open_ledger_and_settings(data) as (reader, settings):
        from api.serialization import plain
        from warehouse.billing.operation_cost import costed_session
        from warehouse.usage.sessions import session as read_session

        result = costed_session(reader, read_session(reader, session_id, tenant), settings.currency)
        chosen = output_format(format_, as_json)
        if chosen is Format.JSON:
            print_json(plain(result))
        elif chosen is Format.CSV:
            print_csv(list(_meter_rows(result)), ["trace_id", "step", "meter", "unit", "quantity"])
        else:
            _print_session(result)
            print_operation(result.operation)
        note_requests_not_stored(settings)


def _meter_rows(session: Session) -> Iterator[dict[str, Any]]:
    """Return one row per step and quantity, energy and tokens included. They sum to the session."""
    for step in session.steps:
        place = {"trace_id": step.trace_id, "step": step.step}
        if step.requests or step.energy_uj:
            for meter, unit in _REQUEST_METERS:
                yield {**place, "meter": meter, "unit": unit, "quantity": getattr(step, meter)}
            if step.cost is not None:
                yield {**place, "meter": "energy_cost", "unit": session.currency, "quantity": plain_decimal(step.cost)}
        for metered in step.meters:
            quantity = plain_decimal(metered.quantity)
            yield {**place, "meter": metered.meter, "unit": metered.unit, "quantity": quantity}


def _print_session(session: Session) -> None:
    """Print the totals, and a table of the steps."""
    from contracts.units import joules, rfc3339

    out = stdout()
    mark = f"  [bold black on yellow]{SIMULATED}[/]" if session.simulated else ""
    out.print(f"[bold]session {_escape(session.session_id)}[/bold] of {_escape(session.tenant) or 'no tenant'}{mark}")
    out.print(f"  from, to       {rfc3339(session.first)}, {rfc3339(session.last)}")
    out.print(f"  requests       {session.requests:,}, {session.failures:,} failed")
    out.print(
        f"  tokens         {session.prompt_tokens:,} prompt ({session.cached_tokens:,} cached), "
        f"{session.completion_tokens:,} completion"
    )
    cost = "no price" if session.cost is None else f"{session.cost:f} {session.currency}".rstrip()
    energy = f"{joules(session.energy_uj):,.3f} J, {cost}" if session.kwh is not None else "not measured, cost open"
    unmetered = f"; {counted(session.unmetered_tokens, 'token')} without energy" if session.unmetered_tokens else ""
    out.print(f"  energy         {energy}{unmetered}")
    out.print(f"  tool calls     {session.tool_calls:f}")
    for money in session.total or session.spend:
        name = "spend" if session.total is None else "total"
        out.print(f"  {name}          {money.amount:f} {_escape(money.currency)}")
    for metered in session.meters:
        out.print(f"  {_escape(metered.meter):14} {metered.quantity:f} {_escape(metered.unit)}")
    rows = [
        {
            "first": rfc3339(step.first),
            "trace_id": step.trace_id,
            "step": step.step,
            "requests": step.requests,
            "tokens": step.prompt_tokens + step.completion_tokens,
            "energy_j": None if step.unmetered_tokens and not step.energy_uj else joules(step.energy_uj),
            "cost": step.cost,
            "tool_calls": step.tool_calls,
            "spend": ", ".join(f"{money.amount:f} {money.currency}" for money in step.spend),
        }
        for step in session.steps
    ]
    print_table(rows, _STEP_COLUMNS, title="Steps", simulated=session.simulated)


def _escape(name: str) -> str:
    """Escape a name from outside, which Rich could take for markup."""
    from rich.markup import escape

    return escape(name)
