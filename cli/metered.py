"""usage, sessions, session: what was metered beside energy and tokens, and agents' sessions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import output
from cli.asking import Cluster, From, Limit, PeriodName, Tenant, To, ledger, ledger_as_set, period_of, told_more
from cli.options import Data, Json
from cli.output import Column, Format, FormatOption, chosen, text

if TYPE_CHECKING:
    from warehouse.usage.sessions import Session


def usage(
    by: Annotated[
        str, typer.Option(help="Comma-separated: tenant, cluster, workload, meter, or dimensions.KEY.")
    ] = "tenant",
    bucket: Annotated[str | None, typer.Option(help="hour, day or month: over time.")] = None,
    meter: Annotated[str | None, typer.Option(help="Only this meter.")] = None,
    period: PeriodName = None,
    start: From = None,
    end: To = None,
    tenant: Tenant = None,
    cluster: Cluster = None,
    workload: Annotated[str | None, typer.Option(help="Only this workload.")] = None,
    limit: Limit = 1000,
    format_: FormatOption = Format.TABLE,
    as_json: Json = False,
    data: Data = None,
) -> None:
    """What was metered beside energy and tokens: GPU minutes, tool calls, external spend ... by meter and unit.

    Example: wattlog usage --by tenant,dimensions.pod --meter gpu_minutes --bucket day
    """
    with ledger(data) as reader:
        from api.routes.usage import usage_columns, usage_flat, usage_hidden
        from api.serialization import plain, plain_rows
        from warehouse.cursors import PageRequest
        from warehouse.filters import Filter
        from warehouse.usage import usage_queries

        names = [name.strip() for name in by.split(",") if name.strip()]
        when = period_of(reader, period, start, end)
        page = usage_queries.usage(
            reader, when, names, bucket, Filter(tenant=tenant, cluster=cluster, workload=workload, meter=meter),
            PageRequest(limit),
        )  # fmt: skip
        columns = usage_columns(names, bucket)
        rows = plain_rows(page.rows, exclude=usage_hidden(columns))
        flat = [{**row, **usage_flat(row)} for row in rows]
        simulated = any(row.simulated for row in page.rows)
        wanted = chosen(format_, as_json)
        if wanted is Format.JSON:
            output.print_json({"period": plain(when), "simulated": simulated, "rows": rows, "next": page.next})
        elif wanted is Format.CSV:
            output.print_csv(flat, columns)
        else:
            shown = [*(text(c, c) for c in columns[:-3]), Column("quantity", "quantity"), Column("rows", "rows")]
            output.print_table(flat, shown, title=f"Usage, {when}", simulated=simulated)
        told_more(page)


def sessions(
    period: PeriodName = None,
    start: From = None,
    end: To = None,
    tenant: Tenant = None,
    limit: Limit = 1000,
    format_: FormatOption = Format.TABLE,
    as_json: Json = False,
    data: Data = None,
) -> None:
    """Agents' sessions, and what each did in a period. `wattlog session ID` has one of them whole.

    Example: wattlog sessions --period latest-day --tenant acme
    """
    with ledger_as_set(data) as (reader, settings):
        from api.serialization import plain, plain_rows
        from warehouse.cursors import PageRequest
        from warehouse.filters import Filter
        from warehouse.results import SessionRow
        from warehouse.usage.sessions import sessions as all_sessions

        when = period_of(reader, period, start, end)
        page = all_sessions(reader, when, Filter(tenant=tenant), PageRequest(limit))
        rows, simulated = plain_rows(page.rows), any(row.simulated for row in page.rows)
        wanted = chosen(format_, as_json)
        if wanted is Format.JSON:
            output.print_json({"period": plain(when), "simulated": simulated, "rows": rows, "next": page.next})
        elif wanted is Format.CSV:
            output.print_csv(rows, list(SessionRow.__dataclass_fields__))
        else:
            output.print_table(rows, _SESSIONS, title=f"Sessions, {when}", simulated=simulated)
        _note_requests(settings.requests)
        told_more(page)


def session(
    session_id: Annotated[str, typer.Argument(metavar="ID", help="The session's name.", show_default=False)],
    tenant: Annotated[str | None, typer.Option(help="Whose: where several tenants have one of that name.")] = None,
    format_: FormatOption = Format.TABLE,
    as_json: Json = False,
    data: Data = None,
) -> None:
    """One agent's session whole: energy of its requests and its cost, tokens, tool calls, external spend, other meters;
    and by step.

    Example: wattlog session s-1 --json | jq .total
    """
    with ledger_as_set(data) as (reader, settings):
        from api.serialization import plain
        from warehouse.usage.sessions import session as one_session

        found = one_session(reader, session_id, tenant)
        wanted = chosen(format_, as_json)
        if wanted is Format.JSON:
            output.print_json(plain(found))
        elif wanted is Format.CSV:
            output.print_csv(list(_lines(found)), ["trace_id", "step", "meter", "unit", "quantity"])
        else:
            _show(found)
        _note_requests(settings.requests)


def _note_requests(kept: str) -> None:
    if kept == "none":
        output.note("Single requests are not stored (WATTLOG_REQUESTS=none): their joules and tokens are missing here.")


def _lines(found: Session) -> Iterator[dict[str, Any]]:
    """A session as one line a step and quantity, energy and tokens too; they sum to the session."""
    for step in found.steps:
        of = {"trace_id": step.trace_id, "step": step.step}
        if step.requests or step.energy_uj:
            for meter, unit in _OF_REQUESTS:
                yield {**of, "meter": meter, "unit": unit, "quantity": getattr(step, meter)}
            if step.cost is not None:
                yield {**of, "meter": "energy_cost", "unit": found.currency, "quantity": format(step.cost, "f")}
        for one in step.meters:
            yield {**of, "meter": one.meter, "unit": one.unit, "quantity": format(one.quantity, "f")}


_OF_REQUESTS = (
    ("requests", "request"), ("failures", "request"), ("prompt_tokens", "token"), ("cached_tokens", "token"),
    ("completion_tokens", "token"), ("energy_uj", "uJ"),
)  # fmt: skip


def _show(found: Session) -> None:
    """The whole, and under it the steps."""
    from contracts.units import joules, rfc3339

    out = output.stdout()
    mark = f"  [bold black on yellow]{output.SIMULATED}[/]" if found.simulated else ""
    out.print(f"[bold]session {_plain(found.session_id)}[/bold] of {_plain(found.tenant) or 'nobody known'}{mark}")
    out.print(f"  from, to       {rfc3339(found.first)}, {rfc3339(found.last)}")
    out.print(f"  requests       {found.requests:,}, {found.failures:,} failed")
    out.print(
        f"  tokens         {found.prompt_tokens:,} prompt ({found.cached_tokens:,} cached), "
        f"{found.completion_tokens:,} completion"
    )
    cost = "no price" if found.cost is None else f"{found.cost:f} {found.currency}".rstrip()
    out.print(f"  energy         {joules(found.energy_uj):,.3f} J, {cost}")
    out.print(f"  tool calls     {found.tool_calls:f}")
    for money in found.total or found.spend:
        name = "spend" if found.total is None else "total"
        out.print(f"  {name}          {money.amount:f} {_plain(money.currency)}")
    for one in found.meters:
        out.print(f"  {_plain(one.meter):14} {one.quantity:f} {_plain(one.unit)}")
    rows = [
        {
            "first": rfc3339(s.first), "trace_id": s.trace_id, "step": s.step, "requests": s.requests,
            "tokens": s.prompt_tokens + s.completion_tokens, "energy_j": joules(s.energy_uj), "cost": s.cost,
            "tool_calls": s.tool_calls, "spend": ", ".join(f"{m.amount:f} {m.currency}" for m in s.spend),
        }
        for s in found.steps
    ]  # fmt: skip
    output.print_table(rows, _STEPS, title="Steps", simulated=found.simulated)


def _plain(name: str) -> str:
    """A name from outside, without meaning to Rich."""
    from rich.markup import escape

    return escape(name)


_SESSIONS = (
    text("tenant", "tenant"), text("session_id", "session"), text("first", "from"), text("last", "to"),
    Column("requests", "requests", output.whole), Column("prompt_tokens", "prompt", output.whole),
    Column("completion_tokens", "completion", output.whole),
    Column("energy_uj", "energy J", lambda uj: f"{uj / 1e6:,.3f}"), Column("usage_rows", "usage rows", output.whole),
)  # fmt: skip
_STEPS = (
    text("first", "from"), text("trace_id", "trace"), text("step", "step"),
    Column("requests", "requests", output.whole), Column("tokens", "tokens", output.whole),
    Column("energy_j", "energy J", output.places(3)), Column("cost", "energy's cost", output.places(6)),
    Column("tool_calls", "tool calls"), Column("spend", "spend"),
)  # fmt: skip
