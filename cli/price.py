"""`wattlog price`: tariffs, PUE and carbon intensity of the grid, per cluster and time."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.audit_entries import record
from cli.ledger_access import open_ledger_and_settings
from cli.options import Data, Json
from cli.output import note, print_json
from cli.tables import Column, print_table, text_column

if TYPE_CHECKING:
    from warehouse.reference_data.prices import Price

_COLUMNS = (
    text_column("kind", "kind"),
    text_column("cluster", "cluster"),
    Column("value", "value", str),
    text_column("unit", "unit"),
    text_column("valid_from", "valid from"),
    text_column("valid_to", "valid to"),
    text_column("source", "source"),
)
_ALWAYS = "1970-01-01T00:00:00.000Z"


def price(
    kind: Annotated[
        str | None,
        typer.Argument(help="energy (money per kWh), pue, or carbon (gCO2eq per kWh). Without it, prices are listed."),
    ] = None,
    cluster: Annotated[
        str | None, typer.Argument(help="Cluster of the price; '*' for all without a price of their own.")
    ] = None,
    value: Annotated[str | None, typer.Argument(help="A plain decimal number.")] = None,
    from_: Annotated[
        str | None, typer.Option("--from", help="Valid from: RFC 3339 or a day (default: always).")
    ] = None,
    to: Annotated[str | None, typer.Option("--to", help="Valid to, exclusive (default: until further notice).")] = None,
    source: Annotated[str, typer.Option(help="Origin of the figure, such as a contract.")] = "",
    remove: Annotated[
        bool, typer.Option("--remove", help="Remove the price of this kind and cluster that starts at --from.")
    ] = False,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """List prices, store one, or remove one. It applies to bills at once, also for the past in its validity.

    A price with the kind, cluster and start of a stored one replaces it. To change a tariff, store the old one again
    with the day on which it ends, then the new one from that day.

    Example: wattlog price energy us-east 0.083 --from 2026-01-01 --source "contract 17"
    """
    with open_ledger_and_settings(data) as (reader, settings):
        from contracts.units import rfc3339
        from warehouse.reference_data.prices import list_prices, put_prices, remove_price

        warehouse = reader.operator_warehouse()
        if remove:
            start_ms = _instant_ms("from", from_, 0)
            remove_price(warehouse, kind or "", cluster or "", start_ms)
            record(settings, "price.remove", f"{kind} {cluster}", valid_from=rfc3339(start_ms))
        elif kind is not None:
            currency = settings.currency if kind == "energy" else ""
            new = _parse(kind, cluster, value, from_, to, currency, source)
            put_prices(warehouse, [new], settings.window_ms)
            row = {name: str(value or "") for name, value in _row(new).items() if name not in ("kind", "cluster")}
            record(settings, "price.put", f"{kind} {cluster}", **row)
        rows = [_row(stored) for stored in list_prices(warehouse)]
        if as_json:
            print_json(rows)
        elif rows:
            for row in rows:
                row["valid_from"] = row["valid_from"] if row["valid_from"] != _ALWAYS else "always"
                row["valid_to"] = row["valid_to"] or ""
            print_table(rows, _COLUMNS, title="Prices")
        else:
            note("No prices yet: costs are left empty. Store one: wattlog price energy '*' 0.10")


def _parse(
    kind: str,
    cluster: str | None,
    value: str | None,
    from_: str | None,
    to: str | None,
    currency: str,
    source: str,
) -> Price:
    """Return the price that the arguments describe. Raises BadInput; `put_prices` checks the kind."""
    from contracts.errors import BadInput
    from warehouse.reference_data.prices import Price
    from warehouse.reference_data.validity import END_MS

    if cluster is None or value is None:
        raise BadInput("price", kind, "give KIND CLUSTER VALUE, such as: energy us-east 0.083")
    start_ms, end_ms = _instant_ms("from", from_, 0), _instant_ms("to", to, END_MS)
    return Price(
        kind=kind,  # type: ignore[arg-type]
        cluster=cluster,
        value=_decimal(value),
        valid_from_ms=start_ms,
        valid_to_ms=end_ms,
        currency=currency,
        source=source,
    )


def _decimal(value: str) -> Decimal:
    from contracts.errors import BadInput

    try:
        return Decimal(value)
    except InvalidOperation:
        raise BadInput("value", value, "give a plain decimal number, such as 0.083") from None


def _instant_ms(field: str, value: str | None, default: int) -> int:
    from contracts.errors import BadInput
    from contracts.units import epoch_ms

    try:
        return default if value is None else epoch_ms(value)
    except ValueError:
        raise BadInput(field, value, "give RFC 3339 or a day, such as 2026-01-01") from None


def _row(price: Price) -> dict[str, Any]:
    from contracts.units import rfc3339, shortest_decimal
    from warehouse.reference_data.validity import END_MS

    units = {"energy": f"{price.currency}/kWh", "pue": "facility over IT", "carbon": "gCO2eq/kWh"}
    return {
        "kind": price.kind,
        "cluster": price.cluster,
        "value": shortest_decimal(price.value),
        "unit": units[price.kind],
        "valid_from": rfc3339(price.valid_from_ms),
        "valid_to": None if price.valid_to_ms == END_MS else rfc3339(price.valid_to_ms),
        "source": price.source,
    }
