"""`wattlog price`: what a kWh costs, how much the facility adds, and the grid's carbon, per cluster and time."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Annotated, Any

import typer

from cli import output
from cli.asking import ledger
from cli.options import Data, Json
from cli.output import Column, text

_COLUMNS = (
    text("kind", "kind"),
    text("cluster", "cluster"),
    Column("value", "value", str),
    text("unit", "unit"),
    text("valid_from", "valid from"),
    text("valid_to", "valid to"),
    text("source", "source"),
)
_ALWAYS = "1970-01-01T00:00:00.000Z"


def price(
    kind: Annotated[
        str | None,
        typer.Argument(help="energy (money per kWh), pue, or carbon (gCO2eq per kWh); without it, prices are listed."),
    ] = None,
    cluster: Annotated[str | None, typer.Argument(help="Whose; '*' for those without their own.")] = None,
    value: Annotated[str | None, typer.Argument(help="A plain decimal number.")] = None,
    from_: Annotated[
        str | None, typer.Option("--from", help="Valid from: RFC 3339 or a day (default: always).")
    ] = None,
    to: Annotated[str | None, typer.Option("--to", help="Valid to, exclusive (default: until further notice).")] = None,
    source: Annotated[str, typer.Option(help="Where the figure is from.")] = "",
    data: Data = None,
    as_json: Json = False,
) -> None:
    """List prices, or put one in. Bills use them from then on, also for the past that they are valid for.

    A price with the kind, cluster and start of a stored one replaces it. To change a tariff, put the old one in again
    with the day that it ends, then the new one from that day.

    Example: wattlog price energy us-east 0.083 --from 2026-01-01 --source "contract 17"
    """
    with ledger(data) as reader:
        from contracts.errors import BadInput
        from contracts.settings import Settings
        from warehouse.reference_data.tables import END_MS, Price, list_prices, put_prices

        warehouse = reader.operator_warehouse()
        if kind is not None:
            if cluster is None or value is None:
                raise BadInput("price", kind, "give KIND CLUSTER VALUE, such as: energy us-east 0.083")
            currency = Settings().currency if kind == "energy" else ""
            new = Price(kind, cluster, _decimal(value), _ms("from", from_, 0), _ms("to", to, END_MS), currency, source)  # type: ignore[arg-type]
            put_prices(warehouse, [new])
        rows = [_row(p) for p in list_prices(warehouse)]
        if as_json:
            output.print_json(rows)
        elif rows:
            for row in rows:
                row["valid_from"] = row["valid_from"] if row["valid_from"] != _ALWAYS else "always"
                row["valid_to"] = row["valid_to"] or ""
            output.print_table(rows, _COLUMNS, title="Prices")
        else:
            output.note("No prices yet: costs are left open. Put one in: wattlog price energy '*' 0.10")


def _decimal(value: str) -> Decimal:
    from contracts.errors import BadInput

    try:
        return Decimal(value)
    except InvalidOperation:
        raise BadInput("value", value, "give a plain decimal number, such as 0.083") from None


def _ms(field: str, value: str | None, default: int) -> int:
    from contracts.errors import BadInput
    from contracts.units import epoch_ms

    try:
        return default if value is None else epoch_ms(value)
    except ValueError:
        raise BadInput(field, value, "give RFC 3339 or a day, such as 2026-01-01") from None


def _row(price: Any) -> dict[str, Any]:
    from contracts.units import rfc3339
    from warehouse.reference_data.tables import END_MS

    units = {"energy": f"{price.currency}/kWh", "pue": "facility over IT", "carbon": "gCO2eq/kWh"}
    return {
        "kind": price.kind,
        "cluster": price.cluster,
        "value": price.value.normalize() if price.value else price.value,
        "unit": units[price.kind],
        "valid_from": rfc3339(price.valid_from_ms),
        "valid_to": None if price.valid_to_ms == END_MS else rfc3339(price.valid_to_ms),
        "source": price.source,
    }
