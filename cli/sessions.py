"""`wattlog sessions`: agents' sessions of a period."""

from __future__ import annotations

from functools import partial

from cli.ledger_access import (
    is_whole,
    note_more_rows,
    note_requests_not_stored,
    open_ledger_and_settings,
    print_whole_csv,
    read_rows,
    resolve,
)
from cli.options import Data, Format, FormatOption, From, Json, Limit, PeriodName, Tenant, TimeZone, To, output_format
from cli.tables import Column, integer, print_rows, text_column

_COLUMNS = (
    text_column("tenant", "tenant"),
    text_column("session_id", "session"),
    text_column("first", "from"),
    text_column("last", "to"),
    Column("requests", "requests", integer),
    Column("prompt_tokens", "prompt", integer),
    Column("completion_tokens", "completion", integer),
    Column("energy_uj", "energy J", lambda uj: f"{uj / 1e6:,.3f}"),
    Column("unmetered_tokens", "unmetered tokens", integer),
    Column("usage_rows", "usage rows", integer),
)


def sessions(
    period: PeriodName = None,
    start: From = None,
    end: To = None,
    tz: TimeZone = None,
    tenant: Tenant = None,
    limit: Limit = None,
    format_: FormatOption = Format.TABLE,
    as_json: Json = False,
    data: Data = None,
) -> None:
    """List agents' sessions, and what each did in a period. `wattlog session ID` shows one of them in full.

    Example: wattlog sessions --period latest-day --tenant acme
    """
    with open_ledger_and_settings(data) as (reader, settings):
        from api.serialization import plain, plain_rows
        from warehouse.filters import Filter
        from warehouse.ledger.known_names import with_known_names
        from warehouse.results import SessionRow
        from warehouse.usage.sessions import sessions as read_sessions

        resolved = resolve(reader, period, start, end, tz, settings)
        chosen = output_format(format_, as_json)
        filter_ = Filter(tenant=tenant)
        read = with_known_names(reader, filter_, partial(read_sessions, reader, resolved, filter_))
        note_requests_not_stored(settings)
        if is_whole(chosen, limit):
            print_whole_csv(read, plain_rows, SessionRow.__dataclass_fields__)
            return
        page = read_rows(read, chosen, limit)
        simulated = any(row.simulated for row in page.rows)
        rows = plain_rows(page.rows)
        if chosen is Format.TABLE:  # Where nothing was measured, energy is unknown and not 0.
            rows = [{**row, "energy_uj": row["energy_uj"] or None} if row["unmetered_tokens"] else row for row in rows]
        print_rows(
            chosen,
            rows,
            title=f"Sessions, {resolved}",
            columns=_COLUMNS,
            csv_columns=SessionRow.__dataclass_fields__,
            simulated=simulated,
            envelope={"period": plain(resolved), "simulated": simulated},
            next_=page.next,
        )
        note_more_rows(page)
